"""Dropout by clip: what is dropped follows from the clip's seed and the layer, whatever else is in the batch."""

import pytest
import torch
from tiny_model import tiny_network
from torch import Tensor, nn

from vidiff_cli.models.blocks import ClipDropout
from vidiff_cli.models.unet3d import UNet3D

T, SHAPE = 4, (6, 5, 3)  # frames of a clip, and c h w


def layer(p: float = 0.25, place: int = 0) -> ClipDropout:
    made = ClipDropout(p)
    made.set_place(place)
    return made


def left(layer: nn.Module, *seeds: int, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """What is left of ones: b t c h w."""
    x = torch.ones(len(seeds) * T, *shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
    made = layer(x, torch.tensor(seeds))
    assert made.is_contiguous(memory_format=torch.channels_last)
    return made.unflatten(0, (len(seeds), T))


def test_a_clip_loses_the_same_in_any_batch() -> None:
    seeds = (7, 8, 2**63 - 1)
    whole = left(layer(), *seeds)
    assert torch.equal(whole, left(layer(), *seeds)), "a second pass, as of gradient checkpointing, drops the same"
    for clip, seed in enumerate(seeds):
        assert torch.equal(left(layer(), seed)[0], whole[clip])


def test_no_global_generator_is_asked() -> None:
    before = torch.get_rng_state()
    left(layer(), 7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_share_that_is_dropped_and_the_scale_of_the_rest(p: float, dtype: torch.dtype) -> None:
    made = left(layer(p), *range(200), dtype=dtype)
    assert made.dtype == dtype
    kept = made[made != 0].float()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=0.01, atol=0)
    assert kept.numel() / made.numel() == pytest.approx(1 - p, abs=5 * (p * (1 - p) / made.numel()) ** 0.5)


def test_what_is_dropped_is_independent_over_clips_layers_frames_channels_and_cells() -> None:
    """The correlation of any two of them is that of coins, within five standard deviations; also of seeds that are
    neighbors."""
    clips, shape = 24, (8, 4, 4)
    drawn = [left(layer(0.5, place), *range(clips), shape=shape).sub(1) for place in range(2)]
    size = drawn[0].numel()
    both = torch.stack(drawn)  # layer b t c h w, each -1 or 1
    assert abs(float(both.mean())) < 5 / both.numel() ** 0.5
    for dim in range(both.ndim):
        shifted = both.roll(1, dim)
        assert abs(float((both * shifted).mean())) < 5 / size**0.5, f"dimension {dim}"
        rest = [other for other in range(both.ndim) if other != dim]
        count = both.numel() / both.shape[dim]
        assert float(both.mean(rest).abs().max()) < 5 / count**0.5, f"dimension {dim}"


def test_layers_of_a_network_have_places_of_their_own() -> None:
    network = UNet3D(tiny_network(dropout=0.1), side=8, frame_seconds=1.0)
    factors = [module.factor for module in network.modules() if isinstance(module, ClipDropout)]
    assert len(factors) > 3 and len(set(factors)) == len(factors)


def test_dropout_needs_the_seeds_of_its_clips_and_only_in_training() -> None:
    x = torch.randn(T, *SHAPE, generator=torch.Generator().manual_seed(0))
    for seeds in (None, torch.tensor([1, 2, 3])):
        with pytest.raises(ValueError, match=f"seeds of {0 if seeds is None else 3} clips for {T} frames"):
            layer()(x, seeds)
    assert ClipDropout(0.0)(x, None) is x and ClipDropout(0.5).eval()(x, None) is x
