"""Every parameter is in exactly one optimizer, and Muon's update is orthogonal and of AdamW's size."""

import pytest
import torch
from tiny_model import tiny_video_model
from torch import nn

from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.training import optimizers as module
from vidiff_cli.training.optimizers import Muon, build_optimizers, by_gram, by_steps, check_cover, orthogonal


def names_in(video_model: VideoNetwork, optimizer: torch.optim.Optimizer) -> list[str]:
    names = {id(value): name for name, value in video_model.named_parameters()}
    return [names[id(value)] for group in optimizer.param_groups for value in group["params"]]


def test_muon_holds_hidden_matrices_and_adamw_the_rest() -> None:
    video_model = tiny_video_model()
    optimizers = build_optimizers(video_model, OptimizerSettings(muon_lr=2e-3))
    parameters = dict(video_model.named_parameters())
    muon = names_in(video_model, optimizers["muon"])
    assert all(parameters[name].ndim >= 2 for name in muon)
    assert not any(word in name for name in muon for word in ("stem", "head", "text.embedding", "positions", "null"))
    assert any(name.startswith("text.layers") for name in muon) and any("qkv" in name for name in muon)


@pytest.mark.parametrize("muon_lr", [0.0, 2e-3])
def test_weights_decay_and_vectors_and_tables_do_not(muon_lr: float) -> None:
    """Steps on gradients of zero: what moves is decay."""
    video_model = tiny_video_model(noise=0.1)
    settings = OptimizerSettings(lr=0.1, muon_lr=muon_lr, weight_decay=0.5)
    optimizers = build_optimizers(video_model, settings)
    before = {name: value.detach().clone() for name, value in video_model.named_parameters()}
    for value in video_model.parameters():
        value.grad = torch.zeros_like(value)
    for optimizer in optimizers.values():
        optimizer.step()
    muon = names_in(video_model, optimizers["muon"]) if muon_lr else []
    for name, value in video_model.named_parameters():
        kept = value.ndim < 2 or name in ("text.embedding.weight", "text.positions")
        factor = 1.0 if kept else 1 - 0.5 * (muon_lr if name in muon else 0.1)
        torch.testing.assert_close(value.detach(), factor * before[name], msg=name)


def test_a_forgotten_or_doubled_parameter_is_a_bug() -> None:
    layer = nn.Linear(2, 3)
    named = dict(layer.named_parameters())
    check_cover(named, {"adamw": torch.optim.AdamW(layer.parameters())})
    with pytest.raises(AssertionError, match="exactly one optimizer: bias"):
        check_cover(named, {"adamw": torch.optim.AdamW([layer.weight])})
    twice = {"adamw": torch.optim.AdamW(layer.parameters()), "muon": Muon([layer.weight], lr=0.1)}
    with pytest.raises(AssertionError, match="exactly one optimizer: weight"):
        check_cover(named, twice)
    layer.bias.requires_grad_(False)
    check_cover(dict(layer.named_parameters()), {"adamw": torch.optim.AdamW([layer.weight])})


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (1, 9)])
def test_orthogonal_brings_singular_values_near_one_and_keeps_singular_vectors(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonal(1e-3 * matrix[None])[0]
    assert made.shape == matrix.shape
    u, before, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ made @ v.T
    torch.testing.assert_close(inside, inside.diag().diag(), atol=1e-3, rtol=0)
    # five quintic iterations lift a singular value from 0.01 of the norm on to 0.7, and hold it below 1.25
    values = inside.diag()[before / matrix.norm() > 0.01]
    assert float(values.min()) > 0.6 and float(values.max()) < 1.25


@pytest.mark.parametrize("shape", [(5, 16, 16), (3, 8, 72), (3, 72, 8), (1, 1, 9)])
def test_steps_on_the_matrix_are_those_on_its_gram_matrix_and_hold_in_bfloat16(shape: tuple[int, int, int]) -> None:
    x = torch.nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(0)).flatten(1))
    x = x.view(shape)
    torch.testing.assert_close(by_steps(x, 5), by_gram(x, 5), atol=1e-4, rtol=1e-4)
    half = by_steps(x.bfloat16(), 5).float()
    assert float(torch.linalg.svdvals(half).max()) < 1.4
    away = (half - by_gram(x, 5)).flatten(1).norm(dim=1) / by_gram(x, 5).flatten(1).norm(dim=1)
    assert float(away.max()) < 0.1, "its digits are enough for a direction"


def test_weights_that_are_updated_together_are_updated_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several shapes, layouts and kinds of gradients; some without a gradient, some with the momentum of a
    checkpoint, in another layout."""
    together, single = (_weights() for _ in range(2))
    optimizers = [Muon(weights, lr=0.1, weight_decay=0.5) for weights in (together, single)]
    optimizers[1].state[single[0]]["momentum"] = torch.zeros(single[0].shape)
    for number in range(3):
        for optimizer, weights, most in zip(optimizers, (together, single), (2**20, 1), strict=True):
            monkeypatch.setattr(module, "MOST", (most, most))
            for place, weight in enumerate(weights):
                generator = torch.Generator().manual_seed(100 * number + place)
                gradient = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
                weight.grad = None if place == number else gradient
            optimizer.step()
    for one, other in zip(together, single, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(optimizers[0].state[one]["momentum"], optimizers[1].state[other]["momentum"])
    assert optimizers[0].state[together[0]]["momentum"].shape == together[0].shape


def _weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 4, 3, 3), (8, 4, 3, 3), (8, 36), (8, 4, 9), (12, 4), (12, 4), (4, 12), (6, 6), (8, 36, 1, 1)]
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    values[0] = values[0].contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(value) for value in values]


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (8, 4, 3, 3)])
def test_a_muon_step_is_as_large_as_one_of_adamw(shape: tuple[int, ...]) -> None:
    """0.2 to 0.4 of the learning rate per weight (root mean square), downhill, whatever the size of the gradient."""
    weight = nn.Parameter(torch.zeros(shape))
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert not weight.any(), "without a gradient there is no step"
    for scale in (1e-4, 1.0, 1e4):
        with torch.no_grad():
            weight.zero_()
        weight.grad = scale * gradient
        Muon([weight], lr=0.1).step()
        assert 0.1 < float(weight.detach().square().mean().sqrt()) / 0.1 < 0.4
        assert float((weight.detach() * gradient).sum()) < 0
