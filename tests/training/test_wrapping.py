"""Gradient checkpointing: the same gradient, less that is kept, the same names."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.training.state import Learner
from vidiff_cli.training.wrapping import recompute_stages

Maker = Callable[..., Learner]


def passed(learner: Learner, dtype: torch.dtype) -> tuple[dict[str, Tensor], int]:
    """The gradients of a loss, and the bytes that were kept for the backward pass."""
    torch.manual_seed(3)
    network, kept = learner.denoiser.network, dict[int, int]()
    z, level = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 4)
    told = Conditioning(times=torch.arange(4.0).expand(2, -1) / 8, given=level > 1)

    def keep(value: Tensor) -> Tensor:
        kept[value.data_ptr()] = value.nbytes
        return value

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
    ):
        loss = network(z, level, told).float().square().mean()
    loss.backward()
    return {name: value.grad for name, value in learner.named_parameters() if value.grad is not None}, sum(
        kept.values()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointing_gives_the_same_gradient_and_keeps_less(
    make_learner: Maker, dtype: torch.dtype, dropout: float
) -> None:
    plain, wrapped = (make_learner(noise=0.1) for _ in range(2))
    for learner in (plain, wrapped):
        for part in learner.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = dropout
    recompute_stages(wrapped.denoiser.network)
    assert plain.state_dict().keys() == wrapped.state_dict().keys()
    (wanted, much), (found, little) = passed(plain, dtype), passed(wrapped, dtype)
    assert wanted.keys() == found.keys() and len(wanted) > 50
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []
    assert little < much / 2
