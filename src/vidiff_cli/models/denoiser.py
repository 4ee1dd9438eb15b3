"""A network and its target kind, as an estimate x_hat."""

from __future__ import annotations

from torch import Tensor, nn

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.targets import x_from
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.unet3d import UNet3D


class Denoiser(nn.Module):
    """(z: b c t h w, level: b t, conditioning) -> x_hat b c t h w in float32, whatever the network predicts."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        seconds = 1.0 / _rate(settings.fps)
        side = min(settings.width, settings.height)
        self.network = UNet3D(settings.network, side=side, frame_seconds=seconds)

    def predict(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's own prediction (eps, x or v), float32."""
        return self.network(z, level, conditioning).float()

    def forward(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        return x_from(self.settings.diffusion.target, self.predict(z, level, conditioning), z, level)


def _rate(fps: str) -> float:
    from fractions import Fraction

    return float(Fraction(fps))
