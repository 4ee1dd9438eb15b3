"""Feature extractors for distances between sets of videos: named, frozen networks.

`random` and `shapes` need no file of the user. They are proxies: their numbers rank models of one kind on one dataset,
and are never called FVD. Both take videos of any size and length, since their features are means over all places.

Shapes: n videos, c channels, t frames, h w pixels, d features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.errors import VidiffError
from vidiff_cli.pixels import from_uint8_fast

CHANNELS = (3, 16, 32, 64, 64)
STRIDES = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 1, 1))
SEED = 2204_03458  # of the random extractor: never changes


@dataclass(frozen=True, kw_only=True, slots=True)
class Extractor:
    """A network by name. `sha256` is of its weights, `dimension` is d, `side` the short side that it resizes to (None:
    as it comes), `least_frames` what it needs; `is_fvd`: its Frechet distance is the one that papers call FVD."""

    name: str
    sha256: str
    dimension: int
    features: Callable[[np.ndarray], np.ndarray]  # uint8 (t h w c) -> float32 (d)
    trained_on: str
    side: int | None = None
    least_frames: int = 1
    is_fvd: bool = False
    is_proxy: bool = True

    @property
    def frechet_name(self) -> str:
        """Name of a Frechet distance on these features."""
        return "FVD" if self.is_fvd else f"Frechet distance ({self._label})"

    @property
    def kernel_name(self) -> str:
        return "KVD" if self.is_fvd else f"kernel distance ({self._label})"

    @property
    def _label(self) -> str:
        return f"{self.name} extractor, proxy" if self.is_proxy else f"{self.name}, no FVD"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Computes the features (d) of a video. VidiffError where it has too few frames."""
        if len(frames) < self.least_frames:
            expected = f"{self.least_frames} at least"
            raise VidiffError(f"the {self.name} extractor needs more frames", found=len(frames), expected=expected)
        return self.features(frames)


class SmallNetwork(nn.Module):
    """Four spatio-temporal convolutions: 128 features, the mean and the standard deviation over all places of the last
    one's 64 channels, less `shift` and divided by `scale` (d): those of the videos that it was trained on."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        pairs = zip(CHANNELS[:-1], CHANNELS[1:], STRIDES, strict=True)
        self.layers = nn.ModuleList(nn.Conv3d(wide, out, 3, stride, padding=1) for wide, out, stride in pairs)
        self.register_buffer("shift", torch.zeros(self.dimension))
        self.register_buffer("scale", torch.ones(self.dimension))

    @property
    def dimension(self) -> int:
        return 2 * CHANNELS[-1]

    def forward(self, video: Tensor) -> Tensor:
        """Pixels in [-1, 1] (n c t h w) -> (n d)."""
        for layer in self.layers:
            video = functional.leaky_relu(layer(video), 0.1)
        places = video.flatten(2)
        found = torch.cat([places.mean(dim=2), (places.var(dim=2, correction=0) + 1e-6).sqrt()], dim=1)
        return (found - self.shift) / self.scale


def random_extractor(device: torch.device) -> Extractor:
    """Makes the small network with weights of a fixed seed: the same on every machine.

    Every filter sums to zero, so that flat areas give no response, and half of them sum to zero over time at each
    place, so that they respond to change alone. The weights come from PCG64's raw integers: numpy may change its
    distributions, but not PCG64.
    """
    network = SmallNetwork()
    source, state = np.random.PCG64(SEED), dict[str, Tensor]()
    for name, value in network.state_dict().items():
        if not name.startswith("layers."):
            state[name] = value
            continue
        whole = (source.random_raw(value.numel()) >> 44).astype(np.int64).reshape(value.shape) - 2**19
        numbers, inputs = whole.astype(np.float64), 12
        if value.ndim > 1:
            inputs, half = value[0].numel(), len(whole) // 2
            level = whole * inputs - whole.sum(axis=(1, 2, 3, 4), keepdims=True)
            change = whole * value.shape[2] - whole.sum(axis=2, keepdims=True)
            numbers = np.concatenate([level[:half] / inputs, change[half:] / value.shape[2]])
        weights = numbers / 2**19 * np.sqrt(6 / inputs)  # uniform, of He's variance 2 / inputs
        state[name] = torch.from_numpy(weights.astype(np.float32))
    return small_extractor("random", state, device, trained_on="nothing: weights of a fixed seed")


def small_extractor(name: str, state: Mapping[str, Tensor], device: torch.device, *, trained_on: str) -> Extractor:
    """Makes the small network with these weights. VidiffError where they do not fit it."""
    network = SmallNetwork()
    try:
        network.load_state_dict({key: value.float() for key, value in state.items()})
    except RuntimeError as error:
        raise VidiffError(f"these are not the weights of the {name} extractor", fix="install vidiff anew") from error
    network.eval().requires_grad_(False).to(device)
    return Extractor(
        name=name,
        sha256=hash_state(state),
        dimension=network.dimension,
        features=_network_features(network, device),
        trained_on=trained_on,
    )


def _network_features(network: nn.Module, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    """Wraps a network of pixels in [-1, 1] (1 c t h w) as a function of uint8 (t h w c)."""

    @torch.no_grad()
    def features(frames: np.ndarray) -> np.ndarray:
        return network(from_uint8_fast(as_clip(frames, device)))[0].float().cpu().numpy()

    return features


def as_pixels(frames: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (t h w c) -> float32 (1 c t h w) in 0..255."""
    return as_clip(frames, device).float()


def as_clip(frames: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (t h w c) -> uint8 (1 c t h w)."""
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(3, 0, 1, 2)[None].contiguous()


def hash_state(state: Mapping[str, Tensor]) -> str:
    """Hashes weights by name (sha256), as little-endian float32, independent of their file."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.float().cpu().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def resize(video: Tensor, side: int) -> Tensor:
    """Resizes (n c t h w) to `side` pixels on the shorter side: bilinear, antialiased where it shrinks."""
    height, width = video.shape[3:]
    scale = side / min(height, width)
    if scale == 1.0:
        return video
    size = [round(height * scale), round(width * scale)]
    frames = functional.interpolate(video.transpose(1, 2).flatten(0, 1), size, mode="bilinear", antialias=scale < 1.0)
    return frames.view(len(video), -1, video.shape[1], *size).transpose(1, 2)
