"""Which device and number format a task computes with, and what speeds up a plain CPU."""

from __future__ import annotations

import ctypes
import sys

import torch

from vidiff_cli.errors import VidiffError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # glibc's numbers of mallopt's parameters


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, then Apple's MPS, then the CPU. VidiffError for a device that is not there."""
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
    return device


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
