"""Commands in several processes, as torchrun starts them, forked from one that has imported everything."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from forked import Forked

LIMIT_SECONDS = 120.0


def start(*arguments: str | Path, cwd: Path, world: int = 2, first: dict[int, Path] | None = None) -> list[Forked]:
    """The processes of one command; `first` are scripts that run in a rank before it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    words = [str(argument) for argument in arguments]
    return [
        Forked(
            words,
            cwd=cwd,
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)},
            first=(first or {}).get(rank),
        )
        for rank in range(world)
    ]


def ended(processes: list[Forked]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each rank; a hang fails."""
    try:
        said = [process.communicate(timeout=LIMIT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.wait(), *each) for process, each in zip(processes, said, strict=True)]


def ranked(*arguments: str | Path, cwd: Path, **more: Any) -> list[tuple[int, str, str]]:
    return ended(start(*arguments, cwd=cwd, **more))
