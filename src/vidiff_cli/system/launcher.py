"""The place of this process among those that a launcher started: torchrun, or srun in a SLURM job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vidiff_cli.errors import VidiffError

STARTING = "start it with torchrun --nproc-per-node N -m vidiff_cli COMMAND"
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")  # the latter in steps alone: a batch script is one process


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessInfo:
    """Rank and number of processes as the launcher passes them; `local` is the rank on this machine, which runs
    `local_world` of them."""

    rank: int
    world: int
    local: int
    local_world: int = 1
    launcher: Literal["torchrun", "srun"] = "torchrun"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProcessInfo:
        """One process where a launcher's variables are missing. VidiffError where they are not valid."""
        if environment.keys() >= set(TORCHRUN):
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
            launcher = "torchrun"
        elif environment.keys() >= set(SRUN):
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
            launcher = "srun"
        else:
            return cls(rank=0, world=1, local=0)
        try:
            rank, world = int(environment[names[0]]), int(environment[names[1]])
            local = int(environment.get(names[2], rank))
            if not 0 <= rank < world or local < 0:
                raise ValueError
            if world == 1:
                return cls(rank=0, world=1, local=local)
            given = environment.get(names[3], "")
            local_world = int(given) if given.isdecimal() else world
        except ValueError as error:
            found = ", ".join(f"{name}={environment.get(name)}" for name in names[:3])
            *some, last = names[:3]
            raise VidiffError(f"{', '.join(some)} or {last} is not valid", found=found, fix=STARTING) from error
        return cls(rank=rank, world=world, local=local, local_world=max(1, local_world), launcher=launcher)

    def device(self, name: str) -> str:
        """The GPU with the process's number on its machine, where there are several processes; else `name`.
        VidiffError where there are too few GPUs, or `name` is a single one."""
        if self.world == 1 or (name not in ("auto", "cuda") and not name.startswith("cuda:")):
            return name
        if name.startswith("cuda:"):
            raise VidiffError(f"{self.world} processes cannot share one GPU", found=f"--device {name}", expected="cuda")
        import torch

        if name == "auto" and not torch.cuda.is_available():
            return "cpu"  # mps has no collectives
        count = torch.cuda.device_count()
        if self.launcher == "srun" and count == 1:
            return "cuda:0"  # srun --gpus-per-task shows a process its own GPU alone
        if torch.cuda.is_available() and self.local >= count:
            raise VidiffError(
                "there are more processes on this machine than GPUs",
                found=f"process {self.local + 1} and {count} GPUs",
                fix="give torchrun a smaller --nproc-per-node",
            )
        return f"cuda:{self.local}"

    def take_device(self, name: str) -> None:
        """Makes `cuda` mean this process's own GPU; on a CPU, takes its share of the threads, unless OMP_NUM_THREADS
        says how many. Nothing for a single process. VidiffError as `device`."""
        if self.world == 1:
            return
        import torch

        device = self.device(name)
        if device.startswith("cuda:") and torch.cuda.is_available():
            torch.cuda.set_device(device)
        elif device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(min(torch.get_num_threads(), self.cores()))

    def cores(self) -> int:
        """CPU cores of this process: its share of those that all processes of the machine may use, and all that srun
        gave it for itself."""
        every = os.cpu_count() or 1
        own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
        if self.launcher == "srun" and own < int(os.environ.get("SLURM_CPUS_ON_NODE", every)):
            return own
        return max(1, own // self.local_world)
