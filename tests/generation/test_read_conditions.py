"""Given frames are those that ffmpeg shows of the input, turned, mirrored, cropped or of another range, and said so."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.cli.generation import are_many
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Note
from vidiff_cli.generation.complete_video import CompletionReport
from vidiff_cli.video import decode, ffmpeg

DRAW = "geq=r='128+120*sin(X/6+N/2)':g='128+120*sin(Y/5+N/3)':b='X*3+N'"
BASE = f"color=c=black:s=64x48:r=24:d=0.4,{DRAW}"
FILES: dict[str, tuple[list[str], list[str]]] = {
    "turned.mkv": (["-display_rotation", "90"], []),
    "mirrored.mp4": (["-display_hflip"], []),
    "flipped.mkv": (["-display_vflip"], []),
    "narrow.mp4": ([], ["-bsf:v", "h264_metadata=crop_left=8:crop_right=8"]),
    "timecode.mov": ([], ["-timecode", "01:00:00:00"]),
}


def make(*arguments: str) -> None:
    code, log, _ = ffmpeg.run(list(arguments))
    assert code == 0, log


def completed(task: Any, settings: Any) -> tuple[CompletionReport, list[str]]:
    steps, notes = task.events(settings), list[str]()
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return end.value, notes
        if isinstance(event, Note):
            notes.append(event.text)


def extended(path: Path, **more: Any) -> tuple[np.ndarray, list[str]]:
    """The frames of a lossless extension by four, and the notes."""
    output = path.with_name("out.mkv")
    fixed = {"input": path, "output": output, "num_frames": 4, "detail": "estimate", "lossless": True, "seed": 1}
    report, notes = completed(extend, ExtendSettings.model_validate(fixed | {"overwrite": True} | more))
    assert report.given_difference == 0
    return decode(output).frames, notes


@pytest.mark.parametrize("name", FILES)
def test_an_extension_begins_with_what_ffmpeg_shows(tmp_path: Path, name: str) -> None:
    before, arguments = FILES[name]
    base = tmp_path / f"base{'.mkv' if name.endswith('mkv') else '.mp4'}"
    make("-f", "lavfi", "-i", BASE, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", "12", str(base))
    path = tmp_path / name
    make(*before, "-i", str(base), "-c", "copy", *arguments, str(path))
    frames, _ = extended(path)
    # the scaler's flags are ours; all else is ffmpeg's own
    command = [ffmpeg.executable(), "-v", "error", "-i", str(path), "-sws_flags", "bilinear", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    shown = np.frombuffer(raw, np.uint8).reshape(-1, *frames.shape[1:])
    assert len(frames) == len(shown) + 4
    assert np.abs(frames[: len(shown)].astype(int) - shown).max() <= 3
    output = tmp_path / "between.mkv"
    settings = {"input": path, "output": output, "factor": 2, "detail": "estimate", "lossless": True, "hold": False}
    report, _ = completed(interpolate, InterpolateSettings.model_validate(settings))
    assert report.given_difference == 0
    assert np.abs(decode(output).frames[::2].astype(int) - shown).max() <= 3


def test_what_is_changed_in_reading_is_said_and_can_be_refused(tmp_path: Path) -> None:
    codes = "format=yuv420p10le,geq=lum='if(lt(mod(X+N,16),8),573,64)':cb=512:cr=512"
    tags = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc:range=tv"
    hdr = ["-f", "lavfi", "-i", f"color=black:s=64x48:r=24:d=0.3,{codes},{tags}"]
    make(*hdr, "-c:v", "libx265", "-x265-params", "log-level=none", str(tmp_path / "a.mp4"))
    toned, notes = extended(tmp_path / "a.mp4")
    assert notes.count("a.mp4: HDR (PQ), tone-mapped to SDR.") == 1
    clipped, notes = extended(tmp_path / "a.mp4", reading={"hdr": "clip"})
    assert notes.count("a.mp4: HDR (PQ), clipped to SDR.") == 1
    assert 235 <= np.percentile(toned[0], 90) < 250 < np.percentile(clipped[0], 90)
    with pytest.raises(VidiffError, match="is HDR: found PQ"):
        extended(tmp_path / "a.mp4", reading={"hdr": "refuse"})


def test_a_folder_of_frames_is_extended_again(tmp_path: Path) -> None:
    """At the rate in its sidecar; images are what they were."""
    make("-f", "lavfi", "-i", BASE, "-pix_fmt", "yuv420p", "-c:v", "libx264", str(tmp_path / "a.mp4"))
    common = {"num_frames": 4, "detail": "estimate", "seed": 1}
    first, second, half = tmp_path / "first", tmp_path / "second", tmp_path / "half"
    completed(extend, ExtendSettings.model_validate(common | {"input": tmp_path / "a.mp4", "output": first}))
    assert not are_many([first]) and are_many([tmp_path]) and are_many([first, first])
    report, _ = completed(extend, ExtendSettings.model_validate(common | {"input": first, "output": second}))
    assert (report.given, report.made, report.fps) == (14, 4, 24)
    given = sorted(path.name for path in first.iterdir())
    assert [np.asarray(Image.open(second / name)).tobytes() for name in given] == [
        np.asarray(Image.open(first / name)).tobytes() for name in given
    ]
    report, _ = completed(
        extend, ExtendSettings.model_validate(common | {"input": first, "output": first, "overwrite": True})
    )
    assert (report.given, len(list(first.iterdir()))) == (14, 18)
    settings = {"input": second, "output": half, "factor": 2, "detail": "estimate", "hold": False}
    report, _ = completed(interpolate, InterpolateSettings.model_validate(settings))
    assert (report.given, report.made, report.fps) == (18, 17, 48)
    for file in tmp_path.glob("*.json"):
        file.unlink()
    fixed = common | {"input": second, "output": tmp_path / "b.mp4"}
    assert completed(extend, ExtendSettings.model_validate(fixed))[0].fps == 25
    fixed |= {"output": tmp_path / "c.mp4", "fps": 12}
    assert completed(extend, ExtendSettings.model_validate(fixed))[0].fps == 12
    (second / "000003.png").unlink()
    assert are_many([second])
    with pytest.raises(VidiffError, match="is a folder"):
        extend(ExtendSettings.model_validate(common | {"input": second, "output": tmp_path / "d.mp4"}))


def test_what_is_not_copied_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\nhello\n")
    (tmp_path / "m.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=100\ntitle=one\n")
    inputs = ["-f", "lavfi", "-i", BASE, "-i", str(tmp_path / "s.srt"), "-i", str(tmp_path / "m.txt")]
    streams = ["-map", "0", "-map", "1", "-map_chapters", "2", "-pix_fmt", "yuv420p", "-c:v", "libx264"]
    make(*inputs, *streams, str(tmp_path / "a.mkv"))
    _, notes = extended(tmp_path / "a.mkv")
    assert notes.count("a.mkv: subtitles and chapters not copied to the result.") == 1


def test_a_damaged_input_is_extended_from_its_intact_frames_with_a_warning(tmp_path: Path) -> None:
    noise = "color=gray:s=64x48:r=24:d=1.5,noise=alls=60:allf=t,format=yuv420p"
    codec = ["-c:v", "libx264", "-x264-params", "cabac=0:keyint=12:scenecut=0:bframes=0"]
    make("-f", "lavfi", "-i", noise, *codec, str(tmp_path / "a.mp4"))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    (tmp_path / "a.mp4").write_bytes(data)
    frames, notes = extended(tmp_path / "a.mp4")
    assert len(frames) == 36 + 4
    (told,) = [note for note in notes if "damaged" in note]
    assert told.startswith("a.mp4: damaged: 24 of 36 frames kept, lost 0.50 s to 1.00 s (")
    assert (frames[12:24] == frames[11]).all()
