"""Captions that are too long are told of by prep and by train, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vidiff_cli.commands.prep import prep
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Note
from vidiff_cli.runs.run_plan import plan_run

LONG = "very " * 117 + "small red square"  # 120 words


def notes(events: Any) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A dataset of three images, and what prep told of it."""
    folder = tmp_path_factory.mktemp("long")
    for number, caption in enumerate((LONG, "word " * 40, "a blue square")):
        pixels = np.random.default_rng(number).integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    values = {"sources": (str(folder),), "output": folder / "out", "size": 16, "images": "stills", "preview": 0}
    settings = PrepSettings.model_validate(values | {"workers": 1, "val_fraction": 0})
    return folder / "out", notes(prep.events(settings))


def test_prep_counts_the_captions_that_encoders_cut(prepared: tuple[Path, list[str]]) -> None:
    (note,) = [text for text in prepared[1] if "longer" in text]
    assert "2 captions" in note and "1 than the 77" in note and "has 120, of 0.png" in note


@pytest.mark.parametrize("mode", ["cut", "middle", "refuse"])
def test_train_counts_the_captions_that_its_encoder_cuts(
    prepared: tuple[Path, list[str]], tmp_path: Path, mode: str
) -> None:
    dataset = open_dataset(prepared[0])
    settings = TrainSettings.model_validate(
        {"dataset": prepared[0], "text": {"kind": "learned", "long_captions": mode}, "batch_size": 1}
    )
    events = plan_run(settings, dataset, tmp_path / "run", torch.device("cpu"), world=1, locked=False)
    if mode == "refuse":
        with pytest.raises(VidiffError, match=r"2 of 3 captions.*120 tokens.*at most 32"):
            list(events)
    else:
        (note,) = [text for text in notes(events) if "longer" in text]
        assert "2 of 3 captions" in note and "has 120" in note and "max_tokens=120" in note
        assert {"cut": "the end of each", "middle": "the middle of each"}[mode] in note
    assert not (tmp_path / "run").exists()
