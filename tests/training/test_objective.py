"""The loss: closed forms on a network that predicts zero, and what counts and what does not."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.diffusion.levels import cosine
from vidiff_cli.diffusion.targets import WEIGHTINGS, Kind, loss_weight, target
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.training.batches import Batch
from vidiff_cli.training.objective import diffusion_loss
from vidiff_cli.training.state import Learner

Maker = Callable[..., Learner]
B, T = 4, 4
GIVEN = torch.tensor([[False] * 4, [True, True, False, False], [False, True, False, True], [True, True, True, False]])


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        video=torch.rand(B, 3, T, 4, 4, generator=generator) * 2 - 1,
        noise=torch.randn(B, 3, T, 4, 4, generator=generator),
        u=torch.tensor([0.1, 0.4, 0.6, 0.95]),
        times=(torch.arange(T) / 8).expand(B, T).contiguous(),
        given=GIVEN,
        dropped=torch.tensor([False, True, False, True]),
        captions=("a red square", "a blue circle", "", "green"),
    )


def loss(learner: Learner, drawn: Batch) -> Tensor:
    return diffusion_loss(learner.denoiser, learner.text, drawn).total


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_loss_of_no_prediction_is_the_weighted_power_of_the_target(
    make_learner: Maker, kind: Kind, weighting: str
) -> None:
    """A fresh network predicts zero. The mean is over the frames that are made, then over the clips."""
    diffusion = DiffusionSettings(target=kind, weighting=weighting, shift=-1.5, low=-12, high=15)  # type: ignore[arg-type]
    learner, drawn = make_learner(diffusion=diffusion), batch()
    made = diffusion_loss(learner.denoiser, learner.text, drawn)
    level = cosine(drawn.u.double(), low=-12, high=15, shift=-1.5).float()[:, None].expand(B, T)
    power = target(kind, drawn.video, drawn.noise, level).square().mean(dim=(1, 3, 4)) * loss_weight(
        weighting, kind, level
    )
    expected = torch.stack([power[clip][~GIVEN[clip]].mean() for clip in range(B)])
    torch.testing.assert_close(made.per_clip, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(made.total, expected.mean(), rtol=1e-4, atol=1e-6)
    assert made.observed.tolist() == [False, True, True, True]
    assert not made.per_clip.requires_grad and made.total.requires_grad


def test_given_frames_are_shown_clean_and_told_as_given(make_learner: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, drawn = make_learner(), batch()
    seen: list[tuple[Tensor, Tensor, Conditioning]] = []

    def predict(z: Tensor, level: Tensor, told: Conditioning) -> Tensor:
        seen.append((z, level, told))
        return z.detach().clone().requires_grad_(True)

    monkeypatch.setattr(learner.denoiser, "predict", predict)
    loss(learner, drawn)
    ((z, level, told),) = seen
    shown = GIVEN[:, None, :, None, None].expand(z.shape)
    assert torch.equal(z[shown], drawn.video[shown]) and not torch.isclose(z[~shown], drawn.video[~shown]).all()
    assert (level[GIVEN] == 20).all()
    for clip in range(B):
        assert level[clip][~GIVEN[clip]].unique().tolist() == [pytest.approx(float(cosine(drawn.u)[clip]), rel=1e-5)]
    assert torch.equal(told.given, GIVEN) and torch.equal(told.times, drawn.times)
    assert told.dropped is not None and torch.equal(told.dropped, drawn.dropped)
    assert told.token_mask is not None and told.token_mask.sum(dim=1).tolist() == [3, 3, 1, 1]


def test_what_a_network_predicts_of_given_frames_counts_nothing(make_learner: Maker) -> None:
    """Neither a changed target there nor a changed prediction there changes the loss, or any gradient."""
    learner, drawn = make_learner(noise=0.1), batch()
    shown = GIVEN[:, None, :, None, None]
    other = replace(drawn, noise=torch.where(shown, drawn.noise + 5, drawn.noise))
    gradients = []
    for each in (drawn, other):
        learner.zero_grad()
        value = loss(learner, each)
        value.backward()
        gradients.append([value.detach(), *(parameter.grad.clone() for parameter in learner.parameters())])  # type: ignore[union-attr]
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))
    changed = replace(drawn, noise=torch.where(shown, drawn.noise, drawn.noise + 0.1))
    assert not torch.equal(loss(learner, changed), gradients[0][0])


def test_a_clip_counts_the_same_however_much_of_it_is_given(make_learner: Maker) -> None:
    """Where all frames are alike, the loss of a clip is that of one of its frames."""
    learner, drawn = make_learner(), batch()
    alike = replace(
        drawn,
        video=drawn.video[:1, :, :1].expand_as(drawn.video),
        noise=drawn.noise[:1, :, :1].expand_as(drawn.noise),
        u=torch.full((B,), 0.5),
    )
    per_clip = diffusion_loss(learner.denoiser, learner.text, alike).per_clip
    torch.testing.assert_close(per_clip, per_clip[:1].expand(B))


def test_a_dropped_caption_is_not_seen(make_learner: Maker) -> None:
    learner, drawn = make_learner(noise=0.1), batch()
    before = diffusion_loss(learner.denoiser, learner.text, drawn).per_clip
    others = replace(drawn, captions=("a red square", "two words", "", "moving left"))
    after = diffusion_loss(learner.denoiser, learner.text, others).per_clip
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    heard = replace(drawn, captions=("two words", *drawn.captions[1:]))
    assert abs(float(diffusion_loss(learner.denoiser, learner.text, heard).per_clip[0] - before[0])) > 1e-4


def test_gradient_reaches_every_parameter_of_network_text_and_null_text(make_learner: Maker) -> None:
    learner = make_learner(noise=0.1)
    loss(learner, batch()).backward()
    assert learner.text is not None and any(name.startswith("text.") for name, _ in learner.named_parameters())
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_the_null_text_is_trained_by_dropped_captions_only(make_learner: Maker) -> None:
    learner = make_learner(noise=0.1)
    for dropped in (True, False):
        learner.zero_grad()
        loss(learner, replace(batch(), dropped=torch.full((B,), dropped))).backward()
        for null in (learner.denoiser.network.null_token, learner.denoiser.network.null_pooled):
            assert null.grad is not None and bool(null.grad.any()) == dropped
        tower = next(iter(learner.text.parameters()))  # type: ignore[union-attr]
        assert (tower.grad is not None and bool(tower.grad.any())) != dropped
