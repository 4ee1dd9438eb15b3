"""Damage, HDR, transparency and fields in a dataset: what is kept, and what the ledger and the notes say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.commands.prep import prep
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.dataset.jsonl import read_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Note
from vidiff_cli.video import ffmpeg

NOISE = "color=gray:s=64x48:r=25:d=2,noise=alls=60:allf=t,format=yuv420p"
TAGS = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc:range=tv"
WHITE = "color=black:s=64x48:r=25:d=0.4,format=yuv420p10le,geq=lum='if(lt(mod(X+N,16),8),573,64)':cb=512:cr=512"


def make(*arguments: str) -> None:
    code, log, _ = ffmpeg.run(list(arguments))
    assert code == 0, log


def prepared(folder: Path, **more: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The ledger by source, and the notes."""
    output = folder / "out"
    fixed: dict[str, Any] = {"size": 16, "frames": 8, "preview": 0, "workers": 1, "min_motion": 0, "min_contrast": 0}
    fixed |= {"min_difference": 0, "scenes": False, "val_fraction": 0, "sources": (str(folder / "in"),)}
    notes = [
        event.text
        for event in prep.events(PrepSettings.model_validate({"output": output, "overwrite": True, **fixed, **more}))
        if isinstance(event, Note)
    ]
    return {row["source"]: row for row in read_rows(output / "ledger.jsonl")}, notes


@pytest.mark.parametrize("name", ["a.ts", "a.mp4"])
def test_whole_groups_of_a_damaged_source_become_clips(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    make(
        "-f",
        "lavfi",
        "-i",
        NOISE,
        "-c:v",
        "libx264",
        "-x264-params",
        "cabac=0:keyint=10:scenecut=0:bframes=0",
        str(path),
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188 * 188
    if name.endswith("ts"):
        del data[middle : middle + 2 * 188]
    else:
        data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    rows, notes = prepared(tmp_path, stride=1)
    row = rows[name]
    assert row["status"] == "kept" and row["damage"].startswith("damaged: ") and row["remarks"] == [row["damage"]]
    assert any(note.startswith(f"1 source, such as {name}: damaged; ") for note in notes)
    starts = sorted(round(float(clip.start_seconds) * 25) for clip in open_dataset(tmp_path / "out").clips)
    lost = row["damage"].split("lost ")[1].split(" (")[0].replace(" s", "").split(" to ")
    first, stop = (round(float(second) * 25) for second in lost)
    assert stop - first in (10, 20) and first >= 10 and stop <= 40
    assert starts == [start for start in range(43) if start + 8 <= first or start >= stop]
    with pytest.raises(VidiffError, match=rf"1 of 1 sources were rejected or damaged and --strict .*{name}: dam"):
        prepared(tmp_path, stride=1, strict=True)


def test_hdr_and_transparent_sources_are_remarked_once_and_in_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        codec = ["-c:v", "libx265", "-x265-params", "log-level=none"]
        make("-f", "lavfi", "-i", f"{WHITE},{TAGS}", *codec, str(tmp_path / "in" / f"{number}.mp4"))
    clear = np.full((32, 32, 4), (255, 0, 255, 0), np.uint8)
    Image.fromarray(clear).save(tmp_path / "in" / "clear.png")
    rows, notes = prepared(tmp_path, reading={"background": "#0a141e"})
    assert rows["0.mp4"]["remarks"] == rows["1.mp4"]["remarks"] == ["HDR (PQ), tone-mapped to SDR"]
    assert rows["clear.png"]["remarks"] == ["alpha channel, shown in front of #0a141e"]
    (told,) = [note for note in notes if "HDR" in note]
    assert told.startswith("2 sources, such as 0.mp4: HDR (PQ), tone-mapped to SDR")
    dataset = open_dataset(tmp_path / "out")
    frames = {clip.source: dataset.frames(number) for number, clip in enumerate(dataset.clips)}
    assert (frames["clear.png"] == (10, 20, 30)).all()
    assert np.sort(frames["0.mp4"][..., 1].ravel())[-100:].mean() == pytest.approx(244, abs=4)
    rows, _ = prepared(tmp_path, reading={"hdr": "refuse"})
    assert rows["0.mp4"]["status"] == "rejected" and "is HDR" in rows["0.mp4"]["reason"]
