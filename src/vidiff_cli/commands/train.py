"""`vidiff train`: from a dataset to a run folder with checkpoints, metrics, plots and sample sheets."""

from __future__ import annotations

from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.events import EventStream, task
from vidiff_cli.runs.train_run import TrainReport, train_run

SHEET_STEPS = 16  # of sampling


@task
def train(settings: TrainSettings) -> EventStream[TrainReport | None]:
    """Trains a model on a dataset, or continues an unfinished run.

    Under torchrun this is one of several processes. Rank 0 reports all events and writes all files; the others yield
    nothing and return None. Raises VidiffError for a dataset that cannot be read, a run folder with other settings, a
    divergence.
    """
    return (yield from train_run(settings, sheet=GenerationSettings(steps=SHEET_STEPS, condition="replacement")))
