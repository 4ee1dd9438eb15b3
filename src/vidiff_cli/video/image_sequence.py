"""A video stored as numbered image files, decoded as `stream_frames` decodes a video file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import image_file
from vidiff_cli.video.decode import BLOCK_BYTES, BLOCK_FRAMES, Block, DecodedVideo
from vidiff_cli.video.probe import VideoInfo, probe


def image_sequence_info(folder: Path, pictures: Sequence[Path], fps: Fraction) -> VideoInfo:
    """Description of the video from its first image. Raises VidiffError if that cannot be read."""
    first = probe(pictures[0])
    return replace(
        first,
        path=folder,
        container="pictures",
        fps=fps,
        time_base=1 / fps,
        duration_seconds=float(len(pictures) / fps),
        is_image=False,
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
                frame = image_file.read_image(path, size)[top : top + crop[1], left : left + crop[0]]
            times.append(number / fps)
            frames.append(frame)
        yield times, np.stack(frames)
