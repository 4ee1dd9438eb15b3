"""Windows of z: what is encoded, how often, and what is kept."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from lossy_codec import LossyCodec
from torch import Tensor

from vidiff_cli.frames import Window, plan
from vidiff_cli.generation.frame_store import FrameStore, MemoryFrameArray
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.generation.window_codec import GroupWindows, LatentWindows, latent_shape

GIVEN, TOTAL, CLIPS, SIDE = 4, 10, 2, 8


def job_and_store(windows: list[Window], latents: MemoryFrameArray | None = None) -> tuple[VideoJob, FrameStore]:
    frames = np.random.default_rng(0).integers(0, 256, (TOTAL, CLIPS, SIDE, SIDE, 3), np.uint8)
    times = [Fraction(number, 8) for number in range(TOTAL)]
    job = VideoJob(windows=windows, times=times, prompts=lambda number: [""] * CLIPS, seeds=[0])
    return job, FrameStore(MemoryFrameArray(frames), latents=latents)


def test_given_frames_are_encoded_once_and_made_values_stay_as_they_were_sampled() -> None:
    codec, windows = LossyCodec(), plan(TOTAL, range(GIVEN), window=4, overlap=2)
    shape = latent_shape(codec, CLIPS, SIDE, SIDE)
    assert shape is not None
    job, store = job_and_store(windows, MemoryFrameArray(np.zeros((TOTAL, *shape), np.float32)))
    inside = LatentWindows(codec, job, store, torch.device("cpu"), store.latents)  # type: ignore[arg-type]
    sampled: dict[int, Tensor] = {}
    for number, window in enumerate(inside.windows):
        seen = sorted(window.observed)
        known = inside.read(seen)
        for place, frame in enumerate(seen):
            if frame in sampled:
                assert torch.equal(known[:, :, place], sampled[frame])
        z = torch.randn(CLIPS, 3, len(window.frames), SIDE // 2, SIDE // 2, generator=torch.manual_seed(number))
        made = inside.finish(window, z)
        assert made.shape == (CLIPS, 3, len(window.makes), SIDE, SIDE)
        sampled |= {frame: z[:, :, window.frames.index(frame)] for frame in window.makes}
    assert len(windows) > 2 and codec.encoded == CLIPS * len({*range(GIVEN)} & {f for w in windows for f in w.observed})


def test_groups_are_encoded_anew_by_each_window_and_only_what_is_made_is_taken() -> None:
    windows = [
        Window(frames=tuple(range(9)), observed=frozenset(range(5)), makes=frozenset(range(5, 9))),
        Window(frames=tuple(range(4, 9)), observed=frozenset({4}), makes=frozenset(range(5, 9))),
    ]
    codec = LossyCodec(temporal=4)
    job, store = job_and_store(windows)
    inside = GroupWindows(codec, job, store, torch.device("cpu"))
    assert [(len(w.frames), len(w.observed)) for w in inside.windows] == [(3, 2), (2, 1)]
    assert not {*inside.windows[0].frames} & {*inside.windows[1].frames}
    for window in inside.windows:
        known = inside.read(sorted(window.observed))
        z = torch.cat([known, torch.zeros(CLIPS, 3, 1, SIDE // 2, SIDE // 2)], dim=2)
        assert inside.finish(window, z).shape == (CLIPS, 3, 4, SIDE, SIDE)
    assert codec.encoded == CLIPS * (5 + 1)


@pytest.mark.parametrize("observed", [{1}, {0, 2}])
def test_groups_begin_with_what_is_observed(observed: set[int]) -> None:
    window = Window(frames=(0, 1, 2, 3, 4), observed=frozenset(observed), makes=frozenset(range(5)) - observed)
    job, store = job_and_store([window])
    with pytest.raises(ValueError, match="does not continue adjacent frames"):
        GroupWindows(LossyCodec(temporal=4), job, store, torch.device("cpu"))
