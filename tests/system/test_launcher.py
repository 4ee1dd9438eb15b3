"""The place of a process among those of a launcher."""

from __future__ import annotations

import os

import pytest
import torch

from vidiff_cli.system.launcher import ProcessInfo

TORCHRUN = {"RANK": "9", "WORLD_SIZE": "16", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2"}


def test_launchers() -> None:
    torchrun = ProcessInfo(rank=9, world=16, local=1, local_world=8)
    assert ProcessInfo.from_environment(TORCHRUN | {"LOCAL_WORLD_SIZE": "8"}) == torchrun
    assert ProcessInfo.from_environment(SRUN) == ProcessInfo(rank=3, world=4, local=1, local_world=2, launcher="srun")
    assert ProcessInfo.from_environment(SRUN | TORCHRUN).rank == 9  # torchrun, one of it for each task of srun


def test_a_batch_script_is_one_process() -> None:
    """sbatch sets the numbers of its first task, and how many tasks srun will start; only a step has its own number."""
    batch = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7"}
    assert ProcessInfo.from_environment(batch).world == 1
    assert ProcessInfo.from_environment(SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}).world == 1


def test_shares_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    torchrun, srun = (ProcessInfo.from_environment(each) for each in (TORCHRUN | {"LOCAL_WORLD_SIZE": "8"}, SRUN))
    assert (torchrun.cores(), srun.cores(), ProcessInfo.from_environment({}).cores()) == (8, 32, 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert (torchrun.cores(), srun.cores()) == (2, 16)  # srun gave them to this task alone


def test_threads_and_the_one_gpu_that_srun_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    chosen = list[object]()
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(ProcessInfo, "cores", lambda self: 8)
    srun = ProcessInfo.from_environment(SRUN)
    ProcessInfo.from_environment({}).take_device("auto")
    srun.take_device("cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    srun.take_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    srun.take_device("auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    srun.take_device("cuda")
    assert chosen == [8, "cuda:0", "cuda:1"]
