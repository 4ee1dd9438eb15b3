"""`vidiff info`: description of a checkpoint, run, public model, dataset, video or folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli.commands.info.dataset import DatasetInfo, describe_dataset
from vidiff_cli.commands.info.media import FolderInfo, MediaInfo, describe_folder, describe_video
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.path_kind import MODEL_KINDS, path_kind
from vidiff_cli.video.probe import check_readable
from vidiff_cli.viz.histograms import plot_histograms

if TYPE_CHECKING:
    from vidiff_cli.commands.info.public import PublicInfo
    from vidiff_cli.runs.checkpoint_info import CheckpointInfo
    from vidiff_cli.runs.run_info import RunInfo

KINDS = "a checkpoint, a run, a public model, a dataset, a video, a photo, or a folder of videos or images"


@task
def info(
    path: Path, *, plot: Path | None = None
) -> EventStream[CheckpointInfo | RunInfo | PublicInfo | DatasetInfo | MediaInfo | FolderInfo]:
    """Describes `path` without changing it. `plot`: file for the histograms of a dataset.

    Raises VidiffError if it is missing, damaged or of an unknown kind, or if `plot` is given for anything but a
    dataset.
    """
    report = yield from _describe(path)
    if plot is not None:
        if not isinstance(report, DatasetInfo):
            raise VidiffError("only a dataset has histograms to plot", found=f"{path} is a {report.kind}")
        plot_histograms(report.histograms, plot, title=f"{report.path.name}: {report.clips:,} clips")
        yield Note(f"Histograms: {plot}")
    return report


def _describe(path: Path) -> EventStream[CheckpointInfo | RunInfo | PublicInfo | DatasetInfo | MediaInfo | FolderInfo]:
    kind = path_kind(path)
    if kind == "missing":
        raise VidiffError(f"{path} does not exist", expected=KINDS)
    if kind == "dataset":
        return (yield from describe_dataset(path))
    if kind == "run":
        from vidiff_cli.runs.run_info import describe_run

        return (yield from describe_run(path))
    if kind == "public model":
        from vidiff_cli.commands.info.public import describe_public

        return (yield from describe_public(path))
    if kind in MODEL_KINDS:
        from vidiff_cli.runs.checkpoint_info import describe_checkpoint

        return (yield from describe_checkpoint(path))
    if kind == "text file":
        raise _unsupported(path, f"a {path.suffix.lower()} file")
    if kind != "folder":
        check_readable(path)
    try:
        if kind == "folder":
            return (yield from describe_folder(path))
        return (yield from describe_video(path))
    except VidiffError as error:
        if kind == "media file":
            raise
        raise _unsupported(path, error.found if kind == "folder" else "a file without video") from error


def _unsupported(path: Path, found: object) -> VidiffError:
    return VidiffError(f"{path} is not supported", found=found, expected=KINDS)
