"""Networks without memory: on torch's meta device, where tensors have shapes and no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

INITS = ("normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
FILLS = {torch.Tensor.normal_, torch.Tensor.uniform_, *(getattr(torch.nn.init, name) for name in INITS)}  # in place


def _linspace(start: float, end: float, steps: int, **more: Any) -> torch.Tensor:
    return torch.empty(steps, **more)


SHAPES = {torch.randn: torch.empty, torch.rand: torch.empty, torch.linspace: _linspace}


class _WithoutNumbers(TorchFunctionMode):
    """First values are not computed: for some of them torch imports its compiler on the meta device, for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return SHAPES.get(func, func)(*args, **(kwargs or {}))


@contextmanager
def meta_device() -> Iterator[None]:
    """Build modules and tensors on the meta device."""
    with torch.device("meta"), _WithoutNumbers():
        yield
