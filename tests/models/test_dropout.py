"""Dropout by clip: what is dropped follows from the clip's seed and the layer, whatever else is in the batch."""

import pytest
import torch
from torch import Tensor, nn

from vidiff_cli.models.blocks import ClipDropout, seed_dropout

T, SHAPE = 4, (6, 5, 3)  # frames of a clip, and c h w


def layers(p: float = 0.25, count: int = 2) -> nn.ModuleList:
    return nn.ModuleList([ClipDropout(p) for _ in range(count)])


def of(layer: nn.Module, clips: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """What is left of ones: b t c h w."""
    return layer(torch.ones(clips * T, *SHAPE, dtype=dtype)).unflatten(0, (clips, T))


def test_a_clip_loses_the_same_in_any_batch() -> None:
    (layer,) = both = layers(count=1)
    seed_dropout(both, (7, 8, 9))
    whole = of(layer, 3)
    assert torch.equal(whole, of(layer, 3)), "a second pass, as of gradient checkpointing, drops the same"
    for clip, seed in enumerate((7, 8, 9)):
        seed_dropout(both, (seed,))
        assert torch.equal(of(layer, 1)[0], whole[clip])
    assert not torch.equal(whole[0], whole[1])


def test_layers_and_frames_lose_different_parts_and_no_global_generator_is_asked() -> None:
    both = layers()
    seed_dropout(both, (7,))
    before = torch.get_rng_state()
    first, second = (of(layer, 1)[0] for layer in both)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_share_that_is_dropped_and_the_scale_of_the_rest(p: float, dtype: torch.dtype) -> None:
    (layer,) = alone = layers(p, count=1)
    seed_dropout(alone, range(200))
    left = of(layer, 200, dtype)
    assert left.dtype == dtype
    kept = left[left != 0].float()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=0.01, atol=0)
    assert kept.numel() / left.numel() == pytest.approx(1 - p, abs=5 * (p * (1 - p) / left.numel()) ** 0.5)


def test_dropout_needs_the_seeds_of_its_clips_and_only_in_training() -> None:
    (layer,) = alone = layers(count=1)
    for seeds in ((), (1, 2, 3)):
        seed_dropout(alone, seeds)
        with pytest.raises(ValueError, match=f"seeds of {len(seeds)} clips for {T} frames"):
            of(layer, 1)
    x = torch.randn(T, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert ClipDropout(0.0)(x) is x and ClipDropout(0.5).eval()(x) is x
