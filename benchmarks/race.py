"""Speed and memory against the peer: denoiser, train step, sampling, in one run on one CPU thread.

    python -m benchmarks race

Contestants take turns, one warm-up and five rounds each, and the median of their *process time* counts, so that busy
neighbors do not matter: 16 frames, batches of 2. "Equal allocator": all in one process, with glibc's allocator set as
vidiff sets it. "As shipped": each in a process of its own with its own start-up. vidiff's network is the tiny preset
widened to the peer's number of parameters; `same plan` is the same without the patch stem, with the peer's channels
(32, 64, 128). A train step is forward, backward, gradient norm, AdamW and EMA; `muon` is that with the preset's own
optimizer. The peer's is forward, backward, Adam and EMA. Writes benchmarks/results/race.json; prints the table.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import peer
from benchmarks.machine import save
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import ModelSettings, TextSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.device import DTYPES, choose_device
from vidiff_cli.frames import plan
from vidiff_cli.models.conditioning import Conditioning

FRAMES, BATCH, ROUNDS = 16, 2, 5
PEER_STEPS, PEER_TIMED = 1000, 4  # its sampling steps, and how many of them are measured
TINY = preset("tiny")
SAME_PLAN = {"base_channels": 32, "channel_mult": [1, 2, 4], "patch_size": 1, "head_dim": 32}
NETWORKS = {"vidiff": {"base_channels": 64, "head_dim": 32}, "same plan": SAME_PLAN}
COMPARED = (
    ("1", "forward", "equal allocator", 32, "bf16", "fp32", ">= 4"),
    ("2", "forward", "equal allocator", 32, "fp32", "fp32", ">= 3"),
    ("3", "forward", "as shipped", 32, "bf16", "bf16", ">= 3"),
    ("4", "train", "equal allocator", 32, "bf16", "fp32", ">= 3"),
    ("5", "train", "as shipped", 32, "bf16", "fp32", ">= 5"),
    ("6", "train", "as shipped", 64, "bf16", "fp32", ">= 8"),
    ("6", "train", "equal allocator", 64, "bf16", "fp32", ">= 4"),
)
Job = Callable[[], object]


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
        return
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"rounds": ROUNDS, "frames": FRAMES, "batch": BATCH}
    shipped: dict[str, Any] = {}
    for side in (32, 64):  # before anything else sets this process up: the workers do not inherit it anyway
        shipped[str(side)] = as_shipped(side)
    choose_device("cpu")  # sets the allocator
    equal = {str(side): equal_allocator(side) for side in (32, 64)}
    figures |= {"parameters": parameters(), "equal_allocator": equal, "as_shipped": shipped, "sampling": sampling()}
    figures["rows"] = rows(figures)
    for row in figures["rows"]:
        print(f"{row['row']:>3}  {row['what']:88} {row['ratio']:7.2f}  (floor {row['floor']})", file=sys.stderr)
    save("race", {"peer": peer.versions(), **figures})


def rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The ratios that count, each with the floor that it has to reach."""
    equal, shipped, sampled = figures["equal_allocator"], figures["as_shipped"], figures["sampling"]

    def ratio(where: dict[str, Any], mine: str, theirs: str, what: str) -> float:
        return where[theirs][what]["seconds"] / where[mine][what]["seconds"]

    table: list[tuple[str, str, float, str]] = []
    for name in NETWORKS:
        note = "" if name == "vidiff" else f" ({name})"
        for row, what, where, side, mine, theirs, floor in COMPARED:
            measured = {"equal allocator": equal, "as shipped": shipped}[where][str(side)]
            title = f"{what} {side}x{side}, {mine} / peer's {theirs}, {where}{note}"
            table.append((row, title, ratio(measured, f"{name} {mine}", f"peer {theirs}", what), floor))
        memory = shipped["32"][f"{name} bf16"]["train"]["peak_mb"] / shipped["32"]["peer fp32"]["train"]["peak_mb"]
        table.append(("9", f"peak memory of a training process, of the peer's{note}", memory, "<= .50"))
    fast = "vidiff bf16"
    muon = ratio(equal["32"], fast, "peer fp32", "train")
    muon *= equal["32"][fast]["train"]["seconds"] / equal["32"][fast]["muon"]["seconds"]
    table += [
        ("4", "train step 32x32 with Muon, bf16 / peer fp32 with Adam, equal allocator", muon, ">= 3"),
        ("10", "sampling a window over its network passes alone", sampled["overhead"], "<= 1.10"),
        (
            "11",
            "default sampling of a 32x32 clip / peer's default (1,000 steps, from a few)",
            sampled["ratio"],
            ">= 80",
        ),
    ]
    return [{"row": row, "what": what, "ratio": value, "floor": floor} for row, what, value, floor in table]


def jobs_of(name: str, dtype_name: str, side: int) -> dict[str, Job]:
    """Job of a contestant: a forward pass, a train step."""
    dtype = DTYPES[dtype_name]
    return peer_jobs(dtype, side) if name == "peer" else vidiff_jobs(name, dtype, side)


def settings_of(name: str) -> TrainSettings:
    return TrainSettings.model_validate(TINY | {"network": TINY["network"] | NETWORKS[name] | {"context_dim": 0}})


def model_of(settings: TrainSettings, side: int) -> ModelSettings:
    return ModelSettings(
        width=side,
        height=side,
        frames=FRAMES,
        network=settings.network,
        diffusion=settings.diffusion,
        text=TextSettings(kind="none"),
    )


def vidiff_jobs(name: str, dtype: torch.dtype, side: int) -> dict[str, Job]:
    from vidiff_cli.models.video_model import new_video_model
    from vidiff_cli.training.state import TrainState

    settings = settings_of(name)
    video_model = new_video_model(model_of(settings, side), 0)
    plain = settings.optimizer.model_copy(update={"muon_lr": 0.0})
    states = {"train": TrainState(video_model, plain), "muon": TrainState(video_model, settings.optimizer)}
    z, level = torch.randn(BATCH, 3, FRAMES, side, side), torch.zeros(BATCH, FRAMES)
    told = Conditioning(times=torch.arange(FRAMES).expand(BATCH, -1) / 8, observed=level > 0)

    def forward() -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            video_model.denoiser(z, level, told)

    def step(state: TrainState) -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = (video_model.denoiser.predict(z, level, told) - z).square().mean()
        video_model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(video_model.parameters(), 1.0)
        for optimizer in state.optimizers.values():
            optimizer.step()
        state.ema.update(video_model)

    return {"forward": forward} | {key: lambda state=state: step(state) for key, state in states.items()}


def peer_jobs(dtype: torch.dtype, side: int) -> dict[str, Job]:
    training = peer.PublishedTraining(side=side, frames=FRAMES)
    training.step = 2000  # where its EMA is an average
    video, z = torch.rand(BATCH, 3, FRAMES, side, side), torch.randn(BATCH, 3, FRAMES, side, side)
    time_step = torch.full((BATCH,), 500)

    def forward() -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            training.diffusion.denoise_fn(z, time_step)

    def train() -> None:
        training.step -= training.step % 10  # an EMA update every time, as vidiff's step has one
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            training.update(video)

    return {"forward": forward, "train": train}


def contestants(side: int, where: str) -> list[tuple[str, str, str]]:
    """Contestants as (network, dtype, job): those that the rows compare, and Muon's step."""
    mine = [(name, row[4], row[1]) for row in COMPARED for name in NETWORKS if row[2:4] == (where, side)]
    theirs = [("peer", row[5], row[1]) for row in COMPARED if row[2:4] == (where, side)]
    muon = [("vidiff", "bf16", "muon")] if where == "equal allocator" else []
    return list(dict.fromkeys(mine + theirs + muon))


def equal_allocator(side: int) -> dict[str, Any]:
    """Everything in this process, in turns."""
    made: dict[tuple[str, str], dict[str, Job]] = {}
    jobs = {}
    for name, dtype, what in contestants(side, "equal allocator"):
        if (name, dtype) not in made:
            made[name, dtype] = jobs_of(name, dtype, side)
        jobs[f"{name} {dtype}", what] = made[name, dtype][what]
    return in_turns({key: lambda job=job: process_time(job) for key, job in jobs.items()})


def as_shipped(side: int) -> dict[str, Any]:
    """Every contestant and job in a process of its own, in turns; with the peak memory of that process."""
    workers, done = {}, {}
    for name, dtype, what in contestants(side, "as shipped"):
        command = [sys.executable, "-m", "benchmarks", "race", "--worker", name, dtype, str(side), what]
        workers[f"{name} {dtype}", what] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(process: subprocess.Popen[str]) -> dict[str, float]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    peaks: dict[tuple[str, str], float] = {}

    def turn(key: tuple[str, str]) -> float:
        answer = ask(workers[key])
        peaks[key] = answer["peak_mb"]
        return answer["seconds"]

    try:
        done = in_turns({key: lambda key=key: turn(key) for key in workers})
    finally:
        for process in workers.values():
            process.kill()
            process.wait()
    for (name, what), peak in peaks.items():
        done[name][what]["peak_mb"] = peak
    return done


def in_turns(turns: dict[tuple[str, str], Callable[[], float]]) -> dict[str, Any]:
    times: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
    for number in range(ROUNDS + 1):
        for key, turn in turns.items():
            seconds = turn()
            if number:  # the first round warms up
                times[key].append(seconds)
    results: dict[str, Any] = {}
    for (name, what), seconds in times.items():
        results.setdefault(name, {})[what] = {"seconds": median(seconds), "range": [min(seconds), max(seconds)]}
    return results


def worker(name: str, dtype: str, side: str, what: str) -> None:
    """One contestant in a process of its own: answers every line with the CPU seconds of one more round."""
    torch.set_num_threads(1)
    if name != "peer":
        choose_device("cpu")  # what every vidiff command does first
    job = jobs_of(name, dtype, int(side))[what]
    for _ in sys.stdin:
        seconds = process_time(job)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)


def process_time(job: Job) -> float:
    began = time.process_time()
    job()
    return time.process_time() - began


def sampling() -> dict[str, float]:
    """A default sampling of one 16x32x32 clip with a prompt: against its network passes alone, and against the peer."""
    from pathlib import Path

    from vidiff_cli.generation.generate import generate_clips
    from vidiff_cli.generation.sampling_setup import resolve_sampling
    from vidiff_cli.generation.video_job import VideoJob
    from vidiff_cli.models.unet_model import UNetModel
    from vidiff_cli.models.video_model import new_video_model
    from vidiff_cli.text.learned import collect_vocabulary

    prompt, side = "a small red square moving left", 32
    settings = TrainSettings.model_validate(TINY | {"network": TINY["network"] | NETWORKS["vidiff"]})
    text = TextSettings(kind="learned", vocabulary=collect_vocabulary([prompt]))
    video_model = new_video_model(model_of(settings, side).model_copy(update={"text": text}), 0)
    video_model.requires_grad_(False).eval()
    model = UNetModel(
        video_model=video_model,
        reader=video_model.caption_reader(),
        settings=video_model.settings,
        path=Path("memory"),
        hash="",
        clips_seen=10**6,
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
    )
    asked = GenerationSettings(seed=0)
    job = VideoJob(
        windows=plan(FRAMES, (), window=FRAMES, overlap=0),
        times=[Fraction(frame, 8) for frame in range(FRAMES)],
        prompts=lambda number: [prompt],
        seeds=[0],
    )
    setup, empty = resolve_sampling(model, asked), np.zeros((1, FRAMES, side, side, 3), np.uint8)

    def sample() -> None:
        generate_clips(model, setup, job, empty)

    z, level = torch.randn(1, 3, FRAMES, side, side), torch.zeros(1, FRAMES)
    embedded = video_model.text(model.reader([prompt]))  # type: ignore[misc]
    told = Conditioning(
        times=torch.arange(FRAMES)[None] / 8,
        observed=level > 0,
        tokens=embedded.tokens,
        token_mask=embedded.mask,
        pooled=embedded.pooled,
    )

    def passes() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for _ in range(setup.passes):
                video_model.denoiser(z, level, told)
                video_model.denoiser(z, level, told.without_text())

    diffusion = peer.PublishedTraining(side=side, frames=FRAMES).diffusion

    # torch runs its convolutions slowly for a single clip on a single thread, which nobody with two threads meets:
    # the peer's time for one clip is half of what it needs for two
    pair = z.expand(2, -1, -1, -1, -1).contiguous()

    def peer_pair() -> None:
        for number in range(PEER_TIMED):
            diffusion.p_sample(pair, torch.full((2,), 500 - number))

    jobs = {"sample": sample, "passes": passes, "peer_pair": peer_pair}
    done = in_turns({(key, "run"): lambda job=job: process_time(job) for key, job in jobs.items()})
    seconds = {key: value["run"]["seconds"] for key, value in done.items()}
    theirs = seconds["peer_pair"] / 2 / PEER_TIMED * PEER_STEPS
    return {
        "sample_seconds": seconds["sample"],
        "passes_seconds": seconds["passes"],
        "overhead": seconds["sample"] / seconds["passes"],
        "steps": asked.steps,
        "peer_seconds": theirs,
        "ratio": theirs / seconds["sample"],
    }


def parameters() -> dict[str, int]:
    from vidiff_cli.models.video_model import new_video_model

    count = {name: new_video_model(model_of(settings_of(name), 32), 0) for name in NETWORKS} | {"peer": peer.unet()}
    return {name: sum(value.numel() for value in module.parameters()) for name, module in count.items()}
