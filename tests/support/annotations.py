"""Captions of files that are given or lie with the videos, as tests read them."""

from __future__ import annotations

from pathlib import Path

from vidiff_cli.preparation.captions import Captions, read_captions
from vidiff_cli.preparation.scan import scan


def videos(folder: Path, *names: str) -> Path:
    """Files in the folder that scan takes for videos."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def captions_of(folder: Path, *files: Path | str, format: str = "auto", columns: bool = False) -> Captions:
    """The captions of the videos in a folder, from the files or (without any) from what lies with them."""
    choices = tuple(map(str, files)) or ("auto",)
    return read_captions(scan([str(folder)]).sources, choices, format=format, columns=columns)


def said(found: Captions) -> dict[str, list[str]]:
    """The captions of each source by its name without suffix."""
    sources = found.by_source.items()
    return {name.rpartition(".")[0]: [text for part in parts for text in part.captions] for name, parts in sources}
