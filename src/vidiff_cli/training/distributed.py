"""Training of one model by several processes (DDP or FSDP2), and the same interface for a single one.

Every rank holds the model (DDP) or its part of every weight (FSDP2), and sees its slice of each batch; gradients are
averaged so that a step is the one that a single process makes of the whole batch. Rank 0 alone writes. Nothing is
pickled: ranks exchange tensors, and JSON in a tensor of bytes (docs/decisions/0020).

The collectives of this file use gloo on the host, those of gradients and shards nccl where there is CUDA.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.sharding import is_shard, local, shard_like
from vidiff_cli.system.launcher import STARTING, ProcessInfo
from vidiff_cli.training.objective import LossModule

if TYPE_CHECKING:
    from vidiff_cli.models.video_model import VideoNetwork
    from vidiff_cli.training.loader import Batch
    from vidiff_cli.training.objective import Loss, Objective

ParallelKind = Literal["ddp", "fsdp"]
ERROR_RANK = "error rank"  # key in the store: the rank that reports the error that ends all of them
T = TypeVar("T")


class DistributedContext(ABC):
    """The operations that a training shares between its processes: `SingleProcess`, or one rank of `MultiProcess`."""

    rank: int
    world: int

    @property
    def is_main(self) -> bool:
        """True for the process that writes, prints and samples."""
        return self.rank == 0

    def weight(self, clips: int, size: int) -> float:
        """The weight of the mean over `clips` of a batch of `size`, so that the mean over ranks is the mean over the
        batch, also where slices are not of one size."""
        return self.world * clips / size

    @abstractmethod
    def prepare(self, video_model: VideoNetwork, dtype: torch.dtype = torch.float32) -> None:
        """Shares the model's weights between the ranks; `dtype` is that of the forward pass. Comes before optimizers
        and averages are made of them."""

    @abstractmethod
    def loss(self, video_model: VideoNetwork, batch: Batch, objective: Objective) -> Loss:
        """The loss of this rank's slice of the batch. Its gradient goes to all ranks in `backward`, as the
        mean of the ranks' own: `weight(clips, size)` times it is differentiated."""

    @abstractmethod
    def no_sync(self, last: bool) -> AbstractContextManager[object]:
        """Context of the loss and backward of one of several parts of a batch: only the `last` one averages
        gradients."""

    @abstractmethod
    def exchange(self, numbers: Tensor, clips: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Numbers (n) -> their means over ranks; values of this rank's clips (b, k) -> those of the whole batch (size,
        k), in its order. float64 on the host; one exchange for both, for between machines each one costs."""

    @abstractmethod
    def all_reduce_max(self, number: int) -> int:
        """The largest of the ranks' numbers."""

    @abstractmethod
    def broadcast_object(self, value: T) -> T:
        """Rank 0's value on all ranks: plain data, as JSON has it."""

    @abstractmethod
    def barrier(self) -> None:
        """Waits for all ranks."""

    @abstractmethod
    def gather_full_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on rank 0, nothing on the others: shards are gathered on the host, the rest is unchanged. All
        ranks pass the same names."""

    @abstractmethod
    def broadcast_state(self, whole: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        """Copies the whole tensors of rank 0 into those of all ranks."""


class SingleProcess(DistributedContext):
    """Rank 0 of 1."""

    rank, world = 0, 1

    def prepare(self, video_model: VideoNetwork, dtype: torch.dtype = torch.float32) -> None:
        pass

    def loss(self, video_model: VideoNetwork, batch: Batch, objective: Objective) -> Loss:
        return objective(video_model, batch)

    def no_sync(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext()

    def exchange(self, numbers: Tensor, clips: Tensor, size: int) -> tuple[Tensor, Tensor]:
        return numbers, clips

    def all_reduce_max(self, number: int) -> int:
        return number

    def broadcast_object(self, value: T) -> T:
        return value

    def barrier(self) -> None:
        pass

    def gather_full_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(tensors)

    def broadcast_state(self, whole: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        for name, value in into.items():
            value.copy_(whole[name])


ALONE = SingleProcess()


@contextmanager
def init_distributed(
    launch: ProcessInfo, device: torch.device, *, kind: ParallelKind, timeout_seconds: float
) -> Iterator[DistributedContext]:
    """The context of a launched process while the block runs; `ALONE` for a single one.

    An error on one rank ends all: the first rank to fail raises its error, the others an error with the attribute
    `reported_by_other_rank`; an interrupt is reported by rank 0. VidiffError where a rank has ended without an error of
    its own or does not answer for `timeout_seconds`.
    """
    if launch.world == 1:
        yield ALONE
        return
    store = _join(launch, device, timedelta(seconds=timeout_seconds))
    try:
        yield MultiProcess(launch, device, kind)
        _wait()  # without it, gloo aborts now and then at the end: one rank has left while another still listens
    except BaseException as error:
        if (isinstance(error, KeyboardInterrupt) and launch.rank) or _is_reported_by_other_rank(store, launch.rank):
            error.reported_by_other_rank = True  # type: ignore[attr-defined]
        elif _is_lost(error):
            how = f"not answered for {timeout_seconds:g} seconds" if "imed out" in str(error) else "ended"
            raise VidiffError(
                f"one of the {launch.world} processes of this training has {how}",
                fix="the same command continues from the last checkpoint",
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def _join(launch: ProcessInfo, device: torch.device, timeout: timedelta) -> Store:
    """Joins the process group. VidiffError where the other ranks do not."""
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        store, rank, world = next(iter(rendezvous("env://", launch.rank, launch.world, timeout=timeout)))
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        found = " ".join(str(error).split())[:200]
        raise VidiffError(f"the {launch.world} processes do not find each other", found=found, fix=STARTING) from error
    return PrefixStore("vidiff", store)


def _wait() -> None:
    dist.all_reduce(torch.zeros(()))


def _is_reported_by_other_rank(store: Store, rank: int) -> bool:
    """True where another rank has reported an error first; otherwise this rank is recorded as the one that does."""
    with contextlib.suppress(RuntimeError):  # the store went with the rank that held it
        store.set_timeout(timedelta(seconds=5))
        return store.compare_set(ERROR_RANK, "", str(rank)) != str(rank).encode()
    return False


def _is_lost(error: BaseException) -> bool:
    """True for an error that says another rank is gone. gloo raises plain RuntimeErrors, which only their text
    tells apart."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class MultiProcess(DistributedContext):
    """One rank of several processes."""

    def __init__(self, launch: ProcessInfo, device: torch.device, kind: ParallelKind) -> None:
        self.rank, self.world, self._device, self._kind = launch.rank, launch.world, device, kind
        self._wrapped: nn.Module | None = None

    def prepare(self, video_model: VideoNetwork, dtype: torch.dtype = torch.float32) -> None:
        if self._kind == "fsdp":
            self._wrapped = _shard(LossModule(video_model), self._device, dtype)
        else:
            # Its own check of unused weights costs a walk of the graph in every step, and every weight is used in all.
            self._wrapped = DistributedDataParallel(LossModule(video_model), gradient_as_bucket_view=True)

    def loss(self, video_model: VideoNetwork, batch: Batch, objective: Objective) -> Loss:
        assert self._wrapped is not None, "call prepare first"
        return self._wrapped(batch, objective)[1]

    @contextmanager
    def no_sync(self, last: bool) -> Iterator[None]:
        if last:
            yield
        elif isinstance(self._wrapped, DistributedDataParallel):
            with self._wrapped.no_sync():
                yield
        else:
            self._wrapped.set_requires_gradient_sync(False)  # type: ignore[union-attr]
            yield
            self._wrapped.set_requires_gradient_sync(True)  # type: ignore[union-attr]

    def exchange(self, numbers: Tensor, clips: Tensor, size: int) -> tuple[Tensor, Tensor]:
        whole = torch.zeros(size, clips.shape[1], dtype=torch.float64)
        whole[self.rank * size // self.world : (self.rank + 1) * size // self.world] = clips
        together = torch.cat([numbers, whole.flatten()])  # float64: the same for any number of ranks but for rounding
        dist.all_reduce(together)  # zero and any number, nan too, make that number
        return together[: len(numbers)] / self.world, together[len(numbers) :].view_as(whole)

    def all_reduce_max(self, number: int) -> int:
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def broadcast_object(self, value: T) -> T:
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor(len(text))
        dist.broadcast(length, 0)
        text = text if self.is_main else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(text, 0)
        return json.loads(bytes(text.numpy()))

    def barrier(self) -> None:
        _wait()

    def gather_full_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        whole = dict[str, Tensor]()
        for name, value in tensors.items():  # one after the other: a device need not have room for all of them
            full = value.full_tensor().cpu() if is_shard(value) else value
            if self.is_main:
                whole[name] = full
        return whole

    def broadcast_state(self, whole: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        for name, value in into.items():
            full = torch.empty(value.shape, dtype=value.dtype, device=local(value).device)
            if self.is_main:
                full.copy_(whole[name])
            dist.broadcast(full, 0)
            local(value).copy_(local(shard_like(full, value)))


def gathers_half(device: torch.device, dtype: torch.dtype) -> bool:
    """True where the weights of stages are gathered in bfloat16: a GPU computes in it, and half as many bytes are sent.
    A CPU's norms want float32."""
    return device.type == "cuda" and dtype == torch.bfloat16


def _shard(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Applies FSDP2: weights are gathered stage by stage when they are used, and those outside of stages together, in
    float32: they embed levels and times. Gradients are summed in float32."""
    from torch.distributed.device_mesh import init_device_mesh

    from vidiff_cli.models.unet3d import Stage

    try:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    except ImportError as error:
        fix = "update it, or use --parallel ddp"
        raise VidiffError("--parallel fsdp needs PyTorch 2.6 or later", found=torch.__version__, fix=fix) from error

    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # it cuts no other
    mesh, policy = init_device_mesh(device.type, (dist.get_world_size(),)), MixedPrecisionPolicy()
    if gathers_half(device, dtype):
        policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    for part in module.modules():
        if isinstance(part, Stage):
            fully_shard(part, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh)
    return module
