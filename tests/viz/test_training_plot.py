"""Plots of metrics: drawn from whatever rows there are, whole or not at all, without torch or a window system."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import pixels

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.training_plot import LEVELS, VALIDATION, plot_metrics, smooth


def test_gaps_and_numbers_that_are_not_finite_are_left_out(tmp_path):
    rows = [{"step": i, "loss": 1 / i, "lr": 1e-3, "free": None, "gradient_norm": 0.1} for i in range(1, 20)]
    rows += [{"step": 20, "loss": float("nan")}, {"step": 21, "event": "saved"}, {"step": 22, "validation_loss": 0.1}]
    whole = pixels(plot_metrics(rows, tmp_path / "all.png"))
    alone = pixels(plot_metrics([{"step": 1, "loss": 0.0}], tmp_path / "one.png"))
    assert whole.shape[1] == alone.shape[1] > 600 and whole.shape[0] > alone.shape[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.png", "one.png"]


@pytest.mark.parametrize("rows", [[], [{"step": 1}], [{"loss": 1.0}], [{"step": 1, "loss": float("inf")}]])
def test_nothing_to_plot_is_a_clear_error(tmp_path, rows):
    with pytest.raises(VidiffError, match="no values to plot"):
        plot_metrics(rows, tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == []


def test_smoothing_keeps_constants_and_stays_within_the_values():
    np.testing.assert_allclose(smooth(np.full(50, 3.0), 10), 3.0)
    values = np.random.default_rng(0).normal(size=200)
    smoothed = smooth(values, 20)
    assert smoothed[0] == values[0] and smoothed.std() < values.std() / 2
    assert values.min() <= smoothed.min() and smoothed.max() <= values.max()


def test_neither_viewing_nor_worlds_imports_torch_or_matplotlib():
    program = (
        "import sys, vidiff_cli.viz.contact_sheet, vidiff_cli.viz.training_plot, vidiff_cli.worlds.shapes,"
        " vidiff_cli.worlds.oracle; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def rows_of_a_run(*parts: str) -> list[dict]:
    """Sixty rows with what is named: a loss with bands, a validation every tenth, a decay branch at the end."""
    rows: list[dict] = []
    for step in range(10, 610, 10):
        row: dict = {"step": step, "phase": "stable" if step <= 400 or "decay" not in parts else "decay"}
        row |= {"loss": 1 / step, "lr": 1e-3, "gradient_norm": 2 / step}
        if "bands" in parts:
            row |= {f"loss_{key}": (4 - n) / step for n, key in enumerate(LEVELS)}
        rows.append(row)
        if "validation" in parts and step % 100 == 0:
            rows.append({"step": step, "validation_loss": 1.3 / step, "text_gain": step / 6000})
    return rows


def count(path: Path, color: str) -> int:
    """How many pixels of a picture are of a color, nearly."""
    wanted = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(pixels(path) - wanted).max(axis=-1) < 12).sum())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A plot without any part."""
    return plot_metrics(rows_of_a_run(), tmp_path_factory.mktemp("plain") / "plain.png")


def test_validation_is_drawn_where_there_is_one(tmp_path, plain):
    rows = rows_of_a_run("validation")
    with_it = plot_metrics(rows, tmp_path / "with.png")
    loss = plot_metrics([row | {"text_gain": None} for row in rows], tmp_path / "loss.png")
    assert count(plain, VALIDATION) == 0 < 50 < count(loss, VALIDATION) < count(with_it, VALIDATION)
    assert len(pixels(with_it)) > len(pixels(loss)) == len(pixels(plain))  # the gain of captions has its own panel


def test_every_band_has_its_color(tmp_path, plain):
    bands = plot_metrics(rows_of_a_run("bands"), tmp_path / "bands.png")
    for _, color in LEVELS.values():
        assert count(bands, color) > 400 > count(plain, color)


def test_the_decay_branch_is_marked(tmp_path, plain):
    """A vertical line at its beginning, and none where there is no such branch."""
    decay = plot_metrics(rows_of_a_run("decay"), tmp_path / "decay.png")
    dark = [(pixels(path).mean(axis=-1)[:, 120:-20] < 215).mean(axis=0) > 0.35 for path in (decay, plain)]
    assert dark[0].any() and not dark[1].any()
