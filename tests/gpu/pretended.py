"""A pretended GPU: tensors that say they are on cuda:0, hold their numbers on the CPU and refuse to meet the CPU's.

Values, autograd and the autocast rules of CUDA are real, so that whole commands run. Kernels, their speed, memory and
limits are not: launches are counted from the operations that torch dispatches.

A wrapper subclass with `device=cuda:0` has CUDA's dispatch keys; a dispatch mode makes factories and copies return such
tensors. A build of torch without CUDA refuses backward passes there, so `_open_autograd` shows it a device guard that
does nothing and hooks that say there is a device: by the layout of torch's tables, which `SUPPORTED` names.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

SUPPORTED = "2.13"
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
CARD = SimpleNamespace(
    name="Pretended GPU", total_memory=80 * 2**30, major=9, minor=0, multi_processor_count=132, gcnArchName=""
)
GENERATOR, ATTENTION = torch.Generator, functional.scaled_dot_product_attention
aten = torch.ops.aten

COPIES = {aten._to_copy.default, aten.copy_.default, aten.copy.default}
INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
    aten._unsafe_index_put.default,
}
# A CPU tensor without dimensions is a number to elementwise kernels, but not to these:
NO_NUMBERS = {
    "cat",
    "stack",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "convolution",
    "dot",
    "mv",
    "addmv",
    "gather",
    "scatter",
    "scatter_add",
    "index_select",
    "embedding",
    "native_layer_norm",
    "native_group_norm",
    "linear",
    "kthvalue",
    "lerp_tensor",
}
WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "is_nonzero",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "linalg_svd",
    "_linalg_svd",
    "_linalg_eigh",
}
NO_LAUNCH = {"_unsafe_view", "lift_fresh", "set_", "resize_", "_reshape_alias", "_local_scalar_dense"}
KERNELS = {  # of operations that launch several
    "convolution_backward": 3,
    "native_layer_norm_backward": 2,
    "native_group_norm": 3,
    "native_group_norm_backward": 4,
    "nonzero": 3,
    "kthvalue": 2,
}
TENSORS_PER_LAUNCH = 36  # of a foreach kernel with four lists (ATen/native/cuda/MultiTensorApply.cuh)
LOSE_CHANNELS_LAST = {"pixel_shuffle", "pixel_unshuffle", "native_group_norm"}  # on CUDA they copy to n c h w


class WrongDevice(RuntimeError):
    """CUDA would refuse the operation."""


@dataclass
class Log:
    """Counts while `on`: waits of the host by (kind, place in the code), kernel launches by operation, attention calls
    as (query shape, place), convolutions whose input is copied to another memory layout by place, and bytes that
    operations other than products and convolutions read and write."""

    on: bool = True
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    attention: set[tuple[tuple[int, ...], str]] = field(default_factory=set)
    layouts: Counter[str] = field(default_factory=Counter)
    elementwise_bytes: int = 0

    def reset(self) -> None:
        for each in (self.waits, self.launches, self.attention, self.layouts):
            each.clear()
        self.elementwise_bytes = 0

    def wait(self, kind: str) -> None:
        if self.on:
            self.waits[kind, _place()] += 1

    def launch(self, name: str, count: int, tensors: Sequence[Tensor] = ()) -> None:
        if not self.on:
            return
        self.launches[name] += count
        if name not in ("convolution", "convolution_backward", "mm", "bmm", "addmm", "baddbmm"):
            self.elementwise_bytes += sum(each.numel() * each.element_size() for each in tensors)


LOG = Log()


def _place() -> str:
    """The innermost line of vidiff's that is being run."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        before, _, inside = frame.f_code.co_filename.rpartition("/vidiff_cli/")
        if before:
            return f"{inside}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class Pretended(Tensor):
    """A tensor "on cuda:0"; `there` holds its numbers."""

    there: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, there: Tensor) -> Pretended:
        offset, strides = there.storage_offset(), there.stride()
        made = Tensor._make_wrapper_subclass(
            cls, there.size(), strides=strides, storage_offset=offset, dtype=there.dtype, device=CUDA
        )
        made.there = there
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.there!r})"

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise WrongDevice("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy  # type: ignore[assignment]

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Runs an operation on the CPU and wraps what would be on the device."""
    if kwargs.get("pin_memory"):
        return _pin_memory(_run(func, args, {**kwargs, "pin_memory": False}))
    flat = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    ours = [value for value in flat if isinstance(value, Pretended)]
    plain = [value for value in flat if not isinstance(value, Pretended) and value.device.type == "cpu"]
    asked, name = kwargs.get("device"), func._schema.name.partition("::")[2]
    if asked is not None and torch.device(asked).type == "cuda":
        kwargs = {**kwargs, "device": CPU}
    elif asked is None and not ours:
        return func(*args, **kwargs)
    _check_devices(func, name, ours, plain, args)
    target = torch.device(asked) if asked is not None else CUDA if ours else CPU
    drawing = _Generators.drawing
    if kwargs.get("generator") is not None and drawing is not None and drawing.type != target.type:
        raise WrongDevice(f"{name}: expected a '{target.type}' generator but found '{drawing.type}'")
    if func is aten.copy_.default and not isinstance(args[0], Pretended):
        target = CPU
    _count_waits(func, name, ours, plain, args, kwargs, target)
    result = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
    if func is aten._to_copy.default and any(result is value.there for value in ours):
        result = result.clone()
    if name in LOSE_CHANNELS_LAST:
        result = tree_map(lambda each: each.contiguous() if isinstance(each, Tensor) else each, result)
    known = {id(value.there): value for value in ours} | {id(value): value for value in plain}

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.device.type != "cpu":
            return value
        if id(value) in known:
            return known[id(value)]
        return Pretended(value) if target.type == "cuda" else value

    wrapped = tree_map(wrap, result)
    _count_launches(func, name, ours, args, wrapped)
    return wrapped


def _unwrap(value: Any) -> Any:
    if isinstance(value, Pretended):
        return value.there
    return CPU if isinstance(value, torch.device) and value.type == "cuda" else value


def _check_devices(func: Any, name: str, ours: list[Any], plain: list[Tensor], args: Any) -> None:
    """WrongDevice for tensors of both devices, but for copies, indices and numbers."""
    if not ours or not plain or func in COPIES:
        return
    if func in INDEXING and isinstance(args[0], Pretended):  # indices of the CPU are copied
        values = args[2] if len(args) > 2 else None
        plain = [value for value in plain if value is values]
    numbers = name.strip("_") not in NO_NUMBERS
    if wrong := [tuple(value.shape) for value in plain if value.dim() or not numbers]:
        raise WrongDevice(f"{name}: expected all tensors on one device, found cuda:0 and cpu {wrong}")


def _count_waits(func: Any, name: str, ours: Any, plain: Any, args: Any, kwargs: Any, target: torch.device) -> None:
    """Copies to the device wait unless `non_blocking`, those to the host also where its memory is not pinned."""
    if name in WAITS and ours:
        LOG.wait(name)
    elif func in (aten._to_copy.default, aten.copy_.default):
        free = kwargs.get("non_blocking", len(args) > 2 and args[2])
        if ours and target.type == "cpu" and not (free and func is aten.copy_.default and args[0].is_pinned()):
            LOG.wait("device to host")
        elif plain and target.type == "cuda" and not free and (plain[0].dim() or func is aten._to_copy.default):
            LOG.wait("host to device")
    elif func in INDEXING:
        if any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]):
            LOG.wait("boolean index")
        elif any(each is not None and not isinstance(each, Pretended) for each in args[1]):
            LOG.wait("host to device, index")


def _count_launches(func: Any, name: str, ours: list[Any], args: Any, result: Any) -> None:
    made = [value for value in tree_flatten(result)[0] if isinstance(value, Pretended)]
    views = any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)
    if not (ours or made) or views or name in NO_LAUNCH or "empty" in name:
        return
    copied: list[Tensor] = []
    if name == "convolution" and not args[0].there.is_contiguous(memory_format=torch.channels_last):
        copied = [args[0]]
        if LOG.on:
            LOG.layouts[_place()] += 1
    elif name in ("native_group_norm", "native_group_norm_backward"):
        copied = [each for each in ours if each.dim() == 4 and not each.there.is_contiguous()]
    for each in copied:
        LOG.launch("copy to another layout", 1, [each, each])
    first = args[0] if args else None
    lists = name.startswith(("_foreach", "_fused")) and isinstance(first, list | tuple)
    LOG.launch(name, math.ceil(len(first) / TENSORS_PER_LAUNCH) if lists else KERNELS.get(name, 1), [*ours, *made])


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Generators(TorchFunctionMode):
    """Remembers the device of a call's generator: a dispatch mode is handed another object."""

    drawing: torch.device | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        generator = (kwargs or {}).get("generator")
        if generator is None:
            return func(*args, **(kwargs or {}))
        before, _Generators.drawing = _Generators.drawing, generator.device
        try:
            return func(*args, **kwargs)
        finally:
            _Generators.drawing = before


class _Generator(torch.Generator):
    """A generator that says it is of the device it was asked for; its numbers are the CPU's."""

    _of: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        made = super().__new__(cls, device="cpu")
        made._of = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._of


class _Fused(torch.autograd.Function):
    """One kernel forward and three backward, computed by the mathematical definition."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float | None) -> Any:
        own = torch.autograd.graph.saved_tensors_hooks(lambda value: value, lambda value: value)  # not checkpointing's
        with torch.enable_grad(), own:
            inputs = [None if each is None else each.there.detach() for each in (q, k, v, mask)]
            if mask is not None and mask.dtype == torch.bool:
                inputs[3] = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask.there, float("-inf"))
            inputs = [each if each is None else each.requires_grad_() for each in inputs]
            out = aten._scaled_dot_product_attention_math(*inputs, 0.0, causal, scale=scale)[0]
        ctx.inputs, ctx.out = inputs, out
        LOG.launch("attention", 1, [q, k, v, v])
        return Pretended(out.detach())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        LOG.launch("attention backward", 3, [grad] * 6)
        given = [each for each, needed in zip(ctx.inputs, ctx.needs_input_grad, strict=False) if needed]
        grads = iter(torch.autograd.grad(ctx.out, given, grad.there))
        return *(Pretended(next(grads)) if needed else None for needed in ctx.needs_input_grad[:4]), None, None


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The kernel is chosen in C++, which does not know this device; autocast's rule for it is kept."""
    if not query.is_cuda:
        return ATTENTION(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    given = [query, key, value, attn_mask]
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        given = [each.to(dtype) if each is not None and each.dtype == torch.float32 else each for each in given]
    query, key, value, mask = given  # type: ignore[assignment]
    if not all(each is None or isinstance(each, Pretended) for each in given):
        raise WrongDevice("attention: expected all tensors on one device, found cuda:0 and cpu")
    if mask is not None and mask.dtype not in (torch.bool, query.dtype):
        raise WrongDevice(f"attention: a mask of {mask.dtype} for a query of {query.dtype}")
    if LOG.on:
        LOG.attention.add((tuple(query.shape), _place()))
    with torch.autocast("cuda", enabled=False):
        return _Fused.apply(query, key, value, mask, is_causal, scale)


def _pin_memory(self: Tensor, device: Any = None) -> Tensor:
    pinned = self.clone()
    pinned._pretended_pinned = True  # type: ignore[attr-defined]
    return pinned


def _is_pinned(self: Tensor, device: Any = None) -> bool:
    return getattr(self, "_pretended_pinned", False)


class _Event:
    """An event or a stream: to wait for it is a wait of the host."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device = CUDA

    def synchronize(self) -> None:
        LOG.wait("synchronize")

    def record(self, *args: Any) -> None: ...

    def wait_event(self, *args: Any) -> None: ...

    wait_stream = wait = wait_event

    def record_event(self, event: Any = None) -> Any:
        return event or _Event()

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return 1.0


ANSWERS: dict[str, Any] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "init": lambda: None,
    "_lazy_init": lambda: None,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "is_bf16_supported": lambda including_emulation=True: True,
    "mem_get_info": lambda device=None: (70 * 2**30, 80 * 2**30),
    "get_device_properties": lambda device=None: CARD,
    "get_device_name": lambda device=None: CARD.name,
    "get_device_capability": lambda device=None: (9, 0),
    "reset_peak_memory_stats": lambda device=None: None,
    "empty_cache": lambda: None,
    "synchronize": lambda device=None: LOG.wait("synchronize"),
    "current_stream": lambda device=None: _Event(),
    "Event": _Event,
    "Stream": _Event,
} | {
    name: lambda device=None: 2**30
    for name in ("memory_reserved", "max_memory_reserved", "memory_allocated", "max_memory_allocated")
}


KEPT: list[Any] = []  # what torch's tables point to
HOOKS = (2, 3, 4, 6)  # isBuilt, isAvailable, hasPrimaryContext, deviceCount of ATen/detail/CUDAHooksInterface.h


def unsupported() -> str | None:
    """The reason why there can be no pretended device here."""
    if torch.version.cuda is not None:
        return "the pretended GPU is for builds of torch without CUDA"
    if sys.platform != "linux" or not torch.__version__.startswith(f"{SUPPORTED}."):
        return f"the pretended GPU knows the internals of torch {SUPPORTED} on Linux, not {torch.__version__}"
    return None


def _open_autograd() -> None:
    """Gives CUDA a device guard that does nothing, and hooks that say there is a device."""
    if KEPT:
        return
    libraries = Path(torch.__file__).parent / "lib"
    guards = (ctypes.c_void_p * 2).in_dll(
        ctypes.CDLL(str(libraries / "libc10.so")), "_ZN3c104impl26device_guard_impl_registryE"
    )
    answer = ctypes.CFUNCTYPE(ctypes.c_byte, ctypes.c_void_p)
    no, yes = answer(lambda this: 0), answer(lambda this: 1)
    table = (ctypes.c_void_p * 64)(*[ctypes.cast(no, ctypes.c_void_p).value] * 64)
    guard = ctypes.c_void_p(ctypes.addressof(table))
    guards[1] = ctypes.addressof(guard)
    torch._C._ensureCUDADeviceGuardSet()  # replaces a guard that counts no device by torch's own for FakeTensors
    ask = ctypes.CDLL(str(libraries / "libtorch_cpu.so"))._ZN2at6detail12getCUDAHooksEv
    ask.restype = ctypes.c_void_p
    hooks = ctypes.cast(ask(), ctypes.POINTER(ctypes.c_void_p))
    answers = (ctypes.c_void_p * 120)()
    ctypes.memmove(answers, hooks[0], ctypes.sizeof(answers))
    for place in HOOKS:
        answers[place] = ctypes.cast(yes, ctypes.c_void_p).value
    KEPT.extend([no, yes, table, guard, answers])
    hooks[0] = ctypes.addressof(answers)


@contextmanager
def pretended_gpu() -> Iterator[Log]:
    """While it is open, "cuda" is there; for a process of its own, which `os._exit` ends."""
    _open_autograd()
    # without a kernel of CUDA's, torch takes the derivative apart before it is dispatched
    KEPT.append(torch.library.Library("aten", "IMPL"))
    KEPT[-1].impl("silu_backward", lambda grad, x: WrongDevice("a CUDA kernel"), "CUDA")
    future = torch.__future__  # else Module.to would put a wrapper's memory, which is none, into a plain parameter
    overwrite = future.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        stack.enter_context(mock.patch.object(functional, "scaled_dot_product_attention", _attention))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", _pin_memory))
        stack.enter_context(mock.patch.object(Tensor, "is_pinned", _is_pinned))
        stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        for module in [module for name, module in sys.modules.items() if name.startswith("vidiff_cli")]:
            if getattr(module, "Generator", None) is GENERATOR:
                stack.enter_context(mock.patch.object(module, "Generator", _Generator))
        future.set_overwrite_module_params_on_conversion(True)
        stack.callback(future.set_overwrite_module_params_on_conversion, overwrite)
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        stack.enter_context(_Generators())
        stack.enter_context(_Dispatch())
        yield LOG
