"""Two processes that train together, for test_distributed.py: python ranks.py FOLDER plays every scenario and leaves
its results in FOLDER. The processes are forked, so that torch is imported once."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # slow, and part of every optimizer: before the processes are forked, for all of them
import torch.distributed.fsdp
import torch.distributed.tensor
from tiny_model import tiny_video_model

from vidiff_cli.checkpoint import write_tensors
from vidiff_cli.config.train import OptimizerSettings, TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs.averages import choose_average, save_snapshot
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.training.distributed import ALONE, DistributedContext, MultiProcess, init_distributed
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState

CAPTIONS = ("a red square moving left", "a blue circle", "")
CPU = torch.device("cpu")
STEPS, STOP = 3, 1
ENDS = ("error", "killed", "silent")


@dataclass(frozen=True)
class Row:
    frames: int = 8
    fps: str = "8"
    captions: Sequence[str] = CAPTIONS


def source() -> ClipSource:
    clips = np.random.default_rng(0).integers(0, 256, (7, 8, 4, 4, 3), dtype=np.uint8)
    return ClipSource(rows=[Row()] * 7, read=lambda number, frames: clips[number][list(frames)])


def settings(**more: Any) -> TrainSettings:
    """Five clips a step: two ranks have two and three of them."""
    optimizer = OptimizerSettings(warmup=2, muon_lr=2e-3)
    return TrainSettings.model_validate({"steps": STEPS, "batch_size": 5, "seed": 5, "optimizer": optimizer} | more)


def state(parallel: DistributedContext = ALONE) -> TrainState:
    video_model = tiny_video_model(noise=0.1, dropout=0.2, motion=True)
    parallel.prepare(video_model)
    return TrainState(video_model, settings().optimizer)


def steps(of: TrainState, asked: TrainSettings, parallel: DistributedContext = ALONE) -> Iterator[Any]:
    schedule = LRSchedule.of_run(STEPS, asked.optimizer)
    reader = of.video_model.caption_reader()
    return train_steps(of, source(), asked, schedule, reader=reader, device=CPU, dtype=torch.float32, parallel=parallel)


def trained(
    folder: Path, parallel: DistributedContext = ALONE, asked: TrainSettings | None = None, *, start: Path | None = None
) -> None:
    """Trains to the end, from a checkpoint or from nothing as it is: folder/step-N, and folder/reports.json."""
    now = state(parallel)
    if start is not None:
        now.load(start if parallel.is_main else None, parallel=parallel)
    reports = []
    for report in steps(now, asked or settings(), parallel):
        reports.append([report.loss, report.gradient_norm, *report.per_clip.tolist(), *report.rows])
        if report.step == STEPS or (report.step == STOP and asked is None):
            now.save(folder / f"step-{report.step}", clips_seen=0, parallel=parallel)
    if parallel.is_main:
        (folder / "reports.json").write_text(json.dumps(reports))


def averaged(folder: Path, checkpoint: Path, parallel: DistributedContext = ALONE) -> None:
    """A snapshot of a checkpoint's averages, and an average of another length with it: folder/chosen.safetensors."""
    now, run = state(parallel), folder if parallel.is_main else None
    now.load(checkpoint if parallel.is_main else None, parallel=parallel)
    folder.mkdir(exist_ok=True)
    optimizer = settings().optimizer.model_copy(update={"ema_length": 0.15})
    schedule = LRSchedule.of_run(STEPS, optimizer)
    save_snapshot(now, run, schedule, parallel, every=1)
    now.step, now.ema.updates = now.step + 1, now.ema.updates + 1
    asked = settings().model_copy(update={"optimizer": optimizer})
    chosen = choose_average(now, run, asked, schedule, parallel, loss=None)
    assert chosen is not None and bool(chosen.weights) == parallel.is_main
    if parallel.is_main:
        write_tensors(folder / "chosen.safetensors", chosen.weights, {})


def equal(folder: Path, launch: ProcessInfo) -> None:
    """DDP and FSDP from nothing, and in parts from a checkpoint that one process made."""
    with init_distributed(launch, CPU, kind="ddp", timeout_seconds=30) as ddp:
        fsdp = MultiProcess(launch, CPU, "fsdp")
        for name, parallel in (("ddp", ddp), ("fsdp", fsdp)):
            trained(folder / name, parallel)
            begun = folder / "alone" / f"step-{STOP}"
            trained(folder / f"{name}-later", parallel, settings(grad_accum_steps=2), start=begun)
            averaged(folder / f"{name}-average", begun, parallel)
        trained(folder / "ddp-of-fsdp", ddp, start=folder / "fsdp" / f"step-{STOP}")
        assert ddp.broadcast_object({"of": launch.rank}) == {"of": 0}
        assert ddp.all_reduce_max(launch.rank + 3) == 4
        held = [value.to_local().numel() for value in state(fsdp).ema.shadow.values()]  # type: ignore[attr-defined]
        (folder / f"held-{launch.rank}.json").write_text(json.dumps(sum(held)))


def ended(folder: Path, launch: ProcessInfo, how: str) -> None:
    """Rank 1 ends in some way in the second step: what a rank makes of it is folder/HOW-N.json."""
    found: BaseException | None = None
    try:
        with init_distributed(launch, CPU, kind="ddp", timeout_seconds=10 if how == "silent" else 30) as parallel:
            for report in steps(state(parallel), settings(), parallel):
                if launch.rank and report.step == 1:
                    if how == "error":
                        raise VidiffError("rank 1 has read rubbish")
                    if how == "killed":
                        os.kill(os.getpid(), signal.SIGKILL)
                    time.sleep(60)
    except Exception as error:
        found = error
    told = not getattr(found, "reported_by_other_rank", False)
    (folder / f"{how}-{launch.rank}.json").write_text(json.dumps([told, str(found)]))


def fork(scenario: Callable[..., None], folder: Path, *more: str) -> list[int]:
    """Two ranks; their process numbers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    numbers = []
    for rank in range(2):
        number = os.fork()
        if not number:
            code = 1
            try:
                os.environ.update(
                    {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank)}
                )
                scenario(folder, ProcessInfo.from_environment(os.environ), *more)
                code = 0
            except Exception:
                traceback.print_exc()
            os._exit(code)
        numbers.append(number)
    return numbers


def main(folder: Path, *, seconds: float = 450.0) -> None:
    """All scenarios at once. folder/codes.json: how the ranks of `equal` ended."""
    signal.signal(signal.SIGALRM, lambda *_: [os.kill(number, signal.SIGKILL) for number in (*good, *bad)])
    good, bad = fork(equal, folder), [number for how in ENDS for number in fork(ended, folder, how)]
    signal.setitimer(signal.ITIMER_REAL, seconds)  # a hang is an end too
    codes = [os.waitpid(number, 0)[1] for number in good]
    for number in bad[::2]:
        os.waitpid(number, 0)
    for number in bad[1::2]:
        os.kill(number, signal.SIGKILL)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
