"""The factorized space-time U-Net of Video Diffusion Models (Ho et al. 2022, section 3).

Space-only convolutions; per resolution, attention over space, text and time; optional convolutions over time (Imagen
Video). Frames are folded into the batch once, for everything spatial; pixels are folded into the batch for everything
temporal. Shapes: video b c t h w; features (b t) c h w, channels-last.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.config.model import NetworkSettings
from vidiff_cli.models.attention import SpaceAttention, TextAttention, TimeAttention, time_distances
from vidiff_cli.models.blocks import (
    ClipDropout,
    Down,
    FrameNorm,
    PixelNorm,
    ResidualBlock,
    SpaceConv,
    Up,
    ZeroConv,
    depth_to_space,
    space_to_depth,
)
from vidiff_cli.models.conditioning import Conditioning, FrameEmbedding, gap_features


class ForwardContext:
    """Inputs that all stages of one forward pass share, computed once."""

    __slots__ = ("apart", "embedding", "seeds", "temporal_mask", "text_bias", "time_bias", "times", "tokens")

    def __init__(
        self,
        embedding: Tensor,  # (b t, d), after SiLU
        times: Tensor,  # (b, t) in frames of the base rate
        apart: Tensor,  # (b, t, t, 3): `time_distances`
        temporal_mask: Tensor,  # (b, t) bool: may see its neighbors
        time_bias: Tensor | None,  # (b, 1, 1, t, t)
        tokens: Tensor | None,  # (b, l, d)
        text_bias: Tensor | None,  # (b, 1, 1, l)
        seeds: Tensor | None,  # (b), of dropout
    ) -> None:
        self.embedding, self.times, self.temporal_mask = embedding, times, temporal_mask
        self.apart, self.seeds = apart, seeds
        self.time_bias, self.tokens, self.text_bias = time_bias, tokens, text_bias


class Stage(nn.Module):
    """A residual block, then attention over space, text and time where the feature map is small enough."""

    def __init__(self, settings: NetworkSettings, inputs: int, outputs: int, *, attention: bool) -> None:
        super().__init__()
        head, over_time = settings.head_dim, settings.temporal
        self.block = ResidualBlock(
            inputs,
            outputs,
            settings.embedding,
            over_time=over_time != "attention",
            dropout=settings.dropout,
            by_pixel=settings.any_size,
        )
        self.space = SpaceAttention(outputs, head) if attention else None
        self.text = TextAttention(outputs, head, settings.context_dim) if attention and settings.context_dim else None
        attend_over_time = over_time != "convolution" and attention
        self.time = TimeAttention(outputs, head, settings.positions) if attend_over_time else None

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        x = self.block(x, context.embedding, context.temporal_mask, context.seeds)
        if self.space is not None:
            x = self.space(x)
        if self.text is not None and context.tokens is not None and context.text_bias is not None:
            x = self.text(x, context.tokens, context.text_bias)
        return x if self.time is None else self.time(x, context.times, context.apart, context.time_bias)


class _EstimateStem(nn.Module):
    """The estimate, its uncertainty and where there is one, as features of the stem's size: zero at the start, and
    always zero for frames without an estimate."""

    def __init__(self, settings: NetworkSettings, outputs: int) -> None:
        super().__init__()
        self.patch = settings.patch_size
        self.conv = ZeroConv((settings.channels + 2) * settings.patch_size**2, outputs, bias=False)

    def forward(self, conditioning: Conditioning) -> Tensor:
        """-> (b t) c' h/patch w/patch."""
        assert conditioning.estimate is not None and conditioning.uncertainty is not None
        estimated = conditioning.estimated[:, None, :, None, None]
        known = torch.cat([conditioning.estimate, conditioning.uncertainty], dim=1)
        shown = torch.cat([known * estimated, estimated.to(known.dtype).expand_as(known[:, :1])], dim=1)
        x = rearrange(shown, "b c t h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        return self.conv(space_to_depth(x, self.patch))


class UNet3D(nn.Module):
    """(z: b c t h w, level: b t, conditioning) -> prediction b c t h w; with `settings.motion`, one channel more, the
    logits of the gate between the prediction and the estimate that the conditioning has. With `settings.any_size`, z
    has the 2 c + 1 channels of `Conditioning.around` after its own.

    `side` is the shorter side of the videos in pixels, from which it follows where attention is used; `frame_seconds`
    is the unit in which the network measures time. Height and width must be multiples of `settings.multiple`
    (ValueError).
    """

    def __init__(self, settings: NetworkSettings, *, side: int, frame_seconds: float) -> None:
        super().__init__()
        self.settings, self.frame_seconds = settings, frame_seconds
        widths = [settings.base_channels * multiplier for multiplier in settings.channel_mult]
        cells = [side // settings.patch_size // 2**depth for depth in range(len(widths))]
        small = [count <= settings.attention_max_size for count in cells]
        pixels = settings.channels * settings.patch_size**2
        self.embedding = FrameEmbedding(settings.embedding, settings.context_dim, augmented=settings.upscale > 0)
        if settings.context_dim:
            self.null_token = nn.Parameter(torch.randn(settings.context_dim).mul_(0.02))
            self.null_pooled = nn.Parameter(torch.randn(settings.context_dim).mul_(0.02))
        around = (2 * settings.channels + 1) * settings.patch_size**2 if settings.any_size else 0
        self.stem = SpaceConv(pixels + around, widths[0])
        self.stem_estimate = _EstimateStem(settings, widths[0]) if settings.motion else None
        self.down, self.downsamplers, self.up, self.upsamplers = (nn.ModuleList() for _ in range(4))
        for depth, width in enumerate(widths):
            stages = [Stage(settings, width, width, attention=small[depth]) for _ in range(settings.num_res_blocks)]
            self.down.append(nn.ModuleList(stages))
            if depth + 1 < len(widths):
                self.downsamplers.append(Down(width, widths[depth + 1]))
        self.middle = nn.ModuleList([Stage(settings, widths[-1], widths[-1], attention=small[-1]) for _ in range(2)])
        for depth in reversed(range(len(widths))):
            width = widths[depth]
            stages = [Stage(settings, 2 * width, width, attention=small[depth]) for _ in range(settings.num_res_blocks)]
            self.up.append(nn.ModuleList(stages))
            if depth > 0:
                self.upsamplers.append(Up(width, widths[depth - 1]))
        norm = PixelNorm if settings.any_size else FrameNorm
        self.head = nn.Sequential(norm(widths[0]), nn.SiLU(), SpaceConv(widths[0], pixels, zero=True))
        self.gate = ZeroConv(widths[0], settings.patch_size**2) if settings.motion else None
        for place, layer in enumerate(module for module in self.modules() if isinstance(module, ClipDropout)):
            layer.set_place(place)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        b, _, _, height, width = z.shape
        if height % self.settings.multiple or width % self.settings.multiple:
            raise ValueError(f"frames are {width}x{height}, expected multiples of {self.settings.multiple}")
        context = self._context(level, conditioning)
        x = rearrange(z, "b c t h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        x = self.stem(space_to_depth(x, self.settings.patch_size))
        if self.stem_estimate is not None and conditioning.estimate is not None:
            x = x + self.stem_estimate(conditioning)
        skips = []
        for depth, stages in enumerate(self.down):
            for stage in stages:  # type: ignore[attr-defined]
                x = stage(x, context)
                skips.append(x)
            if depth < len(self.downsamplers):
                x = self.downsamplers[depth](x)
        for stage in self.middle:
            x = stage(x, context)
        for depth, stages in enumerate(self.up):
            for stage in stages:  # type: ignore[attr-defined]
                x = stage(torch.cat([x, skips.pop()], dim=1), context)
            if depth < len(self.upsamplers):
                x = self.upsamplers[depth](x)
        norm, activation, pixels = self.head
        x = activation(norm(x))
        parts = [pixels(x)] if self.gate is None else [pixels(x), self.gate(x)]
        x = torch.cat([depth_to_space(part, self.settings.patch_size) for part in parts], dim=1)
        return rearrange(x, "(b t) c h w -> b c t h w", b=b)

    def _context(self, level: Tensor, conditioning: Conditioning) -> ForwardContext:
        b, t = level.shape
        is_image = conditioning.is_image
        if t == 1 or is_image is None:
            is_image = torch.full((b, t), t == 1, device=level.device)  # an image is a video of one frame
        times = _elapsed(conditioning.times.float() / self.frame_seconds, is_image)
        tokens, bias, pooled = self._text(conditioning, b, level.device)
        embedding = self.embedding(
            level, gap_features(times, is_image), conditioning.observed, pooled, conditioning.augmentation
        )
        return ForwardContext(
            embedding=functional.silu(embedding).flatten(0, 1),
            times=times,
            apart=time_distances(times),
            temporal_mask=~is_image,
            # no tensor is asked for images: that would stop a GPU and break a compiled graph
            time_bias=None if t == 1 or conditioning.is_image is None else _time_bias(is_image),
            tokens=tokens,
            text_bias=bias,
            seeds=conditioning.seeds,
        )

    def _text(
        self, conditioning: Conditioning, b: int, device: torch.device
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Tokens (b, l, d), their logit bias (b, 1, 1, l) and pooled (b, d), the null text for clips without one."""
        if not self.settings.context_dim:
            return None, None, None
        tokens, mask, pooled = conditioning.tokens, conditioning.token_mask, conditioning.pooled
        if tokens is None or mask is None or pooled is None:
            tokens = self.null_token.expand(b, 1, -1)
            return tokens, torch.zeros(b, 1, 1, 1, device=device), self.null_pooled.expand(b, -1)
        if conditioning.dropped is not None:
            dropped = conditioning.dropped[:, None]
            tokens = torch.where(dropped[..., None], self.null_token.to(tokens.dtype), tokens)
            first = torch.arange(tokens.shape[1], device=device) == 0
            mask = torch.where(dropped, first, mask)
            pooled = torch.where(dropped, self.null_pooled.to(pooled.dtype), pooled)
        bias = torch.zeros(mask.shape, device=device).masked_fill(~mask, float("-inf"))
        return tokens, bias[:, None, None], pooled


def receptive_radius(settings: NetworkSettings) -> int:
    """Pixels around one that a network without attention sees: one cell of its resolution for each 3x3 convolution."""
    deepest, each = len(settings.channel_mult) - 1, 4 * settings.num_res_blocks  # two in a block, down and up
    cells = {depth: each for depth in range(deepest + 1)}
    cells[deepest] += 4  # two blocks in the middle
    cells[0] += 2  # stem and head
    return settings.patch_size * sum(count << depth for depth, count in cells.items())


def _elapsed(times: Tensor, is_image: Tensor) -> Tensor:
    """Times (b, t) since the first frame of the video; images are at no time."""
    start = times.masked_fill(is_image, float("inf")).amin(dim=1, keepdim=True)
    return torch.where(is_image, 0.0, times - start)


def _time_bias(is_image: Tensor) -> Tensor:
    """0 where frame i may see frame j, -inf where not: images see themselves, videos all but images. (b, 1, 1, t,
    t)."""
    itself = torch.eye(is_image.shape[1], dtype=torch.bool, device=is_image.device)
    allowed = itself | ~(is_image[:, :, None] | is_image[:, None, :])
    return torch.zeros(allowed.shape, device=is_image.device).masked_fill(~allowed, float("-inf"))[:, None, None]
