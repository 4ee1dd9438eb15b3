"""The training loader against the peer's, and its share of a train step.

    python -m benchmarks loader

The same clips (16 frames of 64x64, smooth textures that move) lie in a dataset of vidiff and in a folder of GIFs, as
the peer's Dataset reads them. Both make batches of 32 in random order in one thread, without workers; contestants take
turns, one warm-up and five rounds each, and the median of their process time counts: files are in the system's cache.
vidiff's batch is the bytes that go to the device with all that a step needs but the noise; the peer's are numbers.

The share: the CPU time of reading a batch and turning it into numbers (and of drawing its noise, given apart) over that
of a whole train step of the small preset on a CPU, with these clips. Writes benchmarks/results/loader.json.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count, cycle, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import peer
from benchmarks.machine import save
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.dataset.dataset import Clip, DatasetSpec, open_dataset, write_clips, write_shards, write_spec
from vidiff_cli.device import choose_device
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.runs.setup import model_settings, open_clip_source
from vidiff_cli.text.patch_torchvision import patch_torchvision_nms
from vidiff_cli.training.loader import BatchSpec, ClipSource, read_batch, to_device
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState
from vidiff_cli.video.encode import encode

CLIPS, FRAMES, SIDE, BATCH, ROUNDS = 512, 16, 64, 32, 5
MINE_PER_ROUND, PEER_PER_ROUND = 64, 2  # batches
STEPS, STEP_BATCH = 4, 4


def main() -> None:
    device = choose_device("cpu")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder)
        mine, theirs = vidiff_batches(folder / "dataset"), peer_batches(folder / "gifs")
        found = in_turns(mine, theirs)
        share = share_of_a_step(folder / "dataset", device)
    rates = {name: BATCH / seconds for name, seconds in found.items()}
    figures = {
        "clips": CLIPS,
        "shape": [FRAMES, SIDE, SIDE],
        "batch": BATCH,
        "rounds": ROUNDS,
        "clips_per_cpu_second": rates,
        "train_step": share,
    }
    figures["rows"] = [
        {"row": "16", "what": "clips per CPU second", "value": rates["vidiff"], "floor": ">= 20000"},
        {"row": "16", "what": "over the peer's GIFs", "value": rates["vidiff"] / rates["peer"], "floor": ">= 50"},
        {"row": "17", "what": "share of a train step", "value": share["loading_share"], "floor": "<= 0.01"},
    ]
    for row in figures["rows"]:
        print(f"{row['row']:>3}  {row['what']:30} {row['value']:12.4f}  (floor {row['floor']})", file=sys.stderr)
    save("loader", {"peer": peer.versions(), **figures})


def make(folder: Path) -> None:
    """The clips as a dataset and as GIFs."""
    clips = [texture(number) for number in range(CLIPS)]
    shard_of = write_shards(folder / "dataset", ((f"clip-{n:04d}", clip) for n, clip in enumerate(clips)))
    rows = [
        Clip(
            id=f"clip-{n:04d}",
            source=f"{n}.mp4",
            start_seconds=0.0,
            fps="8",
            frames=FRAMES,
            captions=["a texture that moves"],
            split="train",
            shard=shard_of[f"clip-{n:04d}"],
            group=None,
            width=SIDE,
            height=SIDE,
        )
        for n in range(CLIPS)
    ]
    write_clips(folder / "dataset", rows)
    spec = DatasetSpec(
        vidiff="0",
        width=SIDE,
        height=SIDE,
        frames=FRAMES,
        fps="8",
        buckets={f"{SIDE}x{SIDE}": CLIPS},
        sources=CLIPS,
        kept=CLIPS,
        clips=CLIPS,
        splits={"train": CLIPS, "val": 0},
        captions_matched=CLIPS,
        captions_missing=0,
        seconds_of_video=0.0,
        bytes=0,
        fingerprint="",
        settings={},
    )
    write_spec(folder / "dataset", spec)
    (folder / "gifs").mkdir()
    for n, clip in enumerate(clips):
        encode(folder / "gifs" / f"{n:04d}.gif", clip, Fraction(8))


def texture(number: int) -> np.ndarray:
    """A smooth colored texture under a window that moves (t h w c)."""
    rng = np.random.default_rng(number)
    wide = SIDE + 2 * FRAMES
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    large = np.asarray(small.resize((wide, wide), Image.Resampling.BICUBIC))
    down, right = rng.integers(0, 3, 2)
    return np.stack([large[t * down :, t * right :][:SIDE, :SIDE] for t in range(FRAMES)])


def wanted(settings: TrainSettings, size: int) -> BatchSpec:
    return BatchSpec(
        objective=settings.objective, loader=settings.loader, size=size, window=FRAMES, frame_strides=(1,), seed=0
    )


def vidiff_batches(folder: Path) -> Callable[[], object]:
    settings = TrainSettings(dataset=folder)
    source, steps = open_clip_source(settings, open_dataset(folder)), count()
    return lambda: read_batch(source, wanted(settings, BATCH), next(steps))


def peer_batches(folder: Path) -> Callable[[], object]:
    """As its training class makes them."""
    patch_torchvision_nms()
    from torch.utils.data import DataLoader
    from video_diffusion_pytorch.video_diffusion_pytorch import Dataset  # type: ignore[import-not-found]

    loader = DataLoader(Dataset(folder, SIDE, num_frames=FRAMES), batch_size=BATCH, shuffle=True)
    batches: Iterator[Any] = (batch for epoch in cycle([loader]) for batch in epoch)
    return lambda: next(batches)


def in_turns(mine: Callable[[], object], theirs: Callable[[], object]) -> dict[str, float]:
    """CPU seconds per batch."""
    times: dict[str, list[float]] = {"vidiff": [], "peer": []}
    for number in range(ROUNDS + 1):
        for name, job, batches in (("vidiff", mine, MINE_PER_ROUND), ("peer", theirs, PEER_PER_ROUND)):
            seconds = process_time(job, batches)
            if number:  # the first round warms up
                times[name].append(seconds)
    return {name: median(each) for name, each in times.items()}


def process_time(job: Callable[[], object], repeats: int) -> float:
    began = time.process_time()
    for _ in range(repeats):
        job()
    return (time.process_time() - began) / repeats


def share_of_a_step(folder: Path, device: torch.device) -> dict[str, float]:
    """CPU seconds of a whole train step, and of what the loader does for one."""
    values = preset("small") | {"dataset": folder, "frames": FRAMES, "batch_size": STEP_BATCH, "steps": STEPS + 1}
    settings = TrainSettings.model_validate(values | {"loader": {"workers": 0}, "text": {"kind": "learned"}})
    dataset = open_dataset(folder)
    model = model_settings(settings, dataset)
    source = open_clip_source(settings, dataset)
    state = TrainState(new_video_model(model, 0), settings.optimizer)
    schedule = LRSchedule.of_run(settings.steps, settings.optimizer)
    marks = [time.process_time()]
    reader = state.video_model.caption_reader()
    for _ in train_steps(state, source, settings, schedule, reader=reader, device=device, dtype=torch.bfloat16):
        marks.append(time.process_time())
    step = median(later - earlier for earlier, later in pairwise(marks[1:]))
    loading, noise = loading_and_noise(source, settings, device)
    return {
        "clips": STEP_BATCH,
        "step_seconds": step,
        "loading_seconds": loading,
        "noise_seconds": noise,
        "loading_share": loading / step,
        "noise_share": noise / step,
    }


def loading_and_noise(source: ClipSource, settings: TrainSettings, device: torch.device) -> tuple[float, float]:
    """CPU seconds per batch of reading it and making it numbers, and of drawing its noise."""
    request, steps = wanted(settings, STEP_BATCH), count()
    whole = median(
        process_time(lambda: to_device(read_batch(source, request, step := next(steps)), request, step, device), 20)
        for _ in range(ROUNDS)
    )
    noise = median(
        process_time(lambda: [torch.randn(3, FRAMES, SIDE, SIDE) for _ in range(STEP_BATCH)], 20) for _ in range(ROUNDS)
    )
    return whole - noise, noise
