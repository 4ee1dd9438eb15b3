"""The peer that vidiff is raced against: video-diffusion-pytorch, as its package ships it.

    pip install --no-deps video-diffusion-pytorch==0.7.0 rotary-embedding-torch==0.9.1 einops-exts==0.0.4

`make bench` installs it. Its own training class needs a GPU and a folder of GIFs; `PublishedTraining` is the update
that class makes, on tensors.
"""

from __future__ import annotations

import copy
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.text.patch_torchvision import patch_torchvision_nms

NAME = "video-diffusion-pytorch"
PLAN = {"dim": 32, "dim_mults": (1, 2, 4)}  # the plan raced against: 3.16 M parameters


def versions() -> dict[str, str]:
    """The peer's version, for the results."""
    return {NAME: version(NAME)}


def unet() -> nn.Module:
    """Its network: (z: b c t h w, time: b) -> b c t h w."""
    patch_torchvision_nms()  # it imports torchvision, which beside a CPU torch fails without this
    from video_diffusion_pytorch import Unet3D  # type: ignore[import-not-found]

    return Unet3D(**PLAN)


class PeerNetwork(nn.Module):
    """Its network in the place of vidiff's: told one level per clip, as a time in 0..1000, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = unet()

    def forward(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        u = (2 / torch.pi) * torch.atan(torch.exp(-0.5 * level[:, 0].float()))
        return self.unet(z, 1000 * u)


class PublishedTraining:
    """Its network, objective and optimizer as published: eps, L1 loss, cosine schedule of 1000 steps, Adam, EMA .995
    every tenth step, a plain copy of the weights in the first 2000 steps."""

    def __init__(self, *, side: int, frames: int, lr: float = 1e-4, loss: str = "l1") -> None:
        network = unet()
        from video_diffusion_pytorch import GaussianDiffusion  # type: ignore[import-not-found]

        self.diffusion: Any = GaussianDiffusion(network, image_size=side, num_frames=frames, loss_type=loss)
        self.averaged = copy.deepcopy(self.diffusion)
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=lr)
        self.step = 0

    def update(self, video: Tensor) -> float:
        """One step on videos (b c t h w) in [0, 1]; returns its loss."""
        loss = self.diffusion(video)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.step % 10 == 0:
            decay = 0.0 if self.step < 2000 else 0.995
            with torch.no_grad():
                for mine, theirs in zip(self.averaged.parameters(), self.diffusion.parameters(), strict=True):
                    mine.lerp_(theirs, 1 - decay)
        self.step += 1
        return float(loss.detach())

    def estimate(self, z: Tensor, level: Tensor) -> Tensor:
        """x_hat of the averaged network at levels (b, t): its nearest time step, its own formula."""
        alphas = self.averaged.alphas_cumprod.double()
        nearest = (torch.logit(alphas)[None] - level[:, :1].double()).abs().argmin(dim=1)
        eps = self.averaged.denoise_fn(z, nearest)
        return self.averaged.predict_start_from_noise(z, nearest, eps)
