"""Windows of frames as the windows of z that a network samples: what it observes is encoded, what it makes decoded.

Shapes: b clips, c channels of z, n frames or values along time, h w the sides of z, H W those of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from vidiff_cli.frames import Window
from vidiff_cli.generation.frame_store import FrameArray, FrameStore
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.luma import to_gray
from vidiff_cli.models.codec import Codec, is_gray, z_length
from vidiff_cli.pixels import from_uint8, quantize_8bit
from vidiff_cli.sampling.windows import take_made

AT_ONCE = 4  # frames that are decoded together
CACHED = 256  # given frames whose values are kept


class WindowCodec(Protocol):
    """`windows` are those of a job in values along time, in the same order."""

    @property
    def windows(self) -> Sequence[Window]: ...

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Known values (b c n h w) by their number in `windows`."""
        ...

    def finish(self, window: Window, z: Tensor) -> Tensor:
        """The frames (b 3 m H W) in [-1, 1] that a window of `windows` makes, from its sampled z (b c n h w)."""
        ...


def window_codec(codec: Codec, job: VideoJob, store: FrameStore, device: torch.device) -> WindowCodec:
    """The window codec that goes with a codec; `store` has latents where `latent_shape` says so."""
    if codec.is_identity:
        return PixelWindows(job, store, device, gray=is_gray(codec))
    if codec.temporal > 1:
        return GroupWindows(codec, job, store, device)
    assert store.latents is not None, "a codec by frame keeps the values of made frames"
    return LatentWindows(codec, job, store, device, store.latents)


def latent_shape(codec: Codec, clips: int, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Shape (b c h w) of the values of a made frame that are kept until the video is complete; None where none are."""
    if codec.is_identity or codec.temporal > 1:
        return None
    return clips, codec.channels, height // codec.spatial, width // codec.spatial


class PixelWindows:
    """z are the frames themselves, or their luma, which makes gray frames."""

    def __init__(self, job: VideoJob, store: FrameStore, device: torch.device, *, gray: bool) -> None:
        self.windows, self._job, self._store, self._device = job.windows, job, store, device
        self._gray = gray

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Frames of the store."""
        return _read_frames(self._store, numbers, self._device, gray=self._gray)

    def finish(self, window: Window, z: Tensor) -> Tensor:
        """The made frames, rounded to 8 bits."""
        made = take_made(window, z)
        return _round(self._job, made.expand(-1, 3, -1, -1, -1) if self._gray else made)


class LatentWindows:
    """Every frame has values of its own: given frames are encoded once, made ones keep what was sampled, so that
    nothing is encoded and decoded again from window to window."""

    def __init__(
        self, codec: Codec, job: VideoJob, store: FrameStore, device: torch.device, latents: FrameArray
    ) -> None:
        self.windows, self._job, self._store, self._device = job.windows, job, store, device
        self._codec, self._latents = codec, latents
        self._made = frozenset[int]().union(*(window.makes for window in job.windows))
        self._given: dict[int, Tensor] = {}

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Values of given and of made frames."""
        if not numbers:
            clips, *shape = self._latents.shape
            return torch.zeros(clips, shape[0], 0, *shape[1:], device=self._device)
        values = [self._read_made(number) if number in self._made else self._encode(number) for number in numbers]
        return torch.stack(values, dim=2).to(self._device)

    def finish(self, window: Window, z: Tensor) -> Tensor:
        """Keep the made values and decode them, a few frames at a time."""
        made = take_made(window, z)
        self._latents.write(sorted(window.makes), made.permute(2, 0, 1, 3, 4).float().cpu().contiguous().numpy())
        frames = torch.cat([self._codec.decode(part) for part in made.split(AT_ONCE, dim=2)], dim=2)
        return _round(self._job, frames)

    def _read_made(self, number: int) -> Tensor:
        return torch.from_numpy(self._latents.read([number])[0])

    def _encode(self, number: int) -> Tensor:
        """Values (b c h w) of a given frame. Encoded alone: in a batch its last bits would depend on its neighbors."""
        if number not in self._given:
            frames = _read_frames(self._store, [number], self._device)
            values = torch.cat([self._codec.encode(frame) for frame in frames.split(1)])
            while len(self._given) >= CACHED:
                del self._given[next(iter(self._given))]
            self._given[number] = values[:, :, 0].float().cpu()
        return self._given[number]


class GroupWindows:
    """Values stand for groups of frames: the frames that a window observes are encoded anew, as a clip of their own.

    The values of a group depend on all frames before it, so that they are not the same in another window. A window has
    adjacent frames, and observes the first of them, as many as fill their groups.
    """

    def __init__(self, codec: Codec, job: VideoJob, store: FrameStore, device: torch.device) -> None:
        self._codec, self._job, self._store, self._device = codec, job, store, device
        self._span = max((z_length(codec, len(window.frames)) for window in job.windows), default=1)
        self.windows = [self._in_groups(number, window) for number, window in enumerate(job.windows)]

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Values of the first frames of one window."""
        if not numbers:
            clips, height, width, _ = self._store.made.shape
            side = self._codec.spatial
            return torch.zeros(clips, self._codec.channels, 0, height // side, width // side, device=self._device)
        window = self._job.windows[numbers[0] // self._span]
        seen = 1 + (len(numbers) - 1) * self._codec.temporal
        frames = _read_frames(self._store, window.frames[:seen], self._device)
        return torch.cat([self._codec.encode(clip) for clip in frames.split(1)]).float()

    def finish(self, window: Window, z: Tensor) -> Tensor:
        """Decode a whole window and take what it makes."""
        of_frames = self._job.windows[window.frames[0] // self._span]
        frames = torch.cat([self._codec.decode(clip) for clip in z.split(1)])
        return _round(self._job, take_made(of_frames, frames))

    def _in_groups(self, number: int, window: Window) -> Window:
        seen = len(window.observed)
        if any(late - early != 1 for early, late in pairwise(window.frames)) or window.observed != frozenset(
            window.frames[:seen]
        ):
            raise ValueError(f"window {number} does not continue adjacent frames")
        first, known = number * self._span, z_length(self._codec, seen) if seen else 0
        values = range(first, first + z_length(self._codec, len(window.frames)))
        return Window(frames=tuple(values), observed=frozenset(values[:known]), makes=frozenset(values[known:]))


def _read_frames(store: FrameStore, ranks: Sequence[int], device: torch.device, *, gray: bool = False) -> Tensor:
    """Frames of a store, or their luma, for the network (b c n h w)."""
    frames = store.read(ranks)
    frames = to_gray(frames) if gray else frames
    return from_uint8(torch.from_numpy(frames)).permute(1, 4, 0, 2, 3).contiguous().to(device)


def _round(job: VideoJob, frames: Tensor) -> Tensor:
    return quantize_8bit(frames if job.anchor is None else job.anchor(frames))
