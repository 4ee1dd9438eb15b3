"""Plots of metrics: drawn from whatever rows there are, whole or not at all, without torch or a window system."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.viewing.plot import plot_metrics, smooth


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.verify()
        return image.size


def test_gaps_and_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    rows: list[dict] = [
        {"step": i, "loss": 1 / i, "lr": 1e-3, "free": None, "observed": 0.3 / i, "gradient_norm": 0.1}
        for i in range(1, 20)
    ]
    rows += [{"step": 20, "loss": float("nan")}, {"step": 21, "event": "saved"}, {"step": 22, "validation_loss": 0.1}]
    whole = size(plot_metrics(rows, tmp_path / "all.png"))
    alone = size(plot_metrics([{"step": 1, "loss": 0.5}], tmp_path / "one.png"))
    assert whole[0] == alone[0] > 600 and whole[1] > alone[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.png", "one.png"]


def test_a_loss_of_zero_is_drawn_too(tmp_path: Path) -> None:
    assert size(plot_metrics([{"step": i, "loss": 0.0} for i in range(3)], tmp_path / "zero.png"))[0] > 600


@pytest.mark.parametrize("rows", [[], [{"step": 1}], [{"loss": 1.0}], [{"step": 1, "loss": float("inf")}]])
def test_nothing_to_plot_is_a_clear_error(tmp_path: Path, rows: list[dict]) -> None:
    with pytest.raises(VidiffError, match="nothing to plot"):
        plot_metrics(rows, tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == []


def test_smoothing_keeps_constants_and_stays_within_the_values() -> None:
    np.testing.assert_allclose(smooth(np.full(50, 3.0), 10), 3.0)
    values = np.random.default_rng(0).normal(size=200)
    smoothed = smooth(values, 20)
    assert smoothed[0] == values[0] and smoothed.std() < values.std() / 2
    assert values.min() <= smoothed.min() and smoothed.max() <= values.max()


def test_neither_viewing_nor_worlds_imports_torch_or_matplotlib() -> None:
    program = (
        "import sys, vidiff_cli.viewing.sheet, vidiff_cli.viewing.plot, vidiff_cli.worlds.shapes,"
        " vidiff_cli.worlds.oracle; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
