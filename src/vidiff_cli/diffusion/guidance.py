"""Guidance: every way to condition is a function from a denoiser to a denoiser.

The order of wrapping is threshold(clamp_known(reconstruct(classifier_free(...)))): `clamp_known` goes outside
`reconstruct`, for inside it the observed estimate would not depend on z. Shapes: z, x_hat, known (b c t h w); level,
observed (b, t).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from vidiff_cli.diffusion.levels import alpha_sigma, per_frame
from vidiff_cli.diffusion.noise import white
from vidiff_cli.diffusion.samplers import Denoise, Noise
from vidiff_cli.errors import BrokenGraphError

Observation = Tensor | Callable[[Tensor], Tensor]
"""A boolean mask of frames (b, t), or a linear map of a video such as a downsampling."""


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """x_hat = u + scale (c - u): scale 1 is the conditional model, and then no second pass is made; scale = 1 + w of
    the papers.

    Linear in x, v and eps alike. Source: Ho and Salimans 2021; VDM section 2 (its weight w is scale - 1).
    """
    if scale == 1:
        return conditional

    def guided(z: Tensor, level: Tensor) -> Tensor:
        without = unconditional(z, level)
        return without + scale * (conditional(z, level) - without)

    return guided


def classifier_free_together(both: Denoise, scale: float) -> Denoise:
    """`classifier_free` by one pass of 2b clips, for a denoiser that is conditional for the first b and unconditional
    for the others: as many numbers are computed, and a small batch takes less time."""

    def guided(z: Tensor, level: Tensor) -> Tensor:
        x = both(torch.cat([z, z]), torch.cat([level, level]))
        conditional, without = x.chunk(2)
        return without + scale * (conditional - without)

    return guided


def guide_from_each(conditional: Denoise, weaker: Sequence[tuple[Denoise, float]]) -> Denoise:
    """x_hat = c + sum over i of (scale_i - 1) (c - u_i): guidance by several conditions at once, each of which one
    weaker estimate u_i lacks while it keeps the others.

    n conditions cost n + 1 passes, where guidance inside guidance costs 2^n; one with scale 1 costs none, and a single
    one is `classifier_free`. Source: the multi-modal guidance of HaCohen et al. 2026 (LTX-2); the product of
    conditionals is Liu et al. 2022 (composable diffusion). Brooks et al. 2023 (InstructPix2Pix) drop conditions one
    after the other, so that the first one dropped is guided without the others.
    """
    used = [(denoise, scale) for denoise, scale in weaker if scale != 1]
    if len(used) <= 1:
        return classifier_free(conditional, *used[0]) if used else conditional

    def guided(z: Tensor, level: Tensor) -> Tensor:
        x = conditional(z, level)
        steps = [(scale - 1) * (x - denoise(z, level)) for denoise, scale in used]
        return x + torch.stack(steps).sum(dim=0)

    return guided


def threshold(denoise: Denoise, *, percentile: float | None = None) -> Denoise:
    """Keeps x_hat inside [-1, 1]: by clipping, or dynamically with a `percentile` in (0, 1] of the whole clip.

    Dynamic: s = max(1, quantile of |x_hat| over the clip), x_hat <- clip(x_hat, -s, s) / s. One s per clip, never per
    frame (the brightness would flicker) nor per batch (samples would depend on their neighbors). Source: Saharia et
    al. 2022, section 2.3.
    """
    if percentile is not None and not 0 < percentile <= 1:
        raise ValueError(f"the percentile of dynamic thresholding is {percentile}, expected a value in (0, 1]")

    def bounded(z: Tensor, level: Tensor) -> Tensor:
        x = denoise(z, level)
        if percentile is None:
            return x.clamp(-1.0, 1.0)
        magnitudes = x.detach().abs().flatten(1)
        rank = max(1, min(magnitudes.shape[1], round(percentile * magnitudes.shape[1])))
        # kthvalue instead of torch.quantile, which refuses more than 2^24 elements
        bound = magnitudes.kthvalue(rank, dim=1).values.clamp(min=1.0)[:, None, None, None, None]
        return torch.maximum(torch.minimum(x, bound), -bound) / bound

    return bounded


def clamp_known(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
    """The replacement method: the estimate of an observed frame is the frame itself.

    A sampler then walks the observed part of z along q(z^a_s | z^a_t, x^a). `known` needs values only where `observed`.
    Source: Song et al. 2021; VDM section 3.1, which shows why the frames made this way do not cohere with the observed
    ones.
    """

    def clamped(z: Tensor, level: Tensor) -> Tensor:
        return torch.where(_frames(observed, z), known, denoise(z, level))

    return clamped


def project_known(
    denoise: Denoise, known: Tensor, observed: Callable[[Tensor], Tensor], lift: Callable[[Tensor], Tensor]
) -> Denoise:
    """The replacement method for a linear observation A, such as a downsampling: what A sees of the estimate is what is
    known.

    x_hat + B (known - A x_hat) with a `lift` B for which A B is about the identity (an upsampling), twice, because it
    is not quite. Reconstruction guidance alone leaves errors of A x_hat that are seen. Source: Choi et al. 2021 (ILVR);
    Wang et al. 2022 (DDNM), equation 11.
    """

    def projected(z: Tensor, level: Tensor) -> Tensor:
        x = denoise(z, level)
        for _ in range(2):
            x = x + lift(known - observed(x))
        return x

    return projected


def hold_known(
    denoise: Denoise,
    known: Tensor,
    observed: Tensor,
    *,
    level: float = 20.0,
    generator: Generator | None = None,
    noise: Noise | None = None,
) -> Denoise:
    """Learned conditioning: the network sees the known frames at their own clean level, and they are their own
    estimate.

    For a network trained on random observed frames. The noise of known frames is independent over the frames, and of
    the sampler's, whatever the prior of the latter. The sampler keeps one level for all frames. Source: Hoeppe et al.
    2022 (RaMViD), Harvey et al. 2022 (FDM); Ho et al. 2022 (Imagen Video) for the noise.

    Args:
        denoise: The network's estimate.
        known: Values of observed frames (b c t h w).
        observed: True where `known` counts (b t).
        level: The level at which known frames are shown; below 20 it is context noise.
        generator: Draws the noise of known frames, once; without it and `noise` they are only scaled.
        noise: Draws it in the place of a generator.

    Returns:
        The conditioned denoiser.
    """
    return clamp_known(
        show_known(denoise, known, observed, level=level, generator=generator, noise=noise), known, observed
    )


def show_known(
    denoise: Denoise,
    known: Tensor,
    observed: Tensor,
    *,
    level: float,
    generator: Generator | None = None,
    noise: Noise | None = None,
) -> Denoise:
    """Shows the network the known frames at a level of their own, whatever z holds in their places; its estimate of
    them is left as it is.

    With the lowest level it is told nothing of them but noise: the weaker estimate of history guidance, away from which
    `classifier_free` guides the frames that are made. A level between keeps what is coarse in them. Source: Song et al.
    2025 (DFoT), vanilla and fractional history guidance.

    Args:
        denoise: The network's estimate.
        known: Values of observed frames (b c t h w).
        observed: True where `known` counts (b t).
        level: The level at which known frames are shown.
        generator: Draws their noise, once; without it and `noise` they are only scaled.
        noise: Draws it in the place of a generator.

    Returns:
        The denoiser that sees them.
    """
    alpha, sigma = (float(scale) for scale in alpha_sigma(torch.tensor(level, dtype=torch.float64)))
    shown_level = level  # a number of the host: a tensor would be copied to a GPU in every step
    shown = alpha * known
    if generator is not None or noise is not None:
        shown = shown + sigma * (noise or white)(known, generator)

    def seeing(z: Tensor, level: Tensor) -> Tensor:
        z = torch.where(_frames(observed, z), shown, z)
        return denoise(z, torch.where(observed, shown_level, level))

    return seeing


def split_observed(observed: Tensor, parts: int) -> list[Tensor]:
    """Masks (b, t) of the observed frames in so many shares, equal but for one frame, in the order of time; in fewer
    where a clip observes fewer frames."""
    if parts == 1 or not bool(observed.any()):
        return [observed]
    count = observed.sum(dim=1, keepdim=True)
    parts = min(parts, int(count[count > 0].min()))
    share = (observed.cumsum(dim=1) - 1) * parts // count.clamp(min=1)
    return [observed & (share == part) for part in range(parts)]


def average(estimates: Sequence[Denoise]) -> Denoise:
    """The mean of several estimates; one is left as it is.

    With estimates x_i that each see a part of the observed frames, `classifier_free` of the mean is u + sum over i of
    (scale / n) (x_i - u). Source: Song et al. 2025 (DFoT), history guidance across time.
    """
    if len(estimates) == 1:
        return estimates[0]
    return lambda z, level: torch.stack([denoise(z, level) for denoise in estimates]).mean(dim=0)


def reconstruct(
    denoise: Denoise,
    known: Tensor | Sequence[Tensor],
    observed: Observation | Sequence[Observation],
    weight: float | Callable[[Tensor], Tensor],
    *,
    covariance: Tensor | None = None,
) -> Denoise:
    """Reconstruction guidance: x_hat - (weight alpha / 2) grad_z |x^a - x_hat^a(z)|^2, the sum of squares per clip.

    With a mask the gradient moves the other frames only and the observed estimate is left as predicted (wrap in
    `clamp_known` to replace it); with a linear observation (x -> A x, `known` = A x^a) it covers all of z. The weight
    is a number or, by clip or level, a function of the levels (b, t) to what can be expanded to that. Several
    observations (sequences of equal length) are summed into one gradient; nesting is an error. The loss sees the
    unclipped estimate; levels must be equal over the frames of a clip (ValueError). Raises BrokenGraphError if x_hat
    does not depend on z through autograd. Source: VDM equation 7 (frames) and section 3.1 (downsampling).

    Where the noise of frames has a `covariance` S (t, t), both the gradient and the squares change. For z = alpha x +
    sigma n with n of covariance S, Tweedie's formula is alpha E[x | z] = z + sigma^2 S grad log p(z), and the same for
    p(z | x^a), whose gradient is that of log p(z) plus that of log p(x^a | z): x_hat + (sigma^2 / alpha) S grad log
    p(x^a | z). VDM's p(x^a | z) = N(x_hat^a, (sigma^2 / alpha^2) I) is the one of a flat p(x), for which x = (z -
    sigma n) / alpha, and so is N(x_hat^a, (sigma^2 / alpha^2) S_aa) here. Hence x_hat - (weight alpha / 2) S grad_z r^T
    S_aa^-1 r with r = x^a - x_hat^a(z); S mixes frames, so that the gradient for all of z is needed. Without S_aa^-1
    frames of much the same noise would count again and again: with half of it shared the samples diverge.
    """
    knowns = [known] if isinstance(known, Tensor) else list(known)
    views: list[Observation] = list(observed) if isinstance(observed, Sequence) else [observed]
    if len(knowns) != len(views):
        raise ValueError(f"{len(knowns)} known tensors for {len(views)} observations; expected one for each")

    precisions: list[Tensor | None] = [None] * len(views)
    if covariance is not None:  # to the device once, not in every step
        precisions = [
            _precision(covariance, view).to(known.device, known.dtype)
            for known, view in zip(knowns, views, strict=True)
        ]
        covariance = covariance.to(knowns[0].device)

    def guided(z: Tensor, level: Tensor) -> Tensor:
        # the samplers' levels are one number that is expanded: asking them would stop a GPU
        if level.stride(1) != 0 and bool((level != level[:, :1]).any()):
            raise ValueError("reconstruction guidance needs one level for all frames of a clip")
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            x = denoise(z, level)
            errors = [_squared_error(x, *each) for each in zip(knowns, views, precisions, strict=True)]
            loss = torch.stack(errors).sum()
            gradient = _gradient(loss, z)
        if covariance is not None:
            gradient = torch.einsum("st,bcthw->bcshw", covariance.to(gradient.dtype), gradient)
        exact = level.double()
        by_level = per_frame(weight(exact).expand_as(exact), z) if callable(weight) else weight
        alpha = alpha_sigma(per_frame(exact, z))[0]
        moved = x.detach() - (0.5 * by_level * alpha).to(z.dtype) * gradient
        for view in views:
            if isinstance(view, Tensor):
                moved = torch.where(_frames(view, z), x.detach(), moved)
        return moved

    return guided


def snr_weight(weight: float | Tensor, *, variance: float = 1.0) -> Callable[[Tensor], Tensor]:
    """A weight of reconstruction by level: 1 + sigma^2 / (alpha^2 variance), but at most `weight`, a number or (b, 1).

    Equation 7 takes x^a given z for as uncertain as sigma^2 / alpha^2. Where data have a `variance` v of their own it
    is v sigma^2 / (alpha^2 v + sigma^2), which is smaller by this factor: 1 near the clean end. It grows without bound
    towards noise, where errors of x_hat would count as often, hence the cap.
    """
    most = torch.as_tensor(weight)
    if bool((most < 0).any()) or variance <= 0:
        raise ValueError(f"a weight of {weight} for a variance of {variance:g}: expected positive numbers")
    # sigma^2 / alpha^2 = exp(-level)
    return lambda level: (1 + torch.exp(-level) / variance).clamp(max=most.to(level))


def _squared_error(x: Tensor, known: Tensor, view: Observation, precision: Tensor | None) -> Tensor:
    """Sum over the batch of the squared errors: clips do not meet, so its gradient is that of the sum per clip."""
    if isinstance(view, Tensor):
        error = torch.where(_frames(view, x), known - x, torch.zeros_like(x))
    else:
        error = known - view(x)
    if precision is None:
        return error.square().sum()
    return (error * torch.einsum("bst,bcthw->bcshw", precision.to(error).expand(len(error), -1, -1), error)).sum()


def _precision(covariance: Tensor, view: Observation) -> Tensor:
    """S_aa^-1 (b or 1, t, t) of the observed frames a, in their places; an observation other than a mask covers all
    frames."""
    wide = covariance.double().cpu()[None]
    if isinstance(view, Tensor):
        seen = view.cpu()
        itself = torch.eye(len(covariance), dtype=torch.float64)
        wide = torch.where(seen[:, :, None] & seen[:, None, :], wide, itself)
    return torch.linalg.inv(wide)


def _gradient(loss: Tensor, z: Tensor) -> Tensor:
    gradient = torch.autograd.grad(loss, z, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        raise BrokenGraphError(
            "reconstruction guidance cannot differentiate the denoiser",
            found="an estimate that does not depend on z through autograd",
            fix="remove no_grad, inference_mode, detach or a second reconstruct() from the denoiser",
        )
    return gradient.detach()


def _frames(observed: Tensor, like: Tensor) -> Tensor:
    if observed.dtype != torch.bool or observed.shape != (like.shape[0], like.shape[2]):
        raise ValueError(
            f"observed is {observed.dtype} {tuple(observed.shape)}, expected a boolean mask "
            f"{(like.shape[0], like.shape[2])} of clips and frames"
        )
    return observed[:, None, :, None, None]
