"""Upscale a clip by a model of super-resolution, window after window, tile by tile.

The network is shown the low-resolution frames, enlarged, and the large frames that the window before has made. Its
correction of the enlarged frames is added with a weight that is measured on the film itself, made small. A scale above
the model's takes it several times; each pass is shown the frames made before, made as small as its own result.

Shapes: 1 clip, c channels of the network, t frames of a window, h w pixels of the input, H W pixels of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from vidiff_cli.diffusion.guidance import hold_known, project_known, reconstruct, threshold
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Noise, ddpm
from vidiff_cli.events import Event, Note
from vidiff_cli.frames import Window
from vidiff_cli.generation.frame_store import FrameStore, ReadableFrames
from vidiff_cli.generation.made_frames import resume_windows, write_windows
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.luma import LUMA
from vidiff_cli.models.codec import is_gray
from vidiff_cli.models.denoiser import noise_ratio
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.pixels import clip_from_uint8, quantize_8bit
from vidiff_cli.resize import enlarge, in_part, low_resolution, padded, shrink
from vidiff_cli.sampling.tiles import denoise_in_tiles, plan_tiles, seen_pixels
from vidiff_cli.sampling.windows import take_made, window_noise

CPU_SIDE = 128  # pixels
# Tensors of a window's large frames that are there at the same time: `python -m benchmarks upscale memory`, rounded up.
IN_ONE_STEP, IN_STEPS = 4, 15
LOW = 1  # the last part of the noise of low-resolution frames, which is not that of large ones


class LowClip(Protocol):
    """Low-resolution frames and their rate."""

    @property
    def frames(self) -> ReadableFrames: ...
    @property
    def fps(self) -> Fraction: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class UpscaleSetup:
    """A model and its sampling: `passes` of it, each in `steps` of a `sampler`, of which `samples` are averaged.

    `augmentation` is the noise on its input, a place on the schedule. `weight` is that of its correction of the
    enlarged frames.
    """

    model: UNetModel
    passes: int
    steps: int
    sampler: Literal["dpmpp-2m", "ddim", "ddpm"]
    samples: int
    augmentation: float
    prompt: str
    tile: int
    weight: float = 1.0

    @property
    def scale_of_pass(self) -> int:
        """Scale of one pass."""
        return self.model.scale

    @property
    def scale(self) -> int:
        """Scale of all passes together."""
        return self.scale_of_pass**self.passes

    @property
    def factor(self) -> int:
        """Rate of its frames, in rates of those that it is given."""
        return 1

    def count(self, frames: int) -> int:
        """Number of frames that it makes of so many."""
        return frames

    @property
    def tensors(self) -> int:
        """Tensors of a window's large frames that are there at the same time."""
        return IN_ONE_STEP if self.steps == 1 else IN_STEPS

    @property
    def typical_side(self) -> int:
        """Side of a part of a frame that is as fast, for each of its pixels, as all of it: a CPU needs no more."""
        return min(self.tile, CPU_SIDE) if self.model.device.type == "cpu" else self.tile

    def seen_pixels(self, height: int, width: int) -> int:
        """Pixels that the network sees of a large frame: with the borders of the tiles."""
        return seen_pixels(height, width, *self.model.tile_sides(self.tile))

    def walk(
        self, low: Tensor, known: Tensor | None, observed: Tensor, times: Tensor, z: Tensor, noise: Noise
    ) -> Tensor:
        """Walk z (1 c t H W) from noise to large frames in [-1, 1], given the low-resolution ones (1 c t h w), with
        their noise, and large frames `known` (1 c t H W) where they are `observed` (1 t).

        A single step is taken in each tile by itself: beside z and the result, no tensor has the size of the frame.
        """
        if self.steps > 1:
            whole = self.model.upscaler(
                low, times, observed, self.prompt, augmentation=self.augmentation, tile=self.tile
            )
            return self.sample(self._hold(whole, known, observed), z, noise)
        part = self.model.upscaler_part(low, times, observed, self.prompt, augmentation=self.augmentation)

        def step(z: Tensor, level: Tensor, rows: slice, columns: slice) -> Tensor:
            seen = None if known is None else known[..., rows, columns]
            return self.sample(self._hold(lambda z, level: part(z, level, rows, columns), seen, observed), z, noise)

        side, border = self.model.tile_sides(self.tile)
        return denoise_in_tiles(step, tile=side, border=border)(z, times)

    def _hold(self, denoise: Denoise, known: Tensor | None, observed: Tensor) -> Denoise:
        if known is None:
            return denoise
        return hold_known(denoise, known, observed, level=self.model.level_at(0.0))

    def sample(self, denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
        """Walk z from noise to frames in [-1, 1]."""
        levels, bounded = self.model.levels(self.steps), threshold(denoise)
        if self.sampler == "ddpm":
            return ddpm(bounded, z, levels, noise=noise)
        return SAMPLERS[self.sampler](bounded, z, levels)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedUpscaleSetup(UpscaleSetup):
    """A model of large frames, led to those that are the input when they are made small by `guided_scale` (VDM, section
    3.1)."""

    guided_scale: int

    @property
    def scale_of_pass(self) -> int:
        """Scale of one pass."""
        return self.guided_scale

    @property
    def tensors(self) -> int:
        """As an upscaler in several steps, with the gradient."""
        return IN_STEPS

    @property
    def typical_side(self) -> int:
        """It sees the whole frame."""
        return max(self.model.height, self.model.width)

    def seen_pixels(self, height: int, width: int) -> int:
        """It sees the whole frame."""
        return height * width

    def walk(
        self, low: Tensor, known: Tensor | None, observed: Tensor, times: Tensor, z: Tensor, noise: Noise
    ) -> Tensor:
        """As an upscaler's. The weight of the guidance is the one that is exact where z alone tells of x: a pixel of
        the input is the mean of scale^2 large ones."""
        model, scale = self.model, self.guided_scale
        guidance = 1.0 if model.is_distilled else model.guidance_scale
        free = model.denoiser(times, observed, [self.prompt], scale=guidance, known=known, observed=observed)
        smaller, larger = partial(shrink, scale=scale), partial(enlarge, scale=scale)
        covariance = None if model.prior.is_white else model.prior.covariance(low.shape[2])
        guided = reconstruct(self._hold(free, known, observed), low, smaller, float(scale**2), covariance=covariance)
        return self.sample(project_known(guided, low, smaller, larger), z, noise)


def count_upscale_passes(scale: Fraction, of_model: int) -> int:
    """Passes of a model that reach a scale."""
    passes = 1
    while of_model**passes < scale:
        passes += 1
    return passes


def default_overlap(model: UNetModel, steps: int) -> int:
    """Frames that a window observes of the one before: none where one step gives the mean, to which they add nothing,
    or of a model that was not trained on known frames; else half a window."""
    return 0 if steps == 1 or "learned" not in model.conditions else model.frames // 2


def upscale_into(
    setup: UpscaleSetup,
    clip: LowClip,
    windows: Sequence[Window],
    store: FrameStore,
    *,
    seed: int,
    journal: WindowJournal | None,
    what: str = "windows",
) -> Iterator[Event]:
    """Upscale a clip into a store, going on after the windows that an interrupted call has kept.

    Args:
        setup: How the model upscales.
        clip: The frames at their own size.
        windows: The windows, in order.
        store: Large frames, those of the journal.
        seed: Seed of all noise.
        journal: Keeps finished windows.
        what: Unit of the progress.

    Yields:
        Notes, and progress per window.

    Raises:
        VidiffError: As `write_windows`.
    """
    start = 0
    if journal is not None:
        batches = [range(number, number + 1) for number in range(len(windows))]
        start = yield from resume_windows(journal, windows, store, batches)
    passes = setup.passes * setup.steps * setup.samples * len(windows)
    if start < len(windows) and setup.model.compile_before(passes):
        yield Note("The network is compiled first, which takes a minute or more.")
    made = upscale_windows(setup, clip, windows, store, seed=seed, start=start)
    yield from write_windows(windows, made, store, start=start, journal=journal, what=what)


def upscale_windows(
    setup: UpscaleSetup, clip: LowClip, windows: Sequence[Window], store: FrameStore, *, seed: int, start: int = 0
) -> Iterator[list[Tensor]]:
    """Upscale the frames of a clip.

    Args:
        setup: How the model upscales.
        clip: The frames at their own size.
        windows: The windows, in order.
        store: Large frames; those that a window makes must be there before the next one is taken.
        seed: Seed of all noise.
        start: Number of windows that are there already.

    Yields:
        The large frames that each window makes (1 3 t H W).
    """
    device, rate = setup.model.device, known_rate(setup.model, clip.fps)
    for number, window in enumerate(windows[start:], start):
        low = clip_from_uint8(clip.frames.read(window.frames)).to(device)
        seen = sorted(window.observed)
        known = None
        if seen:
            known = low.new_zeros(*low.shape[:3], *(setup.scale * side for side in low.shape[-2:]))
            places = [window.frames.index(frame) for frame in seen]
            known[:, :, places] = clip_from_uint8(store.read(seen)[:, 0]).to(device)
        observed = torch.tensor([[frame in window.observed for frame in window.frames]], device=device)
        yield [take_made(window, upscale_window(setup, low, known, observed, rate=rate, seeds=(seed, number)))]


def upscale_window(
    setup: UpscaleSetup, low: Tensor, known: Tensor | None, observed: Tensor, *, rate: float, seeds: tuple[int, int]
) -> Tensor:
    """Upscale the frames of a window.

    Args:
        setup: How the model upscales.
        low: The low-resolution frames in [-1, 1] (1 3 t h w).
        known: Large frames (1 3 t H W); None where none is observed.
        observed: True where `known` counts (1 t).
        rate: Frames per second, as the network is told.
        seeds: Seed and number of the window.

    Returns:
        The large frames (1 3 t H W), as an 8-bit file holds them.
    """
    times = torch.arange(low.shape[2], device=low.device)[None] / rate
    for number in range(setup.passes):
        smaller = setup.scale_of_pass ** (setup.passes - 1 - number)
        seen = known if known is None or smaller == 1 else low_resolution(known, smaller)
        low = _one_pass(setup, low, seen, observed, times, (*seeds, number))
        if seen is not None:
            low = torch.where(observed[:, None, :, None, None], seen, low)
    return low


def _one_pass(
    setup: UpscaleSetup, low: Tensor, known: Tensor | None, observed: Tensor, times: Tensor, seeds: tuple[int, int, int]
) -> Tensor:
    """The frames at the model's scale (1 3 t h w -> 1 3 t H W), in 8 bits.

    Frames are padded to sides that the network takes. What a model of luma corrects is added to all three colors.
    """
    model, scale, (seed, number, place) = setup.model, setup.scale_of_pass, seeds
    height, width = (scale * side for side in low.shape[-2:])
    low = padded(low, model.multiple // math.gcd(model.multiple, scale))
    shown = _as_network(model, low)
    like = shown.new_empty(1).expand(*shown.shape[:3], *(scale * side for side in low.shape[-2:]))
    if setup.augmentation:
        drawn = window_noise([seed], [number], 1, place, LOW)(shown, None)
        shown = shown + noise_ratio(torch.tensor(setup.augmentation)).to(shown) * drawn
    if known is not None:
        known = _as_network(model, padded(known, model.multiple))
    noises = [window_noise([seed + sample], [number], 1, place, prior=model.prior) for sample in range(setup.samples)]
    total = setup.walk(shown, known, observed, times, noises[0](like, None), noises[0])
    for noise in noises[1:]:
        total += setup.walk(shown, known, observed, times, noise(like, None), noise)
    return _weighed(setup, low, total, (height, width))


def _weighed(setup: UpscaleSetup, low: Tensor, total: Tensor, size: tuple[int, int]) -> Tensor:
    """The enlarged frames with the weighed correction of the sum of all samples, tile by tile, of `size` (h w)."""
    large = low.new_empty(*low.shape[:3], *size)
    for tile in plan_tiles(*total.shape[-2:], tile=setup.tile, border=0):
        enlarged = in_part(enlarge, low, setup.scale_of_pass, tile.rows, tile.columns)
        plain = _as_network(setup.model, enlarged)
        made = enlarged + setup.weight * (total[..., tile.rows, tile.columns] / setup.samples - plain)
        place = large[..., tile.rows, tile.columns]
        place.copy_(quantize_8bit(made[..., : place.shape[-2], : place.shape[-1]]))
    return large


def known_rate(model: UNetModel, fps: Fraction) -> float:
    """The rate of frames, or the nearest one that the model was trained at."""
    slowest, fastest = model.rates
    return float(min(max(fps, slowest), fastest))


def _as_network(model: UNetModel, video: Tensor) -> Tensor:
    """RGB frames as the network takes them: (1 3 t h w) -> (1 c t h w)."""
    if not is_gray(model.codec):
        return video
    return (video * video.new_tensor(LUMA)[:, None, None, None]).sum(1, keepdim=True)
