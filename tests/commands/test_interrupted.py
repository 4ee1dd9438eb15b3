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
        ("extend", 3, {}),
        ("extend", None, {}),
        ("extend", None, {"before": True, "sampler": "ddpm"}),
        ("extend", 3, {"condition": "reconstruction"}),
        ("extend", None, {"scheme": "hierarchical", "condition": "replacement"}),
        ("interpolate", None, {}),
        ("interpolate", 3, {}),
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
    assert not journal.exists() and seed in (None, report.seed)
    whole = task(asked.model_copy(update={"seed": report.seed, "output": Path("whole.mkv")}))
    assert whole.windows == report.windows > 2
    assert np.array_equal(frames_of(report.path), frames_of(whole.path))
    hidden = [path.name for path in Path().iterdir() if path.name.startswith(".")]
    assert hidden == []


def test_frames_that_were_damaged_are_made_again(settings, clip, told, frames_of, interrupt_after) -> None:
    asked = settings("extend", input=clip(4), num_frames=8, output="out.mkv", lossless=True)
    interrupt_after(1, extend, asked)
    frames = frames_of_journal(journal_path(Path("out.mkv")))
    content = bytearray(frames.read_bytes())
    content[-1] ^= 255
    frames.write_bytes(content)
    report, notes = told(extend.events(asked))
    assert not any("Continuing" in note.text for note in notes)
    whole = extend(asked.model_copy(update={"output": Path("whole.mkv")}))
    assert np.array_equal(frames_of(report.path), frames_of(whole.path))


def test_other_batches_begin_anew(settings, clip, told, frames_of, interrupt_after, monkeypatch) -> None:
    """Windows that another version sampled in other batches: none may be left out."""
    asked = settings("interpolate", input=clip(9), factor=2, output="out.mkv", lossless=True)
    monkeypatch.setattr(unet_model, "WINDOWS_AT_ONCE", 3)
    interrupt_after(1, interpolate, asked)
    monkeypatch.setattr(unet_model, "WINDOWS_AT_ONCE", 2)
    report, notes = told(interpolate.events(asked))
    assert not any("Continuing" in note.text for note in notes)
    whole = interpolate(asked.model_copy(update={"output": Path("whole.mkv")}))
    assert np.array_equal(frames_of(report.path), frames_of(whole.path))


@pytest.mark.parametrize("more", [{"steps": 3}, {"seed": 4}, {"prompt": ("a blue square",)}, {"num_frames": 7}])
def test_other_settings_begin_anew(settings, clip, told, frames_of, interrupt_after, more: dict) -> None:
    source = clip(4)
    interrupt_after(1, extend, settings("extend", input=source, num_frames=8, output="out.mkv", lossless=True))
    asked = settings("extend", input=source, lossless=True, **({"num_frames": 8} | more))
    report, notes = told(extend.events(asked.model_copy(update={"output": Path("out.mkv")})))
    assert not any("Continuing" in note.text for note in notes)
    whole = extend(asked.model_copy(update={"output": Path("whole.mkv")}))
    assert np.array_equal(frames_of(report.path), frames_of(whole.path))


def test_another_input_begins_anew(settings, clip, told, interrupt_after) -> None:
    interrupt_after(1, extend, settings("extend", input=clip(4), num_frames=8, output="out.mkv", lossless=True))
    Path("clip.mkv").unlink()
    clip(5)
    asked = settings("extend", input=Path("clip.mkv"), num_frames=7, output="out.mkv", lossless=True)
    report, notes = told(extend.events(asked))
    assert report.given == 5 and not any("Continuing" in note.text for note in notes)


@pytest.mark.parametrize("damage", [b"", b"no journal at all", None])
def test_a_damaged_journal_costs_only_time(settings, clip, frames_of, interrupt_after, damage: bytes | None) -> None:
    asked = settings("extend", input=clip(4), num_frames=8, output="out.mkv", lossless=True, seed=None)
    interrupt_after(1, extend, asked)
    journal = journal_path(Path("out.mkv"))
    journal.write_bytes(journal.read_bytes()[:-100] if damage is None else damage)
    report = extend(asked)
    assert len(frames_of(report.path)) == 12 and not journal.exists()
