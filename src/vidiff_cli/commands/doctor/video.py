"""Checks of ffmpeg and of both decoders, with a file of numbered frames that is written and read back."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli.commands.doctor.check import Finding, installed_version
from vidiff_cli.errors import VidiffError

if TYPE_CHECKING:
    import numpy as np

BITS = 5  # of a frame's index, drawn as bars
FRAMES = 25


def check_ffmpeg() -> Finding:
    """The version of ffmpeg and the encoders and decoders that it lacks."""
    from vidiff_cli.video.ffmpeg import executable
    from vidiff_cli.video.ffmpeg_features import ffmpeg_version, missing_decoders, missing_encoders

    found, encoders, decoders = f"{ffmpeg_version()} at {executable()}", missing_encoders(), missing_decoders()
    missing = [f"cannot write {purpose} ({name})" for name, purpose in encoders.items()]
    missing += [f"cannot read {', '.join(decoders)}"] if decoders else []
    if not missing:
        return Finding("ok", found)
    fix = "unset IMAGEIO_FFMPEG_EXE: the ffmpeg of imageio-ffmpeg has all of them"
    return Finding("fault" if "libx264" in encoders else "warning", f"{found}: {', '.join(missing)}", fix)


def check_ffmpeg_decoder() -> Finding:
    """Frames and times of a file read with `--decoder ffmpeg`."""
    if problem := _read_back("ffmpeg"):
        return Finding("fault", problem, "pip install --force-reinstall imageio-ffmpeg; unset IMAGEIO_FFMPEG_EXE")
    return Finding("ok", f"{FRAMES} of {FRAMES} numbered frames right, at exact times")


def check_decord() -> Finding:
    """Frames and times of a file read with `--decoder decord`.

    A decord that raises is replaced by ffmpeg, file by file, hence a warning; wrong frames would not be noticed.
    """
    package = "decord" if installed_version("decord") or not installed_version("decord2") else "decord2"
    version = installed_version(package)
    try:
        problem = _read_back("decord")
    except VidiffError as error:
        reason = error.__cause__ or error
        fix = f"pip install --force-reinstall {package}"
        return Finding("warning", f"{package} {version or 'is not installed'}: {reason}; ffmpeg reads instead", fix)
    if problem:
        fix = "use --decoder ffmpeg, or install another version of it"
        return Finding("fault", f"{package} {version}: {problem}", fix)
    return Finding("ok", f"{package} {version}: {FRAMES} of {FRAMES} numbered frames right, at exact times")


def _read_back(decoder: str) -> str | None:
    """Writes numbered frames at 25 fps and decodes them; returns the difference, or None if frames and times agree."""
    from vidiff_cli.video.decode import decode
    from vidiff_cli.video.encode import encode

    rate = Fraction(25)
    with tempfile.TemporaryDirectory(prefix="vidiff-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "numbered.mp4"
        encode(path, [numbered_frame(index) for index in range(FRAMES)], rate)
        decoded = decode(path, decoder=decoder)
    numbers = [read_frame_number(frame) for frame in decoded.frames]
    if numbers != list(range(FRAMES)):
        text = ", ".join(map(str, numbers))
        text = text if len(text) <= 60 else text[:57] + "..."
        return f"shows the frames {text} of a file that holds 0 to {FRAMES - 1}"
    error_seconds = max(abs(time - index / rate) for index, time in enumerate(decoded.times))
    if error_seconds > Fraction(1, 100):
        return f"shows a frame {float(error_seconds):.2f} s from its time"
    return None


def numbered_frame(index: int) -> np.ndarray:
    """A frame (h w c) that shows its index as white and black bars, lowest bit left."""
    import numpy as np

    bars = np.array([255 * (index >> bit & 1) for bit in range(BITS)], dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(np.repeat(bars, 16)[None, :, None], (64, 16 * BITS, 3)))


def read_frame_number(frame: np.ndarray) -> int:
    """The index that a numbered frame shows."""
    means = frame.reshape(frame.shape[0], BITS, -1).mean(axis=(0, 2))
    return sum(1 << bit for bit in range(BITS) if means[bit] > 127)
