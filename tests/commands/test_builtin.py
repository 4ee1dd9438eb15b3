"""The model in the box: taken where there is no run, named as `builtin`, and it does what a caption says."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from vidiff_cli.commands.evaluate import evaluate
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.info import info
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.sample import sample
from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.config.generate import ExtendSettings, GenerationSettings, InterpolateSettings, SampleSettings
from vidiff_cli.generation.builtin import builtin_file
from vidiff_cli.generation.load_model import find_checkpoint, open_model
from vidiff_cli.video.decode import decode
from vidiff_cli.worlds.scene_oracle import detect_objects
from vidiff_cli.worlds.splits import draw_scene

Told = Callable[..., tuple[Any, Any]]


def test_it_is_taken_where_there_is_no_run_and_a_folder_of_its_name_wins(run: Path) -> None:
    assert find_checkpoint(None) == find_checkpoint(Path("builtin")) == builtin_file()
    Path("runs").mkdir()
    os.symlink(run, "runs/mine")
    assert find_checkpoint(None).is_relative_to("runs/mine") and find_checkpoint(Path("builtin")) == builtin_file()
    os.symlink(run, "builtin")
    assert find_checkpoint(Path("builtin")).is_relative_to("builtin")


def test_it_fits_into_the_package() -> None:
    assert builtin_file().stat().st_size <= 25e6


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("model.safetensors", "09bcd3a38cb37184ca7ddc74093f35007d0abbf4387292259c612ff5adb5a792"),
        ("extractor.safetensors", "d22fcb6c03aa0d325582e432f55f7b8d0c76d430d62ff9a3a3d553e0e73146f9"),
    ],
)
def test_the_shipped_weights_are_the_ones_that_were_measured(name: str, digest: str) -> None:
    """Headers and names of tensors may change; the numbers may not, or the published figures are of other weights."""
    with safe_open(builtin_file().with_name(name), "pt") as file:
        each = sorted(hashlib.sha256(file.get_tensor(key).numpy().tobytes()).digest() for key in file.keys())  # noqa: SIM118
    assert hashlib.sha256(b"".join(each)).hexdigest() == digest


def test_it_makes_what_the_caption_says_and_is_named_in_the_sidecar(tmp_path: Path, told: Told) -> None:
    output = tmp_path / "out.mkv"
    report, notes = told(
        sample.events(SampleSettings(prompts=("a small red circle moving left",), output=output, seed=1))
    )
    assert any("No run found under runs/" in note.text for note in notes)
    video = decode(report.paths[0])
    seen = detect_objects(video.frames, np.arange(len(video.frames)) / float(video.fps)).things[0].words
    assert (seen["color"], seen["shape"], seen["direction"]) == ("red", "circle", "left")
    sidecar = json.loads(output.with_suffix(".json").read_text())
    assert sidecar["checkpoint"]["path"] == sidecar["settings"]["model"] == "builtin"


def test_words_outside_its_world_are_named(tmp_path: Path, told: Told) -> None:
    settings = SampleSettings(prompts=("a cat surfing",), output=tmp_path / "out.mkv", steps=1, seed=1)
    notes = told(sample.events(settings))[1]
    warning = next(note.text for note in notes if note.level == "warning")
    assert "cat, surfing" in warning and "train on your own" in warning


def test_extend_and_interpolate_take_it_too(tmp_path: Path) -> None:
    first = SampleSettings(
        prompts=("a large blue square moving right slowly",), output=tmp_path / "a.mkv", seed=1, steps=2
    )
    given = sample(first).paths[0]
    longer = extend(ExtendSettings(input=given, output=tmp_path / "b.mkv", num_frames=8, steps=2, seed=1))
    finer = interpolate(InterpolateSettings(input=given, output=tmp_path / "c.mkv", factor=2, steps=2, seed=1))
    assert len(decode(longer.path).frames) == 24 and len(decode(finer.path).frames) == 32


def test_the_figures_of_its_card_hold_on_a_few_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `python -m benchmarks builtin` measures on many: here eight that were trained on, eight that were not."""
    folder = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder.parent))
    benchmark = importlib.import_module("benchmarks.builtin")
    stated = json.loads((folder / "results" / "builtin.json").read_text())["by_scale"]["2"]
    settings = GenerationSettings(model=Path("builtin"), steps=8)
    model = open_model(settings.model)
    for side in ("train", "held-out"):
        scenes = [draw_scene("straight", 1, number, side=side) for number in range(8)]
        videos = benchmark.sample(model, settings, [scene.caption for scene in scenes])
        for name, found in benchmark.accuracy(scenes, videos, model.fps).items():
            few = math.sqrt(0.25 / found["count"])  # three times the largest error that so few can have by chance
            assert found["right"] >= stated[side][name]["right"] - 3 * few, (side, name)
            assert found["right"] >= 0.75 or name in ("speed", "all words"), (side, name)


def test_info_tells_of_it(told: Told) -> None:
    about, notes = told(info.events(Path("builtin")))
    assert (about.width, about.height, about.frames) == (32, 32, 16) and about.path == builtin_file()
    assert not about.hardly_trained and not notes


def test_evaluate_reads_its_words_back_from_clips_that_no_training_has_seen(tmp_path: Path) -> None:
    settings = EvaluateSettings.model_validate(
        {"real": "builtin", "output": tmp_path / "out", "count": 4, "bootstrap": 0, "sampling": {"steps": 8}}
    )
    report = evaluate(settings)
    found = {result.name: result for result in report.results}
    assert found["all words right"].real is not None and found["all words right"].real.value == 1
    assert found["color right"].generated.value >= 0.5 and found["all words right"].generated.videos == 4
    real = json.loads(report.json.read_text())["protocol"]["real"]
    assert real["settings"]["part"] == "straight" and real["side"] == "val"
