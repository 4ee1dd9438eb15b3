"""`vidiff info`: what a path is, how it was made, and what it can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli.commands.info.dataset import AboutDataset, about_dataset
from vidiff_cli.commands.info.media import AboutFolder, AboutVideo, about_folder, about_video
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.path_kind import MODEL_KINDS, path_kind
from vidiff_cli.video.probe import check_readable
from vidiff_cli.viz.histograms import plot_histograms

if TYPE_CHECKING:
    from vidiff_cli.commands.info.checkpoint import AboutCheckpoint
    from vidiff_cli.commands.info.run import AboutRun

KINDS = "a checkpoint, a run, a dataset, a video, a photo, or a folder of videos or images"


@task
def info(
    path: Path, *, plot: Path | None = None
) -> EventStream[AboutCheckpoint | AboutRun | AboutDataset | AboutVideo | AboutFolder]:
    """Describes what is at `path`; nothing is changed. `plot`: the histograms of a dataset are drawn there.

    VidiffError: it is missing, damaged, or of no known kind; `plot` is given and it is no dataset.
    """
    report = yield from _describe(path)
    if plot is not None:
        if not isinstance(report, AboutDataset):
            raise VidiffError("only a dataset has histograms to plot", found=f"{path} is a {report.kind}")
        plot_histograms(report.histograms, plot, title=f"{report.path.name}: {report.clips:,} clips")
        yield Note(f"Histograms: {plot}")
    return report


def _describe(path: Path) -> EventStream[AboutCheckpoint | AboutRun | AboutDataset | AboutVideo | AboutFolder]:
    kind = path_kind(path)
    if kind == "missing":
        raise VidiffError(f"{path} does not exist", expected=KINDS)
    if kind == "dataset":
        return (yield from about_dataset(path))
    if kind == "run":
        from vidiff_cli.commands.info.run import about_run

        return (yield from about_run(path))
    if kind in MODEL_KINDS:
        from vidiff_cli.commands.info.checkpoint import about_checkpoint

        return (yield from about_checkpoint(path))
    if kind == "text file":
        raise _unsupported(path, f"a {path.suffix.lower()} file")
    try:
        if kind == "folder":
            return (yield from about_folder(path))
        check_readable(path)
        return (yield from about_video(path))
    except VidiffError as error:
        if kind == "media file":
            raise
        raise _unsupported(path, error.found if kind == "folder" else "no video in it") from error


def _unsupported(path: Path, found: object) -> VidiffError:
    return VidiffError(f"{path} is not supported", found=found, expected=KINDS)
