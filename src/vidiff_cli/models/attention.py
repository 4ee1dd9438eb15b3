"""Attention over space, time and text, on features laid out (b t) c h w in channels-last memory.

Shapes: b clips, t frames, h w cells of the feature map, n tokens, l text tokens. Every layer is residual: x +
attention(norm(x)).
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.models.conditioning import sinusoidal

LARGEST_BATCH = 65_535  # of the fused kernels (pytorch#146704)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v: (..., heads, n, d) with keys (..., heads, m, d); bias is added to the logits
    (..., heads, n, m).

    One place decides how: explicit matrix products on a CPU for short sequences, where they are faster than the fused
    kernel.
    """
    if q.device.type != "cpu" or q.shape[-2] * k.shape[-2] > 512 * 512:
        return attend_fused(q, k, v, bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if bias is not None:
        logits = logits + bias.to(logits.dtype)
    return logits.softmax(dim=-1).to(v.dtype) @ v


def attend_fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """`attend` by the fused kernels: they take four dimensions, and at most LARGEST_BATCH of the first."""
    batch = q.shape[:-3]
    if bias is not None:  # expanded, not copied, unless several clips have a bias of their own
        bias = bias.to(q.dtype).expand(*batch, *bias.shape[-3:]).flatten(0, -4)
    q, k, v = (each.flatten(0, -4) for each in (q, k, v))
    if len(q) <= LARGEST_BATCH:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).unflatten(0, batch)
    queries, keys, values = (each.split(LARGEST_BATCH) for each in (q, k, v))
    biases = [None] * len(queries) if bias is None else bias.split(LARGEST_BATCH)
    parts = zip(queries, keys, values, biases, strict=True)
    mixed = [functional.scaled_dot_product_attention(*part, attn_mask=own) for *part, own in parts]
    return torch.cat(mixed).unflatten(0, batch)


class SpaceAttention(nn.Module):
    """Every cell of a frame attends to the cells of the same frame."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.heads = max(1, width // head_dim)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = _zero(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(b t) c h w -> the same."""
        tokens = rearrange(x, "n c h w -> n (h w) c")
        q, k, v = rearrange(self.qkv(self.norm(tokens)), "n p (j heads d) -> j n heads p d", j=3, heads=self.heads)
        mixed = self.out(rearrange(attend(q, k, v), "n heads p d -> n p (heads d)"))
        return x + rearrange(mixed, "n (h w) c -> n c h w", h=x.shape[2])


class TextAttention(nn.Module):
    """Every cell of every frame attends to the text tokens of its clip."""

    def __init__(self, width: int, head_dim: int, context_dim: int) -> None:
        super().__init__()
        self.heads = max(1, width // head_dim)
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(context_dim, 2 * width, bias=False)
        self.out = _zero(nn.Linear(width, width))

    def forward(self, x: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        """(b t) c h w with tokens (b, l, d) and their logit bias (b, 1, 1, l) -> (b t) c h w."""
        b, h = tokens.shape[0], x.shape[2]
        cells = rearrange(x, "(b t) c h w -> b (t h w) c", b=b)
        q = rearrange(self.q(self.norm(cells)), "b n (heads d) -> b heads n d", heads=self.heads)
        k, v = rearrange(self.kv(tokens), "b l (j heads d) -> j b heads l d", j=2, heads=self.heads)
        mixed = self.out(rearrange(attend(q, k, v, bias), "b heads n d -> b n (heads d)"))
        return x + rearrange(mixed, "b (t h w) c -> (b t) c h w", h=h, w=x.shape[3])


class RelativeTime(nn.Module):
    """Logit bias of temporal attention from signed time distances: a small network on their logarithms, started local.

    Any rate, irregular windows and other lengths are one case, for it sees times and no indices. Source: the relative
    position networks of FDM (Harvey et al. 2022), on times instead of indices.
    """

    def __init__(self, heads: int, hidden: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, heads, bias=False))
        self.locality = nn.Parameter(torch.linspace(0.5, 2.0, heads))

    def forward(self, apart: Tensor) -> Tensor:
        """`time_distances` (b, t, t, 3) -> (b, heads, t, t)."""
        bias = self.net(apart) - self.locality * apart[..., :2].sum(dim=-1, keepdim=True)
        return rearrange(bias, "b i j heads -> b heads i j")


def time_distances(times: Tensor) -> Tensor:
    """Features of the time from frame i to frame j: its logarithm where j is later, where it is earlier, and whether
    they are at one time. times (b, t) in frames of the base rate -> (b, t, t, 3)."""
    apart = times[:, None, :] - times[:, :, None]
    after, before = torch.log1p(apart.clamp(min=0)), torch.log1p((-apart).clamp(min=0))
    return torch.stack([after, before, (apart == 0).to(times.dtype)], dim=-1)


class TimeAttention(nn.Module):
    """Every cell attends to the same cell of the other frames. An image's attention matrix is the identity (VDM section
    3)."""

    def __init__(self, width: int, head_dim: int, positions: str) -> None:
        super().__init__()
        self.heads = max(1, width // head_dim)
        self.norm = nn.LayerNorm(width)
        self.relative = RelativeTime(self.heads) if positions == "relative" else None
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = _zero(nn.Linear(width, width))

    def forward(self, x: Tensor, times: Tensor, apart: Tensor, bias: Tensor | None) -> Tensor:
        """(b t) c h w, times (b, t) in frames since the first, their `time_distances` (b, t, t, 3), additive mask (b,
        1, 1, t, t) or None -> (b t) c h w."""
        b, h = times.shape[0], x.shape[2]
        cells = self.norm(rearrange(x, "(b t) c h w -> b (h w) t c", b=b))
        if self.relative is None:
            cells = cells + sinusoidal(times, cells.shape[-1])[:, None].to(cells.dtype)
        else:
            near = self.relative(apart)[:, None]
            bias = near if bias is None else near + bias
        q, k, v = rearrange(self.qkv(cells), "b p t (j heads d) -> j b p heads t d", j=3, heads=self.heads)
        mixed = self.out(rearrange(attend(q, k, v, bias), "b p heads t d -> b p t (heads d)"))
        return x + rearrange(mixed, "b (h w) t c -> (b t) c h w", h=h)


def _zero(layer: nn.Linear) -> nn.Linear:
    """A residual branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
