"""The loss on features, with networks of random weights: the law, not what features are worth."""

from pathlib import Path

import pytest
import torch
from draws import randn as noise
from safetensors.torch import save_file

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.feature_networks import MEAN
from vidiff_cli.text.patch_torchvision import patch_torchvision_nms
from vidiff_cli.training.perceptual_loss import Perceptual, perceptual

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights of the two networks; of r3d_18 only what is used, for the rest is 120 MB."""
    patch_torchvision_nms()
    from torchvision.models import video

    folder, made = tmp_path_factory.mktemp("features"), {}
    for name, unused in (("r3d_18", ("layer3", "layer4", "fc")), ("s3d", ())):
        with torch.device("meta"):
            shapes = getattr(video, name)(weights=None).state_dict()
        state = {
            key: (noise(*value.shape).abs() if "running_var" in key else 0.1 * noise(*value.shape)).to(value.dtype)
            for key, value in shapes.items()
            if key.partition(".")[0] not in unused
        }
        made[name] = folder / f"{name}.safetensors"
        save_file(state, made[name])
    return made


@pytest.fixture(scope="module")
def features(weights: dict[str, Path]) -> dict[str, Perceptual]:
    return {name: perceptual(path, CPU, side=16) for name, path in weights.items()}


VIDEO = noise(2, 3, 4, 12, 12).clamp(-1, 1)
ALL = torch.ones(2, 4, dtype=torch.bool)


@pytest.mark.parametrize("name", ["r3d_18", "s3d"])
def test_zero_at_the_truth_and_quadratic_beside_it(features: dict[str, Perceptual], name: str) -> None:
    """Half the error is a quarter of the loss, as of a squared error in x: the weight over the levels rests on it."""
    loss, error = features[name], noise(*VIDEO.shape, seed=1)
    assert loss(VIDEO, VIDEO, ALL).tolist() == [0.0, 0.0]
    small, smaller = (loss(VIDEO + size * error, VIDEO, ALL) for size in (2e-3, 1e-3))
    assert float(small.min()) > 0
    torch.testing.assert_close(small / smaller, torch.full((2,), 4.0), rtol=0.1, atol=0)


@pytest.mark.parametrize("side", [12, 16])
def test_luma_counts_as_a_gray_picture(features: dict[str, Perceptual], side: int) -> None:
    video, x_hat = (noise(2, 1, 4, side, side, seed=seed).clamp(-1, 1) for seed in (2, 3))
    three = [each.repeat(1, 3, 1, 1, 1) for each in (x_hat, video)]
    for loss in features.values():
        torch.testing.assert_close(loss(x_hat, video, ALL), loss(*three, ALL))


def test_features_that_are_turned_around_are_four_apart() -> None:
    """Vectors of length one: the same direction is 0, any length; the opposite one is 4."""
    loss = Perceptual([torch.nn.Conv3d(3, 3, 1, bias=False)], (0,), side=4)
    loss._stages[0].weight.data = torch.eye(3).view(3, 3, 1, 1, 1)  # type: ignore[union-attr]
    loss._stages[0].requires_grad_(False)
    gray = (torch.tensor(MEAN) * 2 - 1).view(1, 3, 1, 1, 1)
    color = 0.1 * noise(1, 3, 4, 4, 4)
    made = torch.ones(1, 4, dtype=torch.bool)
    assert float(loss(gray + 3 * color, gray + color, made)) == pytest.approx(0.0, abs=1e-3)
    assert float(loss(gray - color, gray + color, made)) == pytest.approx(4.0, rel=1e-2)


def test_the_network_is_frozen_in_evaluation_mode_and_passes_the_gradient_on(features: dict[str, Perceptual]) -> None:
    """The clips of a batch do not see one another (batch norm), and the network's state does not change."""
    loss = features["r3d_18"]
    before = [value.clone() for stage in loss._stages for value in stage.state_dict().values()]
    assert not any(value.requires_grad for stage in loss._stages for value in stage.parameters())
    assert not any(module.training for stage in loss._stages for module in stage.modules())
    x_hat = (VIDEO + 0.1 * noise(*VIDEO.shape, seed=1)).requires_grad_(True)
    both = loss(x_hat, VIDEO, ALL)
    both.sum().backward()
    assert x_hat.grad is not None and bool(x_hat.grad.flatten(1).any(dim=1).all())
    alone = loss(x_hat.detach()[:1], VIDEO[:1], ALL[:1])
    torch.testing.assert_close(alone, both.detach()[:1], rtol=1e-4, atol=1e-7)
    after = [value for stage in loss._stages for value in stage.state_dict().values()]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_frames_are_resized_to_what_the_network_knows_one_by_one(features: dict[str, Perceptual]) -> None:
    resized = features["r3d_18"]._resized(noise(1, 3, 4, 8, 12))
    assert resized.shape == (1, 3, 4, 16, 24)
    large = noise(1, 3, 4, 128, 64)
    shrunk = features["r3d_18"]._resized(large)
    assert shrunk.shape == (1, 3, 4, 32, 16)
    assert torch.equal(features["r3d_18"]._resized(large[:, :, 1:2]), shrunk[:, :, 1:2])
    assert float(shrunk.std()) < 0.4  # what is shrunk is averaged, not picked


def test_a_clip_counts_the_same_however_much_of_it_is_given(features: dict[str, Perceptual]) -> None:
    loss, error = features["r3d_18"], 0.05 * noise(*VIDEO.shape, seed=1)
    last = torch.tensor([[False, False, False, True]]).expand(2, -1)
    one = loss(VIDEO + error * last[:, None, :, None, None], VIDEO, last)
    four = loss(VIDEO + error, VIDEO, ALL)
    assert bool((one > four / 2).all() and (one < four * 2).all())


def test_weights_of_another_network_are_one_sentence(tmp_path: Path, weights: dict[str, Path]) -> None:
    from safetensors.torch import load_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(VidiffError, match="holds no video network: expected torchvision's r3d_18 or s3d"):
        perceptual(tmp_path / "other.safetensors", CPU)
    state = load_file(weights["r3d_18"])
    del state["layer1.0.conv1.0.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(VidiffError, match=r"not hold the weights of torchvision's r3d_18: found no layer1\.0\.conv1"):
        perceptual(tmp_path / "part.safetensors", CPU)
