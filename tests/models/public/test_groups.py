"""Autoencoders that compress time: prefixes, and plans of windows in groups."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from vidiff_cli.timeline import extension, pad_to_groups, plans, split_at_cuts


@pytest.mark.parametrize("frames", [1, 5, 9, 13])
def test_a_prefix_is_the_prefix(model_of, frames: int) -> None:
    """Of encode and of decode, bit for bit: what a window observes is what it would hold in a longer clip."""
    codec = model_of("wan").codec
    clip = torch.rand(1, 3, 17, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    whole, values = codec.encode(clip), 1 + (frames - 1) // 4
    assert torch.equal(codec.encode(clip[:, :, :frames]), whole[:, :, :values])
    assert torch.equal(codec.decode(whole[:, :, :values]), codec.decode(whole)[:, :, :frames])


def test_tiles_and_slices_change_nothing_of_small_frames(model_of) -> None:
    from vidiff_cli.models.public.codecs import save_decoder_memory

    for family in ("modelscope", "wan"):
        codec = model_of(family).codec
        clip = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
        z = codec.encode(clip)
        before = codec.decode(z)
        save_decoder_memory(codec.vae)  # type: ignore[attr-defined]
        try:
            for ours, plain in ((codec.encode(clip), z), (codec.decode(z), before)):  # batches differ in last bits
                assert torch.allclose(ours, plain, atol=1e-5, rtol=0)
        finally:
            codec.vae.disable_tiling()  # type: ignore[attr-defined]
            codec.vae.disable_slicing()  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", [9, 17, 33, 81])
@pytest.mark.parametrize("overlap", [1, 5, 9, 17])
def test_windows_are_whole_groups(window: int, overlap: int) -> None:
    """Adjacent, 1 + 4k long, 1 + 4m observed first; what pads the last group is made and never written."""
    if overlap >= window:
        return
    checked = 0
    for count in range(1, 40):
        for new in (1, 2, 3, 4, 5, 7, 8, 30, 61):
            for start in {None, count // 2} - {0}:
                line = extension(count, Fraction(16), new=new, before=False)
                if start is not None and start < count:
                    line = split_at_cuts(line, starts=(start,), same=frozenset())
                padded = pad_to_groups(line, 4)
                assert padded.written == line.written and padded.given.items() >= line.given.items()
                made = set[int]()
                for each in plans(padded, window=window, overlap=overlap, scheme="autoregressive"):
                    seen = len(each.observed)
                    assert all(late - early == 1 for early, late in pairwise(each.frames))
                    assert len(each.frames) % 4 == 1 and seen % 4 == 1 and len(each.frames) <= window
                    assert each.observed == frozenset(each.frames[:seen])
                    made |= each.makes
                    checked += 1
                assert made >= {*line.written} - {*line.given, *line.repeats}
                assert {*line.written}.isdisjoint(range(len(line.times), len(padded.times)))
    assert checked > 600
