"""Finds the source of an annotated video by its id or its path, never by order."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vidiff_cli.preparation.captions.types import MatchTarget
from vidiff_cli.preparation.scan import MediaSource
from vidiff_cli.video.decode import SUFFIXES_IMAGE


class NameIndex:
    """Index of the sources by path and by name. Several hits are ambiguous, and the captions are not used."""

    def __init__(self, sources: Sequence[MediaSource]) -> None:
        self._by_path = {_key(source.path): source for source in sources}
        self._by_name: dict[str, list[MediaSource]] = defaultdict(list)
        for source in sources:
            for bare in {_normal(source.path.name), _normal(stem(source))}:
                self._by_name[bare].append(source)
        self._roots = sorted({source.root for source in sources})

    def find_path(self, file: str, table: Path, *, anywhere: bool) -> list[MediaSource]:
        """The source that a row of a table names by its path from the table's folder.

        Without such a file: the sources below that folder that have this bare name. `anywhere`: a table named by the
        user describes all sources, wherever it lies itself.
        """
        folder = table.parent
        for written in dict.fromkeys((file, file.replace("\\", "/"))):  # a table made on Windows
            for target in (folder, *(self._roots if anywhere else ())):
                if (source := self._by_path.get(_key(target / written))) is not None:
                    return [source]
        alike = self._by_name.get(_normal(file), ())
        return [source for source in alike if anywhere or source.path.is_relative_to(folder)]

    def find_target(self, target: MatchTarget, folder: Path | None) -> list[MediaSource]:
        """The sources whose stem is one of the place's, below `folder` if it is given.

        Of several the one in the folder that the place names; a picture beside a video of its name is its thumbnail.
        """
        hits = [
            source
            for name in {_normal(name) for name in target.stems}
            for source in self._by_name.get(name, ())
            if _normal(stem(source)) == name and (folder is None or source.path.is_relative_to(folder))
        ]
        if len(hits) > 1:
            hits = [source for source in hits if source.path.suffix.lower() not in SUFFIXES_IMAGE] or hits
        if len(hits) > 1 and target.folder:
            hits = [source for source in hits if source.path.parent.name == target.folder] or hits
        return hits


def stem(source: MediaSource) -> str:
    """The name without the suffix; a folder of pictures has none, whatever dots are in its name."""
    return source.path.name if source.pictures else source.path.stem


def _normal(name: str) -> str:
    # macOS stores accents apart from their letters, spreadsheets together.
    return unicodedata.normalize("NFC", name)


def _key(path: Path) -> str:
    return _normal(str(PurePosixPath(os.path.normpath(path))))
