"""Plots of metrics: drawn from whatever rows there are, whole or not at all, without torch or a window system."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.training_plot import LEVELS, VALIDATION, plot_metrics, smooth


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
    with pytest.raises(VidiffError, match="no values to plot"):
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


def pixels(path: Path, color: str) -> int:
    """How many pixels of a picture are of a color, nearly."""
    wanted = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
    with Image.open(path) as image:
        away = np.abs(np.asarray(image.convert("RGB")).astype(int) - wanted).max(axis=-1)
    return int((away < 12).sum())


def test_validation_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    without = plot_metrics(rows_of_a_run(), tmp_path / "without.png")
    rows = rows_of_a_run("validation")
    with_it = plot_metrics(rows, tmp_path / "with.png")
    loss = plot_metrics([row | {"text_gain": None} for row in rows], tmp_path / "loss.png")
    assert pixels(without, VALIDATION) == 0 < 50 < pixels(loss, VALIDATION) < pixels(with_it, VALIDATION)
    assert size(with_it)[1] > size(loss)[1] == size(without)[1]  # the gain of captions has a panel of its own


def test_every_band_has_its_color(tmp_path: Path) -> None:
    bands = plot_metrics(rows_of_a_run("bands"), tmp_path / "bands.png")
    without = plot_metrics(rows_of_a_run(), tmp_path / "without.png")
    for _, color in LEVELS.values():
        assert pixels(bands, color) > 400 > pixels(without, color)


def test_the_decay_branch_is_marked(tmp_path: Path) -> None:
    """A vertical line at its beginning, and none where there is no such branch."""

    def columns(path: Path) -> int:
        with Image.open(path) as image:
            gray = np.asarray(image.convert("L")).astype(int)
        inner = gray[:, 120:-20] < 215
        return int((inner.mean(axis=0) > 0.35).sum())

    assert columns(plot_metrics(rows_of_a_run("decay"), tmp_path / "decay.png")) >= 1
    assert columns(plot_metrics(rows_of_a_run(), tmp_path / "stable.png")) == 0
