"""What a training says of itself: metrics.jsonl, the loss plot, and the numbers that are shown while it runs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.checkpoint import write_text
from vidiff_cli.errors import VidiffError
from vidiff_cli.tasks.events import Event, Note, Progress
from vidiff_cli.training.loop import STUCK_AFTER, StepReport

LOG_EVERY = 10
ESTIMATE_AFTER, LONG_SECONDS = 5, 60  # steps measured before the estimate; shorter trainings need none


class TrainingLog:
    """metrics.jsonl, the loss plot, and the numbers that are shown while training.

    A row stands for the steps since the last one. Those of an unfinished row (`unlogged`) go into a checkpoint and come
    back from it, so that the rows do not tell where a run was interrupted.
    """

    def __init__(self, run: Path, steps: int) -> None:
        self.run, self.steps = run, steps
        self.path = run / "metrics.jsonl"
        self.pending: list[StepReport] = []
        self.measured = 0
        self.recent: deque[float] = deque(maxlen=100)
        self.clock = time.monotonic()
        self.durations: deque[float] = deque(maxlen=50)

    def go_on_from(self, step: int, unlogged: Sequence[Mapping[str, Any]]) -> None:
        """Drops the rows of steps that will be made again, and takes over the steps that had no row yet."""
        text = "".join(json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step)
        if not self.path.is_file() or self.path.read_bytes() != text.encode():
            write_text(self.path, text)
        numbers: list[dict[str, Any]] = [
            {key: math.nan if value is None else value for key, value in each.items()} for each in unlogged
        ]
        self.pending = [StepReport(**each) for each in numbers]

    def unlogged(self) -> list[dict[str, Any]]:
        """The steps since the last row, as JSON."""
        return [
            {key: None if value != value else value for key, value in asdict(report).items()} for report in self.pending
        ]

    def rows(self) -> list[dict[str, float]]:
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
                f"The gradient norm has stayed at its limit for {STUCK_AFTER} steps (now {report.gradient_norm:.1f}): "
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
        """Writes the row of the steps since the last one."""
        if self.pending:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(self._row()) + "\n")
            self.pending.clear()

    def sync(self) -> None:
        """Brings the rows to the disk: before a checkpoint from which they would not be made again."""
        with open(self.path, "a", encoding="utf-8") as file:
            os.fsync(file.fileno())

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

    def plot(self, *, newer_than: Path | None = None) -> None:
        """Draws loss.png from the rows; where `newer_than` a file or folder is given, only if it is not."""
        path, rows = self.run / "loss.png", self.rows()
        if len(rows) < 2 or (newer_than and path.is_file() and path.stat().st_mtime >= newer_than.stat().st_mtime):
            return
        from vidiff_cli.viewing.plot import plot_metrics

        with contextlib.suppress(VidiffError):  # rows that somebody has edited are no reason to stop a training
            plot_metrics(rows, path)


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None
