"""train on clips of several frame sizes and lengths, cropped, mirrored, read ahead: what it takes and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import write_dataset
from runs import config_of, weights_of

from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.training import objective

Training = Callable[..., TrainSettings]


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
    clips = [
        {"frames": frames, "height": height, "width": width, "fps": "0" if frames == 1 else "8"}
        for frames, height, width in sizes
    ]
    return write_dataset(folder, clips)


MIXED = [(4, 12, 16)] * 4 + [(4, 16, 12)] * 2 + [(1, 12, 16)] * 2


def test_every_frame_size_and_length_is_trained_on(training, tmp_path: Path, shapes_seen) -> None:
    """In two epochs of eight clips, two a step: as many batches of each shape as it has clips."""
    train(training(dataset_of(tmp_path / "data", MIXED), tmp_path / "run", steps=8, batch_size=2))
    assert sorted(shapes_seen) == sorted((frames, height, width) for frames, height, width in MIXED)
    model = config_of(tmp_path / "run")["model"]
    assert (model["width"], model["height"]) == (16, 12)


def test_a_crop_makes_one_size_of_all(training: Training, tmp_path: Path, shapes_seen: list[tuple[int, ...]]) -> None:
    folder = dataset_of(tmp_path / "data", MIXED)
    train(training(folder, tmp_path / "run", steps=4, batch_size=4, loader={"crop": 8, "flip": True}))
    assert sorted(shapes_seen) == [(1, 8, 8)] + [(4, 8, 8)] * 3
    model = config_of(tmp_path / "run")["model"]
    assert (model["width"], model["height"]) == (8, 8)


def test_what_does_not_fit_is_one_sentence(training: Training, tmp_path: Path) -> None:
    folder = dataset_of(tmp_path / "data", [(4, 12, 16)] * 3 + [(4, 16, 14), (4, 18, 12)])
    cases = [
        ({}, "do not fit the network: found 12x18, 14x16, expected multiples of 4"),
        ({"loader": {"crop": 16}}, "do not fit the crop: found 16x12, 12x18, 14x16, expected at least 16x16"),
        ({"loader": {"crop": 10}}, "loader.crop does not fit the network: found 10, expected a multiple of 4"),
    ]
    network = {"base_channels": 8, "channel_mult": [1, 2], "head_dim": 8, "embedding": 16, "context_dim": 16}
    for more, sentence in cases:
        with pytest.raises(VidiffError) as error:
            train(training(folder, tmp_path / "run", steps=1, network=network, **more))
        assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def test_workers_and_the_cache_change_no_weight_and_may_be_changed(training: Training, tmp_path: Path) -> None:
    """Also in the middle of a run; a crop or a mirror is another run."""
    folder = dataset_of(tmp_path / "data", MIXED)
    train(training(folder, tmp_path / "plain", loader={"workers": 0}))
    train(training(folder, tmp_path / "run", steps=3, loader={"workers": 3, "cache_bytes": 5000}))
    with pytest.raises(VidiffError, match=r"was trained with another loader\.flip"):
        train(training(folder, tmp_path / "run", loader={"flip": True}))
    train(training(folder, tmp_path / "run", loader={"workers": 1}))
    one, other = weights_of(tmp_path / "plain"), weights_of(tmp_path / "run")
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
