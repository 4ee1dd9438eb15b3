"""The loss of held-out clips: the same clips, windows, captions, noise and levels at every step and in every run.

All of it follows from the dataset and one constant, so that two numbers differ because the models do. A look at a clip
is a pass for each band of levels, at stratified levels within it; a total weights the bands as training does. Where
training has independent levels by frame, some looks have too: every pass is drawn as in training, and each frame is
seen at places of the schedule that lie evenly. Of few clips each has a look of every kind.
Shapes: b clips, c channels, t frames, h w pixels, n looks, k bands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings, NetworkSettings
from vidiff_cli.config.train import LevelSettings, LoaderSettings, ObjectiveSettings
from vidiff_cli.device import CLIPS_ON_CPU, send
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.models.noise_schedule import training_levels
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.text.encoder import CaptionReader
from vidiff_cli.training.clip_sampling import ClipSample, sample_clip
from vidiff_cli.training.frame_levels import LevelKind
from vidiff_cli.training.loader import Batch, ClipSource, to_network
from vidiff_cli.training.low_resolution import low_clips
from vidiff_cli.training.motion_estimates import estimate_between, estimate_frames
from vidiff_cli.training.objective import Loss, Objective, diffusion_loss

EDGES = (-4.0, -1.0, 2.0)  # of the bands of levels (log-SNR): noise, outlines, details, nearly clean
BANDS = ("below_-4", "-4_to_-1", "-1_to_2", "above_2")
MAX_SAMPLES = 32
SEED = 2_204_03458  # of all draws here, whatever the run's
FEWEST_CLIPS = 8  # with captions, for a standard error
LEARNED_AFTER = 500  # steps, or a tenth of the run if that is more, before the text gain is judged


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationSet:
    """The looks at the clips of a source: what of each (n draws), and u (n, k) in every band; nan for a band that the
    schedule does not reach. `shares` (k) are those of the bands in training. A draw with levels by frame has its own
    places, which move on from pass to pass."""

    source: ClipSource
    draws: tuple[ClipSample, ...]
    crop: int
    u: np.ndarray
    shares: np.ndarray

    @property
    def captions(self) -> tuple[str, ...]:
        """Captions that the text encoder has to embed."""
        return tuple(draw.caption for draw in self.draws if not draw.dropped)


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Mean losses: of all looks, of those without and with given frames, of those with independent levels by frame, of
    each band (k); None without any.

    `clips` counts the measured clips. `text_gain` is how much lower the loss is with the caption than without
    it, over the clips that have one; beside it its standard error over clips.
    """

    clips: int
    loss: float
    free: float | None
    observed: float | None
    bands: tuple[float | None, ...]
    frame_levels: float | None = None
    unconditional: float | None = None
    text_gain: float | None = None
    text_gain_error: float | None = None


def noise_bands(levels: np.ndarray) -> np.ndarray:
    """The number of the band that each level lies in."""
    return np.digitize(levels, EDGES)


def make_validation_set(
    source: ClipSource,
    model: ModelSettings,
    *,
    independent: bool = False,
    crop: int = 0,
    max_samples: int = MAX_SAMPLES,
) -> ValidationSet | None:
    """Choose looks at clips of a source, evenly spaced; None where it has none.

    Looks without and with given frames, where the model is trained on them, and those with `independent` levels take
    turns; where there is room, every clip has one of each kind.

    Args:
        source: The held-out clips.
        model: The model, for its window, its levels and its conditioning.
        independent: True where it is trained on independent levels by frame.
        crop: Side of a square crop; 0: whole frames.
        max_samples: Most looks.

    Returns:
        The looks.
    """
    if not len(source.rows):
        return None
    asked: dict[LevelKind, bool] = {"observed": model.conditioning == "mixed", "independent": independent}
    conditioned: list[LevelKind] = [kind for kind in asked if asked[kind] and model.frames > 1]
    kinds: list[LevelKind] = conditioned if model.network.between and conditioned else ["shared", *conditioned]
    repeats = len(kinds) if len(kinds) * len(source.rows) <= max_samples else 1
    clips = min(max_samples, len(source.rows))
    numbers = np.linspace(0, len(source.rows) - 1, clips).round().astype(int).repeat(repeats).tolist()
    draws = tuple(
        _draw(source, number, index, model, crop, kind=kinds[index % len(kinds)])
        for index, number in enumerate(numbers)
    )
    u, shares = _stratified(model, clips)
    return ValidationSet(source=source, draws=draws, crop=crop, u=u.repeat(repeats, axis=0), shares=shares)


def _draw(
    source: ClipSource, number: int, index: int, model: ModelSettings, crop: int, *, kind: LevelKind
) -> ClipSample:
    """The sample of a clip; drawn again where observed frames are requested and it has none."""
    levels = LevelSettings.model_validate({"shared": 0.0, "observed": 0.0} | {kind: 1.0})
    objective = ObjectiveSettings(levels=levels, caption_dropout=0.0, caption_dropout_observed=0.0)
    row = source.rows[number]
    for attempt in range(10):
        draw = sample_clip(
            row,
            number,
            objective,
            LoaderSettings(crop=crop),
            window=model.frames,
            frame_strides=model.frame_strides,
            rng=np.random.default_rng([SEED, 0, index, attempt]),
            levels=np.random.default_rng([SEED, 2, index]),
            between=model.network.between,
        )
        if draw.observed.any() or kind != "observed" or len(draw.observed) == 1:
            break
    return draw


def _stratified(model: ModelSettings, count: int) -> tuple[np.ndarray, np.ndarray]:
    """u (n, k) whose levels lie in each band, one in each of n equal parts of it, and the shares (k) of the bands."""
    u = (np.arange(2**16) + 0.5) / 2**16
    band = noise_bands(training_levels(model, torch.from_numpy(u)).numpy())
    shares = np.bincount(band, minlength=len(BANDS)) / len(u)
    chosen = np.full((count, len(BANDS)), np.nan)
    for number in np.flatnonzero(shares):
        parts = np.random.default_rng([SEED, 1, int(number)]).permutation(count)
        inside = u[band == number]
        chosen[:, number] = inside[((parts + 0.5) / count * len(inside)).astype(int)]
    return chosen, shares


def validate(
    video_model: VideoNetwork,
    validation_set: ValidationSet,
    *,
    reader: CaptionReader | None,
    device: torch.device,
    dtype: torch.dtype,
    at_once: int = CLIPS_ON_CPU,
    objective: Objective | None = None,
    text_gain: bool = True,
) -> Validation:
    """Measure the losses of a model on held-out clips. No global random number is drawn.

    Args:
        video_model: The model, on `device`; its mode is left as it was.
        validation_set: Clips, windows, captions, noise and levels: the same in every call.
        reader: Reads captions for the text encoder; None for a model without one.
        device: Device of the batches.
        dtype: Number format of the network.
        at_once: Clips in a batch.
        objective: The loss, where it is not the diffusion loss; what captions gain is then not measured.
        text_gain: Measure the loss without captions too.

    Returns:
        Mean losses, by kind and by band of levels.
    """
    conditional, unconditional = (_Losses(validation_set) for _ in range(2))
    reached = np.flatnonzero(validation_set.shares)
    measures_text = text_gain and video_model.text is not None and objective is None
    training = video_model.training
    video_model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for indices, video, frames in clips_in_batches(validation_set, at_once, device):
                known = _known(validation_set, indices, video, frames, video_model.settings.network)
                text = reader([validation_set.draws[index].caption for index in indices]).to(device) if reader else None
                for number, band in enumerate(reached.tolist()):
                    batch = _batch(validation_set, indices, video, band, moved=number / len(reached))
                    batch = replace(batch, text=text, **known)
                    conditional.add(indices, band, _loss(video_model, batch, objective))
                    if measures_text:
                        without = replace(batch, dropped=torch.ones_like(batch.dropped))
                        unconditional.add(indices, band, _loss(video_model, without, None))
    finally:
        video_model.train(training)
    return _summary(validation_set, conditional, unconditional if measures_text else None)


def clips_in_batches(
    validation_set: ValidationSet, at_once: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor, np.ndarray]]:
    """The clips in batches of one shape: their places, and their frames for the network (b c t h w) and as they are
    read (b t h w c)."""
    frames = [
        draw.crop_frames(validation_set.source.read(draw.row, draw.frames), validation_set.crop)
        for draw in validation_set.draws
    ]
    order = sorted(range(len(frames)), key=lambda index: frames[index].shape)
    for _, same in groupby(order, key=lambda index: frames[index].shape):
        indices = list(same)
        for start in range(0, len(indices), at_once):
            chosen = indices[start : start + at_once]
            stacked = np.stack([frames[index] for index in chosen])
            yield chosen, to_network(torch.from_numpy(stacked), device), stacked


def _known(
    validation_set: ValidationSet, indices: Sequence[int], video: Tensor, frames: np.ndarray, network: NetworkSettings
) -> dict[str, Tensor]:
    """Inputs of a network for these clips besides their noise: motion estimates, which are never dropped, or the
    low-resolution clips."""
    if network.upscale:
        clean = torch.zeros(len(indices), device=video.device)
        low = low_clips(video, network.upscale, clean, [(SEED, index) for index in indices])
        return {"around": low, "augmentation": clean}
    if not (network.motion or network.between):
        return {}
    draws = [validation_set.draws[index] for index in indices]
    observed, times = np.stack([draw.observed for draw in draws]), np.array([draw.times for draw in draws])
    if network.between:
        around = estimate_between(frames, observed, times, [draw.motion_share for draw in draws])
        return {"around": send(around, video.device)}
    estimate, uncertainty = estimate_frames(frames, observed, times)
    known = {"estimate": estimate, "uncertainty": uncertainty, "estimated_from": torch.from_numpy(observed)}
    return {name: send(value, video.device) for name, value in known.items()}


def _batch(validation_set: ValidationSet, indices: Sequence[int], video: Tensor, band: int, *, moved: float) -> Batch:
    """Clips at their levels of a band; places of single frames are `moved` by a part of the schedule. The noise is
    drawn on the CPU: the same on every device."""
    draws, device = [validation_set.draws[index] for index in indices], video.device
    noise = [torch.randn(video.shape[1:], generator=seeded(SEED, index, band)) for index in indices]
    u = [
        np.full(video.shape[2], validation_set.u[index, band]) if draw.u is None else (draw.u + moved) % 1.0
        for index, draw in zip(indices, draws, strict=True)
    ]
    return Batch(
        video=video,
        noise=send(torch.stack(noise), device),
        u=send(torch.from_numpy(np.stack(u)).float(), device),
        times=send(torch.tensor([draw.times for draw in draws], dtype=torch.float32), device),
        observed=send(torch.from_numpy(np.stack([draw.observed for draw in draws])), device),
        dropped=send(torch.tensor([draw.dropped for draw in draws]), device),
        captions=tuple(draw.caption for draw in draws),
    )


def _loss(video_model: VideoNetwork, batch: Batch, objective: Objective | None) -> Loss:
    if objective is not None:
        return objective(video_model, batch)
    return diffusion_loss(video_model.denoiser, video_model.text, batch)


class _Losses:
    """Losses of the looks: of every pass (n, k), and sums by the bands of the frames (n, k), whose parts add up to 1
    for a pass."""

    def __init__(self, validation_set: ValidationSet) -> None:
        shape = validation_set.u.shape
        self.passes, self.sums, self.parts = (np.zeros(shape) for _ in range(3))
        shares = validation_set.shares
        by_frame = np.array([draw.u is not None for draw in validation_set.draws])
        even = (shares > 0) / np.count_nonzero(shares)  # places of single frames are drawn as in training
        self.weights = np.where(by_frame[:, None], even, shares)

    def add(self, indices: Sequence[int], band: int, loss: Loss) -> None:
        """The losses of some looks at the pass of a band."""
        columns = [loss.per_clip[:, None], loss.made, loss.per_frame, loss.level]
        table = torch.cat([each.double() for each in columns], dim=1).cpu().numpy()  # the one wait for the device
        self.passes[indices, band] = table[:, 0]
        made, per_frame, level = np.split(table[:, 1:], 3, axis=1)
        part = made / made.sum(axis=1, keepdims=True)
        for number, here in enumerate(noise_bands(level) == each for each in range(len(BANDS))):
            self.sums[indices, number] += np.where(here & (made > 0), part * per_frame, 0.0).sum(axis=1)
            self.parts[indices, number] += (part * here).sum(axis=1)

    @property
    def totals(self) -> np.ndarray:
        """The loss of every look (n), at the levels of training."""
        return (self.passes * self.weights).sum(axis=1)

    def band(self, number: int) -> float | None:
        """The mean loss in a band over the looks that have frames in it."""
        found = self.parts[:, number] > 0
        return _mean(self.sums[found, number] / self.parts[found, number])


def _summary(validation_set: ValidationSet, conditional: _Losses, unconditional: _Losses | None) -> Validation:
    """Means of losses with and without captions."""
    observed = np.array([draw.observed.any() for draw in validation_set.draws])
    by_frame = np.array([draw.u is not None for draw in validation_set.draws])
    captioned = np.array([not draw.dropped for draw in validation_set.draws])
    clip = np.array([draw.row for draw in validation_set.draws])
    total = conditional.totals
    found = Validation(
        clips=len(np.unique(clip)),
        loss=float(total.mean()),
        free=_mean(total[~observed & ~by_frame]),
        observed=_mean(total[observed]),
        frame_levels=_mean(total[by_frame]),
        bands=tuple(map(conditional.band, range(len(BANDS)))),
    )
    if unconditional is None or not captioned.any():
        return found
    without = unconditional.totals
    gained = without - total
    gains = np.array([gained[captioned & (clip == each)].mean() for each in np.unique(clip[captioned])])
    error = float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) >= FEWEST_CLIPS else None
    return replace(found, unconditional=_mean(without[captioned]), text_gain=_mean(gains), text_gain_error=error)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def ignores_text(found: Sequence[tuple[int, float, float]], *, steps: int) -> bool:
    """True where the last two of (step, text gain, its standard error) show no gain, after enough training, and no two
    before them did: reported once."""
    enough = max(LEARNED_AFTER, steps // 10)
    idle = [step > enough and gain <= error for step, gain, error in found]
    pairs = [first and second for first, second in pairwise(idle)]
    return bool(pairs) and pairs[-1] and not any(pairs[:-1])
