"""Shared by the benchmarks: figures written with what they were measured on, and the memory of a process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from vidiff_cli import __version__

RESULTS = Path(__file__).resolve().parent / "results"


def save(name: str, figures: dict[str, Any]) -> Path:
    """Writes results/NAME.json: the figures, the device, the versions and the command (no place of this machine)."""
    content = {
        "command": " ".join(
            ["python -m", sys.argv[0], *(Path(word).name if word.startswith("/") else word for word in sys.argv[1:])]
        ),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {"vidiff": __version__, "torch": torch.__version__, "python": platform.python_version()},
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(path)
    return path


def measured(command: list[str]) -> tuple[str, int]:
    """Run a command; return its output and its largest resident set in bytes. SystemExit where it fails."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        return out.read().decode(), usage.ru_maxrss * 1024


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
