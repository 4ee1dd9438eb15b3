"""Weight of a model's correction to the estimate by motion, fitted on given frames.

A model's frame m and the estimate h differ by m - h, the truth and the estimate by x - h. The weight that leaves the
least of the latter is <m - h, x - h> / <m - h, m - h>: 1 for a model that is right, 0 for one that makes noise. It is
fitted by least squares on given frames that are held back, for a few classes of the estimate's uncertainty, because a
model knows most where motion explains least. Shapes: b clips, c channels, t frames, h w pixels; all in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.motion.warping import field_size, resize

CLASSES = 3  # of uncertainty, equally large
USUAL_COUNTS = 0.1  # how much the usual weight counts, beside all that was measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """The weight of a model's correction: `values` for uncertainties (mean absolute error) below, between and above the
    `edges`."""

    edges: tuple[float, ...]
    values: tuple[float, ...]

    def weight(self, uncertainty: Tensor) -> Tensor:
        """The weight of every pixel, in the shape of the uncertainty."""
        edges = torch.tensor(self.edges, dtype=uncertainty.dtype, device=uncertainty.device)
        values = torch.tensor(self.values, dtype=uncertainty.dtype, device=uncertainty.device)
        return values[torch.bucketize(uncertainty, edges)]


def constant_gain(value: float) -> Gain:
    """The same weight everywhere."""
    return Gain(edges=(), values=(value,))


NO_GAIN, FULL_GAIN = constant_gain(0.0), constant_gain(1.0)


def fit_gain(model: Tensor, estimate: Tensor, truth: Tensor, uncertainty: Tensor, *, usual: float = 0.0) -> Gain:
    """The weights in [0, 1] that leave the least squares of `truth`, drawn a little towards the `usual` one.

    Shapes: model, estimate, truth (b c t h w), uncertainty (b 1 t h w).
    """
    correction, residual = model - estimate, truth - estimate
    along = (correction * residual).mean(1, keepdim=True).flatten().double()
    energy = correction.square().mean(1, keepdim=True).flatten().double()
    doubt = uncertainty.flatten()
    shares = torch.arange(1, CLASSES, device=doubt.device) / CLASSES
    # of a sample: quantiles of very many values are refused
    edges = torch.quantile(doubt[:: max(1, doubt.numel() // 100_000)].double(), shares.double())
    edges = torch.unique(edges)
    number = torch.bucketize(doubt.double(), edges)
    sums = [torch.zeros(len(edges) + 1, dtype=torch.float64, device=doubt.device) for _ in range(2)]
    along_of, energy_of = (total.index_add_(0, number, each) for total, each in zip(sums, (along, energy), strict=True))
    prior = USUAL_COUNTS * energy_of
    values = ((along_of + usual * prior) / (energy_of + prior).clamp(min=1e-12)).clamp(0, 1)
    return Gain(edges=tuple(edges.tolist()), values=tuple(values.tolist()))


def gain_by_step(gains: Sequence[tuple[float, Gain]], step: float) -> Gain:
    """That of the largest step that is not above this one; the first one's below all."""
    return [gain for first, gain in gains if first <= step or first == gains[0][0]][-1]


def add_correction(
    estimate: Tensor, uncertainty: Tensor, small: Tensor, gain: Gain, *, shown: Tensor | None = None
) -> Tensor:
    """The frame of the estimate's own size that has what a model's small frame knows better.

    estimate + enlarge(weight * (small - shown)), where `shown` is the small estimate that the model was shown and has
    corrected; reduce(estimate) for one that was shown none, so that with a weight of 1 the reduced frame is the small
    one. Where the weight is 0 the estimate stays as it is. Shapes: estimate (1 c h w), uncertainty (1 1 h w), small and
    shown (1 c h' w'), or one channel, which is added to all.
    """
    size = field_size(small)
    weight = gain.weight(resize(uncertainty, size))
    correction = weight * (small - (resize(estimate, size) if shown is None else shown))
    if size != field_size(estimate):
        correction = functional.interpolate(correction, field_size(estimate), mode="bicubic")
    return (estimate + correction).clamp(-1, 1)


GainOf = Callable[[int], Gain]
"""(rank) -> the weight of what the model makes there."""
