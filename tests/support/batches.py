"""Batches of a source as training draws them, for tests of what is drawn."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from vidiff_cli.config.train import ObjectiveSettings
from vidiff_cli.training.loader import Batch, BatchSpec, ClipSource, draw_batch

CPU = torch.device("cpu")


def spec_of(**more: Any) -> BatchSpec:
    chosen = {"objective": ObjectiveSettings(), "size": 8, "window": 4, "frame_strides": (1,), "seed": 0}
    return BatchSpec(**(chosen | more))


def draw(source: ClipSource, *, step: int = 0, reader: Callable[..., Any] | None = None, **more: Any) -> Batch:
    return draw_batch(source, spec_of(**more), step=step, device=CPU, reader=reader)


def pixels(batch: Batch) -> Tensor:
    """Of all frames, uint8 (b t h w c)."""
    return ((batch.video + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def same_batch(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)
