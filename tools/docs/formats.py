"""docs/formats.md: which decoder reads which file, and whether every frame arrives. Run by hand; takes a minute.

    python -m tools.docs.formats FOLDER

FOLDER holds clips/, derived/ and the README.md that says what is in them.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import encode, ffmpeg, stream_frames

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "video"
EXPECTED = {
    "nasa_13013.mp4": "390"
}  # of the stream that is the default one; the table of the collection counts the other
HEAD = """# Which files are read, and how

<!-- written by `python -m tools.docs.formats FOLDER` -->

`auto` takes decord where it can be trusted, and ffmpeg everywhere else: for containers that decord misreads (MPEG-TS,
MPEG-PS, GIF, APNG, WebP), codecs it lacks (AV1), several video streams, edit lists (negative timestamps), repeated
timestamps, and wherever it fails or ends in identical frames, which may be padding. Times come from the file's
timestamps, never from an index and a rate; a rate is measured on them, and the header's taken only where it agrees.
A file that is damaged part-way is rejected with what could be decoded.

## Files made for the purpose

30 frames, 25 a second, each with its own index drawn into it, written by the bundled ffmpeg; frames and times were
checked one by one, at the file's own rate and at others (`tests/video/test_right_frames.py`, which also checks this
table). The same test covers variable rates, edit lists, open GOPs, late starts, rotation by 90, 180 and 270 degrees,
non-square pixels, several streams, and equal frames in a row. One known deviation: MPEG-1 inside AVI (a rare mixture)
has right frames, but all times after the first are one frame late, as ffmpeg gives them.

| file | decoder | why not decord | frames |
|---|---|---|---|
"""
MIDDLE = """
## A collection of 63 hard clips

Real files from public repositories, and ten derived from them. "Expected" is the count that another decoder (PyAV)
delivers, as the collection's own description has it.

| file | what it is | decoder | why not decord | expected | got |
|---|---|---|---|---|---|
"""


def main() -> None:
    data = Path(sys.argv[1])
    lines = [HEAD, *generated(), MIDDLE, *collected(data)]
    (ROOT / "docs" / "formats.md").write_text("".join(lines), encoding="utf-8")


def generated() -> Iterator[str]:
    """A row for each kind of file of the test."""
    kinds, drawing = module("test_right_frames"), module("conftest")
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder, "exact.mkv")
        frames = drawing.draw_indexed(kinds.FRAMES, width=kinds.WIDTH, height=kinds.HEIGHT)
        encode(exact, frames, kinds.RATE, lossless=True)
        for name, arguments in kinds.KINDS.items():
            path = Path(folder, name)
            code, log, _ = ffmpeg.run(["-i", ffmpeg.file_url(exact), *arguments, ffmpeg.file_url(path)])
            if code:
                raise SystemExit(log)
            decoder, why, count = what_became(path, name)
            yield f"| {name} | {decoder} | {why} | {count} |\n"


def collected(data: Path) -> Iterator[str]:
    """A row for each clip, with what the collection's description says of it."""
    for line in (data / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found = re.fullmatch(r"`((?:clips|derived)/(.+))`", cells[0])
        if found is None or len(cells) < 8:
            continue
        expected = EXPECTED.get(found[2], cells[5])
        expected = "0" if expected == "-" else expected
        decoder, why, count = what_became(data / found[1], found[2])
        what = cells[1].replace("<", "&lt;")
        yield f"| {found[2]} | {what} | {decoder} | {why} | {expected} | {count} |\n"


def what_became(path: Path, name: str) -> tuple[str, str, str]:
    """The decoder, why it is not decord, and the number of frames, or the reason for their absence."""
    try:
        for reading in stream_frames(path, size=(32, 32)):
            decoder, why = reading.decoder, reading.fallback or "-"
            count = sum(len(times) for times, _ in reading.blocks)
    except VidiffError as error:
        # how far ffmpeg got when it saw the damage is not the same every time
        sentence = re.sub(r"at least \d+ frames", "some frames", str(error).replace(str(path), name))
        return "-", "-", f"rejected: {sentence}".replace("|", "/")
    return decoder, why, str(count)


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look themselves up there
    spec.loader.exec_module(loaded)
    return loaded


if __name__ == "__main__":
    main()
