"""A video stored as numbered image files, decoded as `stream_frames` decodes a video file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.config.read_options import DEFAULT, ReadOptions
from vidiff_cli.errors import VidiffError
from vidiff_cli.video import image_file
from vidiff_cli.video.decode import BLOCK_BYTES, BLOCK_FRAMES, Block, DecodedVideo
from vidiff_cli.video.image_file import SUFFIXES_IMAGE
from vidiff_cli.video.probe import VideoInfo, probe

NUMBERED = re.compile(r"(.*?)(\d{1,12})", re.S)


def numbered_pictures(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Images in the order of their numbers; () unless all have one prefix and one suffix, and numbers without a gap."""
    kinds, numbers, count = set[tuple[str, str]](), dict[int, Path](), 0
    for path in paths:
        found = NUMBERED.fullmatch(path.stem)
        if found is None or path.suffix.lower() not in SUFFIXES_IMAGE:
            return ()
        kinds.add((found[1], path.suffix.lower()))
        numbers[int(found[2])] = path
        count += 1
    whole = len(kinds) == 1 and len(numbers) == count == max(numbers) - min(numbers) + 1
    return tuple(path for _, path in sorted(numbers.items())) if whole else ()


def folder_pictures(folder: Path) -> tuple[Path, ...]:
    """The frames in a folder that holds two numbered images or more, and nothing else that is not hidden; else ()."""
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return ()
    return numbered_pictures(visible) if len(visible) > 1 else ()


def image_sequence_info(
    folder: Path, pictures: Sequence[Path], fps: Fraction, options: ReadOptions = DEFAULT
) -> VideoInfo:
    """Description of the video from its first image. Raises VidiffError if that cannot be read."""
    first = probe(pictures[0], options)
    return replace(
        first,
        path=folder,
        container="pictures",
        fps=fps,
        time_base=1 / fps,
        duration_seconds=float(len(pictures) / fps),
        is_image=False,
        pictures=tuple(pictures),
    )


def stream_image_sequence(
    info: VideoInfo, pictures: Sequence[Path], *, size: tuple[int, int], crop: tuple[int, int], fps: Fraction
) -> DecodedVideo:
    """Decodes the images, each shown for 1 / info.fps seconds, at `fps`, scaled to `size` (w, h) and cropped.

    Raises VidiffError, from the blocks, for an image that cannot be read or has another size than the first.
    """
    return DecodedVideo(info=info, decoder="pillow", fps=fps, blocks=_blocks(info, pictures, size, crop, fps))


def _blocks(
    info: VideoInfo, pictures: Sequence[Path], size: tuple[int, int], crop: tuple[int, int], fps: Fraction
) -> Iterator[Block]:
    left, top = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    length = max(1, min(BLOCK_FRAMES, BLOCK_BYTES // (crop[0] * crop[1] * 3)))
    count = -int(-len(pictures) * fps // info.fps)  # every k with k / fps below the duration
    current, frame = -1, np.empty(0, np.uint8)
    for first in range(0, count, length):
        times, frames = [], []
        for number in range(first, min(first + length, count)):
            index = int(number * info.fps // fps)
            if index != current:
                path, current = pictures[index], index
                header = image_file.image_header(path)
                if header[:3] != (info.coded_width, info.coded_height, info.rotation):
                    expected = f"{info.coded_width}x{info.coded_height}, as {pictures[0].name}"
                    raise VidiffError(f"{path} has another size", found=f"{header[0]}x{header[1]}", expected=expected)
                frame = image_file.read_image(path, size, info.options.background_rgb)[
                    top : top + crop[1], left : left + crop[0]
                ]
            times.append(number / fps)
            frames.append(frame)
        yield times, np.stack(frames)
