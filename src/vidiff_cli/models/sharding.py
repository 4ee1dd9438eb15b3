"""Weights in shards (FSDP2) and whole ones behind the same functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_shard(value: object) -> TypeGuard[DTensor]:
    """True for this rank's part of a larger tensor. Tests for a method, because importing DTensor is slow."""
    return hasattr(value, "full_tensor")


def shard_like(full: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor that is equal on all ranks, cut as `like` is; `full` where that is whole."""
    if not is_shard(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def whole_like(part: Tensor, like: Tensor) -> Tensor:
    """The whole tensor of this rank's `part`, gathered from all ranks; `part` where `like` is whole."""
    if not is_shard(like):
        return part
    from torch.distributed.tensor import DTensor

    shape, stride = like.shape, like.stride()
    return DTensor.from_local(part, like.device_mesh, like.placements, shape=shape, stride=stride).full_tensor()


def local(value: Tensor) -> Tensor:
    """The part of a tensor that this rank holds, as a view of the same memory."""
    return value.to_local() if is_shard(value) else value  # type: ignore[attr-defined]
