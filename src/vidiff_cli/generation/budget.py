"""Time, memory and disk of a generation, estimated before anything is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from vidiff_cli.device import available_memory, synchronize
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note
from vidiff_cli.generation.frame_store import free_bytes
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.families import VideoModel

LONG_SECONDS = 60  # shorter times are not worth a note
MEMORY_SHARE = 0.5  # of what is free: where guidance would keep more, it keeps less and computes more
MAX_FRAMES = 1_000_000  # of one video: each has a time, which is an object


def check_amount(frames: int, width: int, height: int, folder: Path) -> None:
    """Raise VidiffError for more frames than the disk of the result has room for, or than can be counted."""
    size, fix = f"{frames:,} frames of {width}x{height}", "make fewer, or go on from the result"
    if frames > MAX_FRAMES:
        raise VidiffError("too many frames requested", found=size, expected=f"at most {MAX_FRAMES:,}", fix=fix)
    room = free_bytes(folder) // (width * height * 3)
    if frames > room:
        subject = f"not enough space in {folder} for temporary frames"
        raise VidiffError(subject, found=size, expected=f"at most {room:,}", fix=fix)


def save_memory(model: VideoModel, setup: SamplingSetup, shape: Sequence[int]) -> Iterator[Event]:
    """Turn gradient checkpointing on for the guidance of windows of `shape` (b c t h w), where it is asked for or
    needed."""
    if setup.condition != "reconstruction" or setup.gradient_checkpointing == "off":
        return
    needed = 2 * model.kept_bytes(shape)  # with and without the prompt
    short = needed > MEMORY_SHARE * available_memory(model.device)
    if short and setup.gradient_checkpointing == "auto":
        yield Note(f"Guidance would keep {needed / 2**30:.1f} GiB: parts of the network are computed twice instead.")
    if short or setup.gradient_checkpointing == "on":
        model.recompute()


def estimate_seconds(model: VideoModel, setup: SamplingSetup, job: VideoJob, shape: Sequence[int]) -> float:
    """Wall seconds that a job will take, from a measured pass of the network over a window of `shape` (b c t h w)."""
    z = torch.zeros(*shape, device=model.device)
    times = torch.zeros(shape[0], shape[2], device=model.device)
    denoise = model.denoiser(times, times > 0, [""] * shape[0], scale=1.0)
    return measure_seconds(model.device, lambda: denoise(z, times), count_passes(setup, job))


def measure_seconds(device: torch.device, once: Callable[[], object], times: float) -> float:
    """Wall seconds of calling `once` so many times.

    The first call is slower than those that follow: only where it makes the work look long, a second one is measured.
    """
    for _ in range(2):
        synchronize(device)
        began = time.perf_counter()
        with torch.no_grad():
            once()
        synchronize(device)
        seconds = times * (time.perf_counter() - began)
        if seconds <= LONG_SECONDS:
            break
    return seconds


def count_passes(setup: SamplingSetup, job: VideoJob) -> int:
    """Count the network passes of a job."""
    free = 1 + setup.guides_by_text(job.prompts(0))
    shown = free * setup.history_parts + (setup.history_guidance != 1)
    if job.rolling is not None:
        return job.rolling.slots * job.rolling.steps_per_slot(setup.steps) * shown
    return setup.passes * sum(shown if window.observed else free for window in job.windows)


def note_long(seconds: float) -> Iterator[Event]:
    """Say how long it will take, where that is worth a note."""
    if seconds > LONG_SECONDS:
        yield Note(f"This will take about {seconds / 60:.0f} minutes.")
