"""Folders of numbered pictures that are the frames of one video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.video.image_file import image_header
from vidiff_cli.video.image_sequence import numbered_pictures
from vidiff_cli.video.probe import SUFFIXES_IMAGE

FEWEST = 8  # pictures that are taken for a video without being told


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFolder:
    """A folder and its pictures in the order of their numbers."""

    folder: Path
    frames: tuple[Path, ...]


def frame_folders(files: Iterable[Path], *, least: int = FEWEST) -> list[FrameFolder]:
    """Folders whose images, at least `least`, are the frames of a video, in the order of their names.

    They are where all images of a folder have one prefix and one suffix, numbers without a gap, and one size (looked at
    for the first, the middle and the last), and where none has a caption of its own: those are photos.
    """
    images = defaultdict[Path, list[Path]](list)
    for path in files:
        if path.suffix.lower() in SUFFIXES_IMAGE:
            images[path.parent].append(path)
    found = ((folder, numbered_pictures(paths)) for folder, paths in sorted(images.items()) if len(paths) >= least)
    return [FrameFolder(folder=folder, frames=frames) for folder, frames in found if frames and _are_frames(frames)]


def _are_frames(frames: tuple[Path, ...]) -> bool:
    try:
        sizes = {image_header(frames[place])[:3] for place in (0, len(frames) // 2, -1)}
    except VidiffError:
        return False
    return len(sizes) == 1 and not any(path.with_suffix(".txt").exists() for path in frames)
