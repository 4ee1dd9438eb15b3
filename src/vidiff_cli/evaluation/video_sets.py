"""One side of an evaluation: videos from files, folders of numbered images, datasets or a world.

Legend: t frames, h and w pixels, c = 3 RGB; uint8. Frames are read when a video is measured, and dropped after it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.config.reading import read_text
from vidiff_cli.config.world import ADDRESS, StreamSettings
from vidiff_cli.dataset.dataset import Dataset, open_dataset
from vidiff_cli.dataset.world_dataset import WorldClips
from vidiff_cli.errors import VidiffError
from vidiff_cli.evaluation.view import View
from vidiff_cli.events import EventStream, Progress
from vidiff_cli.generation.output_files import compare_path
from vidiff_cli.generation.sidecar import sidecar_path
from vidiff_cli.preparation.scan import MediaSource, scan
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.video.image_file import read_image
from vidiff_cli.video.probe import VideoInfo, probe

LOSSLESS = frozenset(
    {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "qtrle", "png", "apng", "bmp", "tiff", "numbered pictures"}
)
LONGEST_PROMPT = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One video. `frames` is the announced count, `fps` is None where it has no rate; `given` are the given frames
    according to its sidecar. `load` reads the frames of a view (t h w c); VidiffError for a damaged file."""

    name: str
    key: str  # pairs it with one of the other side
    frames: int
    width: int
    height: int
    fps: Fraction | None
    load: Callable[[View], np.ndarray]
    prompt: str | None = None
    given: frozenset[int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSet:
    """The videos of one side. `pixels` describes their source, `facts` are for the record; `together`, how many
    consecutive ones one process has, where several share the work."""

    title: str
    pixels: str
    items: tuple[Item, ...]
    facts: Mapping[str, Any]
    lossy: tuple[str, ...] = ()
    left_out: int = 0
    together: int = 1

    def owner(self, number: int, world: int) -> int:
        """The process, of `world`, that measures a video."""
        return number // self.together % world

    def subset(self, count: int | None) -> VideoSet:
        """Keeps at most `count` videos, those whose keys have the smallest hashes: the same ones in any folder."""
        if count is None or count >= len(self.items):
            return self
        order = sorted(self.items, key=lambda item: hashlib.sha256(item.key.encode(errors="replace")).digest())
        kept = {id(item) for item in order[:count]}
        return replace(self, items=tuple(item for item in self.items if id(item) in kept))


def dataset_set(path: Path, side: str) -> VideoSet:
    """Opens the clips of a split of a dataset ("val", "train", "all") without single images. VidiffError for none."""
    dataset = open_dataset(path)
    indices = range(len(dataset)) if side == "all" else dataset.split(side)
    clips = [(index, dataset.clips[index]) for index in indices]
    moving = [(index, clip) for index, clip in clips if clip.frames > 1]
    if not moving:
        found = f"{len(clips)} clips of the side {side}, {len(clips) - len(moving)} of one frame"
        raise VidiffError(f"{path} has no clips to compare", found=found, fix="pass --side all, or another dataset")
    items = tuple(
        Item(
            name=f"{path}: {clip.id}",
            key=clip.id,
            frames=clip.frames,
            width=clip.width,
            height=clip.height,
            fps=Fraction(clip.fps) or None,
            load=partial(_read_clip, dataset, index),
            prompt=clip.captions[0][:LONGEST_PROMPT] if clip.captions else None,
        )
        for index, clip in moving
    )
    return VideoSet(
        title=f"{path} ({side})",
        pixels="frames of a dataset, as prep stored them",
        items=items,
        facts={"kind": "dataset", "path": str(path), "side": side, "sha256": dataset.digest()},
        left_out=len(clips) - len(moving),
    )


def _read_clip(dataset: Dataset, index: int, view: View) -> np.ndarray:
    rate = Fraction(dataset.clips[index].fps) or None
    return np.stack([view.crop_and_resize(frame) for frame in dataset.rgb(index, view.frame_numbers(rate))])


def world_set(stream: StreamSettings, side: str, count: int) -> VideoSet:
    """Draws unseen clips of the shapes world: of the held-out combinations of words ("val"), of the trained ones
    ("train"), or half of each ("all")."""
    unseen = stream.model_copy(update={"seed": stream.seed + 1, "clips": count, "held_out": count})
    world = WorldClips(unseen)
    numbers = {"train": range(count), "val": range(count, 2 * count)}.get(side, range(count // 2, count // 2 + count))
    items = tuple(
        Item(
            name=f"{ADDRESS}: {world.clips[number].id}",
            key=world.clips[number].id,
            frames=len(world.seconds),
            width=stream.size,
            height=stream.size,
            fps=Fraction(stream.fps),
            load=partial(_read_clip, world, number),
            prompt=world.clips[number].captions[0],
        )
        for number in numbers
    )
    return VideoSet(
        title=f"{ADDRESS} ({stream.part}, {side})",
        pixels="drawn",
        items=items,
        facts={"kind": "world", "settings": unseen.model_dump(mode="json"), "side": side},
    )


def files_set(path: Path) -> EventStream[VideoSet]:
    """Opens the videos of a folder (recursive), a file or a glob, and folders of numbered images; probes each.

    Photos and files written by `--compare` are left out. VidiffError where no video is left, or one is damaged.
    """
    text = str(path)
    found = scan([text], images="frames")
    compared = {compare_path(source.path) for source in found.sources}
    wanted = [source for source in found.sources if source.path not in compared]
    items, codecs = list[Item](), Counter[str]()
    for done, source in enumerate(wanted):
        yield Progress(what=f"looking at {path.name or path}", done=done, total=len(wanted))
        if source.problem:
            raise VidiffError(f"{source.path} cannot be used", found=source.problem)
        if source.pictures:
            items.append(_images_item(source))
            codecs["numbered pictures"] += 1
            continue
        info = probe(source.path)
        if info.is_image:
            continue
        items.append(_file_item(source, info))
        codecs[info.codec] += 1
    yield Progress(what=f"looking at {path.name or path}", done=len(wanted), total=len(wanted))
    if not items:
        fix = "name a folder of videos, or of folders of numbered pictures"
        raise VidiffError(f"{path} has no video to compare", found=f"{len(wanted)} photos", fix=fix)
    lossy = tuple(sorted(set(codecs) - LOSSLESS))
    return VideoSet(
        title=text,
        pixels="decoded files: " + ", ".join(f"{count} {codec}" for codec, count in codecs.most_common()),
        items=tuple(items),
        facts={"kind": "files", "path": text, "codecs": dict(codecs)},
        lossy=lossy,
        left_out=len(found.sources) - len(items),
    )


def _images_item(source: MediaSource) -> Item:
    first = probe(source.pictures[0])
    prompt, given = _read_sidecar(source.path)
    return Item(
        name=str(source.path),
        key=source.name,
        frames=len(source.pictures),
        width=first.width,
        height=first.height,
        fps=None,
        load=partial(_read_images, source),
        prompt=prompt,
        given=given,
    )


def _read_images(source: MediaSource, view: View) -> np.ndarray:
    frames = [read_image(path, None) for path in source.pictures[: view.frames]]
    for path, frame in zip(source.pictures, frames, strict=False):
        if frame.shape != frames[0].shape:
            raise VidiffError(f"{path} is of another size than the pictures before it", found=_size(frame))
    return np.stack([view.crop_and_resize(frame) for frame in frames])


def _file_item(source: MediaSource, info: VideoInfo) -> Item:
    announced = None if info.duration_seconds is None else round(info.duration_seconds * info.fps)
    prompt, given = _read_sidecar(source.path)
    return Item(
        name=str(source.path),
        key=str(Path(source.name).with_suffix("")),
        frames=announced if announced is not None else _count_frames(info),
        width=info.width,
        height=info.height,
        fps=info.fps,
        load=partial(_read_file, info),
        prompt=prompt,
        given=given,
    )


def _count_frames(info: VideoInfo) -> int:
    """Counts the frames of a file without a duration."""
    count = 0
    for reading in stream_frames(info):
        count = sum(len(times) for times, _ in reading.blocks)
    return count


def _read_file(info: VideoInfo, view: View) -> np.ndarray:
    """Reads the first frames of a file, block by block. VidiffError for a damaged file, or fewer frames than announced.

    ffmpeg is read to the end: it conceals damage, and reports it only then.
    """
    fps = view.fps if view.fps is not None and view.fps != info.fps else None
    frames = list[np.ndarray]()
    for reading in stream_frames(info, fps=fps):
        frames = []  # a second reading begins anew
        for _, block in reading.blocks:
            frames += [view.crop_and_resize(frame) for frame in block[: view.frames - len(frames)]]
            if len(frames) == view.frames and reading.decoder != "ffmpeg":
                return np.stack(frames)
    if len(frames) < view.frames:
        fix = f"pass --num-frames {len(frames)}"
        raise VidiffError(
            f"{info.path} has fewer frames than it says", found=len(frames), expected=view.frames, fix=fix
        )
    return np.stack(frames)


def _read_sidecar(path: Path) -> tuple[str | None, frozenset[int] | None]:
    """Reads the prompt and the given frames from the sidecar, or the prompt from the caption file, beside a video."""
    try:
        content = json.loads(read_text(sidecar_path(path), what="the sidecar"))
        settings, command = content["settings"], content["command"]
    except (VidiffError, ValueError, LookupError, TypeError, RecursionError):
        return _read_caption(path), None
    prompt = content.get("prompt")
    if command == "extend":
        prompts = settings.get("prompt")
        prompt = prompts[0] if isinstance(prompts, list) and len(prompts) == 1 else None
    prompt = prompt[:LONGEST_PROMPT] if isinstance(prompt, str) and prompt else None
    return prompt, _given(command, settings, content)


def _given(command: str, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> frozenset[int] | None:
    """Given frames of a sample (none) or of an extension (those at its start); None for other commands."""
    if command == "sample":
        return frozenset()
    given, made = facts.get("given"), facts.get("made")
    if command == "extend" and type(given) is int and type(made) is int and 0 < given < 10**6 and 0 < made < 10**6:
        return frozenset(range(made, made + given) if settings.get("before") else range(given))
    return None


def _read_caption(path: Path) -> str | None:
    try:
        lines = read_text(path.with_suffix(".txt"), what="the caption").splitlines()
    except VidiffError:
        return None
    return next((line.strip()[:LONGEST_PROMPT] for line in lines if line.strip()), None)


def _size(frame: np.ndarray) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


def make_pairs(real: Sequence[Item], generated: Sequence[Item], paired: bool | None) -> list[Item] | None:
    """Pairs each generated video with a real one; None where they are not compared one by one.

    By key where the keys agree; two single videos are a pair; with `paired`, by order where keys differ. VidiffError
    where `paired` is asked for and the numbers differ.
    """
    if paired is False:
        return None
    by_key = {item.key: item for item in real}
    keys = {item.key for item in generated}
    if len(real) == len(generated) == len(by_key) == len(keys) and keys == set(by_key):
        return [by_key[item.key] for item in generated]
    if len(real) == len(generated) == 1:
        return list(real)
    if not paired:
        return None
    if len(real) != len(generated):
        found = f"{len(real)} real and {len(generated)} generated"
        raise VidiffError("the videos cannot be paired", found=found, expected="as many on both sides")
    return list(real)
