"""Warping, the flow of known motion, occlusion, and the loss on errors that flicker along the motion."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from draws import randn as noise
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.optical_flow import raft
from vidiff_cli.motion import forward_backward_mask, full_size_flow
from vidiff_cli.training.flow_loss import ResidualFlow, warp


def everywhere(x: float, y: float, like: Tensor) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(len(like), 2, *like.shape[2:]).to(like.dtype)


def test_warping_is_that_of_grid_sample_with_aligned_corners() -> None:
    images, flow = noise(2, 3, 9, 14).double(), 4 * noise(2, 2, 9, 14, seed=1).double()
    x, y = torch.arange(14) + flow[:, 0], torch.arange(9)[:, None] + flow[:, 1]
    places = torch.stack([2 * x / 13 - 1, 2 * y / 8 - 1], dim=-1)
    expected = functional.grid_sample(images, places, padding_mode="border", align_corners=True)
    torch.testing.assert_close(warp(images, flow), expected)


def test_the_loss_is_differentiable_along_the_motion() -> None:
    """The flow has no gradient, the error that is warped along it has: on both sides of a pair."""
    smooth = functional.avg_pool2d(noise(1, 3, 20, 20), 5, stride=1)
    video = torch.stack([smooth, smooth.roll(1, dims=-1)], dim=2)
    x_hat = (video + 0.1 * noise(1, 3, 2, 16, 16, seed=1)).requires_grad_(True)
    ResidualFlow(full_size_flow)(x_hat, video, torch.ones(1, 2, dtype=torch.bool)).sum().backward()
    assert x_hat.grad is not None and bool(x_hat.grad.isfinite().all()) and bool(x_hat.grad.any(-1).any(-1).all())


def test_what_leaves_the_frame_or_is_covered_is_masked() -> None:
    flow = everywhere(2.0, 0.0, like=torch.zeros(1, 1, 4, 6))
    assert forward_backward_mask(flow, -flow)[0, 0].tolist() == [[1, 1, 1, 1, 0, 0]] * 4
    covered = flow * (torch.arange(6) < 2)  # the left third moves over the middle, which stays
    back = -flow * ((torch.arange(6) >= 2) & (torch.arange(6) < 4))
    assert forward_backward_mask(covered, back)[0, 0].tolist() == [[1, 1, 0, 0, 1, 1]] * 4


def known(velocity: float) -> ResidualFlow:
    """The loss with a known flow: all moves to the right; the backward flow is its negative."""
    return ResidualFlow(lambda first, second: (everywhere(velocity, 0.0, first), everywhere(-velocity, 0.0, first)))


ALL = torch.ones(2, 5, dtype=torch.bool)


def moving(frames: Tensor) -> Tensor:
    """A picture (n c h w) that moves one pixel to the right per frame, around the edge: n c t h w."""
    return torch.stack([frames.roll(step, dims=-1) for step in range(5)], dim=2)


def test_the_flow_loss_is_zero_at_the_truth_and_where_the_error_moves_along() -> None:
    """An error that travels with the picture does not flicker; one that stands still while it moves does."""
    video, error = moving(noise(2, 3, 8, 8)), 0.1 * noise(2, 3, 8, 8, seed=1)
    assert known(1.0)(video, video, ALL).tolist() == [0.0, 0.0]
    assert known(3.0)(video, video, ALL).tolist() == [0.0, 0.0]
    assert float(known(1.0)(video + moving(error), video, ALL).max()) < 1e-12
    still = error[:, :, None].expand(-1, -1, 5, -1, -1)
    assert float(known(1.0)(video + still, video, ALL).min()) > 1e-3


def test_the_flow_loss_of_white_errors_is_twice_their_power_where_all_is_seen() -> None:
    """Independent errors of unit variance differ by variance two; of eight columns one leaves the frame."""
    video, error = noise(2, 3, 5, 16, 16), noise(2, 3, 5, 16, 16, seed=1)
    torch.testing.assert_close(known(0.0)(video + error, video, ALL), torch.full((2,), 2.0), atol=0.2, rtol=0)
    torch.testing.assert_close(known(2.0)(video + error, video, ALL), torch.full((2,), 2.0 * 14 / 16), atol=0.2, rtol=0)


def test_pairs_of_given_frames_count_nothing_and_others_count_alike() -> None:
    """The mean is over the pairs in which something is made; a given frame has no error of its own."""
    video, error = noise(2, 3, 5, 16, 16), torch.ones(2, 3, 5, 16, 16)
    made = torch.tensor([[False, False, False, False, True], [True, False, True, False, True]])
    x_hat = video + error * made[:, None, :, None, None]
    torch.testing.assert_close(known(0.0)(x_hat, video, made), torch.ones(2))
    assert known(0.0)(video[:, :, :1], video[:, :, :1], ALL[:, :1]).tolist() == [0.0, 0.0]


def test_raft_takes_any_size_and_scales_the_flow_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, which say nothing of motion: what it is shown and how its answer is read."""
    from vidiff_cli.text.patch_torchvision import patch_torchvision_nms

    patch_torchvision_nms()
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    network = optical_flow.raft_small(weights=None)
    save_file(network.state_dict(), tmp_path / "raft.safetensors")
    images = noise(1, 3, 20, 36).clamp(-1, 1)
    flow_of = raft(tmp_path / "raft.safetensors", torch.device("cpu"))
    seen: list[tuple[int, ...]] = []

    def one_cell(self: object, first: Tensor, second: Tensor) -> list[Tensor]:
        seen.append(tuple(first.shape))
        return [torch.full((len(first), 2, *first.shape[2:]), 8.0)]

    assert [flow.shape for flow in flow_of(images, images)] == 2 * [(1, 2, 20, 36)]
    monkeypatch.setattr(type(network), "forward", one_cell)
    flow, back = flow_of(images, images)
    assert seen == 2 * [(1, 3, 128, 232)] and torch.equal(flow, back)
    torch.testing.assert_close(flow[0, :, 3, 5], torch.tensor([8 * 36 / 232, 8 * 20 / 128]))


def test_weights_that_do_not_fit_are_one_sentence_and_pickles_are_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "raft.safetensors"
    pickle = r"may run code.*expected a safetensors file; convert it once: .*save_file"
    faults: list[tuple[str, Callable[[], object]]] = [
        (pickle, lambda: torch.save({"weight": torch.zeros(2)}, path)),
        ("hold the weights of torchvision's raft_small or", lambda: save_file({"weight": torch.zeros(2)}, path)),
        ("not all finite", lambda: save_file({"weight": torch.tensor([1.0, torch.nan])}, path)),
        ("damaged", lambda: path.write_bytes(b"nothing of the kind")),
        ("cannot be read: found no such file", path.unlink),
        ("are not a file: expected a safetensors file", path.mkdir),
    ]
    for sentence, make in faults:
        make()
        with pytest.raises(VidiffError, match=sentence):
            raft(path, torch.device("cpu"))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "raft.pth")
    with pytest.raises(VidiffError, match=pickle):
        raft(tmp_path / "raft.pth", torch.device("cpu"))
