"""train on clips of several frame sizes and lengths, cropped, mirrored, read ahead: what it takes and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Clip, DatasetSpec, write_clips, write_shards, write_spec
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs import metrics_log
from vidiff_cli.training import objective

Training = Callable[..., TrainSettings]


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log.TrainingLog, "plot", lambda self, **_: None)


@pytest.fixture
def shapes_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The (t, h, w) of every batch that the network was trained on."""
    seen: list[tuple[int, ...]] = []
    original = objective.diffusion_loss

    def loss(denoiser: Any, text: Any, batch: Any, **others: Any) -> Any:
        seen.append(tuple(batch.video.shape[2:]))
        return original(denoiser, text, batch, **others)

    monkeypatch.setattr(objective, "diffusion_loss", loss)
    return seen


def dataset_of(folder: Path, sizes: list[tuple[int, int, int]]) -> Path:
    """Clips of (frames, height, width), the first size the one of most clips."""
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    shard_of = write_shards(folder, ((str(n), clip) for n, clip in enumerate(clips)))
    rows = [
        Clip(
            id=str(n),
            source=f"{n}.mp4",
            start_seconds=0.0,
            fps="0" if size[0] == 1 else "8",
            frames=size[0],
            captions=["a dog"],
            split="train",
            shard=shard_of[str(n)],
            group=None,
            width=size[2],
            height=size[1],
        )
        for n, size in enumerate(sizes)
    ]
    write_clips(folder, rows)
    names = [f"{width}x{height}" for _, height, width in sizes]
    spec = DatasetSpec(
        vidiff="0",
        width=sizes[0][2],
        height=sizes[0][1],
        frames=max(size[0] for size in sizes),
        fps="8",
        aspect="keep",
        buckets={name: names.count(name) for name in names},
        sources=len(sizes),
        kept=len(sizes),
        clips=len(sizes),
        splits={"train": len(sizes), "val": 0},
        captions_matched=len(sizes),
        captions_missing=0,
        seconds_of_video=1.0,
        bytes=1,
        fingerprint="",
        settings={},
    )
    write_spec(folder, spec)
    return folder


MIXED = [(4, 12, 16)] * 4 + [(4, 16, 12)] * 2 + [(1, 12, 16)] * 2


def test_every_frame_size_and_length_is_trained_on(
    training: Training, tmp_path: Path, shapes_seen: list[tuple[int, ...]]
) -> None:
    """In two epochs of eight clips, two a step: as many batches of each shape as it has clips."""
    train(training(dataset_of(tmp_path / "data", MIXED), tmp_path / "run", steps=8, batch_size=2))
    assert sorted(shapes_seen) == sorted((frames, height, width) for frames, height, width in MIXED)
    model = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert (model["width"], model["height"]) == (16, 12)


def test_a_crop_makes_one_size_of_all(training: Training, tmp_path: Path, shapes_seen: list[tuple[int, ...]]) -> None:
    folder = dataset_of(tmp_path / "data", MIXED)
    train(training(folder, tmp_path / "run", steps=4, batch_size=4, loader={"crop": 8, "flip": True}))
    assert sorted(shapes_seen) == [(1, 8, 8)] + [(4, 8, 8)] * 3
    model = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert (model["width"], model["height"]) == (8, 8)


def test_what_does_not_fit_is_one_sentence(training: Training, tmp_path: Path) -> None:
    folder = dataset_of(tmp_path / "data", [(4, 12, 16)] * 3 + [(4, 16, 14), (4, 18, 12)])
    cases = [
        ({}, "do not fit the network: found 12x18, 14x16, expected multiples of 4"),
        ({"loader": {"crop": 16}}, "do not fit the crop: found 16x12, 12x18, 14x16, expected at least 16x16"),
        ({"loader": {"crop": 10}}, "loader.crop does not fit the network: found 10, expected a multiple of 4"),
    ]
    for more, sentence in cases:
        with pytest.raises(VidiffError) as error:
            train(training(folder, tmp_path / "run", steps=1, **more))
        assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def test_workers_and_the_cache_change_no_weight_and_may_be_changed(training: Training, tmp_path: Path) -> None:
    """Also in the middle of a run; a crop or a mirror is another run."""
    folder = dataset_of(tmp_path / "data", MIXED)
    plain = train(training(folder, tmp_path / "plain", loader={"workers": 0}))
    loader = {"workers": 3, "cache_bytes": 5000}
    train(training(folder, tmp_path / "run", steps=3, loader=loader))
    with pytest.raises(VidiffError, match=r"was trained with another loader\.flip"):
        train(training(folder, tmp_path / "run", loader={"flip": True}))
    changed = train(training(folder, tmp_path / "run", loader={"workers": 1}))
    one, other = (load_file(report.checkpoint / "model.safetensors") for report in (plain, changed))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
