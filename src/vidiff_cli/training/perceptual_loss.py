"""Loss on the features of a frozen video network that was trained to recognize actions.

Shapes: n clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.device import send
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.feature_networks import DEVIATION, FEATURE_NETS, MEAN, feature_network
from vidiff_cli.models.pretrained import read_weights

SMALLEST_NORM = 1e-3  # of a feature vector: a place without features has no direction


class Perceptual:
    """The squared distance of the features of x_hat and of the real clip, their vectors scaled to length one.

    The mean over the places of each layer, then over the layers; between 0, at the truth, and 4. Source: Zhang et al.
    2018 (LPIPS) for the normalization, without its learned weights.
    """

    def __init__(self, stages: list[nn.Module], taps: tuple[int, ...], *, side: int) -> None:
        self._stages, self._taps, self._side = stages, taps, side
        device = next(stages[0].parameters()).device
        self._mean, self._deviation = (
            torch.tensor(values, device=device).view(1, 3, 1, 1, 1) for values in (MEAN, DEVIATION)
        )

    def __call__(self, x_hat: Tensor, video: Tensor, made: Tensor) -> Tensor:
        """x_hat and video (n c t h w), made (n, t) on the host -> (n). Frames that are not made must be equal in
        both."""
        with torch.no_grad():
            wanted = self._features(video)
        distances = [
            (found - true).square().sum(dim=1).mean(dim=(1, 2, 3))
            for found, true in zip(self._features(x_hat), wanted, strict=True)
        ]
        # the frames that are not made differ by nothing: a clip is to count the same however many they are
        return torch.stack(distances).mean(dim=0) * send(made.shape[1] / made.sum(dim=1).clamp(min=1), video.device)

    def _features(self, video: Tensor) -> list[Tensor]:
        state = (self._resized(video) * 0.5 + 0.5 - self._mean) / self._deviation  # three channels, also of one
        features = []
        for number, stage in enumerate(self._stages):
            state = stage(state)
            if number in self._taps:
                features.append(state / (state.square().sum(dim=1, keepdim=True) + SMALLEST_NORM**2).sqrt())
        return features

    def _resized(self, video: Tensor) -> Tensor:
        """With the shorter side that the network knows; every frame by itself."""
        height, width = video.shape[3:]
        scale = self._side / min(height, width)
        if scale == 1.0:
            return video
        size = [round(height * scale), round(width * scale)]
        frames = video.transpose(1, 2).flatten(0, 1)
        frames = functional.interpolate(frames, size, mode="bilinear", antialias=scale < 1.0)
        return frames.view(len(video), -1, video.shape[1], *size).transpose(1, 2)


def perceptual(path: Path, device: torch.device, *, side: int | None = None) -> Perceptual:
    """torchvision's r3d_18 or s3d with weights of a safetensors file, whichever they are of.

    `side` replaces the size that the network was trained with. VidiffError for a file that holds neither.
    """
    state = read_weights(path)
    name = next((name for name, spec in FEATURE_NETS.items() if spec.key in state), None)
    if name is None:
        raise VidiffError(f"{path} holds no video network", expected=f"torchvision's {' or '.join(FEATURE_NETS)}")
    spec = FEATURE_NETS[name]
    network = feature_network(name, state, path, without=spec.head).to(device)
    return Perceptual(spec.stages(network), spec.taps, side=side or spec.side)
