"""The network as an estimate x_hat for any prediction type, mixed with the motion estimate where there is one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.levels import alpha_sigma
from vidiff_cli.diffusion.targets import PredictionType, loss_weight, prediction_from, x_from
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.unet3d import UNet3D

OPEN = 3.0  # logit of the gate at the start: nearly all is the estimate
SPREAD, GROWTH = 0.095, 0.35  # RMS error of the estimate one frame away in pixels of [-1, 1], and its power of distance


class Denoiser(nn.Module):
    """(z: b c t h w, level: b t, conditioning) -> x_hat b c t h w in float32, whatever the network predicts."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        seconds = 1.0 / _rate(settings.fps)
        side = min(settings.z_size)
        self.network = UNet3D(settings.network, side=side, frame_seconds=seconds)

    def predict(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """The prediction (eps, x or v), float32: the network's own, mixed with the estimate where there is one."""
        if self.settings.network.any_size:
            return self._around_estimate(z, level, conditioning)
        predicted = self.network(z, level, conditioning).float()
        if not self.settings.network.motion:
            return predicted
        prediction, logit = predicted[:, :-1], predicted[:, -1:]
        if conditioning.estimate is None or conditioning.estimated_from is None:
            return prediction
        kind, gate = self.settings.diffusion.target, torch.sigmoid(logit + OPEN)
        if kind != "x":
            away = distance(conditioning.times / self.network.frame_seconds, conditioning.estimated_from)
            gate = gate * estimate_share(level, away)[:, None, :, None, None]
        mixed = mix_estimate(kind, prediction, conditioning.estimate, gate, z, level)
        return torch.where(conditioning.estimated[:, None, :, None, None], mixed, prediction)

    def loss_weight(self, level: Tensor, conditioning: Conditioning) -> Tensor:
        """Factor on the squared error of the prediction in training (b 1 t 1 1); around an estimate (b 1 t h w) that
        of what the network itself gives, which has unit variance at every level and pixel."""
        diffusion = self.settings.diffusion
        weight = loss_weight(diffusion.weighting, diffusion.target, level)[:, None, :, None, None]
        if not self.settings.network.any_size or conditioning.around is None:
            return weight
        return weight / scales_around(level, conditioning.around[:, -1:]).from_output.square()

    def _around_estimate(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """v around an estimate: the network is shown what z adds to the estimate, and what is known of it."""
        around, channels = conditioning.around, z.shape[1]
        if around is None or (self.settings.network.upscale and conditioning.augmentation is None):
            raise ValueError("a network that predicts around an estimate needs the estimate")
        estimate, scales = around[:, :channels], scales_around(level, around[:, -1:])
        shown = torch.cat([scales.to_unit * (z - scales.alpha * estimate), around[:, :-1], around[:, -1:].log()], dim=1)
        predicted = self.network(shown, level, conditioning).float()
        return scales.from_z * z + scales.from_estimate * estimate + scales.from_output * predicted

    def forward(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        return x_from(self.settings.diffusion.target, self.predict(z, level, conditioning), z, level)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalesAround:
    """A v-network around an estimate h of x that is off by a known spread S, so that what the network itself gives, F,
    has unit variance at every level and pixel. Shapes: alpha (b 1 t 1 1), the others (b 1 t h w). With d = sigma^2 +
    alpha^2 S^2:

        input  (z - alpha h) / sqrt(d)
        v = alpha sigma (1 - S^2) / d z - sigma / d h + S / sqrt(d) F

    It is the preconditioning of Karras et al. 2022 (EDM, section 5) with N(h, S^2) in the place of N(0, S^2): with F =
    0, x_hat weighs h and z / alpha by the inverse of their variances; h = 0 and S = 1 is plain v-prediction.
    """

    alpha: Tensor
    to_unit: Tensor
    from_z: Tensor
    from_estimate: Tensor
    from_output: Tensor


def scales_around(level: Tensor, spread: Tensor) -> ScalesAround:
    """The scales at levels (b, t) around an estimate with a spread (b 1 t h w) in pixels of [-1, 1]; float32."""
    alpha, sigma = (each.float()[:, None, :, None, None] for each in alpha_sigma(level.double()))
    variance = spread.float().square()
    d = sigma.square() + alpha.square() * variance
    return ScalesAround(
        alpha=alpha,
        to_unit=d.rsqrt(),
        from_z=alpha * sigma * (1 - variance) / d,
        from_estimate=-sigma / d,
        from_output=spread.float() * d.rsqrt(),
    )


def noise_ratio(place: Tensor) -> Tensor:
    """sigma / alpha at places of the unshifted cosine schedule, 0 at 0: any shape -> the same."""
    return torch.tan(0.5 * math.pi * place.double()).float()


def mix_estimate(
    kind: PredictionType, prediction: Tensor, estimate: Tensor, share: Tensor, z: Tensor, level: Tensor
) -> Tensor:
    """The prediction of `kind` whose x_hat is share * estimate + (1 - share) * (x_hat of `prediction`).

    For a given z and level, x_hat is an affine function of the prediction: x_hat(p) = a z + b p. As the shares sum to
    one, x_hat((1 - g) p + g q) = (1 - g) x_hat(p) + g x_hat(q); and with q = the prediction whose x_hat is the estimate
    h, that is (1 - g) x_hat(p) + g h. So q is h for x, (alpha z - h) / sigma for v, (z - alpha h) / sigma for eps.

    Args:
        kind: What the network predicts.
        prediction: Its prediction (b c t h w).
        estimate: The estimate h of x (b c t h w).
        share: Weight of the estimate (b 1 t h w).
        z: Noisy frames (b c t h w).
        level: Their levels (b, t).

    Returns:
        The mixed prediction (b c t h w).
    """
    return (1 - share) * prediction + share * prediction_from(kind, estimate, z, level)


def estimate_share(level: Tensor, away: Tensor) -> Tensor:
    """Optimal weight of the motion estimate beside z / alpha, the other observation of x: (b, t) in [0, 1].

    z / alpha = x + (sigma / alpha) eps is off by a variance of sigma^2 / alpha^2, the estimate by S^2, S = .095 tau^.35
    (measured on 15 films). Weighing both by the inverse of that: sigma^2 / (sigma^2 + alpha^2 S^2) is the estimate's.
    Networks that predict v or eps need it, for what they pass on of z at clean levels is z itself; one that predicts x
    learns it with its gate. `away` (b, t) is tau, as `distance` has it.
    """
    spread = SPREAD * away.double() ** GROWTH
    return (1 / (1 + torch.exp(level.double()) * spread**2)).to(level.dtype)


def distance(times: Tensor, observed: Tensor) -> Tensor:
    """Distance of each frame from those that its estimate was made of: d1 d2 / (d1 + d2) with the distances d1 and d2
    to the nearest one before and after; d with one side only; 0 for observed frames.

    Shapes: times (b, t) in frames of the base rate, observed (b, t) bool -> (b, t); inf without observed frames.
    """
    later = times[:, :, None] - times[:, None, :]  # frame i than observed frame j
    apart = later.abs().masked_fill(~observed[:, None, :], torch.inf)
    before = apart.masked_fill(later < 0, torch.inf).amin(dim=2)
    after = apart.masked_fill(later > 0, torch.inf).amin(dim=2)
    return 1 / (1 / before + 1 / after)


def _rate(fps: str) -> float:
    return float(Fraction(fps))
