"""vidiff train: settings that follow from others, as --dry-run shows them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from vidiff_cli.cli.app import app
from vidiff_cli.config.model import DiffusionSettings, ModelSettings, suits
from vidiff_cli.config.options import Option
from vidiff_cli.config.train import DiffusionChoice, TrainSettings, preset, presets
from vidiff_cli.runs.run_info import resume_command


def resolved(*arguments: str, preset: str = "tiny") -> dict:
    result = CliRunner().invoke(app, ["train", "dataset", "--preset", preset, "--dry-run", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "target", "weighting"),
    [
        ((), "v", "truncated"),
        (("--target", "x"), "x", "truncated"),
        (("--target", "eps"), "eps", "eps"),
        (("--set", "diffusion.target=eps"), "eps", "eps"),
        (("--target", "eps", "--weighting", "min-snr"), "eps", "min-snr"),
        (("--target", "eps", "--weighting", "truncated"), "eps", "truncated"),
    ],
)
def test_the_weighting_of_a_preset_is_for_its_own_target(arguments, target, weighting) -> None:
    """It gives way where it would swamp another target; what is asked for stays."""
    found = resolved(*arguments)["diffusion"]
    assert (found["target"], found["weighting"]) == (target, weighting)


@pytest.mark.parametrize("name", sorted(presets()))
def test_the_target_follows_the_patch(name: str) -> None:
    """x above 2x2, else v, in every preset that names none; what is asked for stays. The weighting suits it."""
    own = preset(name).get("diffusion", {}).get("target")
    for patch in (None, 2, 3):
        given = [] if patch is None else ["--set", f"network.patch_size={patch}"]
        found = resolved(*given, preset=name)
        expected = own or ("x" if found["network"]["patch_size"] > 2 else "v")
        assert found["diffusion"]["target"] == expected, (name, patch)
        assert suits(found["diffusion"]["weighting"], expected), (name, patch)
    asked = resolved("--set", "network.patch_size=4", "--target", "v", preset=name)["diffusion"]
    assert asked["target"] == "v" and suits(asked["weighting"], "v")


def test_a_target_that_a_file_names_stays_and_auto_undoes_it(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[network]\npatch_size = 4\n[diffusion]\ntarget = "v"\n')
    assert resolved("--config", str(file))["diffusion"]["target"] == "v"
    assert resolved("--config", str(file), "--target", "auto")["diffusion"]["target"] == "x"


@pytest.mark.parametrize("patch", [1, 2, 3, 4])
def test_a_model_has_a_target_that_is_decided(patch: int) -> None:
    """From Python too, with a weighting that suits it; twice decided is the same; a checkpoint never holds auto."""
    settings = TrainSettings.model_validate({"network": {"patch_size": patch}})
    assert TrainSettings.model_validate(settings.model_dump()) == settings
    assert suits(settings.diffusion.weighting, settings.diffusion.target)
    model = ModelSettings(width=16 * patch, height=16 * patch, network=settings.network, diffusion=settings.diffusion)
    assert type(model.diffusion) is DiffusionSettings and model.diffusion.target == ("x" if patch > 2 else "v")
    assert ModelSettings.model_validate_json(model.model_dump_json()) == model
    with pytest.raises(ValidationError, match="'v', 'eps', 'x' or 'flow'"):
        ModelSettings(diffusion=DiffusionChoice())


@pytest.mark.parametrize(("patch", "target"), [(2, "v"), (2, "x"), (4, "x"), (4, "eps")])
def test_the_command_that_goes_on_keeps_the_target(patch: int, target: str) -> None:
    """Of a run whose target is not what its patch would have today too; nobody is told what follows by itself."""
    before = resolved("--set", f"network.patch_size={patch}", "--target", target)
    words = shlex.split(str(resume_command(Path("run"), TrainSettings.model_validate(before), finished=False)))
    result = CliRunner().invoke(app, [*words[1:], "--dry-run"])
    assert result.exit_code == 0, result.output
    after = json.loads(result.stdout)
    assert (after["network"], after["diffusion"]) == (before["network"], before["diffusion"])
    assert any("diffusion.target" in word for word in words) == (target != ("x" if patch > 2 else "v"))


def test_a_noise_brings_its_strength() -> None:
    found = resolved("--noise", "progressive")["diffusion"]
    assert (found["noise"], found["noise_strength"]) == ("progressive", 0.894)


def test_the_help_names_the_presets() -> None:
    option = next(part for part in TrainSettings.model_fields["preset"].metadata if isinstance(part, Option))
    assert set(option.values.split("|")) == set(presets())


@pytest.mark.parametrize(("recorded", "read"), [(True, "on"), (False, "off"), ("auto", "auto")])
def test_whether_an_older_run_was_compiled_is_read(recorded: object, read: str) -> None:
    assert TrainSettings.model_validate({"compile": recorded}).compile == read


def test_compile_has_three_values() -> None:
    assert resolved()["compile"] == "auto" and resolved("--compile", "on")["compile"] == "on"
    wrong = CliRunner().invoke(app, ["train", "dataset", "--compile", "yes"])
    assert wrong.exit_code == 2 and "auto" in wrong.output and "Traceback" not in wrong.output
