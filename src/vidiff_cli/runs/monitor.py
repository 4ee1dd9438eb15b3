"""What is looked at of a training while it runs: sample sheets, the loss of held-out clips, and how far off frames are.

All are made with the averaged weights, which sampling will use, and change nothing of the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.index import SIDES
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.models.one_pass_errors import OnePassErrors
from vidiff_cli.models.video_model import VideoModel
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.runs.setup import open_clip_source
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.text.prompts_file import read_prompts
from vidiff_cli.training.distributed import DistributedContext
from vidiff_cli.training.one_pass import choose_clips, measure_errors
from vidiff_cli.training.state import TrainState
from vidiff_cli.training.validation import AT_ONCE, ValidationSet, make_validation_set, validate

PROMPTS, MOST_PROMPTS = 4, 16  # on a sheet: of the dataset, of a file


DrawSheet = Callable[..., None]
"""(video model, prompts, path, device=, dtype=): writes a contact sheet of samples."""


class TrainingMonitor:
    """Makes what is due at a step. After a kill, the same command makes up for what is missing."""

    def __init__(
        self,
        settings: TrainSettings,
        model: ModelSettings,
        dataset: Dataset,
        *,
        device: torch.device,
        dtype: torch.dtype,
        draw_sheet: DrawSheet,
    ) -> None:
        self.settings, self.device, self.dtype, self._draw_sheet = settings, device, dtype, draw_sheet
        self.prompts = sheet_prompts(settings.prompts) if settings.prompts else own_prompts(dataset)
        self.held: ValidationSet | None = None
        crop, held_out = settings.loader.crop, open_clip_source(settings, dataset, side="val")
        if settings.validate_every:
            self.held = make_validation_set(held_out, model, crop=crop)
        self.split = "val" if len(held_out.rows) else "train"
        chosen = held_out if self.split == "val" else open_clip_source(settings, dataset)
        self.measured = choose_clips(chosen, model, crop=crop)

    @property
    def captions(self) -> list[str]:
        """What the text encoder will be asked for besides the captions of the training."""
        return [*self.prompts, *(self.held.captions if self.held else ())]

    def announce(self) -> Iterator[Event]:
        """Says once what cannot be looked at."""
        if self.settings.validate_every and self.held is None:
            measured = ", and what a checkpoint says of its errors is of clips that it was trained on"
            yield Note(
                "The dataset has no held-out clips: there will be no validation loss (vidiff prep --val-fraction)"
                f"{measured if self.measured else ''}."
            )

    def run(
        self, state: TrainState, run: Path, log: TrainingLog, parallel: DistributedContext, *, again: bool = True
    ) -> Iterator[Event]:
        """Makes the validation and the sample sheet of this step, where they are due; a sheet that is there already,
        of another branch perhaps, is made `again`."""
        if not is_due(state.step, self.settings):
            return
        averages = parallel.gather_full_state(
            state.ema.shadow
        )  # the other ranks do the same, whatever is there already
        held = self.held if _due(self.settings, state.step, self.settings.validate_every) else None
        held = None if log.has_validation(state.step) else held
        sheet = run / "samples" / f"step-{state.step:06d}.png"
        draw = _due(self.settings, state.step, self.settings.sample_every) and (again or not sheet.is_file())
        if held is None and not draw:
            return
        video_model = averaged(state, averages, self.device)
        if held is not None:
            found = validate(video_model, held, device=self.device, dtype=self.dtype, at_once=self._at_once())
            yield from log.add_validation(state.step, state.phase, found)
        if draw:
            yield from self._sheet(video_model, sheet, state.step, log)
        log.plot()
        log.end_look()

    def errors(self, state: TrainState, parallel: DistributedContext) -> OnePassErrors | None:
        """How far off the averaged weights are in one pass (`training/one_pass.py`), for the checkpoint of this step;
        None for a model that is given no frames. All ranks gather the averages at the same time."""
        averages = parallel.gather_full_state(state.ema.shadow)
        if self.measured is None:
            return None
        return measure_errors(
            averaged(state, averages, self.device),
            self.measured,
            split=self.split,
            device=self.device,
            dtype=self.dtype,
            at_once=self._at_once(),
        )

    def _at_once(self) -> int:
        """Clips that go through the network together: no more than in a step."""
        return max(1, min(AT_ONCE, self.settings.batch_size // self.settings.grad_accum_steps))

    def _sheet(self, video_model: VideoModel, path: Path, step: int, log: TrainingLog) -> Iterator[Event]:
        """samples/step-N.png, and samples/progress.png: the first prompt at every step."""
        from vidiff_cli.viz.contact_sheet import progress_sheet

        path.parent.mkdir(parents=True, exist_ok=True)
        self._draw_sheet(video_model, self.prompts, path, device=self.device, dtype=self.dtype)
        sheets = {int(sheet.stem[5:]): sheet for sheet in path.parent.glob("step-*.png") if sheet.stem[5:].isdecimal()}
        before = [(f"step {number}", sheets[number]) for number in sorted(sheets) if number <= step]
        progress_sheet(before, path.with_name("progress.png"), title=self.prompts[0])
        if log.tracker is not None:
            log.tracker.picture(step, path)
        yield Note(f"Samples at step {step}: {path}")


def is_due(step: int, settings: TrainSettings) -> bool:
    """Whether anything is to be looked at after so many steps."""
    return _due(settings, step, settings.validate_every) or _due(settings, step, settings.sample_every)


def _due(settings: TrainSettings, step: int, every: int) -> bool:
    return every > 0 and (step % every == 0 or step == settings.steps)


def averaged(state: TrainState, averages: Mapping[str, Tensor], device: torch.device) -> VideoModel:
    """A model with the averaged weights, for looking only: on the device of the averages it shares their memory."""
    with torch.device("meta"):
        video_model = VideoModel(state.video_model.settings)
    video_model.load_state_dict({name: value.to(device) for name, value in averages.items()}, assign=True)
    if isinstance(video_model.text, AdaptedText) and isinstance(state.video_model.text, AdaptedText):
        video_model.text.frozen = state.video_model.text.frozen
    return video_model.requires_grad_(False).eval()


def sheet_prompts(path: Path) -> list[str]:
    """The prompts of a file, as many as a sheet has room for. VidiffError: unreadable, none, more."""
    prompts = read_prompts(path)
    if len(prompts) > MOST_PROMPTS:
        raise VidiffError(
            f"the prompts file {path} fits no sample sheet",
            found=f"{len(prompts)} prompts",
            expected=f"at most {MOST_PROMPTS}",
        )
    return prompts


def own_prompts(dataset: Dataset) -> list[str]:
    """Four captions of the dataset, of held-out clips as far as there are any; empty ones without captions."""
    prompts: list[str] = []
    for side in ("val", "train"):
        clips = np.flatnonzero(dataset.index.side == SIDES.index(side))
        captions = sorted({text for number in clips.tolist() for text in dataset.clips[number].captions} - {*prompts})
        missing = PROMPTS - len(prompts)
        prompts += [captions[index] for index in evenly_spaced(len(captions), missing, to_last=False)]
    return prompts or [""] * PROMPTS
