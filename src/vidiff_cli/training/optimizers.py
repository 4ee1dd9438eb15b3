"""AdamW for all weights, or Muon for hidden matrices and kernels with AdamW for the rest; and the guard that none is
forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.models.sharding import is_shard, shard_like


class Muon(Optimizer):
    """Momentum whose update is made orthogonal by five Newton-Schulz iterations, for weights of two or more dimensions.

    Kernels (o, i, ...) are taken as matrices (o, i * ...). The update is scaled by 0.2 sqrt(max(o, i * ...)), which
    gives it AdamW's size, so that one learning rate suits all shapes. Source: Jordan et al. 2024 (Muon); Liu et al.
    2025 (scaling and weight decay).

    A weight in shards (FSDP2) is gathered for its update, which every rank computes and keeps its part of: the momentum
    stays in shards, but the matrices are as much work for every rank as for one.
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(average, group["momentum"])
                matrix = (nesterov.full_tensor() if is_shard(nesterov) else nesterov).reshape(len(parameter), -1)
                update = shard_like(orthogonal(matrix).reshape(parameter.shape), parameter)
                scale = 0.2 * max(matrix.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The matrix with its singular values brought near 1: (m, n) -> (m, n), by a quintic Newton-Schulz iteration.

    Every factor a + b G + c G^2 is a polynomial of the first G = X X^T, so all of them are gathered on the smaller side
    and meet the long one twice instead of ten times: three times faster for kernels.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram, gathered = x @ x.T, None
    for number in range(iterations):
        factor = torch.addmm(b * gram, gram, gram, alpha=c)
        factor.diagonal().add_(a)
        gathered = factor if gathered is None else factor @ gathered
        if number + 1 < iterations:
            gram = factor @ gram @ factor
    x = x if gathered is None else gathered @ x
    return x.T if tall else x


def build_optimizers(module: nn.Module, settings: OptimizerSettings) -> dict[str, Optimizer]:
    """Optimizers by name. Vectors, embeddings, the stems, the head and the gate go to AdamW; so does everything where
    `muon_lr` is 0."""
    named = dict(module.named_parameters())
    hidden = {name for name, value in named.items() if settings.muon_lr > 0 and _is_hidden(name, value)}
    decayed = [value for name, value in named.items() if name not in hidden and value.ndim >= 2 and not _is_table(name)]
    plain = [value for name, value in named.items() if name not in hidden and (value.ndim < 2 or _is_table(name))]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers: dict[str, Optimizer] = {
        "adamw": torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=settings.lr, betas=settings.betas, fused=True
        )
    }
    if hidden:
        chosen = [named[name] for name in sorted(hidden)]
        optimizers["muon"] = Muon(chosen, lr=settings.muon_lr, weight_decay=settings.weight_decay)
    check_cover(named, optimizers)
    return optimizers


def check_cover(named: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer]) -> None:
    """AssertionError unless every parameter is in exactly one group: one left out, or in two, trains wrongly without a
    sign."""
    optimized = [
        id(p) for optimizer in optimizers.values() for group in optimizer.param_groups for p in group["params"]
    ]
    wrong = [name for name, value in named.items() if value.requires_grad and optimized.count(id(value)) != 1]
    assert not wrong, f"parameters not in exactly one optimizer: {', '.join(wrong)}"


def _is_hidden(name: str, value: Tensor) -> bool:
    return (
        value.ndim >= 2
        and not _is_table(name)
        and not name.startswith(tuple(f"denoiser.network.{part}" for part in ("stem", "head", "gate")))
    )


def _is_table(name: str) -> bool:
    return name.endswith(("embedding.weight", "positions"))
