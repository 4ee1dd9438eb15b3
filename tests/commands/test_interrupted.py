"""Interrupted and continued is the same as never interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.generation import generate
from vidiff_cli.generation.resume_journal import frames_path as frames_of_journal
from vidiff_cli.generation.resume_journal import journal_path
from vidiff_cli.models import unet_model

TASKS = {"extend": (extend, {"num_frames": 12}), "interpolate": (interpolate, {"factor": 3})}


@pytest.fixture
def interrupt_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """interrupt_after(2, task, settings): Ctrl-C comes while the third window is made."""

    def run(windows: int, task: Any, settings: Any) -> None:
        def stopping(*arguments: Any, **more: Any):
            for number, video in enumerate(original(*arguments, **more), 1):
                yield video
                if number == windows:
                    raise KeyboardInterrupt

        original = generate.sample_windows
        with monkeypatch.context() as patch:
            patch.setattr(generate, "sample_windows", stopping)
            with pytest.raises(KeyboardInterrupt):
                task(settings)

    return run


@pytest.mark.parametrize(
    ("command", "seed", "more"),
    [
        ("extend", None, {"before": True, "sampler": "ddpm"}),
        ("extend", 3, {"condition": "reconstruction"}),
        ("extend", None, {"scheme": "hierarchical", "condition": "replacement"}),
        ("interpolate", None, {}),
    ],
)
@pytest.mark.parametrize("together", [1, 2])
def test_continued_is_uninterrupted(
    settings, clip, told, frames_of, interrupt_after, monkeypatch, command, more, seed, together: int
) -> None:
    monkeypatch.setattr(unet_model, "WINDOWS_AT_ONCE", together)
    task, length = TASKS[command]
    asked = settings(command, input=clip(6), lossless=True, seed=seed, output="out.mkv", **length, **more)
    interrupt_after(1, task, asked)
    journal = journal_path(Path("out.mkv"))
    assert journal.is_file() and not Path("out.mkv").exists()
    interrupt_after(1, task, asked)  # once more: the second window is done
    report, notes = told(task.events(asked))
    assert any(note.text.startswith("Continuing after window ") for note in notes)
    assert seed in (None, report.seed) and not [path for path in Path().iterdir() if path.name.startswith(".")]
    whole = task(asked.model_copy(update={"seed": report.seed, "output": Path("whole.mkv")}))
    assert whole.windows == report.windows > 2
    assert np.array_equal(frames_of(report.path), frames_of(whole.path))


@pytest.fixture
def begins_anew(told: Callable[..., Any], frames_of: Callable[[Path], np.ndarray]) -> Callable[..., Any]:
    """begins_anew(task, settings): nothing of an interrupted call is used, and the video is that of a new one."""

    def check(task: Any, asked: Any) -> Any:
        report, notes = told(task.events(asked))
        assert not any("Continuing" in note.text for note in notes)
        whole = task(asked.model_copy(update={"output": Path("whole.mkv"), "seed": report.seed}))
        assert np.array_equal(frames_of(report.path), frames_of(whole.path))
        assert not journal_path(Path("out.mkv")).exists()
        return report

    return check


@pytest.mark.parametrize("more", [{"steps": 3}, {"seed": 4}, {"prompt": ("a blue square",)}, {"num_frames": 7}])
def test_other_settings_begin_anew(settings, clip, begins_anew, interrupt_after, more: dict) -> None:
    asked = settings("extend", input=clip(4), num_frames=8, output="out.mkv", lossless=True)
    interrupt_after(1, extend, asked)
    begins_anew(extend, asked.model_copy(update=more))


@pytest.mark.parametrize("more", [{"count": 5}, {"count": 4, "fps": "4"}], ids=["frames", "rate"])
def test_another_input_begins_anew(settings, clip, begins_anew, interrupt_after, more: dict) -> None:
    asked = settings("extend", input=clip(4), num_frames=8, output="out.mkv", lossless=True)
    interrupt_after(1, extend, asked)
    Path("clip.mkv").unlink()
    clip(**more)
    assert begins_anew(extend, asked).given == more["count"]


def test_other_batches_begin_anew(settings, clip, begins_anew, interrupt_after, monkeypatch) -> None:
    """Windows that another version sampled in other batches: none may be left out."""
    asked = settings("interpolate", input=clip(9), factor=2, output="out.mkv", lossless=True)
    monkeypatch.setattr(unet_model, "WINDOWS_AT_ONCE", 3)
    interrupt_after(1, interpolate, asked)
    monkeypatch.setattr(unet_model, "WINDOWS_AT_ONCE", 2)
    begins_anew(interpolate, asked)


@pytest.mark.parametrize("damage", ["no journal", "cut off", "a frame"])
def test_damage_costs_only_time(settings, clip, begins_anew, interrupt_after, damage: str) -> None:
    asked = settings("extend", input=clip(4), num_frames=8, output="out.mkv", lossless=True, seed=None)
    interrupt_after(1, extend, asked)
    journal = journal_path(Path("out.mkv"))
    path = frames_of_journal(journal) if damage == "a frame" else journal
    content = path.read_bytes()
    changed = {"no journal": b"no journal at all", "cut off": content[:-100]}
    path.write_bytes(changed.get(damage, content[:-1] + bytes([content[-1] ^ 255])))
    begins_anew(extend, asked)
