"""Averages of weights: the closed form, several decays at a time, and their files."""

from pathlib import Path

import pytest
import torch
from tiny_model import tiny_video_model
from torch import nn

from vidiff_cli.checkpoint import read_header
from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.video_model import open_video_model
from vidiff_cli.training.ema import Ema
from vidiff_cli.training.state import TrainState


def module(value: float) -> nn.Module:
    layer = nn.Linear(2, 3).double()
    layer.register_buffer("count", torch.tensor(0))
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.bias.fill_(-value)
    return layer


def move(layer: nn.Module, value: float, count: int) -> None:
    with torch.no_grad():
        layer.weight.fill_(value)  # type: ignore[operator]
        layer.bias.fill_(-value)  # type: ignore[operator]
        layer.count.fill_(count)  # type: ignore[operator]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_the_closed_form(decay: float) -> None:
    """sum over k of x_k (1 - d_k) prod over j > k of d_j, with d_n = min(decay, (1 + n) / (10 + n)) and d_0 = 0."""
    values = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = module(float(values[0]))
    ema = Ema(layer, decay)
    assert not any(value.requires_grad for value in ema.shadow.values())
    for count, value in enumerate(values[1:].tolist(), start=1):
        move(layer, value, count)
        ema.update(layer)
    n = torch.arange(1, 200, dtype=torch.float64)
    decays = torch.cat([torch.zeros(1, dtype=torch.float64), torch.clamp((1 + n) / (10 + n), max=decay)])
    after = torch.cat([decays.flip(0).cumprod(0).flip(0)[1:], torch.ones(1, dtype=torch.float64)])
    expected = float((values * (1 - decays) * after).sum())
    assert float(((1 - decays) * after).sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(ema.shadow["weight"], torch.full((3, 2), expected, dtype=torch.float64))
    torch.testing.assert_close(ema.shadow["bias"], torch.full((3,), -expected, dtype=torch.float64))
    assert int(ema.shadow["count"]) == 199, "what is no float is taken over"


def test_several_decays_are_as_many_averages() -> None:
    layer = module(1.0)
    together, alone = Ema(layer, 0.9, (0.5, 0.99)), [Ema(layer, decay) for decay in (0.9, 0.5, 0.99)]
    for step in range(150):
        move(layer, float(step % 7), step)
        for ema in (together, *alone):
            ema.update(layer)
    for one, other in zip((together.shadow, *together.more.values()), alone, strict=True):
        assert all(torch.equal(one[name], other.shadow[name]) for name in one)
    assert len({float(each["weight"][0, 0]) for each in (together.shadow, *together.more.values())}) == 3


def test_other_averages_are_files_beside_the_main_one(tmp_path: Path) -> None:
    settings = OptimizerSettings(ema=0.9, ema_more=(0.5, 0.9999))
    state = TrainState(tiny_video_model(noise=0.1), settings)
    with torch.no_grad():
        for number, average in enumerate(state.ema.more.values(), start=1):
            for value in average.values():
                value.fill_(number)
    state.save(tmp_path / "step-0", clips_seen=0)
    names = {path.name for path in (tmp_path / "step-0").glob("ema*")}
    assert names == {"ema.safetensors", "ema-0.5.safetensors", "ema-0.9999.safetensors"}
    video_model, header = open_video_model(tmp_path / "step-0" / "ema-0.9999.safetensors")
    assert header["decay"] == 0.9999 and {float(value.unique()) for value in video_model.state_dict().values()} == {2.0}
    assert "decay" not in read_header(tmp_path / "step-0" / "ema.safetensors"), "old files and new ones are alike"
    other = TrainState(tiny_video_model(seed=9), settings)
    other.load(tmp_path / "step-0")
    for decay, average in state.ema.more.items():
        assert all(torch.equal(average[name], other.ema.more[decay][name]) for name in average)
    with pytest.raises(VidiffError, match=r"ema-0\.7\.safetensors does not exist"):
        TrainState(tiny_video_model(), settings.model_copy(update={"ema_more": (0.7,)})).load(tmp_path / "step-0")


def test_no_decay_is_named_twice() -> None:
    for wrong in ((0.5, 0.5), (0.9,), (1.0,)):
        with pytest.raises(ValueError, match="ema_more"):
            OptimizerSettings(ema=0.9, ema_more=wrong)
