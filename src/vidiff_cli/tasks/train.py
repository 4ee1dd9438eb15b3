"""`vidiff train`: from a dataset to a run folder with checkpoints, metrics, plots and sample sheets."""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vidiff_cli import __version__
from vidiff_cli.checkpoint import write_text
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.data.store import Dataset, open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.tasks.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.tasks.events import Event, Note, Progress, Steps, task
from vidiff_cli.tasks.interrupts import Deferred
from vidiff_cli.training.batches import Source
from vidiff_cli.training.loop import Schedule, StepReport, train_steps
from vidiff_cli.training.state import STATE, TrainState, new_learner

LOG_EVERY = 10
ESTIMATE_AFTER, LONG_SECONDS = 5, 60  # steps measured before the estimate; shorter trainings need none
FREE_TO_CHANGE = {"steps", "resume", "overwrite", "output", "checkpoint_every", "keep", "sample_every", "device"}
OWN_FILES = {"config.json", "metrics.jsonl", "checkpoints", "samples", "loss.png"}


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
    began = time.monotonic()
    dataset = open_dataset(settings.dataset)
    device = choose_device(settings.device)
    run = settings.output or Path("runs") / f"{dataset.folder.resolve().name}-{settings.preset or 'custom'}"
    dtype = choose_dtype(settings.precision, device)
    settings = _consistent(settings.model_copy(update={"precision": dtype_name(dtype)}))
    model = model_settings(settings, dataset)
    checkpoints = run / "checkpoints"
    replacing = settings.overwrite and (run / "config.json").is_file()
    if replacing:
        _check_replaceable(run)
    resumed = not replacing and _check_run(run, settings, model)
    schedule = Schedule.of(settings.steps, settings.optimiser)
    place = _resume_from(checkpoints, settings, schedule, resumed=resumed)
    state = TrainState(new_learner(model, settings.seed).to(device), settings.optimiser)
    if place is not None:
        state.load(place)
        if state.step >= settings.steps:
            yield Note(f"{run} has its {settings.steps} steps already; nothing to do. Raise --steps to go on.")
        else:
            yield Note(f"Continuing {run} at step {state.step} of {settings.steps}.")
    parameters = sum(value.numel() for value in state.learner.parameters())
    yield from _introduce(settings, model, dataset, device, parameters)
    if replacing:
        shutil.rmtree(run)
    _write_config(run, settings, model)
    source = _source(dataset)
    log = _Log(run, settings.steps)
    log.forget_after(state.step)
    yield Progress(what="training", done=state.step, total=settings.steps)
    with Deferred() as interrupt:
        for report in train_steps(state, source, settings, schedule, device=device, dtype=dtype):
            yield from log.add(report)
            ending = report.step in (schedule.trunk, schedule.steps)
            if ending or interrupt.asked or report.step % settings.checkpoint_every == 0:
                log.flush()
                _save(state, checkpoints, settings, schedule)
                log.plot()
            if interrupt.asked:
                without = " without --overwrite" if settings.overwrite else ""
                yield Note(f"Saved {run} at step {report.step}; the same command{without} continues.")
                interrupt.act()
            if settings.sample_every and (report.step % settings.sample_every == 0 or report.step == schedule.steps):
                yield from _sheet(state, run, dataset, device, dtype)
                log.restart_clock()
    checkpoint = checkpoints / (checkpoints / "latest").read_text(encoding="utf-8").strip()
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


def model_settings(settings: TrainSettings, dataset: Dataset) -> ModelSettings:
    """What the model is to be, from the settings and the dataset."""
    spec, network = dataset.spec, settings.network
    rows = [dataset.clips[index] for index in dataset.split("train")]
    if not rows:
        raise VidiffError(f"the dataset {dataset.folder} has no clips to train on", fix="prepare it with more sources")
    if spec.width % network.multiple or spec.height % network.multiple:
        raise VidiffError(
            f"the clips of {dataset.folder} do not fit the network",
            found=f"{spec.width}x{spec.height}",
            expected=f"multiples of {network.multiple}",
            fix="prepare them at another --size or choose another --preset",
        )
    longest = max(row.frames for row in rows)
    frames = min(settings.frames, longest)
    fitting = [step for step in (1, 2, 4, 8) if (frames - 1) * step < longest]
    rates = [Fraction(row.fps) for row in rows if row.frames > 1] or [Fraction(1)]
    vocabulary: tuple[int, ...] = ()
    kind = settings.text.kind if any(row.captions for row in rows) and network.text_width else "none"
    if kind == "learned":
        from vidiff_cli.text.learned import vocabulary_of

        vocabulary = vocabulary_of(dataset.captions())
    return ModelSettings(
        width=spec.width,
        height=spec.height,
        frames=frames,
        fps=str(max(set(rates), key=rates.count)),
        frame_steps=tuple(fitting if frames > 1 else [1]),
        conditioning=_consistent(settings).conditioning,
        network=network if kind != "none" else network.model_copy(update={"text_width": 0}),
        diffusion=settings.diffusion,
        text=settings.text.model_copy(update={"kind": kind, "vocabulary": vocabulary}),
    )


def default_preset(dataset: Path, device: str) -> str:
    """The preset for a dataset folder and a device: tiny up to 32 pixels, else small; base on a large GPU."""
    spec = open_dataset(dataset).spec
    if min(spec.width, spec.height) <= 32:
        return "tiny"
    where = choose_device(device)
    large = where.type == "cuda" and torch.cuda.get_device_properties(where).total_memory > 60 * 2**30
    return "base" if large else "small"


def _source(dataset: Dataset) -> Source:
    rows = dataset.split("train")
    return Source(
        rows=[dataset.clips[index] for index in rows], read=lambda number, frames: dataset.frames(rows[number], frames)
    )


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


def _check_run(run: Path, settings: TrainSettings, model: ModelSettings) -> bool:
    """Whether the run folder holds this very run, to be continued. VidiffError if it holds anything else."""
    path = run / "config.json"
    if not path.is_file():
        if run.is_dir() and any(run.iterdir()):
            raise VidiffError(f"{run} is not empty and is no run", fix="give another folder with -o")
        return False
    if settings.resume == "never":
        raise VidiffError(f"{run} is there already", fix="give another folder with -o, or --overwrite")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        old, new = (_flat(part) for part in (before, _config(settings, model)))
    except (OSError, ValueError) as error:
        raise VidiffError(f"{path} cannot be read", found=str(error)) from error
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    changed = [name for name in changed if name.removeprefix("train.") not in FREE_TO_CHANGE and name != "vidiff"]
    if changed:
        name = min(changed, key=lambda name: not name.startswith("train."))  # what a person set, not what followed
        raise VidiffError(
            f"{run} was trained with another {name.removeprefix('train.')}",
            found=_short(new.get(name)),
            expected=_short(old.get(name)),
            fix="give another folder with -o, or --overwrite",
        )
    return True


def _short(value: object) -> str:
    text = str(value)  # a vocabulary has thousands of numbers
    return text if len(text) <= 60 else text[:57] + "..."


def _check_replaceable(run: Path) -> None:
    """--overwrite removes a run and nothing else: VidiffError for a folder that holds other things."""
    path, fix = run / "config.json", "give another folder with -o"
    try:
        known = json.loads(path.read_text(encoding="utf-8")).keys() >= {"vidiff", "train", "model"}
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
        raise VidiffError(f"{path} belongs to no run", fix=fix)
    if foreign := sorted(entry.name for entry in run.iterdir() if not _is_own(entry.name)):
        raise VidiffError(f"{run} holds more than a run", found=foreign[0], fix=fix)


def _is_own(name: str) -> bool:
    """A file of a run, or what a killed run left of one."""
    return name in OWN_FILES or (name.startswith(".") and (".tmp-" in name or name.endswith(".png")))


def _consistent(settings: TrainSettings) -> TrainSettings:
    """--conditioning none and a share of zero clips with given frames are the same thing said twice."""
    if settings.conditioning == "mixed" and settings.objective.observed:
        return settings
    objective = settings.objective.model_copy(update={"observed": 0.0})
    return settings.model_copy(update={"conditioning": "none", "objective": objective})


def _config(settings: TrainSettings, model: ModelSettings) -> dict[str, object]:
    return {
        "vidiff": __version__,
        "train": settings.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
    }


def _write_config(run: Path, settings: TrainSettings, model: ModelSettings) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "config.json", json.dumps(_config(settings, model), indent=2) + "\n")
    except OSError as error:
        raise VidiffError(f"the run folder {run} cannot be written", found=error.strerror) from error


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {
        key: leaf for part, inner in value.items() for key, leaf in _flat(inner, f"{name}.{part}".strip(".")).items()
    }


def _resume_from(checkpoints: Path, settings: TrainSettings, schedule: Schedule, *, resumed: bool) -> Path | None:
    """The checkpoint to go on from: the one asked for; of a run that is `resumed`, the last of the trunk or of this
    very decay branch."""
    if settings.resume not in ("auto", "never"):
        return _asked_for(Path(settings.resume), settings.steps)
    if not resumed:
        return None
    best: tuple[int, Path] | None = None
    for folder in checkpoints.glob("step-*"):
        try:
            notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
            step, phase, steps = int(notes["step"]), notes["phase"], _branch_of(folder)
        except (OSError, ValueError, KeyError):
            continue
        usable = step <= schedule.trunk if phase == "trunk" else steps == schedule.steps
        if usable and (best is None or step > best[0]):
            best = (step, folder)
    return best[1] if best else None


def _asked_for(place: Path, steps: int) -> Path:
    """The --resume checkpoint folder. VidiffError where there is none, or nothing is left to train."""
    expected = "auto, never, or a folder such as runs/NAME/checkpoints/step-000100"
    try:
        step = int(json.loads((place / STATE).read_text(encoding="utf-8"))["step"])
    except OSError as error:
        found = error.strerror or str(error)
        raise VidiffError(f"there is no checkpoint to resume at {place}", found=found, expected=expected) from error
    except (ValueError, KeyError, TypeError) as error:
        raise VidiffError(f"{place / STATE} is damaged", fix="resume from another checkpoint") from error
    if step >= steps:
        raise VidiffError(f"{place} has {step} steps already", expected=f"fewer than {steps}", fix="raise --steps")
    return place


def _branch_of(folder: Path) -> int | None:
    """How many steps the run was to have to which a decay checkpoint belongs: step-000900-of-001000."""
    return int(folder.name.partition("-of-")[2] or 0) or None


def _save(state: TrainState, checkpoints: Path, settings: TrainSettings, schedule: Schedule) -> None:
    name = f"step-{state.step:06d}" + (f"-of-{schedule.steps:06d}" if state.phase == "decay" else "")
    state.save(checkpoints / name, clips_seen=state.step * settings.batch_size)
    write_text(checkpoints / "latest", name + "\n")
    keep = {name, f"step-{schedule.trunk:06d}"}
    others = sorted(
        (folder for folder in checkpoints.glob("step-*") if folder.name not in keep and not _is_result(folder)),
        key=lambda folder: (folder / STATE).stat().st_mtime,
    )
    for folder in others[: max(0, len(others) - settings.keep + 1)]:
        shutil.rmtree(folder)


def _is_result(folder: Path) -> bool:
    step, _, steps = folder.name.removeprefix("step-").partition("-of-")
    return step == steps


class _Log:
    """metrics.jsonl, the loss plot, and the numbers that are shown while training."""

    def __init__(self, run: Path, steps: int) -> None:
        self.run, self.steps = run, steps
        self.path = run / "metrics.jsonl"
        self.pending: list[StepReport] = []
        self.measured = 0
        self.recent: deque[float] = deque(maxlen=100)
        self.clock = time.monotonic()
        self.durations: deque[float] = deque(maxlen=50)

    def forget_after(self, step: int) -> None:
        """Drops the rows of steps that will be made again."""
        rows = [row for row in self.rows() if row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def rows(self) -> list[dict[str, float]]:
        if not self.path.is_file():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:  # the last line of a run that was killed while writing
                break
        return rows

    def add(self, report: StepReport) -> Iterator[Event]:
        now = time.monotonic()
        self.durations.append(now - self.clock)
        self.clock = now
        self.pending.append(report)
        self.recent.append(report.loss)
        self.measured += 1
        remaining = (self.steps - report.step) * (self.seconds_per_step() or 0.0)
        if self.measured == ESTIMATE_AFTER and remaining > LONG_SECONDS:
            yield Note(f"About {remaining / 60:.0f} minutes for the {self.steps - report.step} steps to go.")
        if report.stuck:
            yield Note(
                f"The gradient norm has stayed at its limit for 200 steps (now {report.gradient_norm:.1f}): "
                "the learning rate is most likely too large.",
                "warning",
            )
        if report.step % LOG_EVERY == 0 or report.step == self.steps:
            row = self._row()
            self.flush()
            free, observed = row["free"], row["observed"]
            detail = f"loss {row['loss']:.4f}"
            detail += (
                f" (free {free:.4f}, observed {observed:.4f})" if free is not None and observed is not None else ""
            )
            pace = self.seconds_per_step()
            detail += f", {pace:.2f} s/step" if pace is not None else ""
            yield Progress(what="training", done=report.step, total=self.steps, detail=detail)

    def flush(self) -> None:
        """Writes the row of the steps since the last one. Called before a checkpoint: its steps are logged for good."""
        if self.pending:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(self._row()) + "\n")
            self.pending.clear()

    def _row(self) -> dict[str, object]:
        last, pace = self.pending[-1], self.seconds_per_step()
        means = {
            key: _mean([asdict(each)[key] for each in self.pending])
            for key in ("loss", "free", "observed", "gradient_norm")
        }
        return {"step": last.step, "phase": last.phase, "lr": last.lr, **means, "seconds_per_step": pace}

    def restart_clock(self) -> None:
        """Time spent on samples is not a step's."""
        self.clock = time.monotonic()

    def mean_loss(self) -> float | None:
        return _mean(list(self.recent))

    def seconds_per_step(self) -> float | None:
        return float(np.median(self.durations)) if self.durations else None

    def plot(self) -> None:
        rows = self.rows()
        if len(rows) > 1:
            from vidiff_cli.viewing.plot import plot_metrics

            plot_metrics(rows, self.run / "loss.png")


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _sheet(state: TrainState, run: Path, dataset: Dataset, device: torch.device, dtype: torch.dtype) -> Iterator[Event]:
    """samples/step-N.png: four captions of the dataset, sampled with the averaged weights."""
    from vidiff_cli.tasks.generate import sample_sheet

    path = run / "samples" / f"step-{state.step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    captions = sorted(set(dataset.captions()))
    chosen = [captions[len(captions) * place // 4] for place in range(min(4, len(captions)))] if captions else [""] * 4
    learner = new_learner(state.learner.settings, seed=0)
    learner.load_state_dict(state.ema.shadow)
    sample_sheet(learner.to(device), chosen, path, device=device, dtype=dtype)
    yield Note(f"Samples at step {state.step}: {path}")
