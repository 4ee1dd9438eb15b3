"""The motion-compensated estimates of a batch, made where it is read: on the CPU, from the observed frames alone.

The same numbers as in generation, bit for bit, whatever else is in the batch and however many threads read: an estimate
follows from its own clip. On a CPU for every device, for there it can be made ahead of the step, and a GPU adds what
arrives at one pixel in no certain order. Shapes: b clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.motion import estimate_clip, optical_flow

LEVELS = (np.arange(256) / 127.5 - 1).astype(np.float32)  # of a byte, to the nearest number: as generation reads it
CACHE_BYTES = 256 * 2**20


def estimate_frames(
    frames: np.ndarray, observed: np.ndarray, times: np.ndarray, flows: FlowCache | None = None
) -> tuple[Tensor, Tensor]:
    """The estimate (b c t h w) of frames uint8 (b t h w c) from the observed ones (b t), and its uncertainty (b 1 t h
    w), both in [-1, 1]; zeros for clips of which none is observed. Times (b t) in seconds."""
    b, t, h, w, c = frames.shape
    estimate, uncertainty = torch.zeros(b, c, t, h, w), torch.zeros(b, 1, t, h, w)
    chosen = np.flatnonzero(observed.any(axis=1))
    if len(chosen):
        video = torch.from_numpy(LEVELS[frames[chosen]]).permute(0, 4, 1, 2, 3).contiguous()
        known, moments = torch.from_numpy(observed[chosen]), torch.from_numpy(times[chosen]).float()
        found = estimate_clip(video, known, moments, flow=flows or optical_flow)
        estimate[chosen], uncertainty[chosen] = found
    return estimate, uncertainty


class FlowCache:
    """`optical_flow` that remembers the pairs it was asked for last, up to `limit` bytes in all. Safe to share between
    threads."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._held = limit, 0
        self._flows: OrderedDict[bytes, tuple[Tensor, Tensor]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """As `optical_flow`: pairs (b c h w) -> (b 2 h' w'), (b 2 h' w')."""
        keys = [_digest(*pair) for pair in zip(first, second, strict=True)]
        with self._lock:
            found = {key: self._flows[key] for key in keys if key in self._flows}
        missing = [place for place, key in enumerate(keys) if key not in found]
        if missing:
            made = zip(*optical_flow(first[missing], second[missing]), strict=True)
            found |= {
                keys[place]: (there.clone(), back.clone()) for place, (there, back) in zip(missing, made, strict=True)
            }
        with self._lock:
            self._keep({key: found[key] for key in keys})
        forward, backward = zip(*(found[key] for key in keys), strict=True)
        return torch.stack(forward), torch.stack(backward)

    def _keep(self, used: dict[bytes, tuple[Tensor, Tensor]]) -> None:
        for key, flows in used.items():
            if key not in self._flows:
                self._held += sum(flow.nbytes for flow in flows)
            self._flows[key] = flows
            self._flows.move_to_end(key)
        while self._held > self._limit:
            _, flows = self._flows.popitem(last=False)
            self._held -= sum(flow.nbytes for flow in flows)


def _digest(first: Tensor, second: Tensor) -> bytes:
    hashed = blake2b(str(tuple(first.shape)).encode(), digest_size=16)
    for frame in (first, second):
        hashed.update(frame.contiguous().numpy().data)
    return hashed.digest()
