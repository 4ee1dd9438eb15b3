"""Encoding of uint8 frames to a video file, atomically, at an exact rate, never rescaled.

The file is written under a hidden name beside its target and renamed when ffmpeg succeeded. H.264 and VP9 are converted
to and tagged as BT.709. H.264 in yuv420p cannot have an odd width or height: such files are yuv444p at their exact
size, which most browsers do not play.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import unwritable
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.audio import AudioTrack, concatenate_audio, find_audio, mux_audio
from vidiff_cli.video.metadata import read_tags
from vidiff_cli.video.targets import beside, check_target, is_folder

FASTEST_GIF = Fraction(50)  # a delay below 20 ms is shown as 100 ms
FASTEST = 1_000_000  # frames a second
SMALL = 256 * 256  # pixels of a frame up to which more threads and more search cost time and save next to nothing
PALETTE_USE = "[0:v][1:v]paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle"
FRAME_NAME = "{:06d}.png"
LOSSLESS_BY_EXTENSION = (".mkv", ".webp")
SOUND_BY_EXTENSION = (".mp4", ".mkv", ".webm")


def encode(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    *,
    lossless: bool = False,
    audio_from: Path | None = None,
    audio_delay: Fraction = Fraction(0),
    audio_speed: Fraction = Fraction(1),
    audio_stop: bool = False,
    audio_after: tuple[Path, Fraction] | None = None,
    metadata_from: Path | None = None,
    crf: int = 17,
    overwrite: bool = False,
    again: bool = False,
) -> int:
    """Writes frames (h w c) uint8 RGB of one size and returns their number; `path` is whole or untouched afterwards.

    The format follows the extension: .mp4 and .mkv (H.264), .webm (VP9), .gif and .webp (animated, endless loop), .mkv
    with `lossless` (FFV1 in RGB, exact), .webp with `lossless`, or a folder of PNG files (no extension, or a trailing
    slash). WebP merges equal consecutive frames. Audio and tags are ignored for .gif, .webp and folders.

    Args:
        path: the target.
        frames: any iterable, read once.
        fps: the exact rate.
        lossless: exact pixels, for .mkv and .webp.
        audio_from: file whose audio is added (see `audio`).
        audio_delay: seconds by which its first frame is late.
        audio_speed: speed of the audio relative to its file.
        audio_stop: end the audio with the frames.
        audio_after: another file whose audio takes over when its own first frame appears, and the second of that.
        metadata_from: file whose title, date, place and so on are kept (see `metadata`).
        crf: quality of H.264 and VP9.
        overwrite: replace an existing target.
        again: an interrupted call may have written the target; one with the same bytes is accepted.

    Raises:
        VidiffError: an existing target, an unknown extension, no or invalid frames, a full disk or a failing ffmpeg.
    """
    target = check_output(path, fps=fps, lossless=lossless, overwrite=overwrite or again)
    same = again and not overwrite
    first, checked = _peeked(frames)
    if is_folder(path):
        return _write_folder(target, checked, same=same)
    suffix = target.suffix.lower()
    height, width = first.shape[:2]
    recipe = _ffv1(width) if lossless and suffix == ".mkv" else RECIPES[suffix](width, height, crf, lossless)
    sounds = list[AudioTrack]()
    if suffix in SOUND_BY_EXTENSION:
        if metadata_from is not None:
            recipe += [word for tag in read_tags(metadata_from).items() for word in ("-metadata", "=".join(tag))]
        if audio_from is not None:
            sounds += find_audio(audio_from, delay=audio_delay, speed=audio_speed, stop=audio_stop)
        if audio_after is not None:
            sounds += find_audio(audio_after[0], delay=audio_after[1], speed=audio_speed, stop=audio_stop)
    with beside(target, same=same) as part:
        write = _write_gif if suffix == ".gif" else _write_video
        count = write(part, checked, (width, height), fps, [*recipe, *MUXERS[suffix]], target)
        if sounds:
            seconds, sound = count / fps, sounds[0]
            if len(sounds) > 1:
                sound = concatenate_audio(part.with_name("sound"), *sounds, seconds=seconds)
            _add_sound(part, sound, seconds, suffix, target)
    return count


def check_output(
    path: str | Path, *, fps: Fraction | None = None, lossless: bool = False, overwrite: bool = False
) -> Path:
    """Checks, before frames are generated, that a target can be written; creates its parent folders and returns it.

    Raises VidiffError for an existing target without `overwrite`, an unsupported extension, `lossless` for another
    format, a rate that is not positive or too fast for GIF (if given), or a folder that cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if target.name.lower() in RECIPES and not target.is_dir():
        raise VidiffError(f"{target} is an extension without a name", expected=f"such as out{target.name}")
    if not is_folder(path):
        if suffix not in RECIPES:
            known = ", ".join(sorted(RECIPES))
            raise VidiffError(f"cannot write {target}", found=suffix, expected=f"{known}, or a folder for PNG frames")
        if lossless and suffix not in LOSSLESS_BY_EXTENSION:
            raise VidiffError(f"{suffix} cannot be lossless", expected=".mkv, .webp or a folder of PNG frames")
        if suffix == ".gif" and fps is not None and fps > FASTEST_GIF:
            found, fix = f"{float(fps):g} frames a second", "write a .webp or .mp4"
            raise VidiffError("a GIF cannot be that fast", found=found, expected=f"at most {FASTEST_GIF}", fix=fix)
    if fps is not None and fps <= 0 and not is_folder(path):
        raise VidiffError("a frame rate must be positive", found=fps)
    if fps is not None and not 1 / FASTEST <= fps <= FASTEST and not is_folder(path):  # ffmpeg would make it nothing
        expected = f"{1 / FASTEST:g} to {FASTEST}"
        raise VidiffError(f"{target} cannot have that rate", found=f"{float(fps):g} fps", expected=expected)
    check_target(target, folder=is_folder(path), overwrite=overwrite)
    return target


def _peeked(frames: Iterable[np.ndarray]) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Returns the first frame, and an iterator over all of them that checks each against it."""
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VidiffError("cannot write a video without frames", found="0 frames", expected="at least one")
    return first, _checked(chain([first], iterator), np.shape(first))


def _checked(frames: Iterable[np.ndarray], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    for index, frame in enumerate(frames):
        good = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape == shape
        if not (good and len(shape) == 3 and shape[2] == 3 and min(shape) > 0):
            found = f"{getattr(frame, 'dtype', type(frame).__name__)} {np.shape(frame)}"
            expected = f"uint8 {shape}" if index else "uint8 (height, width, 3)"
            raise VidiffError(f"frame {index} cannot be written", found=found, expected=expected)
        yield np.ascontiguousarray(frame)


def _write_video(
    part: Path, frames: Iterator[np.ndarray], size: tuple[int, int], fps: Fraction, output: list[str], target: Path
) -> int:
    rate = f"{fps.numerator}/{fps.denominator}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{size[0]}x{size[1]}", "-framerate", rate, "-i", "-"]
    count = 0
    with ffmpeg.Ffmpeg([*raw, "-fps_mode", "passthrough", *output, ffmpeg.file_url(part)], stdin=True) as process:
        with contextlib.suppress(BrokenPipeError):  # ffmpeg ended early: its exit status and log say why
            for frame in frames:
                process.stdin.write(frame.data)
                count += 1
            process.stdin.close()
        if process.process.wait() != 0:
            raise VidiffError(f"{target} could not be written", found=process.first_error())
    return count


def _write_gif(
    part: Path, frames: Iterator[np.ndarray], size: tuple[int, int], fps: Fraction, output: list[str], target: Path
) -> int:
    """Writes a GIF in three steps: in one, ffmpeg would hold all frames in memory until the palette is known."""
    whole, palette = part.with_name("frames"), part.with_name("palette")
    count = _write_video(whole, frames, size, fps, [*_ffv1(size[0]), "-f", "nut"], target)
    colors = ["-vf", "palettegen=stats_mode=diff", "-frames:v", "1", "-c:v", "png", "-f", "image2pipe"]
    inputs = ["-i", ffmpeg.file_url(whole)]
    both = ["-fps_mode", "passthrough", "-filter_complex", PALETTE_USE, *output]
    for step in (
        [*inputs, *colors, ffmpeg.file_url(palette)],
        [*inputs, "-i", ffmpeg.file_url(palette), *both, ffmpeg.file_url(part)],
    ):
        code, _, complaint = ffmpeg.run(step)
        if code != 0:
            raise VidiffError(f"{target} could not be written", found=complaint)
    return count


def _add_sound(part: Path, sound: AudioTrack, seconds: Fraction, suffix: str, target: Path) -> None:
    with beside(part) as joined:
        complaint = mux_audio(part, joined, sound, suffix=suffix, seconds=seconds, muxer=MUXERS[suffix])
        if complaint is not None:
            what, fix = f"{target} could not be written with the sound of {sound.path}", "write a folder of PNG frames"
            raise VidiffError(what, found=complaint, fix=fix)


def _write_folder(target: Path, frames: Iterator[np.ndarray], *, same: bool) -> int:
    count = 0
    with beside(target, same=same) as part:
        try:
            part.mkdir()
            for frame in frames:
                Image.fromarray(frame).save(part / FRAME_NAME.format(count))
                count += 1
        except OSError as error:
            raise unwritable(target, error) from error
    return count


def _bt709(pixel_format: str) -> list[str]:
    """Arguments for conversion and tags: players disagree about untagged files (BT.601 or BT.709)."""
    flags = "accurate_rnd+full_chroma_inp+full_chroma_int"
    convert = f"scale=out_color_matrix=bt709:out_range=tv:flags={flags},format={pixel_format}"
    convert += ",setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"  # the frames' own tags win
    tags = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    return ["-vf", convert, *tags]


def _h264(width: int, height: int, crf: int, lossless: bool) -> list[str]:
    pixel_format = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    effort = ["superfast", "-threads", "1"] if width * height <= SMALL else ["medium"]
    codec = ["-c:v", "libx264", "-preset", *effort, "-crf", str(crf)]
    return [*_bt709(pixel_format), *codec]


def _vp9(width: int, height: int, crf: int, lossless: bool) -> list[str]:
    pixel_format = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    codec = ["-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0", "-deadline", "good", "-cpu-used", "2", "-row-mt", "1"]
    return [*_bt709(pixel_format), *codec]


def _gif(width: int, height: int, crf: int, lossless: bool) -> list[str]:
    return ["-loop", "0"]


def _webp(width: int, height: int, crf: int, lossless: bool) -> list[str]:
    quality = ["-lossless", "1", "-pix_fmt", "bgra"] if lossless else ["-quality", "90"]
    return ["-c:v", "libwebp_anim", *quality, "-loop", "0"]


def _ffv1(width: int) -> list[str]:
    narrow = ["-slices", "1"] if width == 1 else []  # which ffmpeg cannot divide, though it tries
    return ["-c:v", "ffv1", "-level", "3", "-pix_fmt", "bgr0", *narrow]


RECIPES: dict[str, Callable[[int, int, int, bool], list[str]]] = {
    ".mp4": _h264,
    ".mkv": _h264,
    ".webm": _vp9,
    ".gif": _gif,
    ".webp": _webp,
}
# Matroska draws a random number for each file, unless told otherwise: the same frames should give the same bytes.
MUXERS: dict[str, list[str]] = {
    ".mp4": ["-movflags", "+faststart", "-f", "mp4"],
    ".mkv": ["-fflags", "+bitexact", "-f", "matroska"],
    ".webm": ["-fflags", "+bitexact", "-f", "webm"],
    ".gif": ["-f", "gif"],
    ".webp": ["-f", "webp"],
}
