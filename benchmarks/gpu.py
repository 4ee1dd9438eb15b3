"""Training, sampling and a forward pass on a GPU: seconds, share of the peak, memory by the estimate, and the peer.

    python -m benchmarks gpu [--networks tiny small half base] [--compile off on] [--steps 60] [--device cuda]
    python -m benchmarks gpu --quick --device cpu      # a step of a very small network: that this file works

Trainings and samples are the commands that a person types, on generated clips of 16 frames of shapes with captions:
their last half of steps counts, so that compiling is apart (`first_seconds`). `flops` are those of the estimate; the
share of the peak is of the card's data sheet (`vidiff doctor`). Forward passes are of the network alone, batches of 4
clips without captions, in turns with the peer's network where `make bench` has installed it. On a CPU seconds mean
something on a quiet machine only. Not run on a GPU yet. Writes benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import peer, race
from benchmarks.machine import measured, save
from vidiff_cli.commands.doctor.gpu import peak_tflops
from vidiff_cli.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.video_model import new_video_model

VIDIFF = [sys.executable, "-m", "vidiff_cli"]
NETWORKS: Mapping[str, tuple[int, int, list[str]]] = {  # side, clips of a batch, words of the command
    "quick": (16, 2, ["--preset", "tiny", "--set", "network.base_channels=8", "--set", "network.head_dim=8"]),
    "tiny": (32, 32, ["--preset", "tiny"]),
    "small": (64, 16, ["--preset", "small"]),
    "half": (64, 16, ["--preset", "base", "--set", "network.base_channels=64"]),
    "base": (64, 8, ["--preset", "base"]),
}
FORWARD_SIDE, FORWARD_CLIPS, ROUNDS = 64, 4, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=["tiny", "small", "half", "base"])
    parser.add_argument("--compile", nargs="*", choices=("off", "on"), default=["off", "on"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--name", default="gpu", help="of the results")
    asked = parser.parse_args()
    if asked.quick:
        asked.networks, asked.compile, asked.steps = ["quick"], ["off"], 4
    device = choose_device(asked.device)
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.networks:
            for mode in asked.compile:
                rows.append(trained(name, mode, asked.steps, asked.device, Path(folder) / f"{name}-{mode}"))
                print(rows[-1], file=sys.stderr, flush=True)
                save(asked.name, {"trainings": rows})
    save(asked.name, {"trainings": rows, "forward": {} if asked.quick else forward_passes(device)})


def trained(name: str, mode: str, steps: int, device: str, run: Path) -> dict[str, Any]:
    """One training of some steps and two samples of its model: figures of the commands' own reports."""
    side, clips, words = NETWORKS[name]
    command = [*VIDIFF, "train", "world:shapes", "--set", f"world.size={side}", "--set", "world.fps=16", "-q", *words]
    command += ["--frames", "16", "--batch-size", str(clips), "--no-motion", "--device", device, "-o", str(run)]
    command += ["--compile", mode, "--sample-every", "0", "--validate-every", "0", "--steps", str(steps)]
    planned = json.loads(measured([*command, "--estimate", "--json"])[0])
    report = json.loads(measured([*command, "--json"])[0])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [line for line in lines if line.get("seconds_per_step")]
    late = rows[len(rows) // 2 :]
    seconds = median(row["seconds_per_step"] for row in late)
    peak = peak_tflops(torch.cuda.get_device_name()) if torch.device(device).type == "cuda" else None
    return {
        "name": name,
        "compile": mode,
        "side": side,
        "clips": clips,
        "parameters": report["parameters"],
        "precision": report["precision"],
        "tflop_per_step": planned["flops_per_step"] / 1e12,
        "seconds_per_step": seconds,
        "first_seconds": rows[0]["seconds_per_step"],
        "share_of_data_sheet": planned["flops_per_step"] / 1e12 / seconds / peak if peak else None,
        "share_of_products": late[-1].get("share_of_peak"),
        "estimated_mb": planned["memory_bytes"] / 2**20,
        "peak_mb": max(row["memory_mb"] for row in rows),
        "sample_seconds": generated(run, device, mode, []),
        "reconstruction_seconds": generated(run, device, mode, ["--num-frames", "24", "--condition", "reconstruction"]),
    }


def generated(run: Path, device: str, mode: str, words: list[str]) -> float:
    """Seconds of `vidiff sample` of 4 clips in 8 steps, as it reports them, without its start."""
    command = [*VIDIFF, "sample", "a red circle", "-m", str(run), "-n", "4", "--steps", "8", "-q", "--json", *words]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--device", device, "--compile", mode, "-o", folder]
        return json.loads(measured(command)[0])["seconds"]


def forward_passes(device: torch.device) -> dict[str, Any]:
    """Seconds of forward passes, in turns: a network of as many parameters as the peer's, and the peer's."""
    dtype = choose_dtype("auto", device)
    networks: dict[str, Callable[[], object]] = {"vidiff": _ours(device)}
    if find_spec("video_diffusion_pytorch") is not None:
        networks["peer"] = _peers(device)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(ROUNDS + 1):
        for name, forward in networks.items():
            began = time.perf_counter()
            with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                forward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                times[name].append(time.perf_counter() - began)
    seconds = {name: median(each) for name, each in times.items()}
    facts = {"side": FORWARD_SIDE, "clips": FORWARD_CLIPS, "dtype": dtype_name(dtype), "seconds": seconds}
    return facts | ({"peer": peer.versions()} if "peer" in networks else {})


def _ours(device: torch.device) -> Callable[[], object]:
    network = new_video_model(race.model_of(race.settings_of("vidiff"), FORWARD_SIDE), 0).to(device)
    shape = (FORWARD_CLIPS, 3, race.FRAMES, FORWARD_SIDE, FORWARD_SIDE)
    z, level = torch.randn(shape, device=device), torch.zeros(FORWARD_CLIPS, race.FRAMES, device=device)
    times = torch.arange(race.FRAMES, device=device).expand(FORWARD_CLIPS, -1) / 8
    told = Conditioning(times=times, observed=level > 0)
    return lambda: network.denoiser(z, level, told)


def _peers(device: torch.device) -> Callable[[], object]:
    network = peer.unet().to(device)
    z = torch.randn(FORWARD_CLIPS, 3, race.FRAMES, FORWARD_SIDE, FORWARD_SIDE, device=device)
    steps = torch.full((FORWARD_CLIPS,), 500, device=device)
    return lambda: network(z, steps)


if __name__ == "__main__":
    main()
