"""vidiff train: settings that follow from others, as --dry-run shows them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from vidiff_cli.cli.app import app


def resolved(*arguments: str) -> dict:
    result = CliRunner().invoke(app, ["train", "dataset", "--preset", "tiny", "--dry-run", *arguments])
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
def test_the_weighting_of_a_preset_is_for_its_own_target(
    arguments: tuple[str, ...], target: str, weighting: str
) -> None:
    """It gives way where it would swamp another target; what is asked for stays."""
    found = resolved(*arguments)["diffusion"]
    assert (found["target"], found["weighting"]) == (target, weighting)


def test_noise_and_images_are_asked_for_by_flags() -> None:
    found = resolved("--noise", "progressive", "--image-fraction", "0.25")
    assert found["diffusion"]["noise"] == "progressive" and found["diffusion"]["noise_strength"] == 0.894
    assert found["objective"]["image_fraction"] == 0.25
    plain = resolved()
    assert plain["diffusion"]["noise"] == "independent" and plain["objective"]["image_fraction"] == 0
