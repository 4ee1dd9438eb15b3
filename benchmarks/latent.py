"""Training on latents against training on pixels, at equal CPU time, on clips of the shapes world.

    python -m benchmarks latent [SECONDS]

A small AutoencoderKL is trained on single frames first (half of SECONDS; a public autoencoder is there already, so that
this time does not count). Then two networks of the preset tiny with half of its channels get SECONDS (30) of CPU time
each, the encoding of all clips included: one on pixels of 16x16, one on latents of 8x8, whose steps are cheaper.
Neither is shown the estimate by motion. Both are asked for the same: the four frames after the first four of held-out
clips, whose motion is straight, as pixels. "One pass" is the network's estimate from noise, decoded: the held-out loss
of the noisiest level in pixels; "sampled" is 8 steps. The autoencoder's own error bounds what latents can reach. Writes
benchmarks/results/latent.json.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.machine import save
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.dataset.dataset import Dataset, DatasetSpec, open_dataset, write_clips, write_shards, write_spec
from vidiff_cli.dataset.world_dataset import open_clips
from vidiff_cli.device import choose_device
from vidiff_cli.diffusion.guidance import hold_known
from vidiff_cli.diffusion.levels import grid
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.diffusion.samplers import ddim
from vidiff_cli.models.codec import Codec, PixelCodec
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.public.autoencoder import open_latent_codec
from vidiff_cli.models.public.packages import import_package
from vidiff_cli.models.video_model import VideoNetwork, new_video_model
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.runs.latents import choose_autoencoder, open_latents
from vidiff_cli.runs.setup import consistent, model_settings, open_clip_source
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState

CPU, SIDE, FRAMES, GIVEN = torch.device("cpu"), 16, 8, 4
CLIPS, HELD_OUT, BATCH, STEPS, TIMED = 256, 32, 8, 8, 6
NETWORK = {"base_channels": 24, "embedding": 96}  # of the preset tiny, with half of its channels


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    choose_device("cpu")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = write_world(folder / "data")
        frames_error, autoencoder = train_autoencoder(folder / "autoencoder", data, seconds / 2)
        figures: dict[str, Any] = {"seconds": seconds, "autoencoder": autoencoder}
        for name in ("pixels", "latents"):
            figures[name] = contest(name, data, folder / "autoencoder", seconds)
            print(name, figures[name], file=sys.stderr, flush=True)
    for kind in ("one_pass", "sampled"):
        ratio = figures["latents"][kind]["mse"] / figures["pixels"][kind]["mse"]
        figures[f"{kind}_latents_over_pixels"] = ratio
        print(f"{kind}: error of latents over that of pixels {ratio:.3f}", file=sys.stderr)
    print(f"the autoencoder alone: {frames_error:.2e}", file=sys.stderr)
    save("latent", figures)


def write_world(folder: Path) -> Dataset:
    """Clips of one object that moves straight on black, as a dataset."""
    world = {"part": "straight", "size": SIDE, "clips": CLIPS, "held_out": HELD_OUT}
    drawn = open_clips(TrainSettings.model_validate({"dataset": "world:shapes", "world": world}))
    rows = [replace(drawn.clips[number], id=f"clip-{number:05d}", frames=FRAMES) for number in range(len(drawn))]
    shards = write_shards(folder, ((row.id, drawn.frames(number)[:FRAMES]) for number, row in enumerate(rows)))
    write_clips(folder, [replace(row, shard=shards[row.id], width=SIDE, height=SIDE) for row in rows])
    values = drawn.spec.model_dump() | {"frames": FRAMES, "buckets": {f"{SIDE}x{SIDE}": len(rows)}}
    write_spec(folder, DatasetSpec.model_validate(values))
    return open_dataset(folder)


def train_autoencoder(folder: Path, data: Dataset, seconds: float) -> tuple[float, dict[str, Any]]:
    """Train an AutoencoderKL on frames for some CPU seconds; its mean squared error on held-out frames."""
    kind, began = import_package("diffusers").AutoencoderKL, time.process_time()
    torch.manual_seed(0)
    vae: Any = kind(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        layers_per_block=1,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    optimizer, rng = torch.optim.AdamW(vae.parameters(), lr=2e-3), np.random.default_rng(0)
    steps, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 2 * (1 - spent / seconds) + 0.02)
        video = torch.cat([frame_of(data, int(number), rng) for number in rng.integers(CLIPS, size=16)])
        posterior = vae.encode(video).latent_dist
        made = vae.decode(posterior.mean + 0.05 * torch.randn_like(posterior.mean)).sample
        loss = functional.mse_loss(made, video) + 1e-4 * posterior.mean.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    vae.save_pretrained(folder)
    errors = []
    with torch.no_grad():
        for number in data.split("val"):
            video = clip_from_uint8(data.frames(number))[0].transpose(0, 1)
            errors.append(float(functional.mse_loss(vae.decode(vae.encode(video).latent_dist.mean).sample, video)))
    error = float(np.mean(errors))
    weights = sum(value.numel() for value in vae.parameters())
    return error, {"parameters": weights, "steps": steps, **as_error(error)}


def frame_of(data: Dataset, number: int, rng: np.random.Generator) -> Tensor:
    """One frame of a clip (1 c h w)."""
    return clip_from_uint8(data.frames(number, [int(rng.integers(FRAMES))]))[:, :, 0]


def contest(name: str, data: Dataset, autoencoder: Path, seconds: float) -> dict[str, Any]:
    """Train one contestant for some CPU seconds, its encoding of all clips included, and measure it."""
    began = time.process_time()
    values = preset("tiny") | {"dataset": data.folder, "batch_size": BATCH, "frames": FRAMES, "motion": False}
    values |= {"network": values["network"] | NETWORK}
    values |= {"loader": {"workers": 0}, "text": {"kind": "learned"}}
    values |= {"autoencoder": str(autoencoder)} if name == "latents" else {}
    settings, known = drain(choose_autoencoder(consistent(TrainSettings.model_validate(values)), data, None, CPU))
    model, read, codec = model_settings(settings, data, autoencoder=known), None, PixelCodec()
    if known is not None:
        read = drain(open_latents(settings, known, data, CPU, encode=True))
        codec = open_latent_codec(known, CPU, model=Path(name))
    encoding = time.process_time() - began
    source = open_clip_source(settings, data, latents=read)

    def run(steps: int) -> tuple[TrainState, Iterator[Any]]:
        state = TrainState(new_video_model(model, 0), settings.optimizer)
        schedule = LRSchedule.of_run(steps, settings.optimizer)
        reader = state.video_model.caption_reader()
        return state, train_steps(state, source, settings, schedule, reader=reader, device=CPU, dtype=torch.float32)

    _, warm = run(1000)
    next(warm)
    began = time.process_time()
    list(islice(warm, TIMED))
    step = (time.process_time() - began) / TIMED
    steps = max(10, int((seconds - encoding) / step))
    began = time.process_time()
    state, reports = run(steps)
    for _ in reports:
        pass
    spent = time.process_time() - began
    trained = new_video_model(model, 0).eval().requires_grad_(False)
    trained.load_state_dict(state.ema.shadow)
    return {
        "parameters": sum(value.numel() for value in trained.parameters()),
        "steps": steps,
        "encoding_seconds": encoding,
        "training_seconds": spent,
        "milliseconds_per_step": 1000 * spent / steps,
        "one_pass": as_error(extension_error(trained, model, codec, data, steps=1)),
        "sampled": as_error(extension_error(trained, model, codec, data, steps=STEPS)),
    }


@torch.no_grad()
def extension_error(network: VideoNetwork, model: ModelSettings, codec: Codec, data: Dataset, *, steps: int) -> float:
    """Mean squared error in pixels of [-1, 1] of the frames after the given ones, over held-out clips."""
    diffusion, errors = model.diffusion, []
    levels = grid(steps, low=diffusion.low, high=diffusion.high, shift=diffusion.shift)
    observed = torch.arange(FRAMES)[None] < GIVEN
    for place, number in zip(count(), data.split("val"), strict=False):
        video = clip_from_uint8(data.frames(number))
        known = codec.encode(video)
        times = torch.arange(FRAMES)[None] / float(model.fps)
        conditioning = Conditioning(times=times, observed=observed)

        def denoise(z: Tensor, level: Tensor, conditioning: Conditioning = conditioning) -> Tensor:
            return network.denoiser(z, level.float(), conditioning)

        noise = torch.randn(known.shape, generator=seeded(7, place))
        held = hold_known(denoise, known, observed, level=diffusion.high)
        made = codec.decode(ddim(held, noise, levels)).clamp(-1, 1)
        errors.append(float(functional.mse_loss(made[:, :, GIVEN:], video[:, :, GIVEN:])))
    return float(np.mean(errors))


def as_error(mse: float) -> dict[str, float]:
    """A mean squared error in [-1, 1], and its PSNR."""
    return {"mse": mse, "psnr": 10 * math.log10(4 / mse)}


def drain(steps: Any) -> Any:
    """What a generator of events returns."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


if __name__ == "__main__":
    main()
