"""Several processes that train one model: what they do together. Alone, the same calls do nothing.

Every rank holds the model (DDP) or its part of every weight (FSDP2), and sees its slice of each batch; gradients are
averaged so that a step is the one that a single process makes of the whole batch. Rank 0 alone writes. Nothing is
pickled: what ranks tell each other are tensors, and JSON in a tensor of bytes.

The collectives of this file go by gloo on the host, those of gradients and shards by nccl where there is CUDA.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
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
from vidiff_cli.training.objective import LossModule, training_loss

if TYPE_CHECKING:
    from vidiff_cli.models.video_model import VideoModel
    from vidiff_cli.training.loader import Batch
    from vidiff_cli.training.objective import Auxiliary, Loss

ParallelKind = Literal["ddp", "fsdp"]
STARTING = "start it with torchrun --nproc-per-node N -m vidiff_cli train"
TOGETHER = 2**25  # numbers of one exchange: 128 MB of float32
TOLD = "told"  # in the store: the rank that says why all of them end
T = TypeVar("T")


class DistributedContext:
    """One process: rank 0 of 1."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, prints and samples."""
        return self.rank == 0

    def prepare(self, video_model: VideoModel) -> None:
        """Makes the model's weights shared between the ranks. Before optimizers and averages are made of them."""

    def loss(self, video_model: VideoModel, batch: Batch, auxiliary: Auxiliary | None = None) -> Loss:
        """The training loss of this rank's slice of the batch. Its gradient goes to all ranks in `backward`, as the
        mean of the ranks' own: what is differentiated is `weight(clips, size)` times it."""
        return training_loss(video_model, batch, auxiliary)

    def weight(self, clips: int, size: int) -> float:
        """What the mean over `clips` of a batch of `size` counts, so that the mean over ranks is the mean over the
        batch, also where slices are not of one size."""
        return self.world * clips / size

    def no_sync(self, last: bool) -> AbstractContextManager[object]:
        """Around the loss and backward of one of several parts of a batch: only the `last` one averages gradients."""
        return nullcontext()

    def clip_gradients(self, video_model: VideoModel, max_norm: float) -> float:
        """Scales the gradients down to the norm, if it is larger; returns what it was, over all ranks."""
        return float(torch.nn.utils.clip_grad_norm_(video_model.parameters(), max_norm))

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """The mean over ranks."""
        return value

    def all_gather_clips(self, values: Tensor, size: int) -> Tensor:
        """Values of this rank's clips (b, ...) -> those of the whole batch (size, ...), in the order of the batch."""
        return values

    def all_reduce_max(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return number

    def broadcast_object(self, value: T) -> T:
        """What rank 0 gives: plain data, as JSON has it."""
        return value

    def barrier(self) -> None:
        """Waits for all ranks."""

    def gather_full_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on rank 0, nothing on the others: what was in shards in the memory of the host, the rest as it
        is. All ranks name the same ones."""
        return dict(tensors)

    def broadcast_state(self, whole: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        """The other way: copies the whole tensors of rank 0 into those of all ranks."""
        for name, value in into.items():
            value.copy_(whole[name])


ALONE = DistributedContext()


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessInfo:
    """Which of how many processes this is, as torchrun says it; `local` is the number on this machine."""

    rank: int
    world: int
    local: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProcessInfo:
        """One process where nothing is said. VidiffError for numbers that are none."""
        if not environment.keys() >= {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}:
            return cls(rank=0, world=1, local=0)
        try:
            rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
            local = int(environment.get("LOCAL_RANK", rank))
            if not 0 <= rank < world or local < 0:
                raise ValueError
        except ValueError as error:
            found = ", ".join(f"{name}={environment.get(name)}" for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
            raise VidiffError("the environment names no process of a training", found=found, fix=STARTING) from error
        return cls(rank=rank, world=world, local=local)

    def device(self, name: str) -> str:
        """Of several processes, each takes the GPU of its own number on its machine. VidiffError where there are too
        few, or `name` is a certain one."""
        if self.world == 1 or (name not in ("auto", "cuda") and not name.startswith("cuda:")):
            return name
        if name.startswith("cuda:"):
            raise VidiffError(f"{self.world} processes cannot share one GPU", found=f"--device {name}", expected="cuda")
        if name == "auto" and not torch.cuda.is_available():
            return "cpu"  # mps knows no collectives
        if torch.cuda.is_available() and self.local >= torch.cuda.device_count():
            raise VidiffError(
                "there are more processes on this machine than GPUs",
                found=f"process {self.local + 1} and {torch.cuda.device_count()} GPUs",
                fix="give torchrun a smaller --nproc-per-node",
            )
        return f"cuda:{self.local}"


@contextmanager
def init_distributed(
    launch: ProcessInfo, device: torch.device, *, kind: ParallelKind, timeout_seconds: float
) -> Iterator[DistributedContext]:
    """The processes of a launch for as long as it is open; alone, `ALONE`.

    An error on one rank ends all: that rank raises it, the others an error with the attribute `told_elsewhere`, for the
    first to fail is the one that says so; an interrupt is rank 0's to tell. VidiffError where a rank has ended without
    a word or does not answer for so many seconds.
    """
    if launch.world == 1:
        yield ALONE
        return
    store = _join(launch, device, timedelta(seconds=timeout_seconds))
    try:
        yield MultiProcess(launch, device, kind)
        _wait()  # without it, gloo aborts now and then at the end: one rank has left while another still listens
    except BaseException as error:
        if (isinstance(error, KeyboardInterrupt) and launch.rank) or _is_told_elsewhere(store, launch.rank):
            error.told_elsewhere = True  # type: ignore[attr-defined]
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
    """Meets the other ranks. VidiffError where they do not come."""
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


def _is_told_elsewhere(store: Store, rank: int) -> bool:
    """Whether another rank says why all of them end; if none has so far, it is this one that does."""
    with contextlib.suppress(RuntimeError):  # the store went with the rank that held it
        store.set_timeout(timedelta(seconds=5))
        return store.compare_set(TOLD, "", str(rank)) != str(rank).encode()
    return False


def _is_lost(error: BaseException) -> bool:
    """Whether it is another rank that is missed."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class MultiProcess(DistributedContext):
    """One of several processes."""

    def __init__(self, launch: ProcessInfo, device: torch.device, kind: ParallelKind) -> None:
        self.rank, self.world, self._device, self._kind = launch.rank, launch.world, device, kind
        self._wrapped: nn.Module | None = None

    def prepare(self, video_model: VideoModel) -> None:
        if self._kind == "fsdp":
            self._wrapped = _shard(LossModule(video_model), self._device)
        else:
            # Its own check of unused weights costs a walk of the graph in every step, and every weight is used in all.
            self._wrapped = DistributedDataParallel(LossModule(video_model), gradient_as_bucket_view=True)

    def loss(self, video_model: VideoModel, batch: Batch, auxiliary: Auxiliary | None = None) -> Loss:
        assert self._wrapped is not None, "prepare comes first"
        return self._wrapped(batch, auxiliary)[1]

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

    def clip_gradients(self, video_model: VideoModel, max_norm: float) -> float:
        norm = torch.nn.utils.clip_grad_norm_(video_model.parameters(), max_norm)
        return float(norm.full_tensor() if is_shard(norm) else norm)

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        total = value.detach().double().cpu()  # float64: the same for any number of ranks but for rounding far below
        dist.all_reduce(total)
        return (total / self.world).to(value)

    def all_gather_clips(self, values: Tensor, size: int) -> Tensor:
        whole = torch.zeros(size, *values.shape[1:], dtype=torch.float64)
        whole[self.rank * size // self.world : (self.rank + 1) * size // self.world] = values.detach().cpu()
        dist.all_reduce(whole)  # zero and any number, nan too, make that number
        return whole.to(values)

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
        whole = dict(tensors) if self.is_main else {}
        shards = {name: value for name, value in tensors.items() if is_shard(value)}
        for names in _groups(shards):
            values = [shards[name] for name in names]
            counts = [[_count(value, rank, self.world) for value in values] for rank in range(self.world)]
            longest = max(map(sum, counts))
            mine = torch.cat([local(value).reshape(-1) for value in values])
            mine = torch.cat([mine, mine.new_zeros(longest - len(mine))])
            parts = [torch.empty_like(mine) for _ in counts] if self.is_main else None
            dist.gather(mine, parts, dst=0)
            if parts is None:
                continue
            cut = [part.cpu().split([*each, longest - sum(each)]) for part, each in zip(parts, counts, strict=True)]
            for place, (name, value) in enumerate(zip(names, values, strict=True)):
                whole[name] = torch.cat([pieces[place] for pieces in cut]).view(value.shape)
        return whole

    def broadcast_state(self, whole: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        for names in _groups(into):
            counts, first = [into[name].numel() for name in names], local(into[names[0]])
            full = torch.empty(sum(counts), dtype=first.dtype, device=first.device)
            if self.is_main:
                torch.cat([whole[name].to(full).reshape(-1) for name in names], out=full)
            dist.broadcast(full, 0)
            for name, part in zip(names, full.split(counts), strict=True):
                value = into[name]
                local(value).copy_(local(shard_like(part.view(value.shape), value)))


def _groups(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """The names of tensors that travel together: between machines, the number of exchanges is what costs."""
    names, count = list[str](), 0
    for name, value in tensors.items():
        first = tensors[names[0]] if names else value
        if count + value.numel() > TOGETHER or (value.dtype, value.device) != (first.dtype, first.device):
            if names:
                yield names
            names, count = [], 0
        names.append(name)
        count += value.numel()
    if names:
        yield names


def _count(value: Tensor, rank: int, world: int) -> int:
    """How many numbers of a tensor a rank holds: its rows are cut as `torch.chunk` cuts them."""
    each = -(-len(value) // world)
    return min(each, max(0, len(value) - rank * each)) * value.shape[1:].numel()


def _shard(module: nn.Module, device: torch.device) -> nn.Module:
    """FSDP2: weights are gathered stage by stage where they are needed, and the text encoder, the stem, the head and
    the embeddings as one."""
    from torch.distributed.device_mesh import init_device_mesh

    from vidiff_cli.models.unet3d import Stage

    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        fix = "update it, or use --parallel ddp"
        raise VidiffError("--parallel fsdp needs PyTorch 2.6 or later", found=torch.__version__, fix=fix) from error

    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # it cuts no other
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in module.modules():
        if isinstance(part, Stage):
            fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module
