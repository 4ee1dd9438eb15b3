"""The losses beside the diffusion loss: at low noise, over sigma^2, on what is made; nothing when they are off."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from draws import randn as noise
from pydantic import ValidationError
from tiny_batch import CAPTIONS, B, T, tiny_batch
from tiny_model import tiny_video_model
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.config.train import ObjectiveSettings
from vidiff_cli.diffusion.levels import alpha_sigma, cosine
from vidiff_cli.training import auxiliary_losses
from vidiff_cli.training.auxiliary_losses import (
    FLOOR,
    GATE,
    SHARE,
    LowNoiseLosses,
    make_auxiliary_losses,
    subsample_rate,
)
from vidiff_cli.training.flow_loss import ResidualFlow
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.objective import Auxiliary, diffusion_loss

CPU = torch.device("cpu")
NONE = torch.zeros(B, T, dtype=torch.bool)


def batch(given: Tensor = NONE) -> Batch:
    return tiny_batch(given, torch.tensor([0.02, 0.1, 0.15, 0.2]))  # levels 5.9 to 2.2


def at(level: float) -> Tensor:
    return torch.full((B, T), level)


def flow(weight: float = 1.0) -> Auxiliary:
    """With the known flow of clips that stand still: of noise, nothing measured would be taken for visible."""

    def still(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        nowhere = first.new_zeros(len(first), 2, *first.shape[2:])
        return nowhere, nowhere

    return LowNoiseLosses(terms={"flow": (weight, ResidualFlow(still))})


def squared(calls: list[Tensor] | None = None, **more: float) -> LowNoiseLosses:
    """Plain squared error as the term, which keeps a note of what it was shown."""

    def term(x_hat: Tensor, video: Tensor, made: Tensor) -> Tensor:
        if calls is not None:
            calls.append(x_hat)
        return (x_hat - video).square().mean(dim=(1, 2, 3, 4))

    return LowNoiseLosses(terms={"squared": (1.0, term)}, **more)


def test_off_is_nothing_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vidiff_cli.training.flow_loss", "vidiff_cli.training.perceptual_loss", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None)  # to import it is an error now
    module = runpy.run_path(auxiliary_losses.__file__)
    assert module["make_auxiliary_losses"](ObjectiveSettings(), DiffusionSettings(), CPU) is None
    with pytest.raises(ImportError):
        module["make_auxiliary_losses"](ObjectiveSettings(flow_loss=0.1), DiffusionSettings(), CPU)


def test_the_perceptual_loss_says_which_weights_it_needs() -> None:
    with pytest.raises(ValidationError, match=r"--set objective.perceptual_weights=FILE"):
        ObjectiveSettings(perceptual_loss=0.1)
    ObjectiveSettings(perceptual_loss=0.1, perceptual_weights=Path("r3d_18.safetensors"))


def test_what_the_settings_ask_for_is_built() -> None:
    """With their weights, and the flow of motion/ where no file is named."""
    made = make_auxiliary_losses(ObjectiveSettings(flow_loss=0.2), DiffusionSettings(shift=2.0), CPU)
    assert isinstance(made, LowNoiseLosses) and made.keep == subsample_rate(DiffusionSettings(shift=2.0)) < 1
    assert {name: weight for name, (weight, _) in made.terms.items()} == {"flow": 0.2}
    moving = torch.stack([noise(1, 3, 16, 16).roll(step, dims=-1) for step in range(T)], dim=2)
    smooth = torch.nn.functional.avg_pool3d(moving, (1, 5, 5), 1, (0, 2, 2))
    drawn = replace(batch(), video=smooth, observed=NONE[:1], u=torch.full((1, T), 0.15))
    still = smooth + 0.1 * noise(1, 3, 1, 16, 16, seed=2)
    assert float(replace(made, keep=1.0)(still, drawn, at(3.0)[:1])["flow"]) > 0


def test_a_weight_means_the_same_at_every_level() -> None:
    """For one error of the v-prediction, x_hat is off by sigma times it: the term is the same from the gate to the
    floor, and fades beyond it."""
    drawn, error = batch(), 0.1 * noise(B, 3, T, 4, 4, seed=2)

    def of(level: float) -> Tensor:
        sigma = alpha_sigma(torch.tensor(level))[1]
        return flow(0.3)(drawn.video - sigma * error, drawn, at(level))["flow"]

    reference = of(GATE)
    assert float(reference) > 0
    for level in (GATE, 5.0, 20.0):
        assert float(flow()(drawn.video, drawn, at(level))["flow"]) == 0.0, "the truth has no error"
    for level in (2.5, 3.0, 3.8):
        torch.testing.assert_close(of(level), reference, rtol=1e-4, atol=0)
    for level in (5.0, 8.0):
        faded = float(torch.sigmoid(torch.tensor(-level))) / FLOOR
        torch.testing.assert_close(of(level), reference * faded, rtol=1e-3, atol=0)


def test_below_the_gate_there_is_no_term_and_no_cost() -> None:
    calls: list[Tensor] = []
    drawn = batch()
    value = squared(calls)(drawn.video + 1, drawn, at(GATE - 0.01))["squared"]
    assert float(value) == 0.0 and not value.requires_grad and calls == []
    level = torch.tensor([1.0, 3.0, -5.0, 2.5])[:, None].expand(B, T)
    squared(calls)(drawn.video + 1, drawn, level)
    assert calls[0].shape[0] == 2
    everything = squared(calls)(drawn.video + 1, drawn, at(3.0))["squared"]
    half = squared(calls)(drawn.video + 1, drawn, torch.where(torch.arange(B)[:, None] < 2, 3.0, 1.0).expand(B, T))
    torch.testing.assert_close(half["squared"], everything / 2)  # the mean is over the batch


def test_given_frames_count_nothing() -> None:
    """Whatever is estimated of them; and the gate looks at the frames that are made."""
    given = torch.tensor([[True, False, False, False]] * B)
    drawn, level = batch(given), torch.where(given, 20.0, 3.0)
    x_hat = (drawn.video + 0.1 * noise(B, 3, T, 4, 4, seed=2)).requires_grad_(True)
    value = flow()(x_hat, drawn, level)["flow"]
    value.backward()
    assert x_hat.grad is not None
    assert (x_hat.grad.abs().amax(dim=(0, 1, 3, 4)) > 0).tolist() == [False, True, True, True]
    assert float(flow()(x_hat, drawn, torch.where(given, 20.0, 1.0))["flow"]) == 0.0
    shown: list[Tensor] = []
    squared(shown)(x_hat, drawn, level)
    assert torch.equal(shown[0][:, :, 0], drawn.video[:, :, 0])


@pytest.mark.parametrize("shift", [0.0, -2.5])
def test_a_quarter_of_the_batch_is_looked_at_whatever_the_schedule(shift: float) -> None:
    """On average; the sum over the chosen ones is that over all. Each clip is chosen by itself."""
    keep, size, steps, looked, total = subsample_rate(DiffusionSettings(shift=shift)), 64, 30, 0, 0.0
    loss = squared(calls := [], keep=keep)

    def of(part: slice) -> Tensor:
        clips = replace(drawn, video=drawn.video[part], observed=drawn.observed[part], u=u[part])
        return loss(torch.sigmoid(-level[part]).sqrt()[:, :, None, None, None], clips, level[part])["squared"]

    for step in range(steps):
        u = ((torch.arange(size) + torch.rand((), generator=torch.Generator().manual_seed(step))) / size)[:, None]
        level = cosine(u.double(), shift=shift).float()
        drawn = replace(batch(), video=torch.zeros(size, 1, 1, 1, 1), observed=torch.zeros(size, 1).bool())
        calls.clear()
        whole = of(slice(None))
        looked += sum(len(call) for call in calls)
        total += float(whole) / steps
        torch.testing.assert_close((of(slice(0, 32)) + of(slice(32, 64))) / 2, whole)
    levels = cosine(torch.linspace(0, 1, 10_001, dtype=torch.float64), shift=shift)
    expected = torch.where(levels >= GATE, (torch.sigmoid(-levels) / FLOOR).clamp(max=1), 0.0).mean()
    assert looked / steps / size <= SHARE + 0.01
    assert total == pytest.approx(float(expected), rel=0.1)


def test_gradients_reach_the_network_scaled_by_sigma() -> None:
    """x_hat = alpha z - sigma v: the gradient of a prediction is -sigma times that of x_hat."""
    video_model = tiny_video_model(noise=0.1)
    drawn = replace(batch(), text=video_model.caption_reader()(CAPTIONS))  # type: ignore[misc]
    seen: list[tuple[Tensor, Tensor]] = []
    predictions: list[Tensor] = []
    inner = flow()

    def watched(x_hat: Tensor, drawn: Batch, level: Tensor) -> dict[str, Tensor]:
        x_hat.retain_grad()
        seen.append((x_hat, level))
        return inner(x_hat, drawn, level)

    predict = video_model.denoiser.predict

    def keeping(*args: object) -> Tensor:
        made = predict(*args)  # type: ignore[arg-type]
        made.retain_grad()
        predictions.append(made)
        return made

    video_model.denoiser.predict = keeping  # type: ignore[method-assign]
    loss = diffusion_loss(video_model.denoiser, video_model.text, drawn, auxiliary=watched)
    plain = diffusion_loss(video_model.denoiser, video_model.text, drawn)
    torch.testing.assert_close(loss.total - plain.total, loss.terms["flow"], rtol=1e-4, atol=1e-6)
    loss.total.backward()
    first = predictions[0].grad
    video_model.zero_grad()
    plain.total.backward()
    (x_hat, level), second = seen[0], predictions[1].grad
    assert first is not None and second is not None and x_hat.grad is not None
    sigma = alpha_sigma(level)[1][:, None, :, None, None]
    assert float(x_hat.grad.abs().max()) > 0
    torch.testing.assert_close(first - second, -sigma * x_hat.grad, rtol=1e-3, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        half = diffusion_loss(video_model.denoiser, video_model.text, drawn, auxiliary=flow())
    assert half.terms["flow"].dtype == torch.float32 and bool(half.total.isfinite())
