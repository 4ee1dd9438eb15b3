"""--preset and --from that do not go together are named themselves, not settings that nobody typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vidiff_cli.cli.app import app


def refusal(folder: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["train", str(folder / "none"), *arguments])
    assert result.exit_code != 0
    return result.output + result.stderr


@pytest.mark.parametrize("preset", ["tiny", "small", "base", "latent", "kinetics"])
def test_a_preset_of_another_network_is_blamed_by_its_name(tmp_path: Path, preset: str) -> None:
    error = refusal(tmp_path, "--preset", preset, "--from", "builtin")
    assert f"--preset {preset} has another network than --from builtin" in error and "leave out --preset" in error


def test_what_was_typed_is_not_put_down_to_the_preset(tmp_path: Path) -> None:
    assert "--preset" not in refusal(tmp_path, "--from", "builtin", "--set", "network.base_channels=8")
    error = refusal(tmp_path, "--preset", "tiny", "--from", "builtin", "--set", "network.base_channels=8")
    assert "base_channels" not in error  # the preset differs in other settings


def test_a_model_alone_or_a_preset_alone_is_not_refused(tmp_path: Path) -> None:
    for arguments in (("--from", "builtin"), ("--preset", "tiny")):
        assert "does not exist" in (error := refusal(tmp_path, *arguments)) or "not a dataset" in error
