"""The kind of a path that a user gives (a dataset, a run, a checkpoint, media), by names and a run's config.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from vidiff_cli.dataset.jsonl import JOURNAL
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.hub import hub_run, is_hub_name
from vidiff_cli.video.decode import SUFFIXES_IMAGE, SUFFIXES_VIDEO

BUILTIN = Path("builtin")  # the model of the package, as --model names it
SUFFIXES_MEDIA = SUFFIXES_VIDEO | SUFFIXES_IMAGE
SUFFIXES_TEXT = frozenset({".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".srt", ".vtt", ".xml", ".yaml", ".yml"})
WEIGHTS = frozenset({"ema.safetensors", "model.safetensors"})  # in a checkpoint folder

PathKind = Literal[
    "missing",
    "builtin model",
    "checkpoint file",
    "checkpoint folder",
    "run",
    "public model",
    "dataset",
    "folder",
    "media file",
    "text file",
    "unknown file",
]
MODEL_KINDS = frozenset[PathKind]({"builtin model", "checkpoint file", "checkpoint folder", "run"})


def path_kind(path: Path) -> PathKind:
    """Classifies a path without opening more than the config.json of a run.

    A dataset may be unfinished; a "folder" may hold media or nothing of interest; an "unknown file" may be a video with
    an unusual suffix. A file or folder named "builtin" wins over the model of the package.

    Raises VidiffError for a folder that cannot be listed.
    """
    if not os.path.lexists(path):
        if is_hub_name(str(path)):
            return "checkpoint folder" if hub_run(path) else "public model"
        return "builtin model" if path == BUILTIN else "missing"
    if not path.is_dir():
        return _file_kind(path.suffix.lower())
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise VidiffError(f"{path} cannot be read", found=(error.strerror or str(error)).lower()) from error
    if names & {"dataset.json", JOURNAL}:
        return "dataset"
    if "model_index.json" in names:
        return "public model"
    if names & WEIGHTS:
        return "checkpoint folder"
    if "checkpoints" in names or ("config.json" in names and _is_run_config(path / "config.json")):
        return "run"
    return "folder"


def _file_kind(suffix: str) -> PathKind:
    if suffix == ".safetensors":
        return "checkpoint file"
    if suffix in SUFFIXES_TEXT:
        return "text file"
    return "media file" if suffix in SUFFIXES_MEDIA else "unknown file"


def _is_run_config(path: Path) -> bool:
    """True for the config.json of a run; many other programs write a file of that name."""
    try:
        return json.loads(path.read_text(encoding="utf-8")).keys() >= {"train", "model"}
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
