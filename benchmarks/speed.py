"""Cost of a step: forward, train step and sampling overhead of the presets, in milliseconds on this machine.

    python -m benchmarks speed

The figures to compare within one run are the ratios: bf16 against fp32, and a whole sampling run against its network
passes alone. Contestants are interleaved and the median of several rounds is taken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.machine import save
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.diffusion.levels import grid
from vidiff_cli.diffusion.samplers import dpmpp_2m
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.training.state import TrainState

SIZES = {"tiny": (16, 8), "small": (64, 4)}  # preset: side in pixels, clips per pass
ROUNDS, SAMPLING_STEPS = 5, 20


def main() -> None:
    device = choose_device("auto")
    fast = choose_dtype("auto", device)
    results = [row for name, (side, clips) in SIZES.items() for row in measure(name, side, clips, device, fast)]
    for row in results:
        print(row, file=sys.stderr)
    save("speed", {"device": str(device), "results": results})


def measure(name: str, side: int, clips: int, device: torch.device, fast: torch.dtype) -> list[dict[str, object]]:
    """Milliseconds of a pass over `clips` clips, for fp32 and the machine's fast format."""
    settings = TrainSettings.model_validate(preset(name))
    model = ModelSettings(
        width=side, height=side, frames=settings.frames, network=settings.network, diffusion=settings.diffusion
    )
    state = TrainState(new_video_model(model, 0).to(device), settings.optimizer)
    z = torch.randn(clips, 3, settings.frames, side, side, device=device)
    level = torch.zeros(clips, settings.frames, device=device)
    told = Conditioning(times=torch.arange(settings.frames, device=device).expand(clips, -1) / 8, observed=level > 0)

    def forward(dtype: torch.dtype) -> None:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            state.video_model.denoiser(z, level, told)

    def train(dtype: torch.dtype) -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = (state.video_model.denoiser.predict(z, level, told) - z).square().mean()
        state.video_model.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in state.optimizers.values():
            optimizer.step()
        state.ema.update(state.video_model)

    def sample(dtype: torch.dtype) -> None:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            dpmpp_2m(lambda z, level: state.video_model.denoiser(z, level.float(), told), z, grid(SAMPLING_STEPS))

    jobs: dict[tuple[str, torch.dtype], Callable[[torch.dtype], None]] = {}
    for dtype in dict.fromkeys((torch.float32, fast)):
        jobs |= {("forward", dtype): forward, ("train", dtype): train, ("sample", dtype): sample}
    times: dict[tuple[str, torch.dtype], list[float]] = {key: [] for key in jobs}
    for number in range(ROUNDS + 1):
        for key, job in jobs.items():
            began = time.perf_counter()
            job(key[1])
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                times[key].append(1e3 * (time.perf_counter() - began))
    parameters = sum(value.numel() for value in state.video_model.parameters())
    return [
        {
            "preset": name,
            "parameters": parameters,
            "clip": f"{settings.frames}x{side}x{side}",
            "clips": clips,
            "dtype": dtype_name(dtype),
            "forward_ms": median(times["forward", dtype]),
            "train_ms": median(times["train", dtype]),
            "sampling_over_passes": median(times["sample", dtype]) / (SAMPLING_STEPS * median(times["forward", dtype])),
        }
        for dtype in dict.fromkeys((torch.float32, fast))
    ]
