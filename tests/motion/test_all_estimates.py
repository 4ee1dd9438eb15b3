"""Laws of flow, interpolation, extrapolation and the estimate of a clip alike: any size, number format and batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from textures import Texture
from torch import Tensor

from vidiff_cli.motion import estimate_clip, extrapolate, interpolate, optical_flow

SIZE = (61, 75)  # no multiple of any width of a vector register
TIMES = (0.01, 0.25, 0.5, 0.99)
MASKS = torch.tensor([[1, 0, 1, 0, 1], [1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
CLOCKS = torch.arange(5.0) / 8 * torch.tensor([[1.0], [3.0], [1.0], [1.0]])  # each clip has its own


def between(film: Tensor) -> tuple[Tensor, Tensor]:
    flows = optical_flow(film[:, :, 1], film[:, :, 2])
    return interpolate(film[:, :, 1], film[:, :, 2], TIMES, before=flows, after=flows)


ESTIMATES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {  # of films (b c t h w)
    "flow": lambda film: optical_flow(film[:, :, 1], film[:, :, 2]),
    "interpolation": between,
    "extrapolation": lambda film: extrapolate(film, [0.3, 1, 9]),
    "clip": lambda film: estimate_clip(film, MASKS[: len(film)], CLOCKS[: len(film)]),
}
every = pytest.mark.parametrize("name", ESTIMATES)


def film(size: tuple[int, int], seed: int = 0, channels: int = 3, speed: float = 1.3) -> Tensor:
    frames = [Texture(seed, channels).frame(size, (speed * step, 0.4 * step)) for step in range(5)]
    return torch.stack(frames, 2)


@every
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_and_any_channels(name: str, channels: int) -> None:
    for size in ((1, 1), (1, 7), (7, 1), (2, 3), (5, 5), (3, 70), (37, 51)):
        found, beside = ESTIMATES[name](film(size, channels=channels))
        assert found.shape[-2:] == beside.shape[-2:] == size
        assert bool(found.isfinite().all()) and bool(beside.isfinite().all())
        if name != "flow":
            assert found.shape[1] == channels and beside.shape[1] == 1 and float(found.abs().max()) <= 1


@every
def test_other_number_formats_agree_with_float32(name: str) -> None:
    clip = film((64, 64))
    wanted = ESTIMATES[name](clip)[0]
    for kind, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.03)):
        found, _ = ESTIMATES[name](clip.to(kind))
        assert found.dtype == (torch.float32 if name == "flow" and kind == torch.bfloat16 else kind)
        off = (found - wanted).abs()
        assert float(off.mean() if name == "flow" else off.max()) < tolerance


@every
def test_it_does_not_depend_on_the_rest_of_the_batch_and_is_the_same_twice(name: str) -> None:
    """Bit for bit. The batch has motion, a still film and a cut; every clip observes other frames at other times."""
    clips = [film(SIZE), film(SIZE, 1, speed=2.1).flip(2), film(SIZE, 2)[:, :, :1]]
    clips[2] = clips[2].expand(-1, -1, 5, -1, -1)
    clips.append(torch.cat([clips[0][:, :, :2], clips[1][:, :, :3]], 2))
    batch = torch.cat(clips)
    together = ESTIMATES[name](batch)
    assert all(torch.equal(*pair) for pair in zip(together, ESTIMATES[name](batch), strict=True))
    for number, clip in enumerate(clips):
        part = slice(number, number + 1)
        alone = estimate_clip(clip, MASKS[part], CLOCKS[part]) if name == "clip" else ESTIMATES[name](clip)
        for found, single in zip(together, alone, strict=True):
            assert torch.equal(found[part], single)
