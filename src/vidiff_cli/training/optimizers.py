"""AdamW for all weights, or Muon for hidden matrices and kernels with AdamW for the rest; and the guard that none is
forgotten."""

# torch._foreach_...: one launch on a GPU for a list of tensors
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.models.sharding import local, shard_like, whole_like

MOST = 2**17, 2**26  # numbers of the weights that are updated together: on a CPU as many as its cache holds, on CUDA


class Muon(Optimizer):
    """Momentum whose update is made orthogonal by five Newton-Schulz iterations, for weights of two or more dimensions.

    Kernels (o, i, ...) are taken as matrices (o, i * ...). The update is scaled by 0.2 sqrt(max(o, i * ...)), which
    gives it AdamW's size, so that one learning rate suits all shapes. Source: Jordan et al. 2024 (Muon); Liu et al.
    2025 (scaling and weight decay).

    Weights of one shape are updated together: a GPU is launched for each shape, not for each weight. A weight in shards
    (FSDP2) is gathered for its update, which every rank computes and keeps its part of: the momentum stays in shards,
    but the matrices are as much work for every rank as for one.
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            alike = defaultdict[tuple[object, ...], list[Tensor]](list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[*_matrix_shape(parameter), parameter.dtype, parameter.device].append(parameter)
            for parameters in alike.values():
                together = max(1, MOST[parameters[0].device.type == "cuda"] // parameters[0].numel())
                for start in range(0, len(parameters), together):
                    self._update(parameters[start : start + together], group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One update of parameters whose matrices have one shape."""
        values = [local(parameter) for parameter in parameters]
        gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        averages = [local(self._momentum(parameter)) for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, averages, group["momentum"])
        orders = [_memory_order(value) for value in values]
        matrices = [
            whole_like(part, parameter).permute(order).flatten(1)
            for part, parameter, order in zip(nesterov, parameters, orders, strict=True)
        ]
        update = orthogonal(torch.stack(matrices) if len(matrices) > 1 else matrices[0][None]).to(values[0].dtype)
        updates = [
            local(shard_like(_kernel(matrix, parameter.shape, order), parameter))
            for matrix, parameter, order in zip(update, parameters, orders, strict=True)
        ]
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(values, updates, alpha=-group["lr"] * 0.2 * max(update.shape[1:]) ** 0.5)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def _matrix_shape(value: Tensor) -> tuple[int, int]:
    return len(value), value.numel() // max(1, len(value))


def _memory_order(value: Tensor) -> list[int]:
    """The dimensions as they lie in memory, the first one first: a permutation of columns leaves an orthogonal matrix
    orthogonal, and kernels in channels-last memory are not copied."""
    return [0, *sorted(range(1, value.ndim), key=lambda dim: -value.stride(dim))]


def _kernel(matrix: Tensor, shape: Sequence[int], order: Sequence[int]) -> Tensor:
    """A matrix (o, ...), its columns in memory order, as a tensor of a shape."""
    back = sorted(range(len(order)), key=order.__getitem__)
    return matrix.view([shape[dim] for dim in order]).permute(back)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Matrices with their singular values brought near 1: (k, m, n) -> (k, m, n), by a quintic Newton-Schulz iteration.

    In float32 on a CPU, in bfloat16 on a GPU.
    """
    half = matrices.device.type == "cuda"
    norms = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    x = matrices / (norms + 1e-7)
    return by_steps(x.bfloat16(), iterations) if half else by_gram(x, iterations)


COEFFICIENTS = 3.4445, -4.7750, 2.0315  # a x + b x^3 + c x^5 of singular values: Jordan et al. 2024


def by_gram(x: Tensor, iterations: int) -> Tensor:
    """The iteration on the Gram matrix: for float32.

    Every factor a + b G + c G^2 is a polynomial of the first G = X X^T, so all of them are gathered on the smaller side
    and meet the long one twice instead of ten times: three times faster for kernels. In bfloat16 it diverges, for there
    a small eigenvalue of G may come out negative.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[1] > x.shape[2]
    gram, gathered = x.mT @ x if tall else x @ x.mT, None
    for number in range(iterations):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        gathered = factor if gathered is None else factor @ gathered
        if number + 1 < iterations:
            gram = factor @ gram @ factor
    if gathered is None:
        return x
    return x @ gathered.mT if tall else gathered @ x


def by_steps(x: Tensor, iterations: int) -> Tensor:
    """The iteration on X itself, three products each: for bfloat16, and where launches cost more than products."""
    a, b, c = COEFFICIENTS
    tall = x.shape[1] > x.shape[2]
    for _ in range(iterations):
        gram = x.mT @ x if tall else x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, factor, beta=a) if tall else torch.baddbmm(x, factor, x, beta=a)
    return x


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
