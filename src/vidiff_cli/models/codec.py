"""Codecs: maps between frames and the values z that a network is trained on.

Shapes: frames b 3 n h w in [-1, 1] (b 1 n h w of a gray model); z b c m h/s w/s with m = groups of frames and s pixels
per value along each side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Codec(Protocol):
    """A codec compresses each side by `spatial` and time by `temporal`: n = 1 + temporal (m - 1) frames have m values
    along time. With `temporal` 1 every frame has values of its own, which do not depend on the others.

    `is_identity`: z are the pixels themselves, which lie in [-1, 1].
    """

    @property
    def channels(self) -> int: ...
    @property
    def spatial(self) -> int: ...
    @property
    def temporal(self) -> int: ...
    @property
    def is_identity(self) -> bool: ...

    def encode(self, frames: Tensor) -> Tensor:
        """z of frames."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Frames of z."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelCodec:
    """The codec of a network that works on pixels: z are the frames."""

    channels: int = 3
    spatial: int = 1
    temporal: int = 1
    is_identity: bool = True

    def encode(self, frames: Tensor) -> Tensor:
        """The frames."""
        return frames

    def decode(self, z: Tensor) -> Tensor:
        """The frames."""
        return z


def is_gray(codec: Codec) -> bool:
    """True for a network that works on luma: the frames that it makes are gray."""
    return codec.is_identity and codec.channels == 1


def z_length(codec: Codec, frames: int) -> int:
    """Values along time of so many frames. ValueError for a count that does not fill its groups."""
    if frames < 1 or (frames - 1) % codec.temporal:
        raise ValueError(f"{frames} frames do not fill groups of {codec.temporal} after the first")
    return 1 + (frames - 1) // codec.temporal


def floor_length(codec: Codec, frames: int) -> int:
    """The largest number of frames up to `frames` that fills its groups: at least 1, where it has groups."""
    return frames if codec.temporal == 1 else 1 + max(0, frames - 1) // codec.temporal * codec.temporal


def ceil_length(codec: Codec, frames: int) -> int:
    """The smallest number of frames from `frames` on that fills its groups."""
    return frames if codec.temporal == 1 else 1 + -(-max(0, frames - 1) // codec.temporal) * codec.temporal


def z_shape(codec: Codec, clips: int, frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
    """Shape of z of `clips` clips of frames of this size."""
    side = codec.spatial
    return clips, codec.channels, z_length(codec, frames), height // side, width // side
