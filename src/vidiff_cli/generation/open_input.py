"""An input to be completed: a video, a photo, or a folder with the frames of a video as images."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.config.fields import recorded_rate
from vidiff_cli.config.read_options import ReadOptions
from vidiff_cli.generation.sidecar import read_sidecar
from vidiff_cli.video.image_sequence import folder_pictures, image_sequence_info
from vidiff_cli.video.probe import VideoInfo, probe

USUAL_RATE = Fraction(25)  # of images, where nothing tells of another


def open_input(path: Path, options: ReadOptions, *, fps: Fraction | None = None) -> VideoInfo:
    """Describe an input. A folder of numbered images has the rate `fps`, else that of its sidecar, else 25.

    Raises VidiffError as `probe`.
    """
    pictures = folder_pictures(path) if path.is_dir() else ()
    if not pictures:
        return probe(path, options)
    return image_sequence_info(path, pictures, fps or _recorded(path) or USUAL_RATE, options)


def input_hash(info: VideoInfo) -> str:
    """sha256 of an input file; of a folder, that of its images' in order."""
    if not info.pictures:
        return file_hash(info.path)
    return hashlib.sha256("".join(map(file_hash, info.pictures)).encode()).hexdigest()


def _recorded(folder: Path) -> Fraction | None:
    try:
        return recorded_rate((read_sidecar(folder) or {}).get("fps"))  # type: ignore[arg-type]
    except ValueError:
        return None
