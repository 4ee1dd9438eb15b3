"""Tags of a video file (title, artist, date, place), read here and written by `encode`."""

from __future__ import annotations

import re
from pathlib import Path

from vidiff_cli.video import ffmpeg
from vidiff_cli.video.image_file import SUFFIXES_IMAGE

KEPT = ("title", "artist", "album", "date", "creation_time", "location", "comment", "description", "copyright")
# The names that QuickTime's and Matroska's writers have for the same, in small letters.
OTHER_NAMES = {
    "com.apple.quicktime.title": "title",
    "com.apple.quicktime.artist": "artist",
    "com.apple.quicktime.author": "artist",
    "com.apple.quicktime.album": "album",
    "com.apple.quicktime.creationdate": "date",
    "com.apple.quicktime.location.iso6709": "location",
    "com.apple.quicktime.comment": "comment",
    "com.apple.quicktime.description": "description",
    "com.apple.quicktime.copyright": "copyright",
    "date_recorded": "date",
}
MOST_BYTES = 1 << 20  # of all tags that are read
LONGEST = 10_000  # characters of a tag that is kept
LINE = re.compile(r"((?:[^\\\n]|\\.)*)\n", re.S)
PAIR = re.compile(r"((?:[^\\=]|\\.)*)=(.*)", re.S)


def read_tags(path: Path) -> dict[str, str]:
    """The tags that `encode` keeps, by ffmpeg's names; empty for an image. Raises VidiffError: cannot be read.

    Rotation, chapters and the writing program are never included.
    """
    if path.suffix.lower() in SUFFIXES_IMAGE:
        return {}
    output = ["-map_metadata", "0", "-map_chapters", "-1", "-f", "ffmetadata", "-"]
    with ffmpeg.Ffmpeg([*ffmpeg.input_arguments(path), *output], stdout=True) as process:
        text = process.stdout.read(MOST_BYTES).decode(errors="replace")
    found = dict[str, str]()
    for name, value in _pairs(text):
        name = OTHER_NAMES.get(name.lower(), name.lower())
        if name in KEPT and value.strip() and len(value) <= LONGEST:
            found.setdefault(name, value)
    return {name: found[name] for name in KEPT if name in found}


def _pairs(text: str) -> list[tuple[str, str]]:
    """Parses ffmpeg's metadata format up to the first stream section: `name=value`, backslashes before = ; # \\ and
    line breaks."""
    pairs = list[tuple[str, str]]()
    for line in LINE.findall(text):
        if line.startswith("["):
            break
        if not line.startswith(";") and (pair := PAIR.fullmatch(line)):
            pairs.append((_plain(pair[1]), _plain(pair[2])))
    return pairs


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.S)
