"""The loss: closed forms on a network that predicts zero, and what counts and what does not."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from tiny_batch import B, T, tiny_batch
from tiny_model import tiny_video_model
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.diffusion.levels import alpha_sigma, cosine
from vidiff_cli.diffusion.noise import Prior
from vidiff_cli.diffusion.targets import WEIGHTINGS, PredictionType, loss_weight, target
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.objective import Auxiliary, Loss, diffusion_loss

GIVEN = torch.tensor([[False] * 4, [True, True, False, False], [False, True, False, True], [True, True, True, False]])


def batch() -> Batch:
    return tiny_batch(GIVEN, torch.tensor([0.1, 0.4, 0.6, 0.95]))


def loss_of(video_model: VideoNetwork, drawn: Batch, *, auxiliary: Auxiliary | None = None) -> Loss:
    reader = video_model.caption_reader()
    assert reader is not None
    read = replace(drawn, text=reader(drawn.captions))
    return diffusion_loss(video_model.denoiser, video_model.text, read, auxiliary=auxiliary)


def loss(video_model: VideoNetwork, drawn: Batch) -> Tensor:
    return loss_of(video_model, drawn).total


def seen_by(
    video_model: VideoNetwork, drawn: Batch, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor, Conditioning]:
    """z, levels and conditioning that the network is shown."""
    seen: list[tuple[Tensor, Tensor, Conditioning]] = []

    def predict(z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        seen.append((z, level, conditioning))
        return z.detach().clone().requires_grad_(True)

    with monkeypatch.context() as patch:
        patch.setattr(video_model.denoiser, "predict", predict)
        loss(video_model, drawn)
    return seen[0]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("kind", get_args(PredictionType))
def test_the_loss_of_no_prediction_is_the_weighted_power_of_the_target(kind: PredictionType, weighting: str) -> None:
    """A fresh network predicts zero. The mean is over the frames that are made, then over the clips."""
    diffusion = DiffusionSettings(target=kind, weighting=weighting, shift=-1.5, low=-12, high=15)  # type: ignore[arg-type]
    video_model, drawn = tiny_video_model(diffusion=diffusion), batch()
    made = loss_of(video_model, drawn)
    level = cosine(drawn.u.double(), low=-12, high=15, shift=-1.5).float()
    power = target(kind, drawn.video, drawn.noise, level).square().mean(dim=(1, 3, 4)) * loss_weight(
        weighting, kind, level
    )
    expected = torch.stack([power[clip][~GIVEN[clip]].mean() for clip in range(B)])
    torch.testing.assert_close(made.per_clip, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(made.total, expected.mean(), rtol=1e-4, atol=1e-6)
    assert torch.equal(made.made, ~GIVEN)
    torch.testing.assert_close(made.per_frame[made.made], power[~GIVEN], rtol=1e-4, atol=1e-6)
    assert not made.per_clip.requires_grad and made.total.requires_grad


def test_given_frames_are_shown_clean_and_told_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = batch()
    z, level, conditioning = seen_by(tiny_video_model(), drawn, monkeypatch)
    shown = GIVEN[:, None, :, None, None].expand(z.shape)
    assert torch.equal(z[shown], drawn.video[shown]) and not torch.isclose(z[~shown], drawn.video[~shown]).all()
    assert (level[GIVEN] == 20).all()
    for clip in range(B):
        assert level[clip][~GIVEN[clip]].unique().tolist() == [pytest.approx(float(cosine(drawn.u)[clip, 0]), rel=1e-5)]
    assert torch.equal(conditioning.observed, GIVEN) and torch.equal(conditioning.times, drawn.times)
    assert conditioning.is_image is None
    assert conditioning.dropped is not None and torch.equal(conditioning.dropped, drawn.dropped)
    assert conditioning.token_mask is not None and conditioning.token_mask.sum(dim=1).tolist() == [3, 3, 1, 1]


def test_a_dropped_caption_is_not_seen() -> None:
    video_model, drawn = tiny_video_model(noise=0.1), batch()
    before = loss_of(video_model, drawn).per_clip
    others = replace(drawn, captions=("a red square", "two words", "", "moving left"))
    after = loss_of(video_model, others).per_clip
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    heard = replace(drawn, captions=("two words", *drawn.captions[1:]))
    assert abs(float(loss_of(video_model, heard).per_clip[0] - before[0])) > 1e-4


def test_the_null_text_is_trained_by_dropped_captions_only() -> None:
    video_model = tiny_video_model(noise=0.1)
    for dropped in (True, False):
        video_model.zero_grad()
        loss(video_model, replace(batch(), dropped=torch.full((B,), dropped))).backward()
        for null in (video_model.denoiser.network.null_token, video_model.denoiser.network.null_pooled):
            assert null.grad is not None and bool(null.grad.any()) == dropped
        tower = next(iter(video_model.text.parameters()))  # type: ignore[union-attr]
        assert (tower.grad is not None and bool(tower.grad.any())) != dropped


@pytest.mark.parametrize("name", ["mixed", "lowpass"])
def test_noise_has_the_prior_of_the_model_in_what_is_shown_and_in_the_target(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also under autocast, which would take digits from it. The batch itself stays white."""
    diffusion = DiffusionSettings.model_validate({"noise": name, "noise_strength": 0.7, "target": "eps"})
    video_model = tiny_video_model(diffusion=diffusion)
    drawn = replace(batch(), observed=torch.zeros(B, T, dtype=torch.bool))
    noise = Prior(name=name, strength=0.7).correlate(drawn.noise)
    with torch.autocast("cpu", torch.bfloat16):
        z, level, _ = seen_by(video_model, drawn, monkeypatch)
        made = loss_of(video_model, drawn)
    alpha, sigma = (scale[:, None, :, None, None] for scale in alpha_sigma(level.double()))
    torch.testing.assert_close(z.double(), alpha * drawn.video + sigma * noise, rtol=0, atol=1e-5)
    power = noise.square().mean(dim=(1, 3, 4)) * loss_weight("v", "eps", level)
    torch.testing.assert_close(made.per_clip, power.mean(dim=1), rtol=1e-4, atol=0)


CONTEXT = torch.tensor([0.5, 0.45, 0.0, 0.25])


def test_given_frames_are_shown_with_the_noise_of_their_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clip's own level, told to the network; without noise they are the frames themselves, as ever."""
    drawn = replace(batch(), context=CONTEXT)
    z, level, conditioning = seen_by(tiny_video_model(), drawn, monkeypatch)
    assert torch.equal(conditioning.observed, GIVEN)
    alpha, sigma = (scale[:, None, :, None, None] for scale in alpha_sigma(level.double()))
    noisy = (alpha * drawn.video + sigma * drawn.noise).float()
    for clip in (1, 2, 3):
        at = cosine(CONTEXT.double())[clip].float()
        assert (level[clip][GIVEN[clip]] == at).all() and (level[clip][~GIVEN[clip]] != at).all()
        expected = noisy[clip] if clip != 2 else drawn.video[clip]
        torch.testing.assert_close(z[clip][:, GIVEN[clip]], expected[:, GIVEN[clip]], rtol=0, atol=1e-6)
    clean, _, _ = seen_by(tiny_video_model(), batch(), monkeypatch)
    for clip in (0, 2):
        assert torch.equal(z[clip], clean[clip])
    assert torch.equal(z[:, :, 3][~GIVEN[:, 3]], clean[:, :, 3][~GIVEN[:, 3]])
    made = diffusion_loss(tiny_video_model().denoiser, None, drawn)
    torch.testing.assert_close(made.level[~GIVEN], cosine(drawn.u.double()).float()[~GIVEN])


def test_the_noise_of_given_frames_says_nothing_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a prior that frames share: neither follows from the other. In sampling it is drawn apart too."""
    video_model = tiny_video_model(diffusion=DiffusionSettings.model_validate({"noise": "shared"}))
    drawn = replace(batch(), context=CONTEXT)
    shown = GIVEN[:, None, :, None, None]
    for part in (shown, ~shown):
        other = replace(drawn, noise=torch.where(part, drawn.noise + 3, drawn.noise))
        before, after = (seen_by(video_model, each, monkeypatch)[0] for each in (drawn, other))
        assert torch.equal(torch.where(part, 0, before), torch.where(part, 0, after))
        assert not torch.equal(before, after)


J = 3


def with_images(drawn: Batch, seed: int = 7) -> Batch:
    """The batch with J images after each clip."""
    generator = torch.Generator().manual_seed(seed)
    video, noise = (torch.randn(B, 3, J, 4, 4, generator=generator) for _ in range(2))
    return replace(
        drawn,
        video=torch.cat([drawn.video, video.tanh()], dim=2),
        noise=torch.cat([drawn.noise, noise], dim=2),
        u=torch.cat([drawn.u, drawn.u[:, :J]], dim=1),
        times=torch.cat([drawn.times, torch.zeros(B, J)], dim=1),
        observed=torch.cat([drawn.observed, torch.zeros(B, J, dtype=torch.bool)], dim=1),
        images=J,
    )


def test_beside_images_a_clip_is_what_it_is_alone() -> None:
    """And an image counts as a clip of one frame, by its share of the frames."""
    video_model = tiny_video_model(noise=0.1, diffusion=DiffusionSettings.model_validate({"noise": "mixed"}))
    drawn = with_images(batch())
    together = loss_of(video_model, drawn)
    alone = loss_of(video_model, batch())
    torch.testing.assert_close(together.per_clip, alone.per_clip, rtol=1e-4, atol=1e-6)
    assert torch.equal(together.made, alone.made) and torch.equal(together.level, alone.level)
    images = []
    for place in range(T, T + J):
        one = slice(place, place + 1)
        parts = {name: getattr(drawn, name)[:, :, one] for name in ("video", "noise")}
        alone = {name: getattr(drawn, name)[:, one] for name in ("u", "times", "observed")}
        image = replace(drawn, **parts, **alone, images=0)
        images.append(loss(video_model, image))
    share = J / (T + J)
    torch.testing.assert_close(together.terms["images"], share * torch.stack(images).mean(), rtol=1e-4, atol=1e-6)
    expected = (1 - share) * together.per_clip.mean() + together.terms["images"]
    torch.testing.assert_close(together.total, expected, rtol=1e-6, atol=0)


def test_images_and_clips_learn_nothing_of_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of one changes no bit of a prediction for another."""
    video_model = tiny_video_model(noise=0.1, diffusion=DiffusionSettings.model_validate({"noise": "progressive"}))
    drawn = with_images(batch())
    predicted: list[Tensor] = []
    predict = video_model.denoiser.predict

    def keep(z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        predicted.append(predict(z, level, conditioning))
        return predicted[-1]

    monkeypatch.setattr(video_model.denoiser, "predict", keep)
    loss(video_model, drawn)
    for part in (slice(0, T), slice(T, T + 1), slice(T + 1, T + 3)):
        inside = torch.zeros(T + J, dtype=torch.bool)
        inside[part] = True
        mask = inside[:, None, None]
        other = replace(
            drawn,
            video=torch.where(mask, -drawn.video, drawn.video),
            noise=torch.where(mask, drawn.noise + 1, drawn.noise),
        )
        loss(video_model, other)
        assert torch.equal(predicted[-1][:, :, ~inside], predicted[0][:, :, ~inside])
        assert not torch.equal(predicted[-1][:, :, inside], predicted[0][:, :, inside])


def test_auxiliary_losses_see_clips_only() -> None:
    video_model, drawn = tiny_video_model(noise=0.1), with_images(batch())

    def look(x_hat: Tensor, clips: Batch, level: Tensor) -> dict[str, Tensor]:
        assert x_hat.shape == clips.video.shape == batch().video.shape and level.shape == clips.observed.shape == (B, T)
        assert torch.equal(clips.video, batch().video) and clips.is_image is None
        return {"other": x_hat.mean()}

    made = loss_of(video_model, drawn, auxiliary=look)
    plain = loss_of(video_model, drawn)
    assert set(made.terms) == {"other", "images"}
    torch.testing.assert_close(made.total - plain.total, made.terms["other"], rtol=1e-3, atol=1e-6)


def test_a_level_of_a_frame_changes_nothing_of_the_weight_of_others() -> None:
    """Whatever the network does with it: of one that predicts zero, the other frames' losses stay to the bit, and its
    own is that of its level alone."""
    for weighting in ("v", "min-snr"):
        video_model = tiny_video_model(diffusion=DiffusionSettings.model_validate({"weighting": weighting}))
        u = torch.rand(B, T, generator=torch.Generator().manual_seed(3))
        drawn = replace(batch(), u=u)
        before = loss_of(video_model, drawn)
        assert before.level.shape == before.per_frame.shape == (B, T)
        for frame in range(T):
            moved = u.clone()
            moved[:, frame] = 0.9 - 0.5 * moved[:, frame]
            after = loss_of(video_model, replace(drawn, u=moved))
            others = torch.arange(T) != frame
            assert torch.equal(after.per_frame[:, others], before.per_frame[:, others])
            alone = loss_of(video_model, replace(drawn, u=moved[:, frame : frame + 1].expand(B, T)))
            torch.testing.assert_close(after.per_frame[:, frame], alone.per_frame[:, frame])
            made = ~GIVEN[:, frame]
            assert not torch.isclose(after.per_frame[made, frame], before.per_frame[made, frame]).any()
        torch.testing.assert_close(before.per_clip, (before.per_frame * ~GIVEN).sum(dim=1) / (~GIVEN).sum(dim=1))
