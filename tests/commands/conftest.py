"""A world of twelve 16x16 clips, a network that is trained on it for six steps, and clips to work on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.train import train
from vidiff_cli.commands.world import world
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings, SampleSettings
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.config.world import WorldSettings
from vidiff_cli.events import EventStream, Note
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode

WINDOW, SIDE = 4, 16  # of the network below
NETWORK = {"base_channels": 8, "channel_mult": [1], "head_dim": 8, "embedding": 16, "context_dim": 16}
PLOT = TrainingLog.plot
KINDS = {"sample": SampleSettings, "extend": ExtendSettings, "interpolate": InterpolateSettings}


@contextmanager
def single_threaded() -> Iterator[None]:
    """Bit-equality is promised for one thread count, and the tensors here are small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with single_threaded():
        yield


@pytest.fixture(autouse=True, scope="module")
def no_plots() -> Iterator[None]:
    """Plots take longer than these trainings; the session's run has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLog, "plot", lambda self, **_: None)
        yield


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs without a name go to the working directory."""
    monkeypatch.chdir(tmp_path)


def train_settings(dataset: Path, output: Path, **more: Any) -> TrainSettings:
    values = {"steps": 6, "batch_size": 4, "frames": WINDOW, "precision": "fp32", "network": NETWORK}
    values |= {"sample_every": 0, "validate_every": 0}
    values["text"] = {"kind": "learned"}  # whatever weights lie on this machine
    return TrainSettings.model_validate(values | {"dataset": dataset, "output": output} | more)


@pytest.fixture(scope="session")
def training() -> Callable[..., TrainSettings]:
    """training(dataset, run, **settings): six steps of a small network, unless told otherwise."""
    return train_settings


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world(WorldSettings(folder=folder / "clips", clips=12, frames=8, seed=1))
    output = folder / "dataset"
    prep(PrepSettings(sources=(str(folder / "clips"),), output=output, size=SIDE, frames=8, preview=0, workers=1))
    return output


@pytest.fixture(scope="session")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: window of 4 frames, 16x16, trained at 8 and 4 fps on captions and on observed frames too."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with single_threaded(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLog, "plot", PLOT)
        train(train_settings(dataset, folder))
    return folder


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """killed(module, name, call): the call ends where it would have called module.name (for the n-th time)."""

    def run(module: Any, name: str, call: Callable[[], Any], *, at: int = 1) -> None:
        calls, original = [], getattr(module, name)

        def end(*arguments: Any, **more: Any) -> Any:
            calls.append(name)
            if len(calls) == at:
                raise KeyboardInterrupt
            return original(*arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, end)
            with pytest.raises(KeyboardInterrupt):
                call()

    return run


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """signal_at(3, settings): Ctrl-C comes in the third step of a training."""

    def run(step: int, settings: TrainSettings) -> None:
        def add(self: TrainingLog, report: Any) -> Any:
            if report.step == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield from original(self, report)

        original = TrainingLog.add
        with monkeypatch.context() as patch:
            patch.setattr(TrainingLog, "add", add)
            with pytest.raises(KeyboardInterrupt):
                train(settings)

    return run


@pytest.fixture
def settings(run: Path) -> Callable[..., Any]:
    """settings("extend", input=..., ...): two fast steps with the trained run, whose frames are taken alone and as they
    are, unless told otherwise."""

    def make(command: str, **more: Any) -> Any:
        alone = {} if command == "sample" else {"size": "model", "detail": "model"}
        return KINDS[command].model_validate({"model": run, "steps": 2, "seed": 3, "dtype": "fp32"} | alone | more)

    return make


@pytest.fixture(scope="session")
def told() -> Callable[[EventStream[Any]], tuple[Any, list[Note]]]:
    """Runs a task's steps: its report and its notes."""

    def follow(steps: EventStream[Any]) -> tuple[Any, list[Note]]:
        notes = []
        while True:
            try:
                event = next(steps)
            except StopIteration as done:
                return done.value, notes
            if isinstance(event, Note):
                notes.append(event)

    return follow


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """clip(6): a lossless 16x16 clip of six frames that all differ, 8 a second; other sizes and rates as asked."""

    def make(count: int, *, width: int = SIDE, height: int = SIDE, fps: str = "8", name: str = "clip.mkv") -> Path:
        rng = np.random.default_rng(count)
        frames = np.repeat(rng.integers(0, 256, (count, 1, width, 3), np.uint8), height, axis=1)
        encode(tmp_path / name, frames, Fraction(fps), lossless=name.endswith(".mkv"))
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def frames_of() -> Callable[[Path], np.ndarray]:
    """The decoded frames (t h w c) of a file."""
    return lambda path: decode(path).frames


@pytest.fixture
def loud(clip: Callable[..., Path]) -> Callable[..., Path]:
    """loud(8): a clip as `clip` makes it, with a second of sound."""

    def make(count: int, name: str = "loud.mp4") -> Path:
        source, target = clip(count, name=f"{name}.mkv"), Path(name)
        sine = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]
        joined = ["-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-c:a", "aac"]
        code, log, _ = ffmpeg.run(["-i", ffmpeg.file_url(source), *sine, *joined, ffmpeg.file_url(target)])
        assert code == 0, log
        return target

    return make
