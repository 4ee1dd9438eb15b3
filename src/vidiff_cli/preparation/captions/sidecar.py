"""Captions in text files beside the videos: NAME.txt for NAME.mp4, one caption a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vidiff_cli.config.reading import decode_text
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow, MatchTarget, clean_captions, whole_file

LARGEST_BYTES = 1 << 20  # a larger text file is something else, such as a log
LINE_ENDS = re.compile("\r\n|\r|\n")


def read_sidecar(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry for the video that the text file lies beside. VidiffError: it cannot be read, or is not such a text."""
    captions = clean_captions(LINE_ENDS.split(_text(document)))
    if captions:
        name = document.path.with_suffix("").name
        target = MatchTarget(stems=(name,), segments=whole_file(captions))
        yield Annotation(video=name, sentences=len(captions), targets=(target,))


def _text(document: Document) -> str:
    with document.open() as raw:
        try:
            content = raw.read(LARGEST_BYTES + 1)
        except OSError as error:
            raise VidiffError(f"{document} cannot be read", found=error.strerror) from error
    if len(content) > LARGEST_BYTES:
        raise VidiffError(f"{document} is not a caption file: it is larger than 1 MB")
    return decode_text(content, str(document), encoding=document.encoding, offered=True)
