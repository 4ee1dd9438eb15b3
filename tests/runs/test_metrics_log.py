"""Metrics of a training: rows of metrics.jsonl, warnings, and the numbers that are shown while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.runs import metrics_log
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.training.loop import StepReport
from vidiff_cli.training.validation import BANDS, Validation

TOTAL, SOON_SECONDS = 600, 30  # steps; after so long, a new speed is what counts


def a_report(step: int, losses: list[float], **more: Any) -> StepReport:
    values: dict[str, Any] = {
        "step": step,
        "phase": "stable",
        "loss": float(np.mean(losses)),
        "free": float(np.mean(losses)),
        "observed": float("nan"),
        "frame_levels": float("nan"),
        "gradient_norm": 0.5,
        "lr": 1e-3,
        "stuck": False,
        "per_clip": np.array(losses, np.float32),
        "per_frame": np.array(losses, np.float32)[:, None],
        "levels": np.linspace(-6, 6, len(losses), dtype=np.float32)[:, None],
        "made": np.ones((len(losses), 1), bool),
        "rows": tuple(range(len(losses))),
    }
    return StepReport(**(values | more))


def test_bands_are_means_over_clips(tmp_path: Path) -> None:
    """Over all clips of a row's steps, not means of means; and the parts make up the whole."""
    log = TrainingLog(tmp_path, 2, batch_size=3, at_peak_seconds=0.25)
    list(log.add(a_report(1, [8.0, 4.0, 1.0], levels=np.array([[-9.0], [-9.0], [9.0]]), terms={"flow": 0.2})))
    list(log.add(a_report(2, [3.0, 2.0, 6.0], levels=np.array([[-9.0], [-3.0], [1.0]]), terms={"flow": 0.4})))
    (row,) = log.rows()
    bands = [row[f"loss_level_{name}"] for name in BANDS]
    assert bands == [5.0, 2.0, 6.0, 1.0] and row["loss"] == pytest.approx(4.0)
    assert np.dot(bands, [3, 1, 1, 1]) / 6 == pytest.approx(row["loss"])
    assert row["loss_flow"] == pytest.approx(0.3) and row["skipped"] == 0
    assert row["memory_mb"] > 10 and row["clips_per_second"] == pytest.approx(3 / row["seconds_per_step"])
    assert row["share_of_peak"] == pytest.approx(0.25 / row["seconds_per_step"])


def test_the_first_step_of_a_compiled_network_is_told_apart(tmp_path: Path) -> None:
    for compiled in (False, True):
        log = TrainingLog(tmp_path, 20, compiled=compiled)
        log.clock -= 80  # seconds of compiling
        first, second = (
            [event for event in log.add(a_report(step, [1.0])) if isinstance(event, Note)] for step in (1, 2)
        )
        assert [note.text for note in first] == ["The first step took 80 s, compiling the network included."] * compiled
        assert not second and (log.seconds_per_step() or 0) < 40, "it does not count for the pace"


def test_steps_without_a_row_survive_in_json(tmp_path: Path) -> None:
    """Those of a checkpoint that is older than the bands too."""
    log = TrainingLog(tmp_path, 20)
    list(log.add(a_report(1, [1.0, float("nan")], skipped=True, reason="not finite")))
    kept = json.loads(json.dumps(log.unlogged(), allow_nan=False))
    again = TrainingLog(tmp_path, 20)
    old = {key: kept[0][key] for key in ("step", "phase", "lr", "loss", "free", "observed", "gradient_norm")}
    again.resume(1, [old | {"stuck": False}, *kept])
    list(again.add(a_report(2, [3.0, 3.0])))
    again.flush()
    (row,) = again.rows()
    assert (row["step"], row["loss"], row["skipped"], row["observed"]) == (2, 3.0, 1, None)
    assert row["loss_level_below_-4"] == 2.0  # of 1 and 3, without the one that is no number


def notes_of(events: Iterable[Event]) -> list[Note]:
    return [event for event in events if isinstance(event, Note)]


def test_a_gradient_that_stays_at_its_limit_is_warned_of(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 100)
    assert not notes_of(log.add(a_report(1, [0.1])))
    (note,) = notes_of(log.add(a_report(2, [0.1], stuck=True)))
    assert note.level == "warning" and "the learning rate is most likely too large" in note.text


def test_the_time_left_is_noted_once_where_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def estimates() -> list[str]:
        log = TrainingLog(tmp_path, 8)
        return [note.text for step in range(1, 9) for note in notes_of(log.add(a_report(step, [0.1])))]

    assert estimates() == []
    monkeypatch.setattr(metrics_log, "LONG_SECONDS", 0)
    assert estimates() == ["About 0 minutes for the 3 steps to go."]


def test_a_step_that_was_skipped_names_its_clips(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 100, clip_name=lambda number: f"film-{number}.mp4 at 0 s")
    report = a_report(7, [0.1, float("nan"), 0.3, 0.2, 0.1, 0.1], loss=float("nan"), skipped=True, reason="not finite")
    (note,) = notes_of(log.add(report))
    assert note.level == "warning" and note.text == (
        "The update of step 7 was not made: its loss or its gradient is not finite (loss nan, gradient norm 0.5). Its "
        "batch of 6 clips, the highest loss first: film-1.mp4 at 0 s, film-2.mp4 at 0 s, film-3.mp4 at 0 s, "
        "film-0.mp4 at 0 s and 2 more."
    )
    (scale,) = notes_of(log.add(a_report(8, [0.1], skipped=True, reason="overflow")))
    assert scale.level == "info" and "loss scale is halved" in scale.text
    for step in range(9, 40):
        last = notes_of(log.add(a_report(step, [0.1], skipped=True, reason="spike")))
    assert not last and log.skipped == 33  # counted, and said ten times


def test_a_spike_of_the_loss_names_its_clips(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 1000, clip_name=lambda number: f"film-{number}.mp4")
    quiet = [note for step in range(1, 60) for note in notes_of(log.add(a_report(step, [0.1, 0.3])))]
    quiet += notes_of(log.add(a_report(60, [0.1, 0.9])))  # more than ever, and no spike
    (note,) = notes_of(log.add(a_report(61, [0.1, 3.9])))
    assert not quiet and note.level == "warning"
    assert "The loss of step 61 is 2, and was at most 0.5" in note.text and "film-1.mp4, film-0.mp4." in note.text
    assert not notes_of(log.add(a_report(62, [0.5, 0.5])))


def test_that_the_text_is_ignored_is_said_once(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 2000)
    said = []
    for step, gain in ((500, 0.0), (600, 0.3), (700, 0.01), (800, 0.01), (900, 0.0), (1000, 0.0)):
        found = Validation(
            clips=9, loss=1.0, free=1.0, observed=None, bands=(1.0,) * 4, text_gain=gain, text_gain_error=0.02
        )
        notes = notes_of(log.add_validation(step, "stable", found))
        said += [step for note in notes if note.level == "warning" and "ignored" in note.text]
    assert said == [800]


def test_progress_has_the_figures_of_the_table(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 10, batch_size=4)
    list(log.add_validation(0, "stable", Validation(clips=9, loss=0.7, free=0.7, observed=None, bands=(1.0,) * 4)))
    events = [event for step in range(1, 11) for event in log.add(a_report(step, [0.1, 0.2, 0.3, 0.4]))]
    last = [event for event in events if isinstance(event, Progress)][-1]
    figures = dict(last.figures)
    assert (last.done, last.total, figures["phase"], figures["loss"]) == (10, 10, "stable", "0.2500")
    assert figures["validation"] == "0.7000" and figures["level above 2"] == "0.3500"
    assert {"gradient norm", "learning rate", "clips/s", "memory", "left"} <= set(figures)
    assert all(name.isascii() and value.isascii() for name, value in figures.items())


@pytest.mark.parametrize("slower", [1, 3])
def test_the_time_left_counts_the_validations_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slower: int
) -> None:
    """Steps at their present speed, and each validation to come: within a tenth of the truth, soon and to the end."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(metrics_log, "time", SimpleNamespace(monotonic=lambda: clock.now))
    looks, look_seconds, step_seconds = range(100, TOTAL + 1, 100), 45.0, 1.0
    log = TrainingLog(tmp_path, TOTAL, monitored_steps=looks)
    clock.now += look_seconds
    log.end_observation()  # of step 0
    said, when = {}, {}
    for step in range(1, TOTAL + 1):
        clock.now += step_seconds * (slower if step > TOTAL // 2 else 1) * (5 if step == 1 else 1)  # the first warms up
        events = [event for event in log.add(a_report(step, [0.1])) if isinstance(event, Progress)]
        when[step] = clock.now
        if events:
            said[step] = events[-1].seconds_left
        if step in looks:
            clock.now += look_seconds
            log.end_observation()
    for step, left in said.items():
        if step > TOTAL // 2 + SOON_SECONDS / slower or (slower == 1 and step > 1):
            assert left == pytest.approx(clock.now - when[step], rel=0.1, abs=1), step
    assert said[TOTAL] == look_seconds and log.seconds_per_step() == slower
