"""`vidiff info`: description of a checkpoint, dataset, run, video or folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli.commands.info.dataset import DatasetInfo, describe_dataset
from vidiff_cli.commands.info.media import FolderInfo, MediaInfo, describe_folder, describe_video
from vidiff_cli.dataset.dataset import JOURNAL
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.builtin import is_builtin
from vidiff_cli.prep.scan import SUFFIXES_MEDIA, SUFFIXES_TEXT
from vidiff_cli.video.probe import check_readable
from vidiff_cli.viz.histograms import plot_histograms

if TYPE_CHECKING:
    from vidiff_cli.commands.info.checkpoint import CheckpointInfo
    from vidiff_cli.commands.info.run import RunInfo

KINDS = "a checkpoint, a run, a dataset, a video, a photo, or a folder of videos or images"


@task
def info(
    path: Path, *, plot: Path | None = None
) -> EventStream[CheckpointInfo | RunInfo | DatasetInfo | MediaInfo | FolderInfo]:
    """Describes `path` without changing it. `plot`: file for the histograms of a dataset.

    Raises VidiffError if it is missing, damaged or of an unknown kind, or if `plot` is given for anything but a
    dataset.
    """
    if is_builtin(path):
        from vidiff_cli.commands.info.checkpoint import describe_checkpoint

        return (yield from describe_checkpoint(path))
    if not os.path.lexists(path):
        raise VidiffError(f"{path} does not exist", expected=KINDS)
    report = yield from (_folder(path) if path.is_dir() else _file(path))
    if plot is not None:
        if not isinstance(report, DatasetInfo):
            raise VidiffError("only a dataset has histograms to plot", found=f"{path} is a {report.kind}")
        plot_histograms(report.histograms, plot, title=f"{report.path.name}: {report.clips:,} clips")
        yield Note(f"Histograms: {plot}")
    return report


def _folder(path: Path) -> EventStream[CheckpointInfo | RunInfo | DatasetInfo | FolderInfo]:
    names = {entry.name for entry in path.iterdir()}
    if names & {"dataset.json", JOURNAL}:
        return (yield from describe_dataset(path))
    if names & {"ema.safetensors", "model.safetensors"}:
        from vidiff_cli.commands.info.checkpoint import describe_checkpoint

        return (yield from describe_checkpoint(path))
    if "checkpoints" in names or _is_config(path / "config.json"):
        from vidiff_cli.commands.info.run import describe_run

        return (yield from describe_run(path))
    try:
        return (yield from describe_folder(path))
    except VidiffError as error:
        raise VidiffError(f"{path} is not supported by vidiff info", found=error.found, expected=KINDS) from error


def _file(path: Path) -> EventStream[CheckpointInfo | MediaInfo]:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        from vidiff_cli.commands.info.checkpoint import describe_checkpoint

        return (yield from describe_checkpoint(path))
    if suffix in SUFFIXES_TEXT:
        raise VidiffError(f"{path} is not supported by vidiff info", found=f"a {suffix} file", expected=KINDS)
    check_readable(path)
    try:
        return (yield from describe_video(path))
    except VidiffError as error:
        if suffix in SUFFIXES_MEDIA:
            raise
        raise VidiffError(
            f"{path} is not supported by vidiff info", found="a folder without videos", expected=KINDS
        ) from error


def _is_config(path: Path) -> bool:
    """True for the config.json of a run; many other programs write a file of that name."""
    try:
        return json.loads(path.read_text(encoding="utf-8")).keys() >= {"train", "model"}
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
