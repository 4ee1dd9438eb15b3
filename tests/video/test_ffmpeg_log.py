"""Every kind of stream that stands in ffmpeg's description of a file leaves the pictures and the sound to be found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import decode, ffmpeg, probe
from vidiff_cli.video.audio import find_audio
from vidiff_cli.video.ffmpeg_log import parse_input

TITLE = "x\\\nStream #0:0: Video: evil, yuv420p, 9x9\\\n[info] Stream mapping:"
CHAPTER = "Stream #0:7: Video: h264, yuv420p, 9x9"
METADATA = f";FFMETADATA1\ntitle={TITLE}\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=100\ntitle={CHAPTER}\n"
SUBTITLES = "1\n00:00:00,000 --> 00:00:00,200\nStream #0:0: Video\n"
KLV = ["-f", "data", "-i", "{note}"]

# name: inputs beside the pictures (number 0) and the sound (number 1), and what follows; {x} is a file of the folder
FILES: dict[str, tuple[list[str], list[str]]] = {
    "timecode.mov": ([], ["-timecode", "01:00:00:00"]),
    "timecode.mp4": ([], ["-timecode", "01:00:00;00"]),
    "two timecodes.mov": ([], ["-map", "0:v", "-timecode", "10:00:00:00"]),
    "cover.mp4": (["-i", "{cover}"], ["-map", "2", "-disposition:v:1", "attached_pic"]),
    "cover.mkv": ([], ["-attach", "{cover}", "-metadata:s:t", "mimetype=image/png"]),
    "attachment.mkv": ([], ["-attach", "{note}", "-metadata:s:t", "mimetype=text/plain"]),
    "subtitles.mkv": (["-i", "{subtitles}"], ["-map", "2", "-c:s", "srt"]),
    "subtitles.mp4": (["-i", "{subtitles}"], ["-map", "2", "-c:s", "mov_text"]),
    "titles.mkv": (["-i", "{metadata}"], ["-map_metadata", "2", "-map_chapters", "2"]),
    "titles.mov": (
        ["-i", "{metadata}"],
        ["-map_metadata", "2", "-map_chapters", "2", "-movflags", "use_metadata_tags"],
    ),
    "language.mkv": ([], ["-metadata:s:a", "language=en (US): Video: h264"]),
    "side data.mp4": ([], ["-metadata:s:v", "handler_name=Side data:"]),
    "programs.ts": ([], ["-program", "title=one:st=0:st=1", "-program", "title=two:st=0"]),
    "data.ts": (KLV, ["-map", "2", "-c:d", "copy", "-tag:d", "KLVA"]),
    "plain.nut": ([], ["-f", "nut"]),
    "plain.flv": ([], []),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("streams")
    texts = {"note": "a note", "subtitles": SUBTITLES, "metadata": METADATA}
    for name, text in texts.items():
        (folder / f"{name}.{'srt' if name == 'subtitles' else 'txt'}").write_text(text)
    paths = {name: str(folder / f"{name}.{'srt' if name == 'subtitles' else 'txt'}") for name in texts}
    paths["cover"] = str(folder / "cover.png")
    pictures, sound = folder / "pictures.mp4", folder / "sound.m4a"
    run(["-f", "lavfi", "-i", "color=red:s=16x16", "-frames:v", "1", paths["cover"]])
    h264 = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-bf", "0"]
    run(["-f", "lavfi", "-i", "testsrc2=s=64x48:r=24:d=0.25", *h264, str(pictures)])
    run(["-f", "lavfi", "-i", "sine=d=0.25", str(sound)])

    def made(name: str) -> Path:
        inputs, rest = FILES[name]
        both = ["-i", str(pictures), "-i", str(sound), *inputs, "-map", "0:v", "-map", "1:a", "-c", "copy", *rest]
        run([word.format(**paths) for word in both] + [str(folder / name)])
        return folder / name

    return made


def run(arguments: list[str]) -> None:
    code, log, _ = ffmpeg.run(arguments)
    assert code == 0, log


@pytest.mark.parametrize("name", FILES)
def test_whatever_else_a_file_holds_its_pictures_and_sound_are_found(make, name):
    path = make(name)
    info = probe(path)
    assert (info.codec, info.width, info.height, info.fps, info.rotation) == ("h264", 64, 48, 24, 0)
    assert info.duration_seconds == pytest.approx(0.25, abs=0.06)
    assert info.has_audio and not info.has_display_matrix and not info.alpha
    (track,) = find_audio(path, delay=info.start_seconds, speed=info.fps / 24, stop=False)
    assert track.codecs == ("aac",)
    assert decode(path, max_frames=3).frames.shape == (3, 48, 64, 3)
    kinds = {"subtitles": "subtitles", "titles": "chapters", "cover": "a cover"}
    expected = [kind for word, kind in kinds.items() if name.startswith(word)]
    assert [other for other in info.others if other in expected] == expected


def test_a_file_without_pictures_says_what_it_has(tmp_path):
    (tmp_path / "m.txt").write_text(METADATA)
    sound = ["-f", "lavfi", "-i", "sine=d=0.2", "-f", "lavfi", "-i", "color=red:s=16x16:d=0.04"]
    titles = ["-i", str(tmp_path / "m.txt"), "-map_metadata", "2", "-map_chapters", "2"]
    run([*sound, *titles, "-map", "0", str(tmp_path / "a.mka")])
    cover = ["-map", "0", "-map", "1", "-c:v", "png", "-disposition:v:0", "attached_pic"]
    run([*sound, *cover, str(tmp_path / "b.m4a")])
    for name, kinds in (("a.mka", "only audio"), ("b.m4a", "only a cover and audio")):
        with pytest.raises(VidiffError, match=f"has no pictures: found {kinds}, expected a video stream"):
            probe(tmp_path / name)


LOG = """\
[mpegts @ 0x1] [warning] Could not find codec parameters for stream 3 (Unknown: none)
Consider increasing the value for the 'analyzeduration' (0) and 'probesize' (5000000) options
[info] Input #0, mov,mp4,m4a, from 'fd:':
[info]   Metadata:
[info]     title           : Stream mapping:
                    : Stream #0:8: Video: evil
[info]     comment         : Display Matrix: rotation of 90.00 degrees
[info]   Duration: 01:02:03.45, start: 0.000000, bitrate: 100 kb/s
[info]   Chapters:
[info]     Chapter #0:0: start 0.000000, end 1.000000
[info]       Metadata:
[info]         title           : Stream #0:9: Audio: aac
[info]     Chapter #0:1: start 1.000000, end 2.000000
[info]   Program 1
[info]     Metadata:
[info]       service_name    : Stream #0:0: Video: evil
[info]     Stream #0:2[0x102](en US): Audio: aac (LC) ([15][0][0][0] / 0x000F), 48000 Hz, 5.1(side), fltp, 71 kb/s
[info]   Stream group #0:0[0x2]: Track Reference:
[info]     Stream #0:1[0x1]: Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, progressive), 1920x1080 [SAR 1:1]
[info]       Metadata:
[info]         alpha_mode      : 1
[info]         title           : Stream #0:1: Video: evil
[info]       Side data:
[info]         Display Matrix: rotation of -90.00 degrees
[info]         Mastering Display Metadata, has_primaries:1 has_luminance:1
[info]     Stream #0:4[0x3](eng): Data: none (tmcd / 0x64636D74), 0 kb/s
[info]   Stream group #0:1[0x4]: Track Reference:
[info]     Stream #0:1[0x1]: Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, progressive), 1920x1080 [SAR 1:1]
[info]   No Program
[info]   Stream #0:0[0x0]: Video: png, rgb24, 32x32, 90k tbr (attached pic)
[info]   Stream #0:3[0x5]: Unknown: none
[info]   Stream #0:5: Subtitle: hdmv_pgs_subtitle (pgssub), 1920x1080
[info]   Stream #0:6: Attachment: ttf
[info]   Stream #0:7: Audio: none
[info] Stream mapping:
[info]   Stream #0:1 -> #0:0 (h264 (native) -> wrapped_avframe (native))
[info] Output #0, null, to 'pipe:':
[info]   Stream #0:0: Video: wrapped_avframe, yuv420p, 1080x1920
"""


@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_indentation_carries_no_meaning(indent):
    found = parse_input(LOG.replace("[info]   Stream", f"[info]   {indent}Stream"))
    assert found is not None
    assert (found.container, found.duration_seconds, found.chapters) == ("mov,mp4,m4a", 3723.45, 2)
    kinds = ["video", "video", "audio", "unknown", "data", "subtitle", "attachment", "audio"]
    assert [(stream.index, stream.kind) for stream in found.streams] == list(enumerate(kinds))
    (pictures,) = found.of_kind("video")
    assert (pictures.codec, pictures.coded_size, pictures.rotation) == ("h264", (1920, 1080), -90)
    assert (pictures.alpha_mode, found.has_cover, found.mapped) == (True, True, 1)
    assert [(track.codec, track.channel_layout) for track in found.of_kind("audio")] == [
        ("aac", "5.1(side)"),
        ("none", ""),
    ]


def test_what_cannot_be_opened_has_no_description():
    assert parse_input("[in#0 @ 0x1] [error] moov atom not found\n[error] Error opening input file fd:.\n") is None
