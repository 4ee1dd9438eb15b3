"""Metrics of a training: metrics.jsonl, the loss plot, and the numbers that are shown while it runs.

A row of metrics.jsonl covers the steps since the last one: `step`, `phase`, `lr`, means of the `loss`, of its parts
(`free`, `observed`, `frame_levels`, `loss_level_*` by band of log-SNR, `loss_*` of auxiliary terms) and of the
`gradient_norm`, how many updates were `skipped`, and measurements (`MEASURED`). A validation has a row of its own:
`validation_loss` and its parts.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vidiff_cli.device import peak_memory
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.runs.trackers import SafeTracker
from vidiff_cli.system.atomic_files import write_text
from vidiff_cli.system.pace import Pace
from vidiff_cli.training.loop import STUCK_AFTER, StepReport
from vidiff_cli.training.step_guard import name_clips
from vidiff_cli.training.validation import BANDS, Validation, ignores_text, noise_bands

LOG_EVERY = 10
SHOW_EVERY_SECONDS = 1.0
ESTIMATE_AFTER, LONG_SECONDS = 5, 60  # steps measured before the estimate; shorter trainings need none
SPIKE, SPIKE_AFTER = 3.0, 50  # times the largest loss of the last 100 steps; steps before the first warning
MAX_SKIP_NOTES = 10  # in a call: fp16 finds its scale by skipping
SKIPPED: Mapping[str, tuple[str, Literal["info", "warning"]]] = {  # reason and level of the note
    "overflow": ("fp16 overflowed, and its loss scale is halved", "info"),
    "spike": ("its gradient is a spike", "warning"),
    "not finite": ("its loss or its gradient is not finite", "warning"),
}
DIVERGED = 10.0  # times the loss of the first step, or of a network that predicts nothing (1)
MEASURED = ("seconds_per_step", "clips_per_second", "share_of_peak", "memory_mb")  # of a row: differ between equal runs


class TrainingLog:
    """metrics.jsonl, the loss plot, and the numbers that are shown while training.

    Steps of an unfinished row (`unlogged`) go into a checkpoint and come back from it, so that the rows of an
    interrupted run equal those of an uninterrupted one. `at_peak_seconds` is the time of a step at the speed of a
    matrix product (0: not known); `clip_name` names the source of a training clip; `monitored_steps` are the steps,
    ascending, after which validation or samples take time of their own.
    """

    def __init__(
        self,
        run: Path,
        steps: int,
        *,
        batch_size: int = 1,
        device: torch.device | None = None,
        at_peak_seconds: float = 0.0,
        clip_name: Callable[[int], str] = str,
        tracker: SafeTracker | None = None,
        compiled: bool = False,
        monitored_steps: Sequence[int] = (),
    ) -> None:
        self.run, self.steps, self.batch_size, self.at_peak_seconds = run, steps, batch_size, at_peak_seconds
        self.device = device or torch.device("cpu")
        self.clip_name, self.tracker, self.monitored_steps = clip_name, tracker, monitored_steps
        self.compiled = compiled
        self.path = run / "metrics.jsonl"
        self.pending: list[dict[str, Any]] = []
        self.validations: list[dict[str, Any]] = []
        self.measured = self.skipped = 0
        self.recent: deque[float] = deque(maxlen=100)
        self.recent_bands: deque[list[list[float]]] = deque(maxlen=100)
        self.clock = self.shown = time.monotonic()
        self.pace, self.observation_pace = Pace(), Pace()

    def resume(self, step: int, unlogged: Sequence[Mapping[str, Any]]) -> None:
        """Drops the rows of steps that will be made again, and restores the steps that had no row yet."""
        rows = [row for row in self.rows() if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if not self.path.is_file() or self.path.read_bytes() != text.encode():
            write_text(self.path, text)
        self.validations = [row for row in rows if _is_number(row.get("validation_loss"))]
        whole = [each for each in unlogged if isinstance(each, Mapping) and each.keys() >= {"step", "phase", "lr"}]
        self.pending = [dict(each) for each in whole]
        self.clock = self.shown = time.monotonic()

    def unlogged(self) -> list[dict[str, Any]]:
        """Steps since the last row, as JSON."""
        return [dict(each) for each in self.pending]

    def rows(self) -> list[dict[str, Any]]:
        """Reads metrics.jsonl up to the first damaged row."""
        if not self.path.is_file():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # the last line of a run that was killed while writing
                break
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                break
            rows.append(row)
        return rows

    def add(self, report: StepReport) -> Iterator[Event]:
        """Records a step; yields warnings about it, and the progress from time to time."""
        now = time.monotonic()
        if self.measured == 1:
            self.pace = Pace()  # the first step warmed up: it counts only while it is the only one
        took, self.clock = now - self.clock, now
        self.pace.add(1, took)
        if self.compiled and not self.measured:
            yield Note(f"The first step took {took:.0f} s, compiling the network included.")
        step = _step_entry(report)
        self.pending.append(step)
        self.measured += 1
        left = self.seconds_left(report.step) or 0.0
        if self.measured == ESTIMATE_AFTER and left > LONG_SECONDS:
            yield Note(f"About {left / 60:.0f} minutes for the {self.steps - report.step} steps to go.")
        yield from self._warnings(report)
        self.recent.append(report.loss)
        self.recent_bands.append(step["bands"])
        due = report.step % LOG_EVERY == 0 or report.step == self.steps
        if due:
            self.flush()
            yield from self.tracker.warn_failure() if self.tracker is not None else ()
        if due or now - self.shown >= SHOW_EVERY_SECONDS:
            self.shown = now
            yield self.progress(report)

    def _warnings(self, report: StepReport) -> Iterator[Event]:
        if report.stuck:
            yield Note(
                f"The gradient norm has stayed at its limit for {STUCK_AFTER} steps (now {report.gradient_norm:.1f}): "
                "the learning rate is most likely too large.",
                "warning",
            )
        if report.skipped:
            self.skipped += 1
            if self.skipped <= MAX_SKIP_NOTES:
                last = " Later ones are only counted, in metrics.jsonl." if self.skipped == MAX_SKIP_NOTES else ""
                why, level = SKIPPED[report.reason] if report.reason in SKIPPED else SKIPPED["not finite"]
                numbers = f"loss {report.loss:.3g}, gradient norm {report.gradient_norm:.3g}"
                yield Note(
                    f"The update of step {report.step} was not made: {why} ({numbers}). "
                    f"{self.describe_clips(report)}{last}",
                    level,
                )
        usual = max((loss for loss in self.recent if math.isfinite(loss)), default=math.inf)
        if not report.skipped and len(self.recent) >= SPIKE_AFTER and report.loss > SPIKE * usual:
            yield Note(
                f"The loss of step {report.step} is {report.loss:.3g}, and was at most {usual:.3g} in the "
                f"{len(self.recent)} steps before. {self.describe_clips(report)}",
                "warning",
            )

    def describe_clips(self, report: StepReport) -> str:
        """Names the source clips of a step in a sentence, those with the highest loss first."""
        return f"Its {name_clips(report.rows, report.per_clip, self.clip_name)}." if report.rows else ""

    def progress(self, report: StepReport) -> Progress:
        """Progress of the training, with the numbers of the live table."""
        pace, mean, left = self.seconds_per_step(), self.mean_loss(), self.seconds_left(report.step)
        parts = [f"loss {mean:.4f}"] if mean is not None else []
        if self.validations:
            parts.append(f"validation {self.validations[-1]['validation_loss']:.4f}")
        parts += [f"{pace:.2f} s/step"] if pace else []
        figures = [("phase", report.phase), ("loss", _format(mean))]
        for name, value in zip(BANDS, _band_means(self.recent_bands), strict=True):
            figures += [(f"level {name.replace('_', ' ')}", _format(value))] if value is not None else []
        if self.validations:
            figures.append(("validation", _format(self.validations[-1].get("validation_loss"))))
        figures += [(name.replace("_", " "), _format(value)) for name, value in sorted(report.terms.items())]
        figures += [("gradient norm", f"{report.gradient_norm:.3g}"), ("learning rate", f"{report.lr:.2e}")]
        figures += [("clips/s", f"{self.batch_size / pace:.3g}")] if pace else []
        figures += [("of peak", f"{self.at_peak_seconds / pace:.0%}")] if pace and self.at_peak_seconds else []
        figures += [("memory", f"{peak_memory(self.device) / 1e9:.2f} GB")]
        figures += [("left", _format_time(left))] if left is not None else []
        figures += [("skipped updates", str(self.skipped))] if self.skipped else []
        return Progress(
            what="training",
            done=report.step,
            total=self.steps,
            detail=", ".join(parts),
            figures=tuple(figures),
            seconds_left=left,
        )

    def flush(self) -> None:
        """Writes the row of the steps since the last one."""
        if self.pending:
            self._write(self._row())
            self.pending.clear()

    def sync(self) -> None:
        """Flushes the rows to the disk, before a checkpoint after which they would not be written again."""
        with open(self.path, "a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def has_validation(self, step: int) -> bool:
        return any(row["step"] == step for row in self.validations)

    def add_validation(self, step: int, phase: str, found: Validation) -> Iterator[Event]:
        """Writes the row of a validation; warns where the model seems to ignore captions."""
        row = _validation_row(step, phase, found)
        self.validations.append(row)
        self._write(row)
        parts = [f"{name} {_format(value)}" for name, value in (("free", found.free), ("observed", found.observed))]
        parts += [f"levels by frame {_format(found.frame_levels)}"] if found.frame_levels is not None else []
        gain = f"; {_format(found.text_gain)} lower with captions" if found.text_gain is not None else ""
        yield Note(f"Validation at step {step}: loss {found.loss:.4f} ({', '.join(parts)}){gain}.")
        gains = [
            (each["step"], float(each["text_gain"]), float(each["text_gain_error"]))
            for each in self.validations
            if _is_number(each.get("text_gain")) and _is_number(each.get("text_gain_error"))
        ]
        if ignores_text(gains, steps=self.steps):
            yield Note(
                f"The text seems to be ignored: with captions the validation loss is lower by {gains[-1][1]:.2g} only "
                f"(standard error {gains[-1][2]:.2g}). Look at the captions in the dataset's preview.png: do they "
                "belong to the clips, and tell them apart? Longer training, --text clip and a lower share of dropped "
                "captions (objective.caption_dropout) help the text.",
                "warning",
            )

    def _write(self, row: Mapping[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.tracker is not None:
            values = {key: float(value) for key, value in row.items() if key != "step" and _is_number(value)}
            self.tracker.log(int(row["step"]), values)

    def _row(self) -> dict[str, object]:
        last, pace = self.pending[-1], self.seconds_per_step()
        keys = ("loss", "free", "observed", "frame_levels", "gradient_norm")
        row: dict[str, object] = {"step": last["step"], "phase": last["phase"], "lr": last["lr"]}
        row |= {key: _mean([each.get(key) for each in self.pending]) for key in keys}
        if self.pending[0]["step"] == 1:
            row["first_loss"] = self.pending[0].get("loss")
        bands = _band_means([each["bands"] for each in self.pending if "bands" in each])
        row |= {f"loss_level_{name}": value for name, value in zip(BANDS, bands, strict=True)}
        terms = [each.get("terms") or {} for each in self.pending]
        for name in sorted({name for each in terms for name in each}):
            row[f"loss_{name}"] = _mean([each.get(name) for each in terms])
        row["skipped"] = sum(bool(each.get("skipped")) for each in self.pending)
        share = self.at_peak_seconds / pace if pace and self.at_peak_seconds else None
        measured = pace, self.batch_size / pace if pace else None, share, round(peak_memory(self.device) / 1e6)
        return row | dict(zip(MEASURED, measured, strict=True))

    def end_observation(self) -> None:
        """Ends a validation or sample sheet: its time is not a step's, and estimates that of those to come."""
        now = time.monotonic()
        self.observation_pace.add(1, now - self.clock)
        self.clock = now

    def best_validation(self) -> tuple[int, float, int] | None:
        """The step of the lowest validation loss, this loss, and the number of validations since."""
        if not self.validations:
            return None
        losses = [_finite_or_none(row["validation_loss"]) for row in self.validations]
        losses = [math.inf if loss is None else loss for loss in losses]
        best = losses.index(min(losses))
        return self.validations[best]["step"], losses[best], len(losses) - 1 - best

    def divergence(self) -> tuple[float, float] | None:
        """The loss of the first step and the mean loss of the last ones, where the training ends far above its
        start."""
        rows = [row for row in self.rows() if _is_number(row.get("loss"))]
        if not rows or not _is_number(rows[0].get("first_loss")):
            return None
        first, last = rows[0]["first_loss"], rows[-1]["loss"]
        return (first, last) if last > DIVERGED * max(first, 1.0) else None

    def mean_loss(self) -> float | None:
        return _mean(list(self.recent))

    def seconds_per_step(self) -> float | None:
        """Mean over the last steps, without validation and samples."""
        return self.pace.seconds_per_unit

    def seconds_left(self, step: int) -> float | None:
        """Estimates the time of all steps after this one, with validation and samples, those of this step included."""
        pace = self.pace.seconds_per_unit
        observations = len(self.monitored_steps) - bisect_left(self.monitored_steps, step)
        if pace is None:
            return None
        return (self.steps - step) * pace + observations * (self.observation_pace.seconds_per_unit or 0.0)

    def plot(self, *, newer_than: Path | None = None) -> None:
        """Draws loss.png from the rows; where `newer_than` a file or folder is given, only if it is not."""
        path, rows = self.run / "loss.png", self.rows()
        if len(rows) < 2 or (newer_than and path.is_file() and path.stat().st_mtime >= newer_than.stat().st_mtime):
            return
        from vidiff_cli.viz.training_plot import plot_metrics

        with contextlib.suppress(VidiffError):  # rows that somebody has edited must not stop a training
            plot_metrics(rows, path)


def _step_entry(report: StepReport) -> dict[str, Any]:
    """Converts a step to JSON for its row: for every band of log-SNR the sum of losses and the number of clips, of
    which every frame that counts is an equal part."""
    bands = noise_bands(report.levels)
    losses, made = np.asarray(report.per_frame, np.float64), report.made & np.isfinite(report.per_frame)
    part = made / np.maximum(report.made.sum(axis=1, keepdims=True), 1)
    return {
        "step": report.step,
        "phase": report.phase,
        "lr": report.lr,
        "loss": _finite_or_none(report.loss),
        "free": _finite_or_none(report.free),
        "observed": _finite_or_none(report.observed),
        "frame_levels": _finite_or_none(report.frame_levels),
        "gradient_norm": _finite_or_none(report.gradient_norm),
        "bands": [
            [float((losses[here] * part[here]).sum()), float(part[here].sum())]
            for here in ((bands == number) & made for number in range(len(BANDS)))
        ],
        "terms": {name: _finite_or_none(value) for name, value in report.terms.items()},
        "skipped": report.skipped,
    }


def _band_means(steps: Sequence[list[list[float]]] | deque[list[list[float]]]) -> list[float | None]:
    """Mean loss of every band over the clips of several steps; None where there was no clip."""
    if not steps:
        return [None] * len(BANDS)
    totals = np.sum(np.asarray(steps, np.float64), axis=0)
    return [float(total / count) if count else None for total, count in totals]


def _validation_row(step: int, phase: str, found: Validation) -> dict[str, Any]:
    row = {"step": step, "phase": phase, "validation_loss": found.loss}
    row |= {"validation_free": found.free, "validation_observed": found.observed}
    row |= {"validation_frame_levels": found.frame_levels}
    row |= {f"validation_level_{name}": value for name, value in zip(BANDS, found.bands, strict=True)}
    row |= {"validation_unconditional": found.unconditional, "text_gain": found.text_gain}
    return row | {"text_gain_error": found.text_gain_error, "validation_clips": found.clips}


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None  # JSON knows no nan


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
