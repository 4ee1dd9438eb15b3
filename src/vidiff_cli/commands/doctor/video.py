"""Video: ffmpeg, and files of numbered frames written and read back for real."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli.commands.doctor.check import Finding, installed, ok
from vidiff_cli.errors import VidiffError

if TYPE_CHECKING:
    import numpy as np

BITS = 5  # of a frame's index, drawn as bars


def ffmpeg() -> Finding:
    from vidiff_cli.video.ffmpeg import executable
    from vidiff_cli.video.ffmpeg_features import ffmpeg_version

    return ok(f"{ffmpeg_version()} at {executable()}")


def codecs() -> Finding:
    """Whether this ffmpeg was built with what vidiff writes and commonly reads."""
    from vidiff_cli.video.ffmpeg_features import missing_decoders, missing_encoders

    lacking, unread = missing_encoders(), missing_decoders()
    parts = [f"cannot write {purpose} ({name})" for name, purpose in lacking.items()]
    parts += [f"cannot read {', '.join(unread)}"] if unread else []
    if parts:
        fix = "unset IMAGEIO_FFMPEG_EXE: the ffmpeg of imageio-ffmpeg has them all"
        return Finding("fault" if "libx264" in lacking else "warning", "this ffmpeg " + ", ".join(parts), fix)
    return ok("all that vidiff writes (H.264, VP9, FFV1, GIF, WebP, AAC, Opus) and commonly reads (AV1 too)")


def writing() -> Finding:
    """Every kind of video that vidiff writes, written and read back: numbered frames."""
    kinds = {".mp4": False, ".webm": False, ".gif": False, ".webp": False, ".mkv": True}
    wrong = {suffix: fault for suffix, lossless in kinds.items() if (fault := _written_wrong(suffix, lossless))}
    if not wrong:
        return ok(f"{', '.join(kinds)} (lossless): written and read back right")
    faults = "; ".join(f"{suffix}: {fault}" for suffix, fault in wrong.items())
    fix = "use another kind of file; pip install --force-reinstall imageio-ffmpeg"
    return Finding("fault" if ".mp4" in wrong else "warning", faults, fix)


def _written_wrong(suffix: str, lossless: bool) -> str | None:
    try:
        return _misread(suffix, "auto", frames=8, lossless=lossless)
    except VidiffError as error:
        return str(error).rstrip(".")


def read_by_ffmpeg() -> Finding:
    fault = _misread(".mp4", "ffmpeg", frames=25)
    if fault is None:
        return ok("25 of 25 numbered frames right, at exact times")
    return Finding("fault", fault, "pip install --force-reinstall imageio-ffmpeg; unset IMAGEIO_FFMPEG_EXE")


def read_by_decord() -> Finding:
    """A decord that fails is replaced by ffmpeg, file by file; one that shows wrong frames is not noticed."""
    package = "decord" if installed("decord") or not installed("decord2") else "decord2"
    version = installed(package)
    try:
        fault = _misread(".mp4", "decord", frames=25)
    except VidiffError as error:
        reason = error.__cause__ or error
        fix = f"pip install --force-reinstall {package}"
        return Finding("warning", f"{package} {version or 'is not installed'}: {reason}; ffmpeg reads instead", fix)
    if fault is not None:
        return Finding(
            "fault", f"{package} {version}: {fault}", "use --decoder ffmpeg, or install another version of it"
        )
    return ok(f"{package} {version}: 25 of 25 numbered frames right, at exact times")


def _misread(suffix: str, decoder: str, *, frames: int, lossless: bool = False) -> str | None:
    """Writes a second of numbered frames and reads it back: what is wrong, or None. VidiffError where that fails."""
    import numpy as np

    from vidiff_cli.video.decode import decode
    from vidiff_cli.video.encode import encode

    rate = Fraction(frames)
    with tempfile.TemporaryDirectory(prefix="vidiff-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"numbered{suffix}"
        encode(path, [numbered(index) for index in range(frames)], rate, lossless=lossless)
        decoded = decode(path, decoder=decoder)
    seen = [read_frame_number(frame) for frame in decoded.frames]
    if seen != list(range(frames)):
        return f"shows the frames {_short(seen)} of a file that holds 0 to {frames - 1}"
    late = max(abs(time - index / rate) for index, time in enumerate(decoded.times))
    if late > Fraction(1, 100):  # GIF counts in hundredths of a second
        return f"shows a frame {float(late):.2f} s from its time"
    if lossless and not np.array_equal(decoded.frames[-1], numbered(frames - 1)):
        return "lossless frames come back changed"
    return None


def _short(numbers: Sequence[int]) -> str:
    text = ", ".join(map(str, numbers))
    return text if len(text) <= 60 else text[:57] + "..."


def numbered(index: int) -> np.ndarray:
    """A frame (h w c) that carries its index as white and black bars, the lowest bit to the left."""
    import numpy as np

    bars = np.array([255 * (index >> bit & 1) for bit in range(BITS)], dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(np.repeat(bars, 16)[None, :, None], (64, 16 * BITS, 3)))


def read_frame_number(frame: np.ndarray) -> int:
    """The index that a frame carries."""
    means = frame.reshape(frame.shape[0], BITS, -1).mean(axis=(0, 2))
    return sum(1 << bit for bit in range(BITS) if means[bit] > 127)
