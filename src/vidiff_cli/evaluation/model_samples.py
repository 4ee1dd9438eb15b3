"""Samples of a model as one side of an evaluation: straight from the sampler, rounded to 8 bits, never through a codec.

Legend: b clips, t frames, h and w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from vidiff_cli.checkpoint import read_header
from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.config.generate import GenerationSettings
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
from vidiff_cli.generation.load_model import LoadedModel
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.path_kind import path_kind
from vidiff_cli.runs.run_dir import read_config

AT_ONCE = 16


def sampling_settings(settings: EvaluateSettings, model: Path) -> GenerationSettings:
    """How the model is sampled: the settings of `vidiff sample`, with the device and the seed of this evaluation."""
    told = {"model": model, "device": settings.device, "seed": settings.seed}
    return settings.sampling.model_copy(update=told)


def training_world(run: Path) -> StreamSettings | None:
    """The part of the shapes world that a run, or the model in the box, was trained on; None for another dataset."""
    if path_kind(run) == "builtin model":
        told = read_header(builtin_file()).get("world")
    else:
        trained = read_config(run).get("train")
        told = trained.get("world") if isinstance(trained, dict) and trained.get("dataset") == ADDRESS else None
    try:
        return StreamSettings.model_validate(told) if told is not None else None
    except ValidationError as error:
        raise VidiffError(f"{run} does not say which world it was trained on") from error


def training_dataset(settings: EvaluateSettings, run: Path) -> Path:
    """The dataset that a run was trained on. VidiffError where it cannot be found."""
    fix = "name it with --dataset"
    if settings.dataset is not None:
        return settings.dataset
    trained = read_config(run).get("train")
    named = trained.get("dataset") if isinstance(trained, dict) else None
    if not isinstance(named, str):
        raise VidiffError(f"{run} does not say what it was trained on", fix=fix)
    if not (Path(named) / "dataset.json").is_file():
        raise VidiffError(f"the dataset {named} that {run} was trained on is not here", fix=fix)
    return Path(named)


def is_other_dataset(run: Path, real: VideoSet) -> bool:
    """Whether the dataset has changed since the run was trained on it."""
    before = read_config(run).get("dataset")
    return isinstance(before, str) and before != real.facts.get("sha256")


def announced(model: LoadedModel, count: int, frames: int | None) -> list[Item]:
    """What samples will be like, to choose the view of both sides before any is made."""
    one = Item(
        name=f"samples of {model.name}",
        key="",
        frames=frames or model.settings.frames,
        width=model.settings.width,
        height=model.settings.height,
        fps=model.fps,
        load=_not_yet,
    )
    return [one] * count


def _not_yet(view: View) -> np.ndarray:
    raise AssertionError("samples are announced before they are made")


def samples(
    model: LoadedModel, settings: GenerationSettings, run: Path, prompts: Sequence[str], frames: int, folder: Path
) -> EventStream[VideoSet]:
    """One video of `frames` for each prompt, video i with seed + i; they lie in a file without a name in `folder`."""
    seed, setup = settings.seed or 0, resolve_sampling(model, settings)
    window = model.settings.frames
    windows = plan(frames, (), window=window, overlap=max(1, window // 2))
    height, width, channels = model.settings.height, model.settings.width, model.settings.network.channels
    check_amount(frames * len(prompts), width, height, folder)
    file = DiskFrameArray.temporary(folder, (frames, height, width, 3))
    yield from announce_model(model, seed, prompts, negative=settings.negative_prompt)
    for first in range(0, len(prompts), AT_ONCE):
        some = prompts[first : first + AT_ONCE]
        job = VideoJob(
            windows=windows,
            times=[Fraction(frame) / model.fps for frame in range(frames)],
            prompts=lambda number, some=some: some,
            seeds=[seed + number for number in range(first, first + len(some))],
        )
        if first == 0:
            shape = (len(some), channels, min(frames, window), height, width)
            seconds = estimate_seconds(model, setup, job, shape)
            yield from note_long(seconds * len(prompts) / len(some))
        yield Progress(what="samples", done=first, total=len(prompts))
        empty = np.zeros((len(some), frames, height, width, channels), np.uint8)
        file.write(range(first, first + len(some)), generate_clips(model, setup, job, empty))
    yield Progress(what="samples", done=len(prompts), total=len(prompts))
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
            load=partial(_from_samples, file, number),
            prompt=prompt or None,
        )
        for number, prompt in enumerate(prompts)
    )
    facts = {
        "kind": "samples",
        "path": str(run),
        "checkpoint": {"path": model.name, "sha256": model.hash, "clips_seen": model.clips_seen},
        "first_seed": seed,
        "device": str(model.device),
        "dtype": dtype_name(model.dtype),
        "settings": settings.model_dump(mode="json", exclude={"output", "overwrite", "sidecar", "compare", "lossless"}),
    }
    title = f"{len(prompts)} samples of {run}"
    return VideoSet(title=title, pixels="sampler tensor rounded to 8 bits", items=items, facts=facts)


def _from_samples(file: DiskFrameArray, number: int, view: View) -> np.ndarray:
    video = file.read([number])[0]
    return np.stack([view.framed(video[frame]) for frame in range(view.frames)])
