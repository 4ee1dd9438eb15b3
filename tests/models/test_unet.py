"""Laws of the network: what each frame may see, what it is told, and that all of it learns.

Parts of a fresh network start at zero; `network` adds noise to every parameter so that all paths are live.
Shapes: z (b c t h w), level and times (b t).
"""

from dataclasses import replace

import pytest
import torch
from draws import randn
from tiny_model import add_noise_to_weights, tiny_network
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.config.model import NetworkSettings
from vidiff_cli.models import attention
from vidiff_cli.models.attention import attend
from vidiff_cli.models.blocks import SpaceConv, TimeConv, channels_last_group_norm
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.unet3d import UNet3D

B, C, T, SIDE, WIDTH, LENGTH = 2, 3, 6, 8, 12, 5
SECONDS = 1 / 8  # between frames of the base rate

KINDS = [
    ("attention", "relative"),
    ("convolution", "relative"),
    ("both", "sinusoidal"),
]
every_kind = pytest.mark.parametrize(("temporal", "positions"), KINDS, ids=lambda name: name)


def network(temporal: str = "both", positions: str = "relative", *, patch: int = 1, context_dim: int = WIDTH) -> UNet3D:
    kinds = {"temporal": temporal, "positions": positions}
    settings = tiny_network(base_channels=16, patch_size=patch, embedding=32, context_dim=context_dim, **kinds)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet3D(settings, side=SIDE, frame_seconds=SECONDS)
    add_noise_to_weights(net, 0.1)
    return net.eval()


def inputs(b: int = B, t: int = T) -> tuple[Tensor, Tensor, Conditioning]:
    """z, levels and what else the network is told, all of it different over frames and clips."""
    conditioning = Conditioning(
        times=(SECONDS * torch.arange(t)).expand(b, t).contiguous(),
        observed=torch.arange(b * t).reshape(b, t) % 4 == 1,
        tokens=randn(b, LENGTH, WIDTH, seed=1),
        token_mask=torch.arange(LENGTH) < torch.tensor([[3], [5]])[:b],
        pooled=randn(b, WIDTH, seed=2),
    )
    return randn(b, C, t, SIDE, SIDE), 6 * randn(b, t, seed=3), conditioning


def run(net: UNet3D, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
    with torch.no_grad():
        return net(z, level, conditioning)


def changed_frames(one: Tensor, other: Tensor) -> list[bool]:
    """Which frames differ in any bit, in any clip."""
    return (one != other).any(dim=1).flatten(2).any(dim=2).any(dim=0).tolist()


@every_kind
@pytest.mark.parametrize("is_image", [(4, 5), (0, 3), (1, 2, 5)], ids=str)
def test_an_image_sees_and_is_seen_by_no_other_frame(temporal: str, positions: str, is_image: tuple[int, ...]) -> None:
    """Whatever is changed of one frame, images elsewhere stay bit for bit, and an image changes nothing but itself."""
    net = network(temporal, positions)
    z, level, conditioning = inputs()
    images = torch.tensor([frame in is_image for frame in range(T)])
    conditioning = replace(conditioning, is_image=images.expand(B, T))
    before = run(net, z, level, conditioning)
    for frame in range(T):
        at = torch.arange(T) == frame
        after = [
            run(net, z + at[:, None, None], level, conditioning),
            run(net, z, level + at, conditioning),
            run(net, z, level, replace(conditioning, observed=conditioning.observed ^ at)),
        ]
        for made in after:
            changed = changed_frames(before, made)
            if frame in is_image:
                assert changed == at.tolist()
                moved = replace(conditioning, times=conditioning.times + 10 * SECONDS * at)
                assert not any(changed_frames(before, run(net, z, level, moved))), "an image is at no time"
            else:
                assert changed[frame] and not any(changed[image] for image in is_image)
        if frame not in is_image and temporal != "convolution":
            assert all(changed_frames(before, after[0])[other] for other in range(T) if other not in is_image)


@every_kind
def test_a_video_of_one_frame_is_an_image(temporal: str, positions: str) -> None:
    net = network(temporal, positions)
    z, level, conditioning = inputs()
    together = run(net, z, level, replace(conditioning, is_image=torch.ones(B, T, dtype=torch.bool)))
    mixed = run(net, z, level, replace(conditioning, is_image=(torch.arange(T) >= 3).expand(B, T)))
    for frame in range(T):
        one = slice(frame, frame + 1)
        only = replace(conditioning, times=conditioning.times[:, one], observed=conditioning.observed[:, one])
        alone = run(net, z[:, :, one], level[:, one], only)
        torch.testing.assert_close(together[:, :, one], alone, atol=1e-5, rtol=1e-5)
        if frame >= 3:
            torch.testing.assert_close(mixed[:, :, one], alone, atol=1e-5, rtol=1e-5)


@every_kind
def test_frames_of_a_video_see_one_another_and_the_differences_of_their_times(temporal: str, positions: str) -> None:
    """With attention every frame reaches every other; with convolutions its neighbors, and on through the depth."""
    net = network(temporal, positions)
    z, level, conditioning = inputs()
    before = run(net, z, level, conditioning)
    assert all(changed_frames(before, run(net, z + (torch.arange(T) == 2)[:, None, None], level, conditioning)))
    later, slower = (
        run(net, z, level, replace(conditioning, times=times))
        for times in (conditioning.times + 4, 2 * conditioning.times)
    )
    torch.testing.assert_close(later, before, atol=1e-5, rtol=1e-5)
    assert float((slower - before).abs().max()) > 1e-3, "the network does not see time"


@every_kind
def test_a_clip_does_not_depend_on_its_neighbors(temporal: str, positions: str) -> None:
    net = network(temporal, positions)
    z, level, conditioning = inputs()
    together = run(net, z, level, conditioning)
    for clip in range(B):
        one = slice(clip, clip + 1)
        told = {
            name: getattr(conditioning, name)[one] for name in ("times", "observed", "tokens", "token_mask", "pooled")
        }
        alone = run(net, z[one], level[one], replace(conditioning, **told))
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-5)


def test_text_matters_by_its_tokens_before_the_mask_and_by_its_pooled_vector() -> None:
    net = network()
    z, level, conditioning = inputs()
    tokens, mask, pooled = conditioning.tokens, conditioning.token_mask, conditioning.pooled
    assert tokens is not None and mask is not None and pooled is not None
    before = run(net, z, level, conditioning)
    for other in (replace(conditioning, tokens=tokens.flip(0)), replace(conditioning, pooled=pooled.flip(0))):
        assert float((run(net, z, level, other) - before).abs().max()) > 1e-3
    noise = torch.where(mask[..., None], 0, 100 * randn(*tokens.shape, seed=4))
    assert torch.equal(before, run(net, z, level, replace(conditioning, tokens=tokens + noise)))
    longer = replace(
        conditioning,
        tokens=torch.cat([tokens, randn(B, 3, WIDTH, seed=5)], dim=1),
        token_mask=torch.cat([mask, torch.zeros(B, 3, dtype=torch.bool)], dim=1),
    )
    torch.testing.assert_close(run(net, z, level, longer), before, atol=1e-5, rtol=1e-5)


def test_dropped_text_is_the_null_text() -> None:
    """To the rounding of a matrix product with one token or with several; and both of its parts are used."""
    net = network()
    z, level, conditioning = inputs()
    null = run(net, z, level, conditioning.without_text())
    both = run(net, z, level, replace(conditioning, dropped=torch.tensor([True, True])))
    torch.testing.assert_close(both, null, atol=1e-5, rtol=1e-5)
    some = run(net, z, level, replace(conditioning, dropped=torch.tensor([False, True])))
    assert torch.equal(some[1], both[1]) and torch.equal(some[0], run(net, z, level, conditioning)[0])
    assert not torch.allclose(some[0], null[0], atol=1e-2)
    for part in (net.null_token, net.null_pooled):
        with torch.no_grad():
            part.add_(1.0)
        after = run(net, z, level, conditioning.without_text())
        assert float((after - null).abs().max()) > 1e-3
        null = after


def test_a_network_without_text_takes_none() -> None:
    net = network(context_dim=0)
    z, level, conditioning = inputs()
    assert torch.equal(run(net, z, level, conditioning), run(net, z, level, conditioning.without_text()))
    assert not any("text" in name or "null" in name for name, _ in net.named_parameters())


@pytest.mark.parametrize("patch", [1, 2])
@every_kind
def test_gradient_reaches_every_parameter(temporal: str, positions: str, patch: int) -> None:
    """Twice one pass for captions and one for dropped ones, as training mixes them."""
    net = network(temporal, positions, patch=patch)
    z, level, conditioning = inputs()
    net(z, level, replace(conditioning, dropped=torch.tensor([True, False]))).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_other_sizes_and_lengths_are_taken() -> None:
    _, level, conditioning = inputs(t=9)
    for height, width, patch in ((8, 12, 1), (12, 8, 2), (4, 16, 2)):
        z = randn(B, C, 9, height, width)
        assert run(network(patch=patch), z, level, conditioning).shape == z.shape


def test_sizes_that_do_not_divide_are_refused() -> None:
    _, level, conditioning = inputs()
    for height, width, patch in ((7, 8, 1), (8, 9, 1), (8, 6, 2), (2, 8, 2)):
        with pytest.raises(ValueError, match=f"frames are {width}x{height}, expected multiples of {2 * patch}"):
            run(network(patch=patch), randn(B, C, T, height, width), level, conditioning)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_space_convolution_is_a_flat_3d_convolution(kernel: int) -> None:
    flat = SpaceConv(4, 6, kernel)
    deep = nn.Conv3d(4, 6, (1, kernel, kernel), padding=(0, kernel // 2, kernel // 2))
    deep.load_state_dict({"weight": flat.weight[:, :, None], "bias": flat.bias})
    x = randn(2, 4, 5, 7, 6)
    folded = flat(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 5)).transpose(1, 2)
    torch.testing.assert_close(folded, deep(x), atol=1e-5, rtol=1e-5)


def test_a_time_convolution_is_a_deep_3d_convolution_and_nothing_for_images() -> None:
    time = TimeConv(4)
    with torch.no_grad():
        for parameter in time.parameters():
            parameter.copy_(randn(*parameter.shape))
    deep = nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0))
    deep.load_state_dict({"weight": time.conv.weight[..., None], "bias": time.conv.bias})
    x = randn(2, 4, 5, 7, 6)
    folded = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    temporal_mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    made = time(folded, temporal_mask).unflatten(0, (2, 5)).transpose(1, 2)
    torch.testing.assert_close(made[0], deep(x)[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made[1, :, :3], deep(x[1:, :, :3])[0], atol=1e-5, rtol=1e-5)
    assert not made[1, :, 3:].any()


@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (24, 3), (64, 8)])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_the_norm_of_gpus_is_group_norm_in_channels_last_memory(channels: int, groups: int, offset: float) -> None:
    """Forward and backward; in bf16 the result of float32, rounded once."""
    x = (randn(5, channels, 6, 4) + offset).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = (randn(channels, seed=seed).requires_grad_() for seed in (1, 2))
    made = channels_last_group_norm(x, groups, weight, bias, 1e-5)
    wanted = functional.group_norm(x.double(), groups, weight.double(), bias.double(), 1e-5)
    torch.testing.assert_close(made.double(), wanted, atol=2e-6, rtol=1e-6)
    assert made.is_contiguous(memory_format=torch.channels_last)
    slope = randn(*x.shape, seed=3)
    found, expected = (torch.autograd.grad(each, (x, weight, bias), slope.to(each.dtype)) for each in (made, wanted))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6 * float(theirs.abs().max()), rtol=1e-5)
    half = x.detach().bfloat16()
    rounded = channels_last_group_norm(half, groups, weight, bias, 1e-5)
    exact = channels_last_group_norm(half.float(), groups, weight, bias, 1e-5)
    assert torch.equal(rounded, exact.bfloat16())


@pytest.mark.parametrize(("n", "m"), [(4, 7), (520, 530)])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_is_the_softmax_form_on_both_of_its_ways(
    n: int, m: int, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the batch has two dimensions and is more than a kernel takes."""
    monkeypatch.setattr(attention, "LARGEST_BATCH", 4)
    q, k, v = randn(2, 3, 2, n, 4), randn(2, 3, 2, m, 4, seed=1), randn(2, 3, 2, m, 4, seed=2)
    bias = randn(2, 1, 2, n, m, seed=3).masked_fill(randn(n, m, seed=4) > 1, float("-inf")) if biased else None
    logits = (q.double() @ k.double().transpose(-1, -2)) / 4**0.5
    expected = (logits if bias is None else logits + bias).softmax(dim=-1) @ v.double()
    torch.testing.assert_close(attend(q, k, v, bias).double(), expected, atol=1e-5, rtol=1e-5)


def test_channels_that_do_not_divide_into_heads_are_refused() -> None:
    assert NetworkSettings(base_channels=32, channel_mult=(3, 5), head_dim=32).head_dim == 32
    with pytest.raises(ValueError, match="heads"):
        NetworkSettings(base_channels=32, channel_mult=(1, 2, 4), head_dim=24)
