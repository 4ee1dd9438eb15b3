"""Noise and its seeds: every draw comes from a generator derived from what it is for, never from a global seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor


def seeded(*parts: int, device: torch.device | str = "cpu") -> Generator:
    """A generator whose stream depends on all of `parts`, such as (seed, step) or (seed, window): same parts, same
    draws."""
    # The count leads: numpy pads with zeros, so that (seed,) and (seed, 0) would be one stream.
    state = np.random.SeedSequence([len(parts), *(part % 2**64 for part in parts)]).generate_state(1, np.uint64)[0]
    return Generator(device=device).manual_seed(int(state) >> 1)


def white(like: Tensor, generator: Generator | None) -> Tensor:
    """Independent standard normal noise in the shape, dtype and device of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
