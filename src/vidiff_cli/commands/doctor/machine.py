"""The machine: its libraries, its device, its memory and disk, and what it needs to read captions."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli import __version__
from vidiff_cli.commands.doctor.check import Finding, installed, needs, ok

if TYPE_CHECKING:
    import torch

LITTLE_DISK, NO_DISK = 5e9, 1e8  # bytes free: a small dataset and its run; not even a checkpoint
LITTLE_MEMORY = 2e9
MEASURE_SECONDS = 0.1  # of multiplying, per number format
SLOWER, FASTER = 0.9, 1.5  # bf16's speed over fp32's: below it does not pay, above it would


# --- what is installed -------------------------------------------------------------------------------------------


def vidiff() -> Finding:
    where = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return ok(f"{__version__} with {where}")


def libraries() -> Finding:
    """The packages that vidiff says it needs, except those that stand in rows of their own."""
    names = needs("vidiff-cli")
    there = {name: version for name in names if (version := installed(name))}
    if missing := [name for name in names if name not in there]:
        return Finding("fault", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return ok(", ".join(f"{name} {version}" for name, version in there.items() if name != "torch"))


def torch_itself() -> Finding:
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return ok(f"{torch.__version__}, {built}")


def torchvision() -> Finding:
    """Whether it belongs to this torch: else its compiled operators are off, which vidiff can do without."""
    import torch

    from vidiff_cli.text.tokenizer import patch_torchvision_nms

    version = _torchvision_version()
    if version is None:
        return Finding("fault", "not installed; open_clip, which reads captions, needs it", "pip install torchvision")
    reason = patch_torchvision_nms()
    if reason is None and not _nms_works():
        reason = "they do not load"
    if reason is None:
        return ok(f"{version}, its C++ operators work")
    return Finding(
        "warning",
        f"torchvision {version} does not match torch {torch.__version__}: its C++ operators are off ({reason}); "
        "vidiff works without them",
        f"install the torchvision that was built for torch {torch.__version__}, from where torch came from",
    )


def _torchvision_version() -> str | None:
    """With what it was built for, as in 0.28.0+cu130, which the package's metadata leaves out. Imports nothing."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        written = re.search(r"__version__ = '([^']+)'", Path(spec.origin).with_name("version.py").read_text("utf-8"))
    except OSError:
        written = None
    return written[1] if written else installed("torchvision") or "(unknown)"


def _nms_works() -> bool:
    import torch

    try:
        torch.ops.torchvision.nms(torch.zeros(1, 4), torch.ones(1), 0.5)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


# --- the machine -------------------------------------------------------------------------------------------------


def device() -> Finding:
    """What `--device auto` takes here."""
    import torch

    from vidiff_cli.device import choose_device

    chosen = choose_device("auto")
    if chosen.type == "cuda":
        cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return ok("; ".join(f"cuda: {c.name}, {_gb(c.total_memory)}, compute {c.major}.{c.minor}" for c in cards))
    if chosen.type == "mps":
        return ok(f"mps: {processor()}")
    found = f"cpu: {processor()}, {cores()} cores, {torch.get_num_threads()} threads"
    if Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi"):
        fix = "install the torch that was built for CUDA" if not torch.version.cuda else "update the NVIDIA driver"
        return Finding("warning", f"{found}; there is an NVIDIA GPU that this torch cannot use", fix)
    if torch.get_num_threads() > cores():
        return Finding("warning", f"{found}: more threads than cores", f"set OMP_NUM_THREADS={cores()}")
    return ok(found)


def precision() -> Finding:
    """What `auto` computes in here, and by a measured product of matrices whether that is the faster choice."""
    import torch

    from vidiff_cli.device import choose_device, choose_dtype, dtype_name

    where = choose_device("auto")
    used = dtype_name(choose_dtype("auto", where))
    try:
        gain = _seconds_of_a_product(torch.float32, where) / _seconds_of_a_product(torch.bfloat16, where)
    except RuntimeError as error:
        if used == "bf16":
            raise
        return ok(f"{used}; bf16 does not work here ({' '.join(str(error).split())[:80]})")
    found = f"{used}; bf16 measured {gain:.1f} times as fast as fp32"
    if used == "bf16" and gain < SLOWER:
        return Finding("warning", f"{found}: it does not pay", "pass --precision fp32 to train, --dtype fp32 elsewhere")
    if used == "fp32" and gain > FASTER:
        return Finding("warning", f"{found}: it would pay", "pass --precision bf16 to train, --dtype bf16 elsewhere")
    return ok(found)


def _seconds_of_a_product(dtype: torch.dtype, where: torch.device) -> float:
    import torch

    side = 512 if where.type == "cpu" else 4096
    matrix = torch.ones(side, side, device=where, dtype=dtype)
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(where.type, lambda: None)
    best, stop_at = float("inf"), time.perf_counter() + MEASURE_SECONDS
    torch.mm(matrix, matrix)  # the first one sets things up
    while True:
        wait()
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        wait()
        best = min(best, time.perf_counter() - began)  # the best: others may be using the machine
        if time.perf_counter() > stop_at:
            return best


def memory() -> Finding:
    total, free = memory_bytes()
    found = f"{_gb(total)}, {_gb(free)} free" if free is not None else _gb(total)
    if (total if free is None else free) < LITTLE_MEMORY:
        return Finding("warning", found, "close other programs; train with a smaller --batch-size")
    return ok(found)


def memory_bytes() -> tuple[int, int | None]:
    """What this process may use in all, and of it what is free, where the system says so."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(available[1]) * 1024 if available else None
    except OSError:
        return total, None
    try:  # a container may have less
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # "max": no limit
        return total, free
    return min(total, limit), min(limit - used, free) if free is not None else None


def processor() -> str:
    """The processor's name as a person knows it."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def working_folder() -> Finding:
    """Where results go by default."""
    return _folder(Path.cwd(), "change to a folder of yours, or give another place with -o")


def temporary_folder() -> Finding:
    """Where ffmpeg's log is kept while it runs."""
    return _folder(Path(tempfile.gettempdir()), "set TMPDIR to a folder that can be written", little=NO_DISK)


def _folder(folder: Path, fix: str, *, little: float = LITTLE_DISK) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"vidiff")
    except OSError as error:
        return Finding("fault", f"{folder} cannot be written ({(error.strerror or str(error)).lower()})", fix)
    free = shutil.disk_usage(folder).free
    found = f"{folder}: can be written, {_gb(free)} free"
    if free < little:
        return Finding("fault" if free < NO_DISK else "warning", found, "make room on that disk; " + fix)
    return ok(found)


def _gb(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB"


# --- text --------------------------------------------------------------------------------------------------------


def captions() -> Finding:
    """Whether captions can be read into tokens: without it there is no training on them and no prompt.

    open_clip's tokenizer is loaded alone and tried; of the rest of open_clip, whose import takes many seconds, the
    packages that it needs are looked for.
    """
    fix = "pip install --force-reinstall open-clip-torch"
    if missing := [name for name in needs("open-clip-torch") if installed(name) is None]:
        return Finding("fault", f"open_clip cannot be imported without {', '.join(missing)}", fix)
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        return Finding("fault", "open_clip is not installed", fix)
    file = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = importlib.util.spec_from_file_location("vidiff_open_clip_tokenizer", file)
    assert spec is not None and spec.loader is not None
    tokenizer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tokenizer)
    if not tokenizer.SimpleTokenizer().encode("a red square"):
        return Finding("fault", "the tokenizer finds no words in a caption", fix)
    return ok(f"open_clip {installed('open-clip-torch')} reads them")


def clip() -> Finding:
    """Whether the weights of the default CLIP are on this machine; nothing is downloaded."""
    from vidiff_cli.text.clip_names import DEFAULT_CLIP, weights_at_hand

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    noted = "; HF_HUB_OFFLINE is set: nothing is downloaded" if offline else ""
    path = weights_at_hand()
    if path is not None:
        return ok(f"{DEFAULT_CLIP} at {path}{noted}")
    name = DEFAULT_CLIP.split(":")[0]
    get = "unset HF_HUB_OFFLINE and pass --text clip" if offline else "vidiff train --text clip downloads them"
    return Finding(
        "warning",
        f"no weights of {DEFAULT_CLIP} here: --text auto trains a small text encoder of its own{noted}",
        f"{get}, or give them as a file with --clip-model {name}:FILE",
    )
