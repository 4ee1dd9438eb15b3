"""Samples of a model as one side of an evaluation: from the sampler, rounded to 8 bits, never through a codec.

Legend: b clips, t frames, h and w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from vidiff_cli.checkpoint import read_header
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.world import ADDRESS, StreamSettings
from vidiff_cli.device import dtype_name
from vidiff_cli.errors import VidiffError
from vidiff_cli.evaluation.video_sets import Item, VideoSet
from vidiff_cli.evaluation.view import View
from vidiff_cli.events import EventStream, Note, Progress
from vidiff_cli.frames import plan
from vidiff_cli.generation.announce import announce_model
from vidiff_cli.generation.budget import check_amount, estimate_seconds, note_long
from vidiff_cli.generation.builtin import builtin_file
from vidiff_cli.generation.frame_store import DiskFrameArray
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.codec import ceil_length, floor_length, z_shape
from vidiff_cli.models.families import VideoModel
from vidiff_cli.path_kind import path_kind
from vidiff_cli.system.ranks import Ranks

BATCH = 16


def training_world(run: Path) -> StreamSettings | None:
    """Reads which part of the shapes world a run or the builtin model was trained on; None for another dataset."""
    if path_kind(run) == "builtin model":
        world = read_header(builtin_file()).get("world")
    else:
        train = read_run_config(run).get("train")
        world = train.get("world") if isinstance(train, dict) and train.get("dataset") == ADDRESS else None
    try:
        return StreamSettings.model_validate(world) if world is not None else None
    except ValidationError as error:
        raise VidiffError(f"{run} does not say which world it was trained on") from error


def training_dataset(run: Path) -> Path:
    """Finds the dataset that a run was trained on. VidiffError where it cannot be found."""
    fix = "name it with --dataset"
    train = read_run_config(run).get("train")
    named = train.get("dataset") if isinstance(train, dict) else None
    if not isinstance(named, str):
        raise VidiffError(f"{run} does not say what it was trained on", fix=fix)
    if not (Path(named) / "dataset.json").is_file():
        raise VidiffError(f"the dataset {named} that {run} was trained on does not exist", fix=fix)
    return Path(named)


def is_other_dataset(run: Path, real: VideoSet) -> bool:
    """Says whether the dataset has changed since the run was trained on it."""
    before = read_run_config(run).get("dataset")
    return isinstance(before, str) and before != real.facts.get("sha256")


def placeholders(model: VideoModel, count: int, frames: int | None) -> list[Item]:
    """Describes samples before any is made, so that the view of both sides can be chosen."""
    one = Item(
        name=f"samples of {model.name}",
        key="",
        frames=frames or model.frames,
        width=model.width,
        height=model.height,
        fps=model.fps,
        load=_not_made,
    )
    return [one] * count


def _not_made(view: View) -> np.ndarray:
    raise AssertionError("a placeholder has no frames")


def sample_set(
    model: VideoModel,
    setup: SamplingSetup,
    run: Path,
    prompts: Sequence[str],
    frames: int,
    folder: Path,
    ranks: Ranks,
    *,
    seed: int,
    record: Mapping[str, Any],
) -> EventStream[VideoSet]:
    """Samples one video of `frames` for each prompt, video i with seed + i. Of several processes each samples, and can
    load, its own.

    Args:
        model: the loaded model.
        setup: how windows are sampled.
        run: the run or checkpoint, for the record.
        prompts: one per video; "" is no prompt.
        frames: frames of each video.
        folder: where the frames are kept, in a temporary file without a name.
        ranks: the processes that share the work.
        seed: the seed of the first video.
        record: the sampling settings as JSON, for the record.

    Returns:
        The videos as one side of an evaluation.

    Raises:
        VidiffError: more frames than `folder` has room for.
    """
    window = model.frames
    overlap = floor_length(model.codec, max(1, window // 2))
    made = ceil_length(model.codec, frames)  # more than are kept, where a model makes groups
    windows = plan(made, (), window=window, overlap=overlap)
    height, width = model.height, model.width
    check_amount(frames * len(prompts), width, height, folder)
    file = DiskFrameArray.temporary(folder, (frames, height, width, 3))
    yield from announce_model(model, seed, prompts, negative=setup.negative_prompt)
    batch = min(BATCH, -(-len(prompts) // ranks.world))
    firsts = ranks.part(range(0, len(prompts), batch))

    def sampled() -> EventStream[None]:
        done, own = 0, sum(len(prompts[first : first + batch]) for first in firsts)
        for first in firsts:
            texts = prompts[first : first + batch]
            job = VideoJob(
                windows=windows,
                times=[Fraction(frame) / model.fps for frame in range(made)],
                prompts=lambda number, texts=texts: texts,
                seeds=[seed + number for number in range(first, first + len(texts))],
            )
            if first == 0:
                shape = z_shape(model.codec, len(texts), len(windows[0].frames), height, width)
                seconds = estimate_seconds(model, setup, job, shape)
                yield from note_long(seconds * own / len(texts))
            yield Progress(what="samples", done=done, total=own)
            empty = np.zeros((len(texts), made, height, width, 3), np.uint8)
            clips = generate_clips(model, setup, job, empty)[:, :frames]
            file.write(range(first, first + len(texts)), np.ascontiguousarray(clips))
            done += len(texts)
        yield Progress(what="samples", done=own, total=own)

    yield from ranks.together(sampled())
    if not any(prompts):
        yield Note("The real clips have no captions: samples are made without a prompt.")
    items = tuple(
        Item(
            name=f"sample {number} of {model.name}",
            key=f"sample-{number:06d}",
            frames=frames,
            width=width,
            height=height,
            fps=model.fps,
            load=partial(_read_sample, file, number),
            prompt=prompt or None,
        )
        for number, prompt in enumerate(prompts)
    )
    facts = {
        "kind": "samples",
        "path": str(run),
        "checkpoint": model.record(),
        "first_seed": seed,
        "device": str(model.device),
        "dtype": dtype_name(model.dtype),
        "settings": dict(record),
    }
    title = f"{len(prompts)} samples of {run}"
    return VideoSet(title=title, pixels="sampler tensor rounded to 8 bits", items=items, facts=facts, together=batch)


def _read_sample(file: DiskFrameArray, number: int, view: View) -> np.ndarray:
    video = file.read([number])[0]
    return np.stack([view.crop_and_resize(video[frame]) for frame in range(view.frames)])
