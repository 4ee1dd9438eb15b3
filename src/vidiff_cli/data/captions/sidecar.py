"""Captions in text files beside the videos: NAME.txt for NAME.mp4, one caption a line."""

from __future__ import annotations

from pathlib import Path

LARGEST_BYTES = 1 << 20  # a larger text file is something else, such as a log


def read_sidecar(path: Path) -> tuple[tuple[str, ...], str | None]:
    """(captions, problem) of the text file of a video: each line is a caption; () without it."""
    sidecar = path.with_suffix(".txt")
    try:
        if not sidecar.is_file():
            return (), None
        if sidecar.stat().st_size > LARGEST_BYTES:
            return (), f"{sidecar} is no caption file: it is larger than 1 MB"
        text = sidecar.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return (), f"{sidecar} is not UTF-8 text"
    except OSError as error:
        return (), f"{sidecar} cannot be read: {error.strerror}"
    return clean(text.split("\n")), None


def clean(captions: list[str]) -> tuple[str, ...]:
    """Captions with their white space collapsed, without the empty and the repeated ones, in order."""
    return tuple(dict.fromkeys(text for caption in captions if (text := " ".join(caption.split()))))
