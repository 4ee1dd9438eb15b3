"""Frames and their times from ffmpeg's pipe, for every file that ffmpeg decodes."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.damage import DamagedVideo, find_damage
from vidiff_cli.video.filters import BY_TRIANGLE, add_background, filter_chain
from vidiff_cli.video.probe import VideoInfo
from vidiff_cli.video.resample import TimedFrame, time_unit
from vidiff_cli.video.shown_frames import NO_TEXT, shown_frames

# Their files say how long each frame stays, the last one too; equal frames are often one long frame.
TIMED_CONTAINERS = frozenset({"webp_anim", "gif", "apng"})


def frames(
    info: VideoInfo, scaled: tuple[int, int], scaling: str = BY_TRIANGLE, remarks: list[str] | None = None
) -> Generator[TimedFrame]:
    """Yields raw frames from ffmpeg's pipe with the times that the showinfo filter writes to its log.

    showinfo logs a frame before the frame leaves ffmpeg, so the line exists when the bytes arrive. If the file stores
    the duration of its last frame, one more item without a frame has the time at which that frame ends.

    Args:
        info: the file.
        scaled: size (w, h) of the frames.
        scaling: flags of ffmpeg's scaler.
        remarks: gets a sentence for what a person should know, such as a change of size.

    Raises:
        DamagedVideo: a frame that may be wrong was reached; not where `info` says what is damaged already, whose intact
            frames are yielded.
        VidiffError: ffmpeg failed, or no frame is intact.
    """
    width, height = scaled
    chain, pixels = filter_chain(info, scaled, scaling)
    output = ["-an", "-sn", "-dn", "-vf", chain, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixels]
    arguments = [*ffmpeg.input_arguments(info.path, info.input_options), *output, *NO_TEXT, "-"]
    channels = len(pixels.removesuffix("24"))
    frame_bytes = width * height * channels
    watch = _DamageWatch(info)
    with ffmpeg.Ffmpeg(["-max_error_rate", "1", *arguments], stdout=True) as process:
        times = _logged_times(process.lines(), info, [] if remarks is None else remarks, watch)
        last, stay, number = 0, 0, 0
        while len(data := process.stdout.read(frame_bytes)) == frame_bytes:
            logged = next(times, None)
            if logged is None:
                raise VidiffError(f"{info.path} cannot be decoded", found="a frame without a time in ffmpeg's log")
            time, stay = logged
            if watch.accepts(number):
                frame = np.frombuffer(data, np.uint8).reshape(height, width, channels)
                yield time, add_background(frame, info.options.background_rgb) if channels == 4 else frame
            last, number = time, number + 1
        failed = process.process.wait() != 0 or bool(data)
        for _ in times:  # what ffmpeg says of packets without a frame
            pass
        watch.finish()
        if failed:
            found = f"{number} frames that could be decoded"
            raise VidiffError(f"{info.path} is damaged ({process.first_error()})", found=found)
        if info.container in TIMED_CONTAINERS and stay > 0:
            yield last + stay, None


class _DamageWatch:
    """Looks for damage at the first sign of it in ffmpeg's log, and stops before the first frame that may be wrong."""

    def __init__(self, info: VideoInfo) -> None:
        self._info, self._damage, self._found = info, info.damage, info.damage is not None

    def look(self) -> None:
        """Is called at each sign."""
        if not self._found:
            self._found, self._damage = True, find_damage(self._info.path, self._info.input_options)

    def accepts(self, frame: int) -> bool:
        """True if a frame is to be yielded. Raises DamagedVideo at the first one that may be wrong."""
        if self._info.damage is not None:
            return self._info.damage.is_intact(frame)
        if self._damage is not None and frame >= self._damage.first:
            raise DamagedVideo(self._damage)
        return True

    def finish(self) -> None:
        """Raises DamagedVideo if something was lost after the last frame."""
        if self._info.damage is None and self._damage is not None:
            raise DamagedVideo(self._damage)


def _logged_times(
    lines: Iterator[str], info: VideoInfo, remarks: list[str], watch: _DamageWatch
) -> Iterator[tuple[int, int]]:
    """Yields the times of frames, from 0, and how long the file says that they stay, or 0. A missing or decreasing time
    (a jump, a raw stream) becomes the previous one plus a nominal frame. Remarks changes of size, and tells `watch`
    of signs of damage."""
    unit = time_unit(info)
    frame_lasts, shift, last = int(1 / info.fps / unit), 0, None
    size, changes = info.frame_size, 0
    for frame in shown_frames(lines):
        if frame is None:
            watch.look()
            continue
        units = int(frame.tick / unit)
        due = 0 if last is None else last + frame_lasts
        time = due if frame.pts is None else frame.pts * units + shift
        if last is None or time <= last:
            time, shift = due, shift + due - time
        if size != (size := frame.size):
            changes += 1
            if changes == 1:
                at = f"to {size[0]}x{size[1]} at {float(time * unit):.2f} s"
                remarks.append(f"frames of several sizes, fitted into the first: {at}")
        yield time, frame.duration * units
        last = time
