"""A run folder is continued by the same settings alone, and by those that change no weight."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vidiff_cli.config.model import ModelSettings, TextSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs.run_dir import check_run, write_config

DATASET: Any = SimpleNamespace(digest=lambda: "clips", folder=Path("dataset"))
MODEL = ModelSettings()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_config(tmp_path / "run", TrainSettings(), MODEL, DATASET)
    return tmp_path / "run"


def check(run: Path, model: ModelSettings = MODEL, **settings: Any) -> bool:
    return check_run(run, TrainSettings.model_validate(settings), model, DATASET)


def test_settings_that_change_no_weight_may_change(run: Path, tmp_path: Path) -> None:
    assert not check(tmp_path / "new")
    assert check(run, steps=2000, keep=5, grad_accum_steps=2, gradient_checkpointing="on", loader={"workers": 3})


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"batch_size": 5}, "another batch_size: found 5, expected 32"),
        ({"network": {"base_channels": 16}}, "another network.base_channels: found 16"),
        ({"optimizer": {"lr": 0.5}}, "another optimizer.lr: found 0.5"),
        ({"seed": 1}, "another seed: found 1, expected 0"),
        ({"frames": 9}, "another frames: found 9, expected 8"),
        ({"conditioning": "none"}, "another conditioning: found none, expected mixed"),
        ({"loader": {"flip": True}}, "another loader.flip: found True, expected False"),
        ({"resume": "never"}, "already exists; give another folder with -o, or --overwrite"),
    ],
)
def test_other_settings_are_refused(run: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VidiffError, match=sentence):
        check(run, **changed)


def test_another_vocabulary_is_refused_in_a_short_sentence(run: Path) -> None:
    text = TextSettings(kind="learned", vocabulary=tuple(range(5000)))
    with pytest.raises(VidiffError, match=r"another model\.text\.") as error:
        check(run, MODEL.model_copy(update={"text": text}))
    assert len(str(error.value)) < 400


def test_a_setting_that_is_newer_than_the_run_had_its_default(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    del config["train"]["loader"], config["train"]["objective"]["image_fraction"], config["model"]["context_noise"]
    (run / "config.json").write_text(json.dumps(config))
    assert check(run)
    with pytest.raises(VidiffError, match=r"another loader\.crop: found 8, expected 0"):
        check(run, loader={"crop": 8})
