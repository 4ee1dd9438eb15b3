"""Share of the processor that the networks use, and a network of 43 M parameters against the peer's of the same plan.

    python -m benchmarks hardware

A network's floating point operations in a second (torch's flop counter; a train step counts as three forward passes)
over those of a 3x3 convolution of 128 channels, channels last, of the same precision, which takes its turn in the same
rounds. Small: the tiny preset widened to the peer's number of parameters, 16 frames of 32x32, batches of 2, one thread,
*process time*. Large: 64, 128, 256 and 512 channels, no patch stem, 16 frames of 64x64, one clip, two threads, wall
time: it means something on a quiet machine only, and the load is written down beside it. All in one process with the
allocator set as vidiff sets it. Writes benchmarks/results/hardware.json and prints the table.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peer, race
from benchmarks.machine import save
from vidiff_cli.device import DTYPES, choose_device

LARGE = {"base_channels": 64, "channel_mult": [1, 2, 4, 8], "patch_size": 1, "head_dim": 32}
PEER_LARGE = {"dim": 64, "dim_mults": (1, 2, 4, 8)}
CONV = (16, 128, 32, 32)  # of the convolution that is the peak: frames, channels, height, width
ROWS = (
    ("7", "forward of the large network, bf16 / peer's fp32", ("large", "peer fp32", "large bf16", "forward"), 4.0),
    ("7", "train step of the large network, bf16 / peer's fp32", ("large", "peer fp32", "large bf16", "train"), 3.5),
)
SHARES = (
    ("8", "small, fp32, forward: share of the convolution's speed", ("small", "fp32", "forward"), 0.50),
    ("8", "small, bf16, forward: the same", ("small", "bf16", "forward"), 0.35),
    ("8", "large, bf16, forward: the same", ("large", "bf16", "forward"), 0.60),
    ("8", "large, bf16, train step: the same", ("large", "bf16", "train"), 0.50),
)


def main() -> None:
    choose_device("cpu")  # sets the allocator
    race.NETWORKS["large"] = LARGE
    times = {"small": measured_small(), "large": measured_large()}
    table = [
        {"row": row, "what": what, "ratio": seconds(times[where], theirs, job) / seconds(times[where], mine, job)}
        | {"floor": f">= {floor}"}
        for row, what, (where, theirs, mine, job), floor in ROWS
    ]
    table += [
        {"row": row, "what": what, "ratio": share(times[where], where, dtype, job), "floor": f">= {floor}"}
        for row, what, (where, dtype, job), floor in SHARES
    ]
    for row in table:
        print(f"{row['row']:>3}  {row['what']:70} {row['ratio']:6.2f}  (floor {row['floor']})", file=sys.stderr)
    save("hardware", {"peer": peer.versions(), "load_average": os.getloadavg()[0], "rows": table, "times": times})


def measured_small() -> dict[str, Any]:
    torch.set_num_threads(1)
    jobs = {}
    for dtype in ("fp32", "bf16"):
        jobs["small " + dtype, "forward"] = race.jobs_of("vidiff", dtype, 32)["forward"]
        jobs["peak " + dtype, "forward"] = convolution(dtype)
    times = race.in_turns({key: lambda job=job: race.process_time(job) for key, job in jobs.items()})
    return times | {"gigaflops": {"small": forward_flops("vidiff", 32, race.BATCH)}}


def measured_large() -> dict[str, Any]:
    torch.set_num_threads(2)
    race.BATCH = 1
    mine = race.jobs_of("large", "bf16", 64)
    peer.PLAN = PEER_LARGE
    theirs = race.jobs_of("peer", "fp32", 64)
    jobs = {("large bf16", what): mine[what] for what in ("forward", "train")}
    jobs |= {("peer fp32", what): theirs[what] for what in ("forward", "train")}
    jobs["peak bf16", "forward"] = convolution("bf16")
    times = race.in_turns({key: lambda job=job: wall_time(job) for key, job in jobs.items()})
    parameters = race.parameters()
    sizes = {"parameters": {"large": parameters["large"], "peer": parameters["peer"]}}
    return times | sizes | {"gigaflops": {"large": forward_flops("large", 64, 1)}}


def wall_time(job: Callable[[], object]) -> float:
    began = time.monotonic()
    job()
    return time.monotonic() - began


def convolution(dtype: str) -> Callable[[], object]:
    """Twenty of them, so that a round lasts long enough to be measured."""
    layer = nn.Conv2d(CONV[1], CONV[1], 3, padding=1).to(DTYPES[dtype], memory_format=torch.channels_last)
    x = torch.randn(CONV, dtype=DTYPES[dtype]).to(memory_format=torch.channels_last)

    def run() -> None:
        with torch.no_grad():
            for _ in range(20):
                functional.conv2d(x, layer.weight, layer.bias, padding=1)

    return run


def convolution_gigaflops() -> float:
    frames, channels, height, width = CONV
    return 20 * 2 * frames * height * width * channels * channels * 9 / 1e9


def forward_flops(name: str, side: int, batch: int) -> float:
    """Operations of a forward pass of a batch, in units of 1e9."""
    race.BATCH = batch
    forward = race.jobs_of(name, "fp32", side)["forward"]
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops() / 1e9


def seconds(times: dict[str, Any], who: str, job: str) -> float:
    return times[who][job]["seconds"]


def share(times: dict[str, Any], who: str, dtype: str, job: str) -> float:
    """Operations in a second, of the convolution's."""
    made = times["gigaflops"][who] * (3 if job == "train" else 1)
    peak = convolution_gigaflops() / seconds(times, f"peak {dtype}", "forward")
    return made / seconds(times, f"{who} {dtype}", job) / peak
