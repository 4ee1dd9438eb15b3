"""Batches of training steps as a function of (seed, step) alone.

Clips (`bucket_sampler.py`) and choices for them (`clip_sampling.py`) are drawn for the global batch; a rank takes its
slice. Neither the number of ranks or workers nor a resume changes a batch. Shapes: b clips, c channels, t frames, h w
pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.config.train import LoaderSettings, ObjectiveSettings
from vidiff_cli.dataset.schema import Clip
from vidiff_cli.device import send
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.errors import VidiffError
from vidiff_cli.pixels import from_uint8_fast
from vidiff_cli.text.encoder import CaptionReader, CaptionTensors
from vidiff_cli.training.bucket_sampler import BATCH, DROPOUT, IMAGES, LEVELS, SAMPLE, BucketBatchSampler
from vidiff_cli.training.clip_sampling import ClipRows, ClipSample, draw_image, image_count, sample_clip
from vidiff_cli.training.low_resolution import low_clips
from vidiff_cli.training.motion_estimates import estimate_between, estimate_frames

VIDEOS, FRAMES = (
    ("video", "noise", "estimate", "uncertainty", "around"),
    ("u", "times", "observed", "estimated_from", "host_u", "host_observed"),
)  # of a batch


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSource:
    """Clips to train on: `rows`, and `read(index, frame_indices)` -> frames (t h w c), which may be a view: pixels as
    uint8, or latents as float32.

    `shapes` (n, 3) has the frames, height and width of every clip; without it, all have the same frame size.
    """

    rows: ClipRows
    read: Callable[[int, range], np.ndarray]
    shapes: np.ndarray | None = None
    orders: dict[tuple[int, ...], BucketBatchSampler] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    sizes: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def order(self, *, window: int, crop: int, size: int, seed: int) -> BucketBatchSampler:
        """The order of batches; clips of one batch have the same shape once the window and the crop are taken."""
        key = (window, crop, size, seed)
        if key not in self.orders:  # two threads may both make it: either will do
            shapes = self.shapes
            if shapes is None:
                shapes = np.array([[self.rows[number].frames, 0, 0] for number in range(len(self.rows))])
            drawn = np.stack([np.minimum(shapes[:, 0], window), *(shapes[:, 1:].T * (not crop))], axis=1)
            numbers = np.unique(drawn, axis=0, return_inverse=True)[1].reshape(-1)
            self.orders[key] = BucketBatchSampler(numbers, size=size, seed=seed)
        return self.orders[key]

    def name(self, number: int) -> str:
        """Source file and start of clip `number`, where its row has them."""
        row = self.rows[number]
        return f"{row.source} at {row.start_seconds:g} s" if isinstance(row, Clip) else f"clip {number}"

    def of_size(self, row: int, *, crop: int) -> np.ndarray:
        """The numbers of the clips whose frames are as large as those of clip `row`; with a crop, all are."""
        size = (0, 0) if crop or self.shapes is None else tuple(self.shapes[row, 1:].tolist())
        if size not in self.sizes:  # two threads may both make it
            same = self.shapes is None or size == (0, 0) or (self.shapes[:, 1:] == size).all(axis=1)
            self.sizes[size] = np.flatnonzero(np.broadcast_to(same, len(self.rows)))
        return self.sizes[size]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSpec:
    """Batches to draw from a source for one seed: `size` clips over all ranks, windows of `window` frames; with
    `motion`, the motion estimates from observed frames; with `upscale`, the clips enlarged from 1/upscale of their
    size; with `between`, clips whose first and last frame is observed, and the estimate between those."""

    objective: ObjectiveSettings
    loader: LoaderSettings = field(default_factory=LoaderSettings)
    size: int
    window: int
    frame_strides: Sequence[int]
    seed: int
    motion: bool = False
    upscale: int = 0
    between: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.size < self.world:
            raise VidiffError(
                "a step has fewer clips than there are processes",
                found=f"--batch-size {self.size}",
                expected=f"at least {self.world}",
            )

    @property
    def slice(self) -> range:
        """The global sample numbers of this rank: those of all ranks, one after another, are 0, 1, ... size - 1."""
        return range(self.rank * self.size // self.world, (self.rank + 1) * self.size // self.world)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """video (b c t h w), pixels in [-1, 1] or latents of unit variance, noise alike; u (b, t) in [0, 1], the place of
    every frame on the noise schedule; times (b, t) seconds; observed (b, t); dropped (b): no caption. `text` holds
    the captions as the text encoder reads them (None: for a model without one). `rows` (b) are the numbers of the
    clips in the source, `seeds` (b) those of dropout. `context` (b) is the place on the schedule (0 clean, 1 noise)
    at which observed frames are shown (None: clean). The last frames, `images` of them, are images beside the clip.
    `host_u` and `host_observed` are u and observed on the host, for choices that must not wait for a GPU. `estimate`
    (b c t h w) and `uncertainty` (b 1 t h w) are made of the clean frames `estimated_from` (b, t), as in `Conditioning`
    (None for a model without motion). `around` (b 2c+1 t h w) is the estimate as in `Conditioning`: for
    super-resolution the low-resolution clip, with noise at the place `augmentation` (b) of the schedule; for frames
    between given ones that by motion. The noise is white: the model's prior is applied later."""

    video: Tensor
    noise: Tensor
    u: Tensor
    times: Tensor
    observed: Tensor
    dropped: Tensor
    captions: tuple[str, ...]
    text: CaptionTensors | None = None
    rows: tuple[int, ...] = ()
    seeds: Tensor | None = None
    context: Tensor | None = None
    images: int = 0
    estimate: Tensor | None = None
    uncertainty: Tensor | None = None
    estimated_from: Tensor | None = None
    around: Tensor | None = None
    augmentation: Tensor | None = None
    host_u: Tensor | None = None
    host_observed: Tensor | None = None

    @property
    def clip_frames(self) -> int:
        """Frames of a clip, without the images after them."""
        return self.video.shape[2] - self.images

    @property
    def is_image(self) -> Tensor | None:
        """(b, t) True for images; None without any."""
        if not self.images:
            return None
        return (torch.arange(self.u.shape[1], device=self.u.device) >= self.clip_frames).expand(self.u.shape)

    @property
    def on_host(self) -> tuple[Tensor, Tensor]:
        """u and observed on the host."""
        u, observed = self.host_u, self.host_observed
        return self.u.cpu() if u is None else u, self.observed.cpu() if observed is None else observed

    def without_images(self) -> Batch:
        """The clips alone."""
        if not self.images:
            return self
        t = self.clip_frames
        each = {name: getattr(self, name) for name in (*VIDEOS, *FRAMES)}
        cut = {
            name: value[:, :, :t] if name in VIDEOS else value[:, :t]
            for name, value in each.items()
            if value is not None
        }
        return replace(self, **cut, images=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostBatch:
    """A batch in the memory of the host, before its noise: frames (b t h w c) as read, the last of them `images`; the
    rest as in `Batch`."""

    frames: Tensor
    u: Tensor
    times: Tensor
    observed: Tensor
    dropped: Tensor
    captions: tuple[str, ...]
    text: CaptionTensors | None
    rows: tuple[int, ...]
    seeds: Tensor
    context: Tensor | None
    images: int
    estimate: Tensor | None
    uncertainty: Tensor | None
    estimated_from: Tensor | None
    around: Tensor | None
    augmentation: Tensor | None

    def pinned(self) -> HostBatch:
        """The same batch in memory that a GPU copies from while the host goes on."""
        tensors = {name: value for name in _TENSORS if isinstance(value := getattr(self, name), Tensor)}
        text = None if self.text is None else self.text.pinned()
        return replace(self, text=text, **{name: value.pin_memory() for name, value in tensors.items()})


_TENSORS = (
    "frames",
    "seeds",
    "u",
    "times",
    "observed",
    "dropped",
    "context",
    "estimate",
    "uncertainty",
    "estimated_from",
    "around",
    "augmentation",
)  # of a HostBatch


def draw_batch(
    source: ClipSource, spec: BatchSpec, *, step: int, device: torch.device, reader: CaptionReader | None = None
) -> Batch:
    """The batch of `step`: clips of one shape in a seeded order, each once per epoch, windows at random starts and
    frame steps; this rank's slice of it. `reader` reads the captions."""
    return to_device(read_batch(source, spec, step, reader), spec, step, device)


def draw_batches(
    source: ClipSource,
    spec: BatchSpec,
    *,
    start: int,
    stop: int,
    device: torch.device,
    reader: CaptionReader | None = None,
) -> Generator[Batch]:
    """The batches of a range of steps. With workers, threads read some of them ahead until it is closed.

    Args:
        source: The clips.
        spec: The batches to draw from it.
        start: First step.
        stop: Step after the last.
        device: Device of the batches.
        reader: Reads captions for the text encoder; None for a model without one.

    Yields:
        One batch per step.

    Raises:
        VidiffError: A clip cannot be read.
    """
    read = partial(_read_pinned if device.type == "cuda" else read_batch, source, spec, reader=reader)
    workers = spec.loader.workers
    if not workers:
        for step in range(start, stop):
            yield to_device(read(step), spec, step, device)
        return
    threads = torch.get_num_threads()
    # A reader of one thread beside those of the step. What torch sets here is the calling thread's own number (OpenMP);
    # for threads that begin later it is set back below.
    alone = partial(torch.set_num_threads, 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="loader", initializer=alone) as pool:
        ahead: deque[Future[HostBatch]] = deque()
        try:
            for step in range(start, stop):
                while len(ahead) <= workers and step + len(ahead) < stop:
                    ahead.append(pool.submit(read, step + len(ahead)))
                yield to_device(ahead.popleft().result(), spec, step, device)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(threads)


def _read_pinned(source: ClipSource, spec: BatchSpec, step: int, reader: CaptionReader | None = None) -> HostBatch:
    return read_batch(source, spec, step, reader).pinned()


def read_batch(source: ClipSource, spec: BatchSpec, step: int, reader: CaptionReader | None = None) -> HostBatch:
    """The part without a device: clips are read, cropped, mirrored and stacked as they are; captions are read."""
    loader, seed = spec.loader, spec.seed
    rng = np.random.default_rng([seed, BATCH, step])
    rows = source.order(window=spec.window, crop=loader.crop, size=spec.size, seed=seed).rows(step)
    draws = [
        sample_clip(
            source.rows[rows[number]],
            rows[number],
            spec.objective,
            loader,
            window=spec.window,
            frame_strides=spec.frame_strides,
            rng=np.random.default_rng([seed, SAMPLE, step, number]),
            levels=np.random.default_rng([seed, LEVELS, step, number]),
            between=spec.between,
        )
        for number in spec.slice
    ]
    u = (rng.permutation(spec.size) + rng.random()) / spec.size  # stratified: one in each of b equal parts
    seeds = np.random.default_rng([seed, DROPOUT, step]).integers(2**63, size=spec.size, dtype=np.uint64)
    count = image_count(spec.objective.image_fraction, len(draws[0].frames))
    images = [
        _images(source, draw, count, loader, np.random.default_rng([seed, IMAGES, step, number])) if count else []
        for draw, number in zip(draws, spec.slice, strict=True)
    ]
    seen = zip(draws, images, strict=True)
    frames = _stacked((_pixels(source, [draw, *own], loader.crop) for draw, own in seen), len(draws))
    shown = np.stack([draw.observed & (not draw.unmoved) for draw in draws])
    times = np.array([draw.times for draw in draws])
    places = np.repeat(u[spec.slice.start : spec.slice.stop, None], shown.shape[1] + count, axis=1)
    for place, draw in zip(places, draws, strict=True):
        if draw.u is not None:
            place[: len(draw.u)] = draw.u
    clips = frames[:, : shown.shape[1]]
    captions = tuple(draw.caption for draw in draws)
    estimates = (
        [functional.pad(each, (0, 0, 0, 0, 0, count)) for each in estimate_frames(clips, shown, times)]
        if spec.motion
        else [None, None]
    )
    context = np.array([draw.context for draw in draws])
    return HostBatch(
        frames=torch.from_numpy(frames),
        u=torch.from_numpy(places).float(),
        times=torch.from_numpy(np.pad(times, ((0, 0), (0, count)))).float(),
        observed=torch.from_numpy(np.stack([np.pad(draw.observed, (0, count)) for draw in draws])),
        dropped=torch.from_numpy(np.array([draw.dropped for draw in draws])),
        captions=captions,
        text=None if reader is None else reader(captions),
        rows=tuple(draw.row for draw in draws),
        seeds=torch.from_numpy(seeds[spec.slice.start : spec.slice.stop].astype(np.int64)),
        context=torch.from_numpy(context).float() if spec.objective.context_noise else None,
        images=count,
        estimate=estimates[0],
        uncertainty=estimates[1],
        estimated_from=torch.from_numpy(np.pad(shown, ((0, 0), (0, count)))) if spec.motion else None,
        around=estimate_between(clips, shown, times, [draw.motion_share for draw in draws]) if spec.between else None,
        augmentation=torch.tensor([draw.augmentation for draw in draws]) if spec.upscale else None,
    )


def _images(
    source: ClipSource, clip: ClipSample, count: int, loader: LoaderSettings, rng: np.random.Generator
) -> list[ClipSample]:
    """Images to stand beside a clip. The network reads one caption for all of them, which has to be true: beside a clip
    without its caption they are frames of other clips, as in VDM (section 3.1); with it, frames of the clip itself."""
    rows = [clip.row] * count
    if clip.dropped:
        alike = source.of_size(clip.row, crop=loader.crop)
        place = rng.integers(max(1, len(alike) - 1), size=count)
        place += (place >= np.searchsorted(alike, clip.row)) & (len(alike) > 1)  # all but the clip itself
        rows = alike[place].tolist()
    return [draw_image(source.rows[number], number, loader, rng=rng) for number in rows]


def _pixels(source: ClipSource, draws: Sequence[ClipSample], crop: int) -> np.ndarray:
    """The frames of some draws, one after another (t h w c): of a single draw, a view."""
    parts = [draw.crop_frames(source.read(draw.row, draw.frames), crop) for draw in draws]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _stacked(clips: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Clips of one shape as one array; read and copied one after another, while they are in the processor's cache."""
    batch: np.ndarray | None = None
    for place, clip in enumerate(clips):
        if batch is None:
            batch = np.empty((count, *clip.shape), dtype=clip.dtype)
        batch[place] = clip
    assert batch is not None
    return batch


def to_device(host: HostBatch, spec: BatchSpec, step: int, device: torch.device) -> Batch:
    """Frames go to the device, and bytes become numbers there; the noise is drawn there. The host does not wait."""
    video = to_network(host.frames, device)
    noise = torch.empty_like(video)
    for place, number in enumerate(spec.slice):
        torch.randn(noise.shape[1:], generator=seeded(spec.seed, step, number, device=device), out=noise[place])
    augmentation = send(host.augmentation, device)
    around = send(host.around, device)
    if augmentation is not None:
        seeds = [(spec.seed, step, number) for number in spec.slice]
        around = low_clips(video, spec.upscale, augmentation, seeds)
    return Batch(
        video=video,
        noise=noise,
        u=send(host.u, device),
        times=send(host.times, device),
        observed=send(host.observed, device),
        dropped=send(host.dropped, device),
        captions=host.captions,
        text=None if host.text is None else host.text.to(device),
        rows=host.rows,
        seeds=send(host.seeds, device),
        context=send(host.context, device),
        images=host.images,
        estimate=send(host.estimate, device),
        uncertainty=send(host.uncertainty, device),
        estimated_from=send(host.estimated_from, device),
        around=around,
        augmentation=augmentation,
        host_u=host.u,
        host_observed=host.observed,
    )


def to_network(frames: Tensor, device: torch.device) -> Tensor:
    """Frames (b t h w c) as they are read, for the network: b c t h w on its device, pixels in [-1, 1]."""
    values = send(frames, device).permute(0, 4, 1, 2, 3).contiguous()
    return from_uint8_fast(values) if values.dtype == torch.uint8 else values
