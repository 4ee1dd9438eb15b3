"""`vidiff distill`: a run to a model of fewer passes."""

from __future__ import annotations

from vidiff_cli.config.distill import DistillSettings
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.events import EventStream, task
from vidiff_cli.runs.distillation import student_settings
from vidiff_cli.runs.train_run import TrainReport, train_run


@task
def distill(settings: DistillSettings) -> EventStream[TrainReport | None]:
    """Trains a student that makes in one pass a step what RUN makes with guidance, and maybe in more steps.

    The student is a run of its own, with the loop, checkpoints and resuming of `train`; RUN is left as it is. Raises
    VidiffError for a model that cannot be distilled, and as `train`.
    """
    return (yield from train_run(student_settings(settings), sheet=GenerationSettings(condition="replacement")))
