"""`vidiff info`: what a path is, how it was made, and what it can do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli.commands.info.dataset import AboutDataset, about_dataset
from vidiff_cli.commands.info.media import AboutFolder, AboutVideo, about_folder, about_video
from vidiff_cli.dataset.dataset import JOURNAL
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.builtin import is_builtin
from vidiff_cli.prep.scan import SUFFIXES_MEDIA, SUFFIXES_TEXT
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
    if is_builtin(path):
        from vidiff_cli.commands.info.checkpoint import about_checkpoint

        return (yield from about_checkpoint(path))
    if not os.path.lexists(path):
        raise VidiffError(f"{path} does not exist", expected=KINDS)
    report = yield from (_folder(path) if path.is_dir() else _file(path))
    if plot is not None:
        if not isinstance(report, AboutDataset):
            raise VidiffError("only a dataset has histograms to plot", found=f"{path} is a {report.kind}")
        plot_histograms(report.histograms, plot, title=f"{report.path.name}: {report.clips:,} clips")
        yield Note(f"Histograms: {plot}")
    return report


def _folder(path: Path) -> EventStream[AboutCheckpoint | AboutRun | AboutDataset | AboutFolder]:
    names = {entry.name for entry in path.iterdir()}
    if names & {"dataset.json", JOURNAL}:
        return (yield from about_dataset(path))
    if names & {"ema.safetensors", "model.safetensors"}:
        from vidiff_cli.commands.info.checkpoint import about_checkpoint

        return (yield from about_checkpoint(path))
    if "checkpoints" in names or _is_config(path / "config.json"):
        from vidiff_cli.commands.info.run import about_run

        return (yield from about_run(path))
    try:
        return (yield from about_folder(path))
    except VidiffError as error:
        raise VidiffError(f"{path} is none of what info knows", found=error.found, expected=KINDS) from error


def _file(path: Path) -> EventStream[AboutCheckpoint | AboutVideo]:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        from vidiff_cli.commands.info.checkpoint import about_checkpoint

        return (yield from about_checkpoint(path))
    if suffix in SUFFIXES_TEXT:
        raise VidiffError(f"{path} is none of what info knows", found=f"a {suffix} file", expected=KINDS)
    check_readable(path)
    try:
        return (yield from about_video(path))
    except VidiffError as error:
        if suffix in SUFFIXES_MEDIA:
            raise
        raise VidiffError(f"{path} is none of what info knows", found="no video in it", expected=KINDS) from error


def _is_config(path: Path) -> bool:
    """Whether it is the config.json of a run; many other programs write a file of that name."""
    try:
        return json.loads(path.read_text(encoding="utf-8")).keys() >= {"train", "model"}
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
