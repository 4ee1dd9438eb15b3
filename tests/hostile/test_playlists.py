"""Files that name other files: nothing but the file itself is ever read, and nothing is ever fetched."""

from __future__ import annotations

import os
import shutil
import struct
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from web_server import listening

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe

SVG = """<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 width="64" height="64"><image width="64" height="64" xlink:href="{picture}"/></svg>"""
DASH = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
 mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet
 contentType="video"><Representation id="1" bandwidth="1"><BaseURL>{video}</BaseURL><SegmentBase/></Representation>
 </AdaptationSet></Period></MPD>"""
TEXTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{video}\n#EXT-X-ENDLIST\n",
    "hls-key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{picture}"\n#EXTINF:10,\n{video}\n#EXT-X-ENDLIST\n',
    "ffconcat": "ffconcat version 1.0\nfile '{video}'\n",
    "svg": SVG,
    "dash": DASH,
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "avisynth": 'DirectShowSource("{video}")\n',
    "eps": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n({picture}) run showpage\n",
}
SUFFIXES = {"hls": ".m3u8", "ffconcat": ".ffconcat", "svg": ".svg", "dash": ".mpd", "sdp": ".sdp", "avisynth": ".avs"}


@pytest.fixture
def server():
    with listening() as (url, asked):
        yield SimpleNamespace(url=url, port=int(url.rpartition(":")[2]), asked=asked)


@pytest.fixture
def canaries(tmp_path, clip, make):
    """Sound files that would make a playlist work, if it were followed."""
    make(tmp_path / "canary.ts", "-i", ffmpeg.file_url(clip()), "-c", "copy")
    make(tmp_path / "canary.png", "-i", ffmpeg.file_url(clip()), "-frames:v", "1")
    return {"video": "canary.ts", "picture": "canary.png"}


def references(canaries: dict[str, str], server: SimpleNamespace, folder: Path) -> dict[str, dict[str, object]]:
    kinds = {"relative": "", "absolute": f"{folder}/", "file": f"file:{folder}/", "web": f"{server.url}/"}
    return {
        kind: {name: prefix + target for name, target in canaries.items()} | {"port": server.port}
        for kind, prefix in kinds.items()
    }


@pytest.mark.parametrize("kind", TEXTS)
def test_a_file_that_names_others_is_refused_and_nothing_is_fetched(kind, canaries, server, tmp_path):
    """Under its own suffix and under those of videos and pictures; the complaint names no other file."""
    for how, names in references(canaries, server, tmp_path).items():
        own = SUFFIXES.get(kind, ".mkv")
        for suffix, decoder in ((own, "auto"), (own, "decord"), (own, "ffmpeg"), (".mp4", "auto"), (".png", "auto")):
            path = tmp_path / f"{kind}-{how}{suffix}"
            path.write_text(TEXTS[kind].format(**names))
            with pytest.raises(VidiffError) as error:
                decode(path, decoder=decoder)
            assert "canary" not in str(error.value), path
    assert server.asked == []


def test_what_stands_in_the_file_would_work_without_the_guard(canaries, server, tmp_path):
    """The canaries are alive: ffmpeg, told nothing, follows a playlist to its neighbor and to the web server."""
    path = tmp_path / "list.m3u8"
    for target in ("canary.ts", f"{server.url}/canary.ts"):
        path.write_text(TEXTS["hls"].format(video=target, picture="", port=0))
        anything = ["-protocol_whitelist", "file,http,tcp", "-i", str(path)]
        code, _, _ = ffmpeg.run([*anything, "-frames:v", "1", "-f", "null", "-"], timeout_seconds=20)
        assert (code == 0) == (target == "canary.ts")
    assert "/canary.ts" in server.asked


def test_decord_opens_nothing_but_the_files_it_is_trusted_with(canaries, tmp_path, clip, monkeypatch):
    """Its own ffmpeg has no such guard. Even where a probe says "mov", the first bytes must agree."""
    decord = pytest.importorskip("decord")
    path = tmp_path / "list.mp4"
    path.write_text(TEXTS["hls"].format(video="canary.ts", picture="", port=0))
    assert len(decord.VideoReader(str(path))) == 8  # it would have followed it
    opened: list[str] = []
    monkeypatch.setattr(decord, "VideoReader", lambda name, **_: opened.append(name))
    probed = replace(probe(clip()), path=path)
    monkeypatch.setattr(sys.modules["vidiff_cli.video.decode"], "probe", lambda _: probed)
    with pytest.raises(VidiffError):
        decode(path)
    assert opened == []


def with_external_data(source: bytes, target: Path) -> bytes:
    """An mp4 whose data reference is an alias record that points to `target` on disk, as old QuickTime files had."""
    name, path = target.name.encode(), str(target).encode()
    alias = bytes(10) + struct.pack(">B27s", 4, b"disk") + bytes(12) + struct.pack(">B63s", len(name), name)
    alias += bytes(16) + struct.pack(">HH", 0, 0) + bytes(16)  # levels up and down
    alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    place = source.find(b"dref") - 4
    size = struct.unpack(">I", source[place : place + 4])[0]
    result = bytearray(source[:place] + dref + source[place + size :])
    grown, at, end = len(dref) - size, 0, len(result)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = result.find(box, at) - 4
        assert at >= 0 and at < end
        result[at : at + 4] = struct.pack(">I", struct.unpack(">I", result[at : at + 4])[0] + grown)
        at += 8
    return bytes(result)


def test_data_in_another_file_is_not_read(tmp_path, make):
    """Its own bytes are zeros; those of the file that it points to would be pictures."""
    frames = np.full((6, 32, 32, 3), 200, np.uint8)
    encode(tmp_path / "sound.mkv", frames, Fraction(8), lossless=True)
    moov_last = make(tmp_path / "canary.mov", "-i", ffmpeg.file_url(tmp_path / "sound.mkv"), "-c:v", "png")
    source = moov_last.read_bytes()
    start = source.find(b"mdat") + 4
    for suffix in (".mov", ".mp4"):
        empty = source[:start] + bytes(source.find(b"moov") - 4 - start) + source[source.find(b"moov") - 4 :]
        path = tmp_path / f"outside{suffix}"
        path.write_bytes(with_external_data(empty, moov_last))
        follow = ["-enable_drefs", "1", "-use_absolute_path", "1", "-i", str(path), "-f", "null", "-"]
        assert "frame=    6" in ffmpeg.run(["-stats", *follow])[1]  # the pictures are there for who follows
        for decoder in ("auto", "ffmpeg"):
            with pytest.raises(VidiffError):
                decode(path, decoder=decoder)


LOG = """x
[info] Input #0, concat, from 'fd:':
[info]   Duration: 99:00:00.00, start: 0
[info]   Stream #0:0: Video: h264 (High), yuv420p, 1x1, 1 fps
[Parsed_showinfo_0 @ 0x5500] [info] config in time_base: 1/1, frame_rate: 1/1
[Parsed_showinfo_0 @ 0x5500] [info] n:   0 pts:      0 fmt:rgb24 cl:left sar:1/1 s:1x1
[h264 @ 0x5500] [error] Picture size 99999x99999 is invalid
[error] gone
"""


def test_what_a_file_says_of_itself_is_not_taken_for_the_log(tmp_path, clip, make):
    """A title that looks like ffmpeg's own lines changes nothing of what is found."""
    sound = probe(clip())
    for key in ("title", "comment"):
        said = ["-metadata", f"{key}={LOG}", "-metadata:s:v:0", f"{key}={LOG}"]
        path = make(tmp_path / f"{key}.mp4", "-i", ffmpeg.file_url(clip()), "-c", "copy", *said)
        assert replace(probe(path), path=sound.path) == sound
        assert decode(path, decoder="ffmpeg").frames.shape == (8, 32, 32, 3)


def test_a_pipe_a_folder_a_device_and_a_loop_are_not_opened(tmp_path, refused, model, quick):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    for name in ("pipe.mp4", "folder.mp4", "loop.mp4", "gone.mp4", "/dev/zero", "/dev/stdin", "/proc/self/mem"):
        refused("extend", name, "-m", model, *quick, "-o", "out.mp4")
    (tmp_path / "in").mkdir()
    shutil.move(tmp_path / "pipe.mp4", tmp_path / "in" / "pipe.mp4")
    assert "no clip is left" in refused("prep", "in", "-o", "dataset", "--quiet")
