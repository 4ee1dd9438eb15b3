"""Conditioning of the network besides z (times, observed frames, text, motion estimate) and its embeddings.

Shapes: b clips, t frames, l text tokens, d width of an embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditioning:
    """Per clip and frame: `times` (b, t) in seconds, `observed` (b, t) bool; `is_image` (b, t) bool marks images, which
    see no other frame (None: none are). Text: `tokens` (b, l, d), `token_mask` (b, l) bool, `pooled` (b, d); None is
    the learned null text for all clips, `dropped` (b) bool for some.

    Motion, for a network with that input: `estimate` (b, c, t, h, w) of every frame and its `uncertainty` (b, 1, t, h,
    w) in pixels of [-1, 1], made of the frames `estimated_from` (b, t) bool. A clip without any of these has no
    estimate, and its values are ignored; None: no clip has one.

    For a network that predicts around an estimate, `around` (b 2c+1 t h w) is that estimate, what else is known of each
    pixel over its uncertainty, and the uncertainty: of super-resolution as `resize.with_uncertainty` has it, made with
    noise at the place `augmentation` (b) of the unshifted cosine schedule, 0 for none; of frames between given ones as
    `motion.estimate_around` has it.

    `seeds` (b) int64 are those of dropout, for a pass in training.
    """

    times: Tensor
    observed: Tensor
    is_image: Tensor | None = None
    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    pooled: Tensor | None = None
    dropped: Tensor | None = None
    estimate: Tensor | None = None
    uncertainty: Tensor | None = None
    estimated_from: Tensor | None = None
    around: Tensor | None = None
    augmentation: Tensor | None = None
    seeds: Tensor | None = None

    @property
    def estimated(self) -> Tensor:
        """Frames with an estimate (b, t): those of clips with frames to estimate from, without their images."""
        if self.estimated_from is None:
            return torch.zeros_like(self.observed)
        estimated = self.estimated_from.any(dim=1, keepdim=True).expand_as(self.observed)
        return estimated if self.is_image is None else estimated & ~self.is_image

    def doubled(self) -> Conditioning:
        """The same for 2b clips: these, and these again."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: torch.cat([each, each]) for name, each in known.items() if each is not None})

    def without_text(self) -> Conditioning:
        """The same with the learned null text: the unconditional branch of classifier-free guidance."""
        return replace(self, tokens=None, token_mask=None, pooled=None, dropped=None)


def sinusoidal(position: Tensor, width: int, *, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines of a position: (...) -> (..., width). Source: Vaswani et al. 2017, section 3.5."""
    half = width // 2
    rates = torch.exp(-math.log(longest) * torch.arange(half, device=position.device, dtype=torch.float32) / half)
    angle = position.float()[..., None] * rates
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class FrameEmbedding(nn.Module):
    """Level, observed flag, the time to the neighboring frames, the pooled text and, for `augmented` networks, the
    noise on the low-resolution clip -> one vector per frame (b, t, d)."""

    def __init__(self, width: int, context_dim: int, *, augmented: bool = False) -> None:
        super().__init__()
        self.width = width
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.gaps = nn.Sequential(nn.Linear(4, width // 2), nn.SiLU(), nn.Linear(width // 2, width))
        # Starts at zero: a unit-variance flag would swamp the level.
        self.given = nn.Parameter(torch.zeros(width))
        self.text = nn.Linear(context_dim, width) if context_dim else None
        self.augmentation = (
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) if augmented else None
        )

    def forward(
        self, level: Tensor, gaps: Tensor, observed: Tensor, pooled: Tensor | None, augmentation: Tensor | None = None
    ) -> Tensor:
        """level (b, t), gaps (b, t, 4), observed (b, t) bool, pooled (b, d_text) or None, augmentation (b) or None ->
        (b, t, d)."""
        # A cosine schedule's u in [0, 1], which is how a level is spread evenly.
        u = (2 / math.pi) * torch.atan(torch.exp(-0.5 * level.float()))
        total = self.level(sinusoidal(1000.0 * u, self.width)) + self.gaps(gaps)
        total = total + observed[..., None].to(total.dtype) * self.given
        if self.augmentation is not None and augmentation is not None:
            total = total + self.augmentation(sinusoidal(1000.0 * augmentation.float(), self.width))[:, None]
        return total if self.text is None or pooled is None else total + self.text(pooled)[:, None]


def gap_features(times: Tensor, is_image: Tensor) -> Tensor:
    """Log time to the frame before and after, in units of frames, and whether there is one: (b, t) -> (b, t, 4).

    Tells the temporal convolutions, which see neighbors only, how far away those are. `times` in frames of the base
    rate.
    """
    apart = (times[:, 1:] - times[:, :-1]).clamp(min=1e-3).log().clamp(-6.0, 6.0)
    joined = ~(is_image[:, 1:] | is_image[:, :-1])
    apart, joined = torch.where(joined, apart, torch.zeros_like(apart)), joined.to(times.dtype)
    none = torch.zeros_like(times[:, :1])
    before, after = torch.cat([none, apart], 1), torch.cat([apart, none], 1)
    has_before, has_after = torch.cat([none, joined], 1), torch.cat([joined, none], 1)
    return torch.stack([before, after, has_before, has_after], dim=-1)
