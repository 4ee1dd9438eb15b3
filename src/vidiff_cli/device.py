"""Choice of device and number format, memory figures, and a setting that speeds up a plain CPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from vidiff_cli.errors import VidiffError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
CLIPS_ON_CPU, MOST_CLIPS, SHARE_AT_ONCE = 8, 64, 0.25  # of a GPU's memory
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # glibc's numbers of mallopt's parameters


def choose_device(name: str, *, deterministic: bool = False) -> torch.device:
    """`auto` is CUDA, then Apple's MPS, then the CPU; with `deterministic`, CUDA repeats its bytes from here on.
    VidiffError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise VidiffError("unknown --device", found=repr(name), expected="auto, cpu, cuda, cuda:1 or mps") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise VidiffError(f"the device {name} is not available here", fix="use --device auto")
    if device.type == "cpu":
        _keep_freed_memory()
    elif device.type == "cuda":
        torch.cuda.init()  # before peaks of memory are asked for
        torch.set_float32_matmul_precision("high")  # TF32: several times faster, with the digits of a bf16 product
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return device


def synchronize(device: torch.device) -> None:
    """Waits for the work that was given to a GPU: a clock that is read before it has the time of launches."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def clips_at_once(device: torch.device, *, on_cpu: int = CLIPS_ON_CPU, clip_bytes: int = 0) -> int:
    """Clips that go through a network together where nothing but time depends on it. On a CPU a few fill the machine;
    on a GPU as many as fit in a part of its memory, where the network needs `clip_bytes` for each."""
    if device.type == "cpu":
        return on_cpu
    return max(1, min(MOST_CLIPS, int(SHARE_AT_ONCE * device_memory(device)) // max(1, clip_bytes)))


def device_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory, whatever is in it: a size that follows from it is the same in every run."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return available_memory(device)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where the device has instructions for it, else fp32: a fact of the device, so that runs repeat."""
    if name != "auto":
        if name == "fp16" and device.type == "cpu":
            raise VidiffError("a CPU does not compute in fp16 here", fix="use --dtype bf16 or fp32")
        return DTYPES[name]
    native = {
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        "cpu": lambda: torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
    }
    return torch.bfloat16 if native.get(device.type, lambda: False)() else torch.float32


@overload
def send(value: Tensor, device: torch.device) -> Tensor: ...
@overload
def send(value: Tensor | None, device: torch.device) -> Tensor | None: ...
def send(value: Tensor | None, device: torch.device) -> Tensor | None:
    """A tensor of the host on a device. To a GPU it is copied from pinned memory, and the host does not wait: work on
    the device that comes later finds it there."""
    if value is None or device.type != "cuda" or value.device.type != "cpu":
        return None if value is None else value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


def dtype_name(dtype: torch.dtype) -> str:
    """bf16, fp16 or fp32."""
    return next(name for name, value in DTYPES.items() if value == dtype)


def _keep_freed_memory() -> None:
    """glibc returns every large block to the system at once, and page faults then slow a CPU down."""
    if sys.platform == "linux":
        try:
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_MAX, 0)
            libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        except (OSError, AttributeError):  # another libc: nothing to set
            pass


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still have, with those it has: of a GPU, or of the host."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    fields = _kibibytes("/proc/meminfo")
    if "MemAvailable" in fields:
        return 1024 * (fields["MemAvailable"] + _kibibytes("/proc/self/status").get("VmRSS", 0))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def restart_peak(device: torch.device) -> None:
    """From here on, `peak_memory` is of what follows, where the system can forget."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of this process is what it has now


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use: of a GPU, or of this process (its resident set)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if peak := _kibibytes("/proc/self/status").get("VmHWM"):
        return 1024 * peak
    import resource  # not on Windows, which has no /proc either

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kibibytes(path: str) -> dict[str, int]:
    """The lines "Name: 123 kB" of a file of Linux; nothing on other systems."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) for words in pairs}
