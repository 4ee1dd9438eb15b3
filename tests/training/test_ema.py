"""Power-function averages of weights: the closed form of their profile, and averages of other lengths afterwards."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import tiny_video_model
from torch import nn
from training_steps import settings_of, train

from vidiff_cli.checkpoint import AVERAGE, read_header, read_tensors
from vidiff_cli.models.video_model import open_video_model
from vidiff_cli.training.ema import LENGTHS, USUAL, Ema, combine, exponent, profile, residual
from vidiff_cli.training.state import ChosenAverage, TrainState, average_file

COUNT = 200


def module(value: float) -> nn.Module:
    layer = nn.Linear(2, 3).double()
    layer.register_buffer("count", torch.tensor(0))
    move(layer, value, 0)
    return layer


def move(layer: nn.Module, value: float, count: int) -> None:
    with torch.no_grad():
        layer.weight.fill_(value)  # type: ignore[operator]
        layer.bias.fill_(-value)  # type: ignore[operator]
        layer.count.fill_(count)  # type: ignore[operator]


def walk(count: int = COUNT) -> torch.Tensor:
    """The path of a weight: drift and noise."""
    noise = torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.linspace(0, 3, count, dtype=torch.float64).sqrt() + 0.3 * noise


@pytest.mark.parametrize("length", [*LENGTHS, 0.02, 0.15, 0.25])
def test_the_length_is_the_relative_deviation_of_the_profile(length: float) -> None:
    """Of the continuous profile (g + 1) t^g on [0, 1]; sums over single updates come near it."""
    g = exponent(length)
    mean, square = (g + 1) / (g + 2), (g + 1) / (g + 3)
    assert (square - mean**2) ** 0.5 == pytest.approx(length, rel=1e-9)
    weights = profile(length, 5000, np.arange(5001.0))
    when = (np.arange(5000) + 0.5) / 5000
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert np.sqrt(weights @ when**2 - (weights @ when) ** 2) == pytest.approx(length, rel=1e-3)


def test_the_running_update_has_the_closed_form_of_the_profile() -> None:
    """After n updates the weights of update k count (k / n)^(g + 1) - ((k - 1) / n)^(g + 1); the first ones nothing."""
    layer, values = module(99.0), walk()
    ema = Ema(layer)
    assert not any(value.requires_grad for average in ema.averages.values() for value in average.values())
    for count, value in enumerate(values.tolist(), start=1):
        move(layer, value, count)
        ema.update(layer)
        if count in (1, 7, COUNT):
            for length, average in ema.averages.items():
                weights = torch.from_numpy(profile(length, count, np.arange(count + 1.0)))
                expected = float(weights @ values[:count])
                torch.testing.assert_close(average["weight"], torch.full((3, 2), expected, dtype=torch.float64))
                torch.testing.assert_close(average["bias"], torch.full((3,), -expected, dtype=torch.float64))
    assert all(int(average["count"]) == COUNT for average in ema.averages.values()), "what is no float is taken over"
    assert ema.shadow is ema.averages[USUAL]


def kept(updates: int, snapshots: int) -> list[tuple[float, int]]:
    return [(length, updates * (n + 1) // snapshots) for n in range(snapshots) for length in LENGTHS]


def test_an_average_in_the_span_is_put_together_exactly() -> None:
    for snapshots in (1, 2, 8):
        averages = kept(COUNT, snapshots)
        for length in LENGTHS:
            factors = combine(averages, length)
            expected = [float(each == (length, COUNT)) for each in averages]
            np.testing.assert_allclose(factors, expected, atol=1e-7)
            assert residual(averages, length) < 1e-7


@pytest.mark.parametrize(("snapshots", "bound"), [(4, 0.22), (8, 0.08), (16, 0.03)])
def test_other_lengths_are_near_those_run_directly(snapshots: int, bound: float) -> None:
    """Profiles of lengths from .04 to .2 are off by 22, 8 or 3 % at most, and so are averages of weights that walk, of
    their distance from the last weight; the factors add up to 1, so that what stands still stays."""
    for updates in (COUNT, 20_000):
        averages = kept(updates, snapshots)
        for length in (0.04, 0.075, 0.15, 0.2):
            assert combine(averages, length).sum() == pytest.approx(1, abs=1e-9)
            assert residual(averages, length) < bound
    values = walk().numpy()
    known = np.array([profile(length, at, np.arange(COUNT + 1.0)) @ values for length, at in kept(COUNT, snapshots)])
    for length in (0.04, 0.075, 0.15, 0.2):
        wanted = profile(length, COUNT, np.arange(COUNT + 1.0)) @ values
        assert combine(kept(COUNT, snapshots), length) @ known == pytest.approx(
            wanted, abs=bound * abs(wanted - values[-1]) + 0.01
        )


def test_files_of_the_averages(tmp_path: Path) -> None:
    """Those that are updated by their lengths, and the one for sampling: the usual one, or the chosen one."""
    settings = settings_of(3)
    state = TrainState(tiny_video_model(noise=0.1), settings.optimizer)
    train(state, settings)
    folder = tmp_path / "step-3"
    state.save(folder, clips_seen=0)
    assert {path.name for path in folder.glob("ema*")} == {AVERAGE, *map(average_file, LENGTHS)}
    for length, average in state.ema.averages.items():
        video_model, header = open_video_model(folder / average_file(length))
        assert header["length"] == length
        assert all(torch.equal(average[name], value) for name, value in video_model.state_dict().items())
    assert (folder / AVERAGE).read_bytes() == (folder / average_file(USUAL)).read_bytes()
    state.chosen = ChosenAverage(length=0.15, weights=dict(state.video_model.state_dict()), losses={0.15: 0.5})
    state.save(folder, clips_seen=0)
    header = read_header(folder / AVERAGE)
    assert header["length"] == 0.15 and header["losses"] == {"0.15": 0.5}
    again = TrainState(tiny_video_model(seed=9), settings.optimizer)
    again.load(folder)
    assert again.chosen is not None and again.chosen.length == 0.15
    weights = state.video_model.state_dict()
    assert all(torch.equal(again.chosen.weights[name], weights[name]) for name in weights)
    for length in LENGTHS:
        average = state.ema.averages[length]
        assert all(torch.equal(again.ema.averages[length][name], average[name]) for name in average)


def test_a_checkpoint_of_before_goes_on_with_the_average_that_it_has(tmp_path: Path) -> None:
    settings = settings_of(4)
    state = TrainState(tiny_video_model(noise=0.1), settings.optimizer)
    train(state, settings, until=2)
    state.save(folder := tmp_path / "step-2", clips_seen=0)
    for length in LENGTHS:
        (folder / average_file(length)).unlink()
    again = TrainState(tiny_video_model(seed=9), settings.optimizer)
    again.load(folder)
    average = read_tensors(folder / AVERAGE)
    for length in LENGTHS:
        assert all(torch.equal(again.ema.averages[length][name], average[name]) for name in average)
    train(again, settings)
    assert again.step == 4 and again.ema.updates == 4
