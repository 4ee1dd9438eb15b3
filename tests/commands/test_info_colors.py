"""`vidiff info` names the transfer of a video, its fields, and what else the file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidiff_cli.commands.info.media import describe_video
from vidiff_cli.events import task
from vidiff_cli.video import ffmpeg

CODES = "format=yuv420p10le,geq=lum=573:cb=512:cr=512"
TAGS = "setparams=color_primaries=bt2020:colorspace=bt2020nc:range=tv:color_trc="


@pytest.mark.parametrize(("transfer", "hdr"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG"), ("bt709", None)])
def test_the_transfer_is_named(tmp_path: Path, transfer: str, hdr: str | None) -> None:
    source = f"color=black:s=64x48:r=10:d=0.3,{CODES},{TAGS}{transfer}"
    codec = ["-c:v", "libx265", "-x265-params", "log-level=none"]
    code, log, _ = ffmpeg.run(["-f", "lavfi", "-i", source, *codec, str(tmp_path / "a.mp4")])
    assert code == 0, log
    about = task(describe_video)(tmp_path / "a.mp4")
    assert (about.transfer, about.primaries, about.hdr, about.bit_depth) == (transfer, "bt2020", hdr, 10)
    assert (about.alpha, about.interlaced, about.others) == (False, False, ())
