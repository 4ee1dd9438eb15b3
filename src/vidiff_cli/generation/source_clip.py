"""Source clips at the model's size: frames in a file, never all in memory; scenes and repeats found while reading.

Shapes: n frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vidiff_cli.generation.budget import check_amount
from vidiff_cli.generation.frame_store import DiskFrameArray
from vidiff_cli.models.families import VideoModel
from vidiff_cli.motion import repeated_frames
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.video.filters import describe_conversion
from vidiff_cli.video.packets import with_last_frame
from vidiff_cli.video.probe import VideoInfo
from vidiff_cli.video.resample import measure_rate
from vidiff_cli.video.restore_resolution import model_size, stream_full_size
from vidiff_cli.video.scene_detection import SceneScorer, scene_starts

Size = tuple[int, int]
ResultSize = int | Literal["film", "model"]
"""Size of a result: pixels of the short side, the input's own, or the model's."""

SHORT_SIDE = 128  # at which an input is looked at where there is no model
LEAST_FOR_CUTS = 6  # frames: of fewer, none shows what the usual change is


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePart:
    """One input: what probing said, how many frames were read, and at which rate (None: its own times). `remarks`: what
    became of HDR, transparency, damage and the like."""

    info: VideoInfo
    count: int
    fps: Fraction | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceClip:
    """One input or two at the model's size: their frames in a file, one after the other, the times of the first one's
    (seconds, from 0) and how long its last one stays, and what was seen in passing: the `digest` of all pixels, the
    first frame of each scene of an input but its very first, and the frames that repeat the one before (but for what
    encoding makes of it)."""

    parts: tuple[SourcePart, ...]
    frames: DiskFrameArray
    times: tuple[Fraction, ...]
    fps: Fraction
    last_seconds: Fraction | None  # None: a frame of that rate
    digest: str
    starts: tuple[int, ...]
    same: tuple[int, ...]
    inserted: Mapping[int, VideoInfo] = field(default_factory=dict)  # pictures among the inputs' frames, by number

    def __len__(self) -> int:
        return sum(part.count for part in self.parts) + len(self.inserted)

    def number_of(self, index: int) -> int:
        """The number of a frame that is counted without the inserted pictures."""
        for number in sorted(self.inserted):
            index += number <= index
        return index

    @property
    def info(self) -> VideoInfo:
        """The first input."""
        return self.parts[0].info

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.frames.shape[0], self.frames.shape[1]


def working_size(info: VideoInfo, model: VideoModel | None, size: ResultSize) -> tuple[Size, Size]:
    """(scaled size, crop) of an input (w, h). Unless the result has the model's size, all of the picture is covered, a
    little stretched; a model of frames of any size works at that of the result."""
    if model is not None and model.only_between:
        height, width = result_size(info, size)
        return (width, height), (width, height)
    if size == "model" and model is not None:
        return network_size(info.width, info.height, model)
    if model is not None and model.fixed_size:
        return (model.width, model.height), (model.width, model.height)
    short, multiple = (
        (min(SHORT_SIDE, info.width, info.height), 1)
        if model is None
        else (min(model.width, model.height), model.multiple)
    )
    covering = model_size(info.width, info.height, short, multiple)
    return covering, covering


def network_size(width: int, height: int, model: VideoModel) -> tuple[Size, Size]:
    """(scaled size, crop) of an input (w, h): short side the model's, long side cropped to the network's multiple."""
    if model.fixed_size:
        scale = max(Fraction(model.width, width), Fraction(model.height, height))
        scaled = max(model.width, round(width * scale)), max(model.height, round(height * scale))
        return scaled, (model.width, model.height)
    multiple, short = model.multiple, min(model.width, model.height)
    scale = Fraction(short, min(width, height))
    scaled = tuple(max(short, round(side * scale)) for side in (width, height))
    crop = tuple(side // multiple * multiple for side in scaled)
    return (scaled[0], scaled[1]), (crop[0], crop[1])


def output_size(clip: SourceClip, size: ResultSize) -> Size:
    """Height and width of the result."""
    return clip.size if size == "model" else result_size(clip.info, size)


def result_size(info: VideoInfo, size: ResultSize) -> Size:
    """Height and width of an input at its own size, or with a short side of `size` pixels."""
    height, width = info.height, info.width
    if not isinstance(size, int):
        return height, width
    scale = Fraction(size, min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def read_clip(
    info: VideoInfo,
    folder: Path,
    scaled: Size,
    crop: Size,
    *,
    fps: Fraction | None = None,
    after: SourceClip | None = None,
) -> SourceClip:
    """Read the frames of an input, scaled and cropped, into a file without a name.

    Args:
        info: What probing said of the input.
        folder: Folder of the file.
        scaled: Width and height that frames are scaled to.
        crop: Width and height of the part that is kept, from the middle.
        fps: Steady rate that frames are taken at; None keeps their own times.
        after: Another input, behind whose frames these are put.

    Returns:
        The clip, with scene starts and repeated frames found while reading.

    Raises:
        VidiffError: As `decode`, and where the disk is full.
    """
    info = with_last_frame(info)
    check_amount(int((info.duration_seconds or 0) * float(fps or info.fps)), *crop, folder)
    frames = after.frames if after else DiskFrameArray.temporary(folder, (crop[1], crop[0], 3))
    first = len(after) if after else 0
    for reading in stream_frames(info, size=scaled, crop=crop, fps=fps, keep_intact=True):
        times, same = list[Fraction](), list[int]()
        measure, digest, before = SceneScorer(), hashlib.sha256(after.digest.encode() if after else b""), None
        for moments, block in reading.blocks:
            check_amount(len(times) + len(block), crop[0], crop[1], folder)
            for number, frame in enumerate(block, first + len(times)):
                if before is not None and np.array_equal(frame, before):
                    same.append(number)
                before = frame
            before = block[-1].copy()
            frames.write(range(first + len(times), first + len(times) + len(block)), block)
            measure.add(block)
            digest.update(np.ascontiguousarray(block).data)
            times += moments
    remarks = (*describe_conversion(info), *reading.remarks)
    if info.others:
        remarks += (f"{' and '.join(info.others)} not copied to the result",)
    part = SourcePart(info=reading.info, count=len(times), fps=None if info.is_image else fps, remarks=remarks)
    scores = measure.scores()
    cuts = scene_starts(scores) if len(times) >= LEAST_FOR_CUTS else ()
    starts = tuple(first + start for start in cuts if start)
    again = torch.nonzero(repeated_frames(torch.from_numpy(scores.change)))[:, 0]
    same = sorted({*same, *(first + again).tolist()})
    if after:
        return SourceClip(
            parts=(*after.parts, part),
            frames=frames,
            times=after.times,
            fps=after.fps,
            last_seconds=after.last_seconds,
            digest=digest.hexdigest(),
            starts=(*after.starts, *starts),
            same=(*after.same, *same),
        )
    return SourceClip(
        parts=(part,),
        frames=frames,
        times=tuple(times),
        fps=reading.fps if info.is_image or fps is not None else measure_rate(times, info.fps),
        last_seconds=info.last_seconds if fps is None else None,
        digest=digest.hexdigest(),
        starts=starts,
        same=tuple(same),
    )


def stream_given(clip: SourceClip, size: Size) -> Iterator[np.ndarray]:
    """All frames of a clip (h w c) at another size (h w), in order, from its inputs."""
    crop = size[1], size[0]
    frames = chain.from_iterable(
        stream_full_size(part.info, fps=part.fps, size=cover(part.info, crop), crop=crop) for part in clip.parts
    )
    pictures = clip.inserted
    if not pictures:
        return frames
    return chain.from_iterable(
        stream_full_size(pictures[number], size=cover(pictures[number], crop), crop=crop)
        if number in pictures
        else islice(frames, 1)
        for number in range(len(clip))
    )


def cover(info: VideoInfo, crop: Size) -> Size:
    """The size (w, h) to which an input is scaled so that it covers `crop` and keeps its proportions."""
    scale = max(Fraction(crop[0], info.width), Fraction(crop[1], info.height))
    return max(crop[0], round(info.width * scale)), max(crop[1], round(info.height * scale))
