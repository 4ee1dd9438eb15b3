"""docs/formats.md: which files are read, and whether every frame arrives. Run by hand; takes a minute.

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

ffmpeg reads every file: what `ffmpeg -i FILE` shows is what a model is given. Turned and mirrored frames, cropping,
pixels that are not square, edit lists and variable rates are as a player has them. Times come from the file's
timestamps, never from an index and a rate; a rate is measured on them, and the header's taken only where it agrees.

- **HDR** (PQ, HLG) becomes 8-bit BT.709: SDR white (203 nits) becomes 244 of 255, colors below 80 percent of its light
  stay (within 3 levels), brighter light is compressed. `--hdr clip` cuts off what is brighter, `--hdr refuse`
  refuses such files. BT.2020 or P3 colors without HDR are converted to BT.709.
- **Transparent pixels** (PNG, APNG, WebP, GIF, WebM, ProRes) are shown in front of one color, `--background black`.
- **Interlaced frames** are deinterlaced, one frame for two fields, unless `--deinterlace off` is given.
- **Frames that change their size** are fitted into the size of the first, with bars, and a note says so.

`--decoder decord` of `vidiff prep` reads by decord instead. It takes as long, and its own ffmpeg is years old, so it is
refused for what it is known to get wrong, and its first and a later frame are compared with ffmpeg's.

## Files made for the purpose

30 frames, 25 a second, each with its own index drawn into it, written by the bundled ffmpeg; frames and times were
checked one by one, at the file's own rate and at others (`tests/video/test_right_frames.py`, which also checks this
table). The same test covers variable rates, edit lists, open GOPs, late starts, rotation by 90, 180 and 270 degrees,
non-square pixels, several streams, and equal frames in a row. One known deviation: MPEG-1 inside AVI (a rare mixture)
has right frames, but all times after the first are one frame late, as ffmpeg gives them.

| file | `--decoder decord` | frames |
|---|---|---|
"""
MIDDLE = """
## A collection of 63 hard clips

Real files from public repositories, and ten derived from them. "Expected" is the count that another decoder (PyAV)
delivers, as the collection's own description has it.

| file | what it is | `--decoder decord` | expected | got |
|---|---|---|---|---|
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
            count, decord = what_became(path, name)
            yield f"| {name} | {decord} | {count} |\n"


def collected(data: Path) -> Iterator[str]:
    """A row for each clip, with what the collection's description says of it."""
    for line in (data / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found = re.fullmatch(r"`((?:clips|derived)/(.+))`", cells[0])
        if found is None or len(cells) < 8:
            continue
        expected = EXPECTED.get(found[2], cells[5])
        expected = "0" if expected == "-" else expected
        count, decord = what_became(data / found[1], found[2])
        what = cells[1].replace("<", "&lt;")
        yield f"| {found[2]} | {what} | {decord} | {expected} | {count} |\n"


def what_became(path: Path, name: str) -> tuple[str, str]:
    """The number of frames or the reason for their absence, and what became of `--decoder decord`."""
    try:
        for reading in stream_frames(path, size=(32, 32)):
            count = sum(len(times) for times, _ in reading.blocks)
    except VidiffError as error:
        # how far ffmpeg got when it saw the damage is not the same every time
        sentence = re.sub(r"at least \d+ frames", "some frames", str(error).replace(str(path), name))
        return f"rejected: {sentence}".replace("|", "/"), "-"
    return str(count), decord_verdict(path)


def decord_verdict(path: Path) -> str:
    """ "agrees", or the reason why decord is not trusted with a file."""
    try:
        for reading in stream_frames(path, size=(32, 32), decoder="decord"):
            for _ in reading.blocks:
                pass
    except VidiffError as error:
        return str(error.__cause__ or error)
    return "agrees" if reading.decoder == "decord" else "-"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look themselves up there
    spec.loader.exec_module(loaded)
    return loaded


if __name__ == "__main__":
    main()
