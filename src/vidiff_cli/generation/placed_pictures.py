"""Pictures at places of a result that would be made: they are given frames like those of the input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.frame_store import DiskFrameArray
from vidiff_cli.generation.source_clip import SourceClip, cover
from vidiff_cli.timeline import Timeline
from vidiff_cli.video.decode import decode
from vidiff_cli.video.probe import VideoInfo, probe

BLOCK_FRAMES = 64  # copied at a time


@dataclass(frozen=True, slots=True)
class PicturePlace:
    """A picture file and where it is shown: a frame of the result, from 0, or a time in seconds."""

    frame: int | None
    seconds: Fraction | None
    path: Path

    def __str__(self) -> str:
        place = self.frame if self.seconds is None else f"{float(self.seconds):g}s"
        return f"--at {place}={self.path}"


def place_pictures(
    clip: SourceClip, line: Timeline, pictures: Sequence[PicturePlace], *, rate: Fraction, folder: Path
) -> tuple[SourceClip, Timeline]:
    """Give frames of a timeline that would be made.

    Args:
        clip: The source clip.
        line: Its timeline, as it would be without the pictures.
        pictures: The pictures and their places.
        rate: Frames per second of the result, for places in seconds.
        folder: Folder of temporary frames.

    Returns:
        The clip with the pictures among its frames, scaled and cropped to its size, in the order of time; its timeline.

    Raises:
        VidiffError: A place that is outside, given already or named twice; a file that is not a single picture.
    """
    if not pictures:
        return clip, line
    infos: dict[int, VideoInfo] = {}
    for picture in pictures:
        rank = _rank(line, picture, rate)
        if rank in infos:
            raise VidiffError(f"{picture} has the place of another picture", found=infos[rank].path)
        infos[rank] = probe(picture.path, clip.info.options)
        if not infos[rank].is_image:
            raise VidiffError(f"{picture} is not a picture", found="a video", expected="a still image")
    return _insert(clip, line, infos, folder)


def _rank(line: Timeline, picture: PicturePlace, rate: Fraction) -> int:
    """The rank of a place that would be made."""
    place = picture.frame if picture.seconds is None else round(picture.seconds * rate)
    last = len(line.written) - 1
    if place is None or place > last:
        expected = f"a frame from 0 to {last}, or up to {float(last / rate):g}s"
        raise VidiffError(f"{picture} lies outside the result", expected=expected)
    if line.written[place] in line.given:
        raise VidiffError(f"{picture} lies where the input is shown", found=f"frame {place}", expected=_free(line))
    return line.written[place]


def _free(line: Timeline) -> str:
    """Frames that would be made, in words."""
    made = [place for place, rank in enumerate(line.written) if rank not in line.given]
    return f"a frame that is made, such as {made[0]} or {made[-1]}" if made else "a result with frames that are made"


def _insert(clip: SourceClip, line: Timeline, infos: dict[int, VideoInfo], folder: Path) -> tuple[SourceClip, Timeline]:
    """Number all given frames anew, in the order in which each is shown first, and copy them in this order."""
    first_shown = dict[int, int]()
    for rank in sorted(line.given):
        first_shown.setdefault(line.given[rank], rank)
    order: list[tuple[int, int | None]] = [(rank, index) for index, rank in first_shown.items()]
    order = sorted([*order, *((rank, None) for rank in infos)])
    number_of = {index: number for number, (_, index) in enumerate(order) if index is not None}
    inserted = {number: infos[rank] for number, (rank, index) in enumerate(order) if index is None}

    frames = DiskFrameArray.temporary(folder, clip.frames.shape)
    for first in range(0, len(clip), BLOCK_FRAMES):
        block = range(first, min(first + BLOCK_FRAMES, len(clip)))
        frames.write([number_of[index] for index in block], clip.frames.read(block))
    digest, (height, width) = hashlib.sha256(clip.digest.encode()), clip.size
    for number, info in inserted.items():
        pixels = decode(info, size=cover(info, (width, height)), crop=(width, height)).frames
        frames.write([number], pixels)
        digest.update(f"{number}:".encode() + pixels.tobytes())
    given = {rank: number_of[index] for rank, index in line.given.items()}
    given |= {rank: number for number, (rank, index) in enumerate(order) if index is None}
    completed = replace(
        clip,
        frames=frames,
        digest=digest.hexdigest(),
        starts=tuple(number_of[index] for index in clip.starts),
        # a frame behind a picture does not repeat it
        same=tuple(number_of[index] for index in clip.same if number_of[index] - 1 not in inserted),
        inserted=inserted,
    )
    return completed, replace(line, given=given, segments=())
