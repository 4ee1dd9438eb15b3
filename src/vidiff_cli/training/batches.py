"""Batches: what a training step sees, a function of (seed, step) alone.

Every draw of sample i of step n comes from a generator of (seed, n, i): neither the number of workers nor a resume
changes it. Shapes: b clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.config.train import ObjectiveSettings
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.training.observed import draw_observed

# What a stream is for stands in its seed: numpy pads with zeros, so that [seed, step] and [seed, step, 0] are one.
EPOCH, BATCH, SAMPLE = 1, 2, 3


class Row(Protocol):
    """What is needed to know of a clip."""

    @property
    def frames(self) -> int: ...
    @property
    def fps(self) -> str: ...
    @property
    def captions(self) -> Sequence[str]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Clips to train on: `rows`, and `read(index, frame_indices)` -> uint8 (t h w c). All rows have the same frame
    size."""

    rows: Sequence[Row]
    read: Callable[[int, Sequence[int]], np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """video (b c t h w) in [-1, 1], noise alike; u (b) in (0, 1); times (b, t) seconds; given (b, t); dropped (b): no
    caption."""

    video: Tensor
    noise: Tensor
    u: Tensor
    times: Tensor
    given: Tensor
    dropped: Tensor
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """The choices for one sample."""

    row: int
    frames: tuple[int, ...]
    times: tuple[float, ...]
    given: np.ndarray
    caption: str
    dropped: bool


def draw_batch(
    source: Source,
    objective: ObjectiveSettings,
    *,
    size: int,
    window: int,
    frame_steps: Sequence[int],
    seed: int,
    step: int,
    device: torch.device,
) -> Batch:
    """The batch of `step`: clips in a seeded order without repeats within an epoch, windows at random starts and frame
    steps.

    Clips and images are not mixed in a batch: the one drawn first decides, and those of another length are left out.
    """
    rng = np.random.default_rng([seed, BATCH, step])
    draws = [
        _draw(source, objective, row, window, frame_steps, np.random.default_rng([seed, SAMPLE, step, number]))
        for number, row in enumerate(_rows(source, size, seed, step))
    ]
    draws = [draw for draw in draws if len(draw.frames) == len(draws[0].frames)]
    frames = np.stack([source.read(draw.row, draw.frames) for draw in draws])
    video = torch.from_numpy(frames).to(device).permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)
    u = (rng.permutation(len(draws)) + rng.random()) / len(draws)  # stratified: one in each of b equal parts
    noise = torch.stack(
        [
            torch.randn(video.shape[1:], generator=seeded(seed, step, n, device=device), device=device)
            for n in range(len(draws))
        ]
    )
    return Batch(
        video=video.contiguous(),
        noise=noise,
        u=torch.from_numpy(u).float().to(device),
        times=torch.tensor([draw.times for draw in draws], dtype=torch.float32, device=device),
        given=torch.from_numpy(np.stack([draw.given for draw in draws])).to(device),
        dropped=torch.tensor([draw.dropped for draw in draws], device=device),
        captions=tuple(draw.caption for draw in draws),
    )


def _rows(source: Source, size: int, seed: int, step: int) -> list[int]:
    """Global sample indices step * size ... as rows, through one permutation per epoch."""
    count = len(source.rows)
    orders: dict[int, np.ndarray] = {}
    rows = []
    for sample in range(step * size, (step + 1) * size):
        epoch, place = divmod(sample, count)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([seed, EPOCH, epoch]).permutation(count)
        rows.append(int(orders[epoch][place]))
    return rows


def _draw(
    source: Source,
    objective: ObjectiveSettings,
    number: int,
    window: int,
    frame_steps: Sequence[int],
    rng: np.random.Generator,
) -> Draw:
    row = source.rows[number]
    length = min(window, row.frames)
    fitting = [step for step in frame_steps if (length - 1) * step < row.frames] or [1]
    step = fitting[rng.integers(len(fitting))]
    start = int(rng.integers(row.frames - (length - 1) * step))
    rate = Fraction(row.fps)
    given = draw_observed(rng, length) if rng.random() < objective.observed else np.zeros(length, dtype=bool)
    drop = objective.drop_text_observed if given.any() else objective.drop_text
    return Draw(
        row=number,
        frames=tuple(start + step * place for place in range(length)),
        times=tuple(float(step * place / rate) if rate else 0.0 for place in range(length)),
        given=given,
        caption=row.captions[int(rng.integers(len(row.captions)))] if row.captions else "",
        dropped=bool(not row.captions or rng.random() < drop),
    )
