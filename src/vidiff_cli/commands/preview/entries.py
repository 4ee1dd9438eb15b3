"""Entries of `vidiff preview`: those of a dataset, a run, a folder of videos or one video, opened on demand.

Only picked entries are opened: a dataset of a million clips costs as much as one of ten.

Legend: n frames that are held, h and w pixels, c = 3 colors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vidiff_cli.config.fields import recorded_rate
from vidiff_cli.dataset.dataset import Dataset, open_dataset
from vidiff_cli.dataset.jsonl import read_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.generation.sidecar import LONGEST_SIDECAR, made_by
from vidiff_cli.path_kind import SUFFIXES_TEXT, path_kind
from vidiff_cli.preparation.captions import Captions, read_captions
from vidiff_cli.preparation.scan import MediaSource, scan
from vidiff_cli.video.decode import DecodedVideo, decode, stream_frames
from vidiff_cli.video.image_sequence import image_sequence_info, stream_image_sequence
from vidiff_cli.video.probe import VideoInfo, probe
from vidiff_cli.viz.gallery import LONGEST_SECONDS, GalleryEntry, Media, media_of_file, media_of_frames

MOST_SCORES = 40  # of a clip, whatever its row says
FOLDER_FPS = Fraction(25)  # of a folder of frames whose sidecar does not say
EXPECTED = "a dataset, a run, a folder of videos or images, or a video"
UNSEEN = SUFFIXES_TEXT | {".safetensors"}

SubjectKind = Literal["dataset", "run", "folder", "file"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryFrames:
    """An entry, some of its frames (n h w c) with their `numbers` in the whole, and its media for a page."""

    entry: GalleryEntry
    frames: np.ndarray | None
    numbers: tuple[int, ...]
    media: Callable[[], Media | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The path to preview, with `total` entries. `facts` are about the whole.

    `open_entries(numbers, limit, side)` opens some one by one: at most `limit` frames of each, evenly spaced, with a
    long side of at most `side` pixels.
    """

    kind: SubjectKind
    total: int
    open_entries: Callable[[Sequence[int], int, int], Iterator[EntryFrames]]
    facts: dict[str, str] = field(default_factory=dict)


def open_subject(path: Path) -> Subject:
    """Opens a path. VidiffError: it is missing, has no entries, or is a damaged dataset."""
    kind = path_kind(path)
    if kind in ("missing", "builtin model"):
        raise VidiffError(f"{path} does not exist", expected=EXPECTED)
    if kind in ("text file", "checkpoint file"):
        raise VidiffError(f"{path} cannot be previewed", found=f"a {path.suffix} file", expected=EXPECTED)
    if kind == "dataset":
        return _open_dataset(open_dataset(path))
    if kind == "run":
        return _open_run(path)
    if kind in ("media file", "unknown file"):
        return _open_sources(scan([str(path)]).sources, "file")
    return _open_sources(_results(path), "folder")


def _results(path: Path) -> list[MediaSource]:
    """Videos and images of a folder, except the sheets that --compare writes beside a video."""
    sources = scan([str(path)], images="auto").sources
    sheets = {source.path.with_name(f"{source.path.stem}_sheet.png") for source in sources}
    return [source for source in sources if source.path not in sheets]


def _open_dataset(dataset: Dataset) -> Subject:
    if not len(dataset):
        raise VidiffError(f"the dataset {dataset.folder} has no clips", fix="prepare it with more sources")
    spec = dataset.spec
    facts = {"clips": f"{spec.clips:,}", "split": ", ".join(f"{count:,} {side}" for side, count in spec.splits.items())}
    facts |= {"sources": f"{spec.kept:,} of {spec.sources:,} kept", "video": f"{spec.seconds_of_video:,.1f} s"}
    return Subject(
        kind="dataset",
        total=len(dataset),
        open_entries=lambda numbers, limit, side: (_clip(dataset, number, limit, side) for number in numbers),
        facts=facts,
    )


def _clip(dataset: Dataset, number: int, limit: int, side: int) -> EntryFrames:
    clip = dataset.clips[number]
    is_image = clip.fps == "0"
    numbers = tuple(evenly_spaced(clip.frames, limit))
    entry = GalleryEntry(
        name=f"{clip.source}" if is_image else f"{clip.source} at {clip.start_seconds:.2f} s",
        kind="image" if is_image else "clip",
        prompt=" / ".join(clip.captions),
        width=clip.width,
        height=clip.height,
        frames=clip.frames,
        fps=None if is_image else clip.fps,
        facts={"split": clip.split} | ({"group": clip.group} if clip.group else {}),
        scores={name: float(value) for name, value in sorted(clip.scores.items())[:MOST_SCORES]},
    )
    return EntryFrames(
        entry=entry,
        frames=np.stack([_reduced(frame, side) for frame in dataset.rgb(number, numbers)]),
        numbers=numbers,
        media=lambda: media_of_frames(dataset.rgb(number), Fraction(clip.fps)),
    )


def _reduced(frame: np.ndarray, side: int) -> np.ndarray:
    """A frame (h w c) with a long side of at most `side` pixels."""
    scale = side / max(frame.shape[:2])
    if scale >= 1:
        return np.array(frame)
    height, width = (max(1, round(length * scale)) for length in frame.shape[:2])
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), Image.Resampling.BOX))


def _open_sources(sources: Sequence[MediaSource], kind: SubjectKind) -> Subject:
    def open_entries(numbers: Sequence[int], limit: int, side: int) -> Iterator[EntryFrames]:
        picked = [sources[number] for number in numbers]
        captions = read_captions(picked)
        return (_file(source, captions, limit, side) for source in picked)

    return Subject(kind=kind, total=len(sources), open_entries=open_entries)


def _open_run(run: Path) -> Subject:
    """The progress sheet, the loss plot, then the sample sheets, newest first."""
    samples = sorted((run / "samples").glob("*"), key=lambda path: path.name, reverse=True)
    first = [run / "samples" / "progress.png", run / "loss.png"]
    found = [path for path in first if path.is_file()]
    found += [path for path in samples if path.is_file() and path not in first and not path.name.startswith(".")]
    found = [path for path in found if path.suffix.lower() not in UNSEEN]
    if not found:
        raise VidiffError(
            f"the run {run} has no sheets or plots yet", fix="train on: every --sample-every steps make some"
        )
    sources = [
        MediaSource(path=path, root=run, name=path.relative_to(run).as_posix(), bytes=0, mtime_ns=0) for path in found
    ]

    def open_entries(numbers: Sequence[int], limit: int, side: int) -> Iterator[EntryFrames]:
        return (_step_scores(_file(sources[number], None, limit, 2 * side)) for number in numbers)

    return Subject(kind="run", total=len(found), open_entries=open_entries, facts=_run_facts(run))


def _step_scores(seen: EntryFrames) -> EntryFrames:
    """The step of samples/step-N.png as a key to sort by."""
    step = Path(seen.entry.name).stem.removeprefix("step-")
    scores = {"step": float(step)} if step.isascii() and step.isdecimal() and len(step) < 16 else {}
    return replace(seen, entry=replace(seen.entry, kind="sheet", scores=scores))


def _run_facts(run: Path) -> dict[str, str]:
    """Facts from config.json and metrics.jsonl; missing values are absent."""
    facts: dict[str, str] = {}
    config = _json(run / "config.json")
    train, model = (part if isinstance(part, dict) else {} for part in (config.get("train"), config.get("model")))
    for name in ("preset", "dataset", "steps", "batch_size"):
        if isinstance(train.get(name), str | int):
            facts[name.replace("_", " ")] = str(train[name])
    if all(type(model.get(name)) is int for name in ("frames", "width", "height")):
        facts["makes"] = f"{model['frames']} frames of {model['width']}x{model['height']}"
    last: dict[str, float] = {}
    try:
        for row in read_rows(run / "metrics.jsonl"):
            last |= {name: value for name, value in row.items() if _is_number(value)}
    except VidiffError:  # a row that is being written, or no rows yet
        pass
    shown = {"step": "steps made", "loss": "loss", "validation_loss": "held-out loss"}
    return facts | {label: f"{last[name]:.6g}" for name, label in shown.items() if name in last}


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LONGEST_SIDECAR:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


# --- one file ---------------------------------------------------------------------------------------------------------


def _file(source: MediaSource, captions: Captions | None, limit: int, side: int) -> EntryFrames:
    """A video, an image or a folder of frames; an error becomes the entry's `problem`."""
    told = (
        [text for segment in captions.by_source.get(source.name, ()) for text in segment.captions] if captions else []
    )
    entry = _add_sidecar(GalleryEntry(name=source.name, kind="video", path=source.path, prompt=" / ".join(told)))
    try:
        if source.problem:
            raise VidiffError(f"{source.name} cannot be read", found=source.problem)
        rate = Fraction(entry.fps) if entry.fps else FOLDER_FPS
        info = image_sequence_info(source.path, source.pictures, rate) if source.pictures else probe(source.path)
        scale = min(1.0, side / max(info.width, info.height))
        size = max(1, round(info.width * scale)), max(1, round(info.height * scale))
        try:
            frames, numbers, count, damage = sample_frames(_stream(source, info, size), limit)
        except VidiffError as error:  # in the first frames, which come together: one of them is better than none
            if source.pictures:
                raise
            frames, numbers, count, damage = decode(source.path, size=size, max_frames=1).frames, (0,), 1, error
    except VidiffError as error:
        return EntryFrames(
            entry=replace(entry, problem=without_path(error, entry)), frames=None, numbers=(), media=lambda: None
        )
    long = not info.is_image and (info.duration_seconds or 0) > LONGEST_SECONDS
    entry = replace(
        entry,
        kind="image" if info.is_image else "video",
        width=info.width,
        height=info.height,
        frames=None if long or damage else count,
        fps=None if info.is_image else str(info.fps),
        facts={**entry.facts, **({"looked at": f"its first {LONGEST_SECONDS} s"} if long else {})},
        problem=damage and without_path(damage, entry),
    )
    return EntryFrames(entry=entry, frames=frames, numbers=numbers, media=lambda: _media(source, info))


def without_path(error: VidiffError, entry: GalleryEntry) -> str:
    """The sentence with the file's name instead of its path: a shared page must not reveal the disk."""
    return str(error).replace(str(entry.path), entry.name)


def _media(source: MediaSource, info: VideoInfo) -> Media:
    if not source.pictures:
        return media_of_file(info)
    size = info.width, info.height
    blocks = (block for reading in _stream(source, info, size) for _, block in reading.blocks)
    return media_of_frames((frame for block in blocks for frame in block), info.fps)


def _stream(source: MediaSource, info: VideoInfo, size: tuple[int, int]) -> Iterator[DecodedVideo]:
    """Frames of a file or of a folder of images, at most a minute of them, scaled to `size` (w, h)."""
    if source.pictures:
        limit = int(LONGEST_SECONDS * info.fps)
        yield stream_image_sequence(info, source.pictures[:limit], size=size, crop=size, fps=info.fps)
    else:
        yield from stream_frames(info, size=size, stop_seconds=None if info.is_image else Fraction(LONGEST_SECONDS))


def sample_frames(
    attempts: Iterable[DecodedVideo], limit: int
) -> tuple[np.ndarray, tuple[int, ...], int, VidiffError | None]:
    """At most `limit` frames (n h w c), evenly spaced, their numbers, the total, and the error that ended them.

    One pass, whatever the header announces: every second held frame is dropped when there are too many. Raises
    VidiffError if no frame can be decoded.
    """
    kept: list[tuple[int, np.ndarray]] = []
    count, damage = 0, None
    for attempt in attempts:
        kept, count, stride, damage = [], 0, 1, None
        try:
            for _, block in attempt.blocks:
                for frame in block:
                    if count % stride == 0:
                        kept.append((count, frame.copy()))
                    count += 1
                    if len(kept) > 2 * limit:
                        kept, stride = kept[::2], 2 * stride
        except VidiffError as error:
            if not kept:
                raise
            damage = error
    shown = [kept[place] for place in evenly_spaced(len(kept), limit)]
    return np.stack([frame for _, frame in shown]), tuple(number for number, _ in shown), count, damage


def _add_sidecar(entry: GalleryEntry) -> GalleryEntry:
    """Adds the facts of the sidecar, if vidiff wrote one; its prompt replaces a caption."""
    made = made_by(entry.path) if entry.path is not None else None
    if made is None:
        return entry
    content = _json(made.sidecar)
    settings = content.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    prompt = content.get("prompt", settings.get("prompt"))
    prompt = " / ".join(map(str, prompt)) if isinstance(prompt, list) else prompt
    checkpoint = f"{_short(made.model or '')} {(made.model_sha256 or '')[:12]}".strip()
    facts = {"made by": f"vidiff {made.command}", "checkpoint": checkpoint}
    names = ("sampler", "steps", "guidance_scale", "condition", "scheme")
    known = ((name, content.get(name, settings.get(name))) for name in names)
    facts |= {name.replace("_", " "): str(value) for name, value in known if isinstance(value, str | int | float)}
    jumps = content.get("seam_jump")
    numbers = [float(jump) for jump in jumps if _is_number(jump)] if isinstance(jumps, list) else []
    return replace(
        entry,
        prompt=prompt if isinstance(prompt, str) and prompt else entry.prompt,
        seed=made.seed,
        fps=_rate(content.get("fps")),
        facts={name: value for name, value in facts.items() if value},
        scores={"seam jump": max(numbers)} if numbers else {},
    )


def _short(checkpoint: str) -> str:
    """ "NAME step-N" of runs/NAME/checkpoints/step-N/ema.safetensors, else the name of the file."""
    parts = Path(checkpoint).parts
    return f"{parts[-4]} {parts[-2]}" if len(parts) > 3 and parts[-3] == "checkpoints" else "".join(parts[-1:])


def _rate(value: object) -> str | None:
    """A rate as vidiff writes it, or None."""
    try:
        return str(recorded_rate(str(value)))
    except ValueError:
        return None


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
