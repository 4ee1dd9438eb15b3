"""Monitoring of a running training: sample sheets, validation loss, and the one-pass errors of a checkpoint.

All use the averaged weights, as sampling will, and change nothing of the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.index import SIDES
from vidiff_cli.device import clips_at_once
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.generation.fewest_steps import MAX_PROMPTS, MIN_PROMPTS, Clips, clips_for_steps
from vidiff_cli.generation.sample_sheet import between_sheet, upscaled_sheet
from vidiff_cli.models.one_pass_errors import OnePassErrors
from vidiff_cli.models.sample_steps import SampleSteps
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.runs.setup import ReadFrames, open_clip_source
from vidiff_cli.text.encoder import CaptionReader
from vidiff_cli.text.prompts_file import read_prompts
from vidiff_cli.training.clip_sampling import ClipSample
from vidiff_cli.training.objective import Objective
from vidiff_cli.training.one_pass import choose_clips, measure_errors
from vidiff_cli.training.state import TrainState
from vidiff_cli.training.validation import ValidationSet, clips_in_batches, make_validation_set, validate

DATASET_PROMPTS, MAX_SHEET_PROMPTS = 4, 16  # rows of a sheet: captions of the dataset, prompts of a file
SHEET_CLIPS = 2  # of a sheet of super-resolution, each with four rows
MAX_READ_CAPTIONS = 1024  # clips whose captions are read to choose some

DrawSamples = Callable[[VideoNetwork, Sequence[str], Path, CaptionReader | None], None]
"""(model, prompts, path, reader of captions): samples one window per prompt and writes them as a contact sheet."""

MeasureSteps = Callable[[VideoNetwork, Clips, CaptionReader | None], SampleSteps]
"""(model, clips, reader of captions): measures the fewest steps of sampling that lose nothing."""


class TrainingMonitor:
    """Validation, sample sheets and errors of one run. After a kill, the same command makes up for what is missing."""

    def __init__(
        self,
        settings: TrainSettings,
        model: ModelSettings,
        dataset: Dataset,
        *,
        device: torch.device,
        dtype: torch.dtype,
        draw_samples: DrawSamples,
        measure_steps: MeasureSteps,
        latents: ReadFrames | None = None,
        objective: Objective | None = None,
    ) -> None:
        self.settings, self.device, self.dtype = settings, device, dtype
        self.draw_samples, self.measure_steps, self.objective = draw_samples, measure_steps, objective
        self.prompts = read_sheet_prompts(settings.prompts) if settings.prompts else dataset_prompts(dataset)
        crop, held_out = settings.loader.crop, open_clip_source(settings, dataset, side="val", latents=latents)
        self.validation_set: ValidationSet | None = None
        if settings.validate_every:
            independent = settings.objective.levels.independent > 0
            self.validation_set = make_validation_set(held_out, model, independent=independent, crop=crop)
        self.error_split = "val" if len(held_out.rows) else "train"
        source = held_out if self.error_split == "val" else open_clip_source(settings, dataset, latents=latents)
        self.error_clips = choose_clips(source, model, crop=crop)
        self.sheet_clips: ValidationSet | None = None
        if model.network.any_size:
            self.sheet_clips = make_validation_set(source, model, crop=crop, max_samples=SHEET_CLIPS)
        self.step_clips: ValidationSet | None = None
        makes_videos = model.base is None and not model.network.any_size
        if makes_videos and (count := clips_for_steps(settings.steps * settings.batch_size)):
            if len(source.rows) < MIN_PROMPTS:
                source = open_clip_source(settings, dataset, latents=latents)
            whole = model.model_copy(update={"conditioning": "none", "frame_strides": model.frame_strides[:1]})
            self.step_clips = make_validation_set(source, whole, crop=crop, max_samples=count)

    @property
    def captions(self) -> list[str]:
        """Texts that the encoder will be asked for besides the captions of the training clips."""
        sets = filter(None, (self.validation_set, self.step_clips))
        return [*self.prompts, *(caption for each in sets for caption in each.captions)]

    def announce(self) -> Iterator[Event]:
        """Notes once that there are no held-out clips. VidiffError where they are needed."""
        if self.settings.keeps_best and self.validation_set is None:
            option = "--keep-best" if self.settings.keep_best else "--patience"
            raise VidiffError(
                f"{option} goes by the held-out loss",
                found="a dataset without held-out clips",
                fix="prepare it with vidiff prep --val-fraction",
            )
        if self.settings.validate_every and self.validation_set is None:
            errors = ", and the errors in its checkpoints are measured on clips that it was trained on"
            yield Note(
                "The dataset has no held-out clips: there will be no validation loss (vidiff prep --val-fraction)"
                f"{errors if self.error_clips else ''}."
            )

    def run(
        self,
        state: TrainState,
        averages: Mapping[str, Tensor],
        log: TrainingLog,
        *,
        reader: CaptionReader | None,
        redraw: bool = True,
    ) -> Iterator[Event]:
        """Makes the validation and the sample sheet that are due at this step, with the averaged weights.

        `reader` reads their captions for the text encoder; None for a model without one.
        Without `redraw`, a sheet that exists already is kept; with it, one of another branch is replaced.
        """
        validation_set = self.validation_set
        if not _is_due(self.settings, state.step, self.settings.validate_every) or log.has_validation(state.step):
            validation_set = None
        sheet = log.run / "samples" / f"step-{state.step:06d}.png"
        draw = _is_due(self.settings, state.step, self.settings.sample_every) and (redraw or not sheet.is_file())
        if validation_set is None and not draw:
            return
        video_model = averaged_model(state, averages, self.device)
        if validation_set is not None:
            found = validate(
                video_model,
                validation_set,
                reader=reader,
                device=self.device,
                dtype=self.dtype,
                at_once=self._clips_at_once(),
                objective=self.objective,
            )
            yield from log.add_validation(state.step, state.phase, found)
        if draw:
            yield from self._draw_sheet(video_model, sheet, reader, state.step, log)
        log.plot()
        log.end_observation()

    def loss(self, state: TrainState, averages: Mapping[str, Tensor], reader: CaptionReader | None) -> float:
        """Measures the held-out loss of averaged weights."""
        assert self.validation_set is not None, "there are held-out clips"
        return validate(
            averaged_model(state, averages, self.device),
            self.validation_set,
            reader=reader,
            device=self.device,
            dtype=self.dtype,
            at_once=self._clips_at_once(),
            objective=self.objective,
            text_gain=False,
        ).loss

    def errors(self, state: TrainState, averages: Mapping[str, Tensor]) -> OnePassErrors | None:
        """Measures the one-pass errors of the averaged weights; None for a model without observed frames."""
        if self.error_clips is None:
            return None
        return measure_errors(
            averaged_model(state, averages, self.device),
            self.error_clips,
            split=self.error_split,
            device=self.device,
            dtype=self.dtype,
            at_once=self._clips_at_once(),
        )

    def sample_steps(
        self, state: TrainState, averages: Mapping[str, Tensor], reader: CaptionReader | None
    ) -> SampleSteps | None:
        """Measures how many steps sampling takes; None for a short training, or without two clips of one size."""
        if self.step_clips is None or state.video_model.settings.distilled is not None:
            return None
        indices, video, _ = next(clips_in_batches(self.step_clips, MAX_PROMPTS, self.device))
        if len(indices) < MIN_PROMPTS:
            return None
        draws = [self.step_clips.draws[index] for index in indices]
        times = self._times(draws)
        captions = ["" if draw.dropped else draw.caption for draw in draws]
        clips = Clips(video=video, times=times, captions=captions)
        return self.measure_steps(averaged_model(state, averages, self.device), clips, reader)

    def _times(self, draws: Sequence[ClipSample]) -> Tensor:
        """Seconds of the frames of some clips (b t)."""
        return torch.tensor(np.array([draw.times for draw in draws]), dtype=torch.float32, device=self.device)

    def _clips_at_once(self) -> int:
        """Clips of one forward pass: no more than in a training step."""
        return max(1, min(clips_at_once(self.device), self.settings.batch_size // self.settings.grad_accum_steps))

    def _draw_sheet(
        self, video_model: VideoNetwork, path: Path, reader: CaptionReader | None, step: int, log: TrainingLog
    ) -> Iterator[Event]:
        """Writes samples/step-N.png, and samples/progress.png: the first prompt at every step."""
        from vidiff_cli.viz.contact_sheet import progress_sheet

        path.parent.mkdir(parents=True, exist_ok=True)
        if self.sheet_clips is None:
            self.draw_samples(video_model, self.prompts, path, reader)
        else:
            indices, videos, _ = next(clips_in_batches(self.sheet_clips, SHEET_CLIPS, self.device))
            if video_model.settings.network.between:
                draws = [self.sheet_clips.draws[index] for index in indices]
                observed = torch.from_numpy(np.stack([draw.observed for draw in draws])).to(self.device)
                draw_sheet = partial(between_sheet, observed=observed, times=self._times(draws))
            else:
                draw_sheet = upscaled_sheet
            draw_sheet(video_model, videos, path, device=self.device, dtype=self.dtype)
        sheets = {int(sheet.stem[5:]): sheet for sheet in path.parent.glob("step-*.png") if sheet.stem[5:].isdecimal()}
        rows = [(f"step {number}", sheets[number]) for number in sorted(sheets) if number <= step]
        title = self.prompts[0] if self.sheet_clips is None else "held-out clips"
        progress_sheet(rows, path.with_name("progress.png"), title=title)
        if log.tracker is not None:
            log.tracker.picture(step, path)
        yield Note(f"Samples at step {step}: {path}")


def is_due(step: int, settings: TrainSettings) -> bool:
    """Says whether validation or samples are due after `step` steps."""
    return _is_due(settings, step, settings.validate_every) or _is_due(settings, step, settings.sample_every)


def validation_is_due(step: int, settings: TrainSettings) -> bool:
    """Says whether validation is due after `step` steps."""
    return _is_due(settings, step, settings.validate_every)


def _is_due(settings: TrainSettings, step: int, every: int) -> bool:
    return every > 0 and (step % every == 0 or step == settings.steps)


def averaged_model(state: TrainState, averages: Mapping[str, Tensor], device: torch.device) -> VideoNetwork:
    """Builds a frozen model of the averaged weights, which shares their memory where they are on `device`."""
    return state.video_model.with_weights(averages, device)


def read_sheet_prompts(path: Path) -> list[str]:
    """Reads the prompts of a file. VidiffError: unreadable, none, more than a sheet has rows for."""
    prompts = read_prompts(path)
    if len(prompts) > MAX_SHEET_PROMPTS:
        raise VidiffError(
            f"the prompts file {path} does not fit on a sample sheet",
            found=f"{len(prompts)} prompts",
            expected=f"at most {MAX_SHEET_PROMPTS}",
        )
    return prompts


def dataset_prompts(dataset: Dataset) -> list[str]:
    """Chooses four captions of the dataset, of held-out clips as far as there are any; empty ones without captions.

    Looks at 1,024 clips of each side at most: those of a world are drawn to be read.
    """
    prompts: list[str] = []
    for side in ("val", "train"):
        missing = DATASET_PROMPTS - len(prompts)
        if missing == 0:
            break
        clips = np.flatnonzero(dataset.index.side == SIDES.index(side))
        read = clips[evenly_spaced(len(clips), MAX_READ_CAPTIONS, to_last=False)]
        captions = sorted({text for number in read.tolist() for text in dataset.clips[number].captions} - {*prompts})
        prompts += [captions[index] for index in evenly_spaced(len(captions), missing, to_last=False)]
    return prompts or [""] * DATASET_PROMPTS
