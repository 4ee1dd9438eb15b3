"""`vidiff train`: from a dataset to a run folder with checkpoints, metrics, plots and sample sheets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vidiff_cli.config.model import ClipSettings, ModelSettings, TextSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.data.index import SIDES
from vidiff_cli.data.store import Clip, Dataset, open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.locks import folder_alone
from vidiff_cli.tasks.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.tasks.events import Event, Note, Progress, Steps, task
from vidiff_cli.tasks.interrupts import Deferred
from vidiff_cli.tasks.run_folder import (
    OTHER_FOLDER,
    PASSING,
    check_replaceable,
    check_run,
    complete_save,
    remove_run,
    remove_unfinished,
    resume_from,
    save_checkpoint,
    write_config,
)
from vidiff_cli.tasks.text import choose_text, embed_captions
from vidiff_cli.tasks.training_log import TrainingLog
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.training.batches import Source
from vidiff_cli.training.cache import ClipCache
from vidiff_cli.training.loop import Schedule, train_steps
from vidiff_cli.training.state import TrainState, new_learner


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """The run folder and what its training came to: wall time of this call, mean loss of the last steps."""

    run: Path
    checkpoint: Path
    preset: str | None
    steps: int
    clips_seen: int
    parameters: int
    precision: str
    loss: float | None
    seconds_per_step: float | None
    seconds: float


@task
def train(settings: TrainSettings) -> Steps[TrainReport]:
    """Trains a model on a dataset, or goes on with an unfinished run.

    Raises VidiffError for a dataset that cannot be read, a run folder with other settings, a divergence.
    """
    dataset = open_dataset(settings.dataset)
    run = settings.output or Path("runs") / f"{dataset.folder.resolve().name}-{settings.preset or 'custom'}"
    with folder_alone(run, fix=f"wait for it to end, or {OTHER_FOLDER}") as locked:
        return (yield from _train(settings, dataset, run, locked=locked))


def _train(settings: TrainSettings, dataset: Dataset, run: Path, *, locked: bool) -> Steps[TrainReport]:
    began = time.monotonic()
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.precision, device)
    settings = _consistent(settings.model_copy(update={"precision": dtype_name(dtype)}))
    checkpoints = run / "checkpoints"
    replacing = settings.overwrite and (run / "config.json").is_file()
    if replacing:
        check_replaceable(run)
    settings, tower = yield from choose_text(settings, dataset, None if replacing else run)
    model = model_settings(settings, dataset, clip=tower.settings if tower else None)
    resumed = not replacing and check_run(run, settings, model, dataset)
    if locked:
        remove_unfinished(run)
    schedule = Schedule.of(settings.steps, settings.optimiser)
    place = resume_from(checkpoints, settings, schedule, resumed=resumed)
    state = TrainState(new_learner(model, settings.seed).to(device), settings.optimiser)
    if place is not None:
        state.load(place)
        if state.step >= settings.steps:
            yield Note(f"{run} has its {settings.steps} steps already; nothing to do. Raise --steps to go on.")
        else:
            yield Note(f"Continuing {run} at step {state.step} of {settings.steps}.")
    parameters = sum(value.numel() for value in state.learner.parameters())
    yield from _introduce(settings, model, dataset, device, parameters)
    if tower is not None and isinstance(state.learner.text, AdaptedText):
        state.learner.text.frozen = yield from embed_captions(tower.to(device), dataset)
        del tower  # its embeddings are all that training needs
    if replacing:
        remove_run(run)
    write_config(run, settings, model, dataset)
    source = source_of(settings, dataset)
    log = TrainingLog(run, settings.steps)
    log.go_on_from(state.step, state.notes.get("unlogged", ()))
    yield Progress(what="training", done=state.step, total=settings.steps)
    with Deferred() as interrupt:
        if place is not None and place.parent == checkpoints:
            complete_save(place, settings, schedule)
            log.plot(newer_than=place)
            if _is_due(state, settings) and not _sheet_path(state, run).is_file():
                yield from _sheet(state, run, dataset, device, dtype)
                log.restart_clock()
        for report in train_steps(state, source, settings, schedule, device=device, dtype=dtype):
            yield from log.add(report)
            ending = report.step in (schedule.trunk, schedule.steps)
            if ending:
                log.flush()
            regular = ending or report.step % settings.checkpoint_every == 0
            if regular or interrupt.asked:
                log.sync()
                state.notes = {"unlogged": log.unlogged()} | ({} if regular else {PASSING: True})
                save_checkpoint(state, checkpoints, settings, schedule)
                log.plot()
            if interrupt.asked:
                without = " without --overwrite" if settings.overwrite else ""
                yield Note(f"Saved {run} at step {report.step}; the same command{without} continues.")
                interrupt.act()
            if _is_due(state, settings):
                yield from _sheet(state, run, dataset, device, dtype)
                log.restart_clock()
    latest = (checkpoints / "latest").read_text(encoding="utf-8", errors="replace").strip()
    checkpoint = checkpoints / Path(latest).name  # the name only: a path from a file is not trusted
    return TrainReport(
        run=run,
        checkpoint=checkpoint,
        preset=settings.preset,
        steps=state.step,
        clips_seen=state.step * settings.batch_size,
        parameters=parameters,
        precision=settings.precision,
        loss=log.mean_loss(),
        seconds_per_step=log.seconds_per_step(),
        seconds=time.monotonic() - began,
    )


def model_settings(settings: TrainSettings, dataset: Dataset, *, clip: ClipSettings | None = None) -> ModelSettings:
    """What the model is to be, from the settings and the dataset. Without a CLIP encoder, `auto` is a learned one."""
    network, index = settings.network, dataset.index
    train = np.flatnonzero(index.side == SIDES.index("train"))
    if not len(train):
        raise VidiffError(f"the dataset {dataset.folder} has no clips to train on", fix="prepare it with more sources")
    width, height = _frame_size(settings, dataset)
    lengths = index.frames[train]
    longest = int(lengths.max())
    frames = min(settings.frames, longest)
    fitting = [step for step in (1, 2, 4, 8) if (frames - 1) * step < longest]
    counts = Counter(index.rate[train[lengths > 1]].tolist())
    rates = Counter({Fraction(index.rates[rate]): count for rate, count in counts.items()} or {Fraction(1): 1})
    vocabulary: tuple[int, ...] = ()
    choice = settings.text
    asked = "learned" if choice.kind == "auto" and clip is None else choice.kind
    kind = asked if index.captions[train].any() and network.text_width else "none"
    if kind == "learned":
        from vidiff_cli.text.learned import vocabulary_of

        vocabulary = vocabulary_of(dataset.captions())
    return ModelSettings(
        width=width,
        height=height,
        frames=frames,
        fps=str(max(set(rates), key=rates.__getitem__)),
        frame_steps=tuple(fitting if frames > 1 else [1]),
        conditioning=_consistent(settings).conditioning,
        network=network if kind != "none" else network.model_copy(update={"text_width": 0}),
        diffusion=settings.diffusion,
        text=TextSettings(
            kind="clip" if kind == "auto" else kind,
            depth=choice.depth,
            max_tokens=choice.max_tokens,
            vocabulary=vocabulary,
            clip=clip,
        ),
    )


def _frame_size(settings: TrainSettings, dataset: Dataset) -> tuple[int, int]:
    """Width and height that the model is made for: the crop's, else those of most clips. Others are trained on as they
    are; VidiffError for a size that the network or the crop cannot take."""
    multiple, crop = settings.network.multiple, settings.loader.crop
    sizes = [tuple(map(int, size.split("x"))) for size in dataset.index.clips_per_size()]
    wrong = [(w, h) for w, h in sizes if (min(w, h) < crop if crop else w % multiple or h % multiple)]
    if crop % multiple:
        raise VidiffError("loader.crop does not fit the network", found=crop, expected=f"a multiple of {multiple}")
    if wrong:
        raise VidiffError(
            f"the clips of {dataset.folder} do not fit the {'crop' if crop else 'network'}",
            found=", ".join(f"{w}x{h}" for w, h in wrong[:3]),
            expected=f"at least {crop}x{crop}" if crop else f"multiples of {multiple}",
            fix="set a smaller loader.crop" if crop else "prepare them at another --size or choose another --preset",
        )
    return (crop, crop) if crop else (dataset.spec.width, dataset.spec.height)


def default_preset(dataset: Path, device: str) -> str:
    """The preset for a dataset folder and a device: tiny up to 32 pixels, else small; base on a large GPU."""
    spec = open_dataset(dataset).spec
    if min(spec.width, spec.height) <= 32:
        return "tiny"
    where = choose_device(device)
    large = where.type == "cuda" and torch.cuda.get_device_properties(where).total_memory > 60 * 2**30
    return "base" if large else "small"


def source_of(settings: TrainSettings, dataset: Dataset) -> Source:
    """The train split, read from its memory-mapped shards, or from memory where the settings ask for it."""
    index = dataset.index
    chosen = np.flatnonzero(index.side == SIDES.index("train"))
    cache = ClipCache(lambda number: dataset.view(int(chosen[number])), settings.loader.cache_bytes)
    return Source(
        rows=_Chosen(dataset.clips, chosen),
        read=cache.read,
        shapes=np.stack([index.frames, index.height, index.width], axis=1)[chosen],
    )


class _Chosen:
    """Some of the clips, parsed when they are asked for."""

    def __init__(self, clips: Sequence[Clip], chosen: np.ndarray) -> None:
        self._clips, self._chosen = clips, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, number: int) -> Clip:
        return self._clips[int(self._chosen[number])]


def _consistent(settings: TrainSettings) -> TrainSettings:
    """--conditioning none and a share of zero clips with given frames are the same thing said twice."""
    if settings.conditioning == "mixed" and settings.objective.observed:
        return settings
    objective = settings.objective.model_copy(update={"observed": 0.0})
    return settings.model_copy(update={"conditioning": "none", "objective": objective})


def _introduce(
    settings: TrainSettings, model: ModelSettings, dataset: Dataset, device: torch.device, parameters: int
) -> Iterator[Event]:
    if device.type == "cpu":
        yield Note(f"No GPU: training on the CPU with {torch.get_num_threads()} threads in {settings.precision}.")
    clips = len(dataset.split("train"))
    steps = " or ".join(map(str, model.frame_steps))
    yield Note(
        f"{settings.preset or 'custom'}: {parameters / 1e6:.2f} M parameters; {clips} clips, "
        f"{'with' if model.text.kind != 'none' else 'without'} captions; windows of {model.frames} frames of "
        f"{model.width}x{model.height} at {model.fps} fps, every {steps} frames; {settings.steps} steps of "
        f"{settings.batch_size} clips."
    )
    sizes = dataset.index.clips_per_size()
    if len(sizes) > 1 and not settings.loader.crop:
        listed = ", ".join(f"{size} ({count})" for size, count in list(sizes.items())[:6])
        yield Note(f"Clips of {len(sizes)} frame sizes, one of them in each batch: {listed}.")


def _is_due(state: TrainState, settings: TrainSettings) -> bool:
    """Whether a sample sheet is made at this step."""
    every = settings.sample_every
    return every > 0 and (state.step % every == 0 or state.step == settings.steps)


def _sheet_path(state: TrainState, run: Path) -> Path:
    return run / "samples" / f"step-{state.step:06d}.png"


def _sheet(state: TrainState, run: Path, dataset: Dataset, device: torch.device, dtype: torch.dtype) -> Iterator[Event]:
    """samples/step-N.png: four captions of the dataset, sampled with the averaged weights."""
    from vidiff_cli.tasks.generate import sample_sheet

    path = _sheet_path(state, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    captions = sorted(set(dataset.captions()))
    chosen = [captions[len(captions) * place // 4] for place in range(min(4, len(captions)))] if captions else [""] * 4
    learner = new_learner(state.learner.settings, seed=0)
    learner.load_state_dict(state.ema.shadow)
    if isinstance(learner.text, AdaptedText) and isinstance(state.learner.text, AdaptedText):
        learner.text.frozen = state.learner.text.frozen
    sample_sheet(learner.to(device), chosen, path, device=device, dtype=dtype)
    yield Note(f"Samples at step {state.step}: {path}")
