"""`--scheme rolling`: extensions and samples by a window that moves on frame by frame, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import newest
from torch import Tensor

from vidiff_cli.checkpoint import read_checkpoint, write_tensors
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.sample import sample
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import rolling as rolling_module
from vidiff_cli.generation.resume_journal import WindowJournal, frames_path, journal_path
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import Denoiser

TIMED = 1  # pass that only tells that it will not take long
ROLLING: dict[str, Any] = {"scheme": "rolling", "overlap": 2, "steps": 4, "history_guidance": 1.0}


@pytest.fixture(scope="session")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model, as if it had been trained with levels by frame, with noise on its weights: it heeds prompts."""
    whole = read_checkpoint(newest(run) / "ema.safetensors")
    path = tmp_path_factory.mktemp("rolling") / "model.safetensors"
    settings = dict(whole.header["model"]) | {"frame_levels": True}  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.05 * torch.randn(value.shape, generator=generator) for name, value in whole.tensors.items()
    }
    write_tensors(path, weights, whole.header | {"model": settings})
    return path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Conditioning]]:
    """Every call of the network: z, level and what it is told."""
    calls: list[tuple[Tensor, Tensor, Conditioning]] = []
    original = Denoiser.forward

    def forward(self: Denoiser, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        calls.append((z.clone(), level.clone(), conditioning))
        return original(self, z, level, conditioning)

    monkeypatch.setattr(Denoiser, "forward", forward)
    return calls


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("sampler", ["dpmpp-2m", "ddim", "ddpm"])
def test_a_rolling_extension(settings, clip, frames_of, shown, model, told, before: bool, sampler: str) -> None:
    """Given frames are copied; M frames take (M + A - 1) n passes, in which observed frames are clean and the others
    the noisier the farther they are."""
    asked = settings(
        "extend",
        input=clip(5),
        model=model,
        num_frames=6,
        output="out.mkv",
        lossless=True,
        before=before,
        sampler=sampler,
        **ROLLING,
    )
    report, notes = told(extend.events(asked))
    made = frames_of(report.path)
    kept = made[6:] if before else made[:5]
    assert np.array_equal(kept, frames_of(Path("clip.mkv"))) and report.made == 6 and report.given == 5
    calls = shown[TIMED:]
    assert len(calls) == (6 + 2 - 1) * 2
    for _, level, told_of in calls:
        given = told_of.observed[0]
        assert int(given.sum()) >= 2 and (level[0][given] == 20).all()
        slope = (level[0].flip(0) if before else level[0])[int(given.sum()) :]
        assert bool((slope.diff() <= 0).all())
    assert any("2 active frames, one done every 2 steps, 14 in all" in note.text for note in notes)
    assert json.loads(Path("out.json").read_text())["settings"]["scheme"] == "rolling"
    again = extend(asked.model_copy(update={"output": Path("again.mkv")}))
    assert np.array_equal(frames_of(again.path), made)
    other = extend(asked.model_copy(update={"output": Path("other.mkv"), "seed": 4}))
    assert not np.array_equal(frames_of(other.path), made)


def test_a_frame_has_the_prompt_of_its_place(settings, clip, frames_of, shown, model) -> None:
    """Where the window holds frames of two prompts, each is asked for its own; before, the first one counts alone."""
    common = {"input": clip(4), "model": model, "num_frames": 6, "lossless": True, "guidance_scale": 1.0, **ROLLING}
    prompts = ("a red wall", "a blue square", "a green wall")
    changing = frames_of(extend(settings("extend", output="out.mkv", prompt=prompts, **common)).path)
    assert len(shown) - TIMED == 2 * (7 + 2), "two of seven slots hold frames of two prompts"
    one = frames_of(extend(settings("extend", output="one.mkv", prompt=prompts[:1], **common)).path)
    assert np.array_equal(changing[:5], one[:5]) and not np.array_equal(changing[6:], one[6:])


def test_history_guidance_and_drift_control_go_along(settings, clip, frames_of, shown, model) -> None:
    common = {"input": clip(4), "model": model, "num_frames": 4, "lossless": True, **ROLLING}
    plain = frames_of(extend(settings("extend", output="plain.mkv", **common)).path)
    shown.clear()
    guided = settings("extend", output="guided.mkv", **common | {"history_guidance": 3.0})
    assert not np.array_equal(frames_of(extend(guided).path), plain) and len(shown) - TIMED == 2 * 2 * 5
    steady = settings("extend", output="steady.mkv", drift_control="first", **common)
    given = plain[:4].astype(float).mean(axis=(1, 2))
    held = frames_of(extend(steady).path)[4:].astype(float).mean(axis=(1, 2))
    assert (held > given.min(0) - 2).all() and (held < given.max(0) + 2).all()


def test_samples_of_any_length_roll(settings, frames_of, model) -> None:
    """From nothing; a batch changes nothing of a video, and one that fits its window is made so too."""
    common = {"model": model, "lossless": True, "num_frames": 9, **ROLLING}
    two = sample(settings("sample", output="two", prompts=("a red wall", "blue"), **common))
    alone = sample(settings("sample", output="alone.mkv", prompts=("blue",), **common | {"seed": 4}))
    assert np.array_equal(frames_of(two.paths[1]), frames_of(alone.paths[0])) and two.frames == 9
    short = sample(settings("sample", output="short.mkv", **common | {"num_frames": 3}))
    assert len(frames_of(short.paths[0])) == 3


@pytest.mark.parametrize("at", [1, 3, 5, 7])
@pytest.mark.parametrize(("sampler", "seed"), [("dpmpp-2m", None), ("ddpm", 3)])
def test_interrupted_and_continued_is_uninterrupted(
    settings, clip, frames_of, told, killed, model, at: int, sampler: str, seed: int | None
) -> None:
    """In the first slots, in the middle, and before the journal knows of a frame that is written."""
    asked = settings(
        "extend",
        input=clip(4),
        model=model,
        num_frames=6,
        output="out.mkv",
        lossless=True,
        sampler=sampler,
        **ROLLING | {"seed": seed},
    )
    killed(WindowJournal, "save", lambda: extend(asked), at=at)
    report, notes = told(extend.events(asked))
    assert any("Continuing after slot" in note.text for note in notes) == (at > 1)
    whole = extend(asked.model_copy(update={"output": Path("whole.mkv"), "seed": report.seed}))
    assert report.path.read_bytes() == whole.path.read_bytes()
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_ctrl_c_keeps_what_is_done(settings, clip, frames_of, told, model, monkeypatch) -> None:
    asked = settings("extend", input=clip(4), model=model, num_frames=6, output="out.mkv", lossless=True, **ROLLING)
    original, calls = rolling_module.write_made, []

    def stop(*arguments: Any) -> None:
        calls.append(arguments)
        original(*arguments)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(rolling_module, "write_made", stop)
        with pytest.raises(KeyboardInterrupt):
            extend(asked)
    report, notes = told(extend.events(asked))
    assert any(note.text == "Continuing after slot 3 of 7 of the rolling window." for note in notes)
    whole = extend(asked.model_copy(update={"output": Path("whole.mkv")}))
    assert np.array_equal(frames_of(report.path), frames_of(whole.path))


@pytest.mark.parametrize("damage", ["state", "cut off", "a frame"])
def test_damage_costs_only_time(settings, clip, frames_of, told, killed, model, damage: str) -> None:
    asked = settings("extend", input=clip(4), model=model, num_frames=6, output="out.mkv", lossless=True, **ROLLING)
    killed(WindowJournal, "save", lambda: extend(asked), at=5)
    journal = journal_path(Path("out.mkv"))
    path = frames_path(journal) if damage == "a frame" else journal
    content = bytearray(path.read_bytes())
    if damage == "cut off":
        del content[len(content) // 2 :]
    else:
        content[-4 if damage == "state" else content.index(max(content))] ^= 255
    path.write_bytes(content)
    report, notes = told(extend.events(asked))
    assert not any("Continuing" in note.text for note in notes)
    whole = extend(asked.model_copy(update={"output": Path("whole.mkv")}))
    assert np.array_equal(frames_of(report.path), frames_of(whole.path))


def test_dry_run_shows_what_each_frame_is_made_from(settings, clip, told, model) -> None:
    asked = settings("extend", input=clip(4), model=model, num_frames=3, output="out.mkv", dry_run=True, **ROLLING)
    report, _ = told(extend.events(asked))
    assert report.windows == 3 and Path("out_plan.png").is_file() and not Path("out.mkv").exists()
    assert report.lines[1:] == (
        "window 1: makes 4 from 2-3 (0.50 to 0.50 s)",
        "window 2: makes 5 from 3-4 (0.62 to 0.62 s)",
        "window 3: makes 6 from 3-5 (0.75 to 0.75 s)",
    )


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "loop": ({"loop": True}, "beyond one end of a video: found frames to make between given ones; leave out --loop"),
    "condition": ({"condition": "replacement"}, "does not go with this: found --condition replacement; leave it out"),
    "noise": ({"start_noise": "freenoise"}, "found --start-noise freenoise"),
    "freeinit": ({"freeinit": 2}, "found --freeinit 2"),
    "langevin": ({"sampler": "ddpm", "langevin": 0.1}, "found --langevin 0.1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_roll_is_refused(settings, clip, model, name: str) -> None:
    more, sentence = REFUSED[name]
    with pytest.raises(VidiffError, match=sentence):
        extend(settings("extend", input=clip(4), model=model, num_frames=4, output="out.mkv", **ROLLING | more))
    assert {path.name for path in Path().iterdir()} == {"clip.mkv"}


@pytest.mark.parametrize("command", ["extend", "sample"])
def test_a_model_without_levels_by_frame_does_not_roll(settings, clip, run, command: str) -> None:
    more = {"input": clip(4)} if command == "extend" else {}
    task = {"extend": extend, "sample": sample}[command]
    with pytest.raises(VidiffError, match=r"a model trained with a noise level for every frame: found .*; train with"):
        task(settings(command, model=run, num_frames=8, output="out.mkv", **ROLLING, **more))


def test_memory_does_not_grow_with_the_length(settings, clip, model, monkeypatch) -> None:
    """What is carried from slot to slot are the active frames."""
    sizes: list[int] = []
    original = WindowJournal.save

    def save(self: WindowJournal, *arguments: Any, state: dict[str, Tensor], **more: Any) -> None:
        sizes.append(sum(tensor.numel() for tensor in state.values()))
        original(self, *arguments, state=state, **more)

    monkeypatch.setattr(WindowJournal, "save", save)
    with torch.no_grad():
        extend(settings("extend", input=clip(4), model=model, num_frames=20, output="out.mkv", **ROLLING))
    assert len(sizes) == 21 and max(sizes) <= 2 * 2 * 3 * 16 * 16 + 2 and sizes[-1] == 0
