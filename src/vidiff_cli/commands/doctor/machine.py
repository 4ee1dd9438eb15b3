"""Checks of the machine: versions, device and disk."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

from vidiff_cli import __version__
from vidiff_cli.commands.doctor.check import Finding, installed_version, required_packages

PUBLIC = ("diffusers", "transformers", "sentencepiece", "protobuf", "peft")  # the extra [public]
PUBLIC_EXTRA = "pip install 'vidiff-cli[public]'"
LOW_DISK_BYTES = 5e9  # a small dataset and its run
FULL_DISK_BYTES = 1e8  # a checkpoint


def check_vidiff() -> Finding:
    """Versions of vidiff, Python and the operating system."""
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("ok", f"{__version__} with {system}")


def check_libraries() -> Finding:
    """Versions of the packages that vidiff requires."""
    versions = {name: installed_version(name) for name in required_packages("vidiff-cli")}
    if missing := [name for name, version in versions.items() if version is None]:
        return Finding("fault", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Finding("ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def check_public() -> Finding:
    """Versions of the packages for public models, which are optional; none of them is imported."""
    versions = {name: installed_version(name) for name in PUBLIC}
    missing = [name for name, version in versions.items() if version is None]
    if len(missing) == len(PUBLIC):
        return Finding("ok", f"not installed, and not needed for vidiff's own models ({PUBLIC_EXTRA})")
    if missing:
        return Finding("warning", f"not installed: {', '.join(missing)}", PUBLIC_EXTRA)
    return Finding("ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def check_device() -> Finding:
    """Imports torch and describes the device that `--device auto` takes."""
    import torch

    from vidiff_cli.device import choose_device

    chosen = choose_device("auto")
    if chosen.type == "cuda":
        cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        names = [f"cuda: {card.name}, {_gb(card.total_memory)}, compute {card.major}.{card.minor}" for card in cards]
        return Finding("ok", "; ".join(names))
    if chosen.type == "mps":
        return Finding("ok", f"mps: {_processor()}")
    threads, cores = torch.get_num_threads(), _usable_cores()
    found = f"cpu: {_processor()}, {cores} cores, {threads} threads"
    if Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi"):
        fix = "update the NVIDIA driver" if torch.version.cuda else "install the torch that was built for CUDA"
        return Finding("warning", f"{found}; there is an NVIDIA GPU that this torch cannot use", fix)
    if threads > cores:
        return Finding("warning", f"{found}: more threads than cores", f"set OMP_NUM_THREADS={cores}")
    return Finding("ok", found)


def _processor() -> str:
    """The processor's product name."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_working_folder() -> Finding:
    """The folder that results go to by default."""
    return _check_folder(Path.cwd(), "change to a folder of yours, or give another place with -o", LOW_DISK_BYTES)


def check_temporary_folder() -> Finding:
    """The folder for ffmpeg's logs and other temporary files."""
    folder = Path(tempfile.gettempdir())
    return _check_folder(folder, "set TMPDIR to a folder that can be written", FULL_DISK_BYTES)


def _check_folder(folder: Path, fix: str, low_bytes: float) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"vidiff")
    except OSError as error:
        return Finding("fault", f"{folder} cannot be written ({(error.strerror or str(error)).lower()})", fix)
    free = shutil.disk_usage(folder).free
    found = f"{folder}: can be written, {_gb(free)} free"
    if free < low_bytes:
        return Finding("fault" if free < FULL_DISK_BYTES else "warning", found, "make room on that disk; " + fix)
    return Finding("ok", found)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
