"""The right frames from every kind of file that the bundled ffmpeg can write: each frame carries its own index.

A file is right when every index that should be there is there, in order, each at its time (at most half a frame off),
at the file's own rate and at others, whichever decoder read it.
"""

from __future__ import annotations

import importlib.util
import math
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import DecodedVideo, decord_backend, encode, ffmpeg, probe, stream_frames
from vidiff_cli.video.probe import VideoInfo
from vidiff_cli.video.resample import resample, time_unit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
FRAMES, RATE = 30, Fraction(25)
WIDTH, HEIGHT = 128, 96  # which H.263 knows too
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "14"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-crf", "14", "-x265-params", "log-level=none"]
YUV = ["-pix_fmt", "yuv420p"]
B_FRAMES = ["-g", "12", "-bf", "2"]

# name: how ffmpeg makes it of 30 indexed frames, 25 a second
KINDS: dict[str, list[str]] = {
    "h264.mp4": [*X264, *YUV, *B_FRAMES],
    "h264.mov": [*X264, *YUV, *B_FRAMES],
    "h264.mkv": [*X264, *YUV, *B_FRAMES],
    "h264.avi": [*X264, *YUV, "-bf", "0"],
    "h264.flv": [*X264, *YUV, *B_FRAMES],
    "h264.ts": [*X264, *YUV, *B_FRAMES],
    "h264.m2ts": [*X264, *YUV, *B_FRAMES],
    "h264.3gp": [*X264, *YUV, *B_FRAMES],
    "h264 fragmented.mp4": [*X264, *YUV, *B_FRAMES, "-movflags", "frag_keyframe+empty_moov"],
    "h264 at the end.mp4": [*X264, *YUV, "-movflags", "+faststart"],
    "h264 open gop.mp4": [*X264, *YUV, "-x264-params", "open-gop=1:keyint=8:bframes=3:scenecut=0"],
    "h264 10 bit.mp4": [*X264, "-pix_fmt", "yuv420p10le", *B_FRAMES],
    "h264 444.mp4": [*X264, "-pix_fmt", "yuv444p"],
    "h264 gray.mp4": [*X264, "-pix_fmt", "gray"],
    "h264 interlaced.mp4": [*X264, *YUV, "-flags", "+ilme+ildct"],
    "h264 rgb.mkv": ["-c:v", "libx264rgb", "-crf", "14", "-preset", "veryfast"],
    "hevc.mp4": [*X265, *YUV],
    "hevc.mkv": [*X265, *YUV],
    "hevc 10 bit.mp4": [*X265, "-pix_fmt", "yuv420p10le"],
    "vp8.webm": ["-c:v", "libvpx", "-b:v", "1M", "-cpu-used", "8", "-deadline", "realtime"],
    "vp8 alpha.webm": ["-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-b:v", "1M", "-cpu-used", "8"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-cpu-used", "8", "-deadline", "realtime"],
    "vp9 hidden frames.webm": ["-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-cpu-used", "5", "-auto-alt-ref", "1"],
    "vp9 alpha.webm": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-b:v", "1M", "-cpu-used", "8"],
    "vp9.mp4": ["-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-cpu-used", "8", "-deadline", "realtime"],
    "av1.mp4": ["-c:v", "libsvtav1", "-preset", "13", "-crf", "20"],
    "av1.mkv": ["-c:v", "libsvtav1", "-preset", "13", "-crf", "20"],
    "av1.webm": ["-c:v", "libsvtav1", "-preset", "13", "-crf", "20", "-pix_fmt", "yuv420p10le"],
    "mpeg1.mpg": ["-c:v", "mpeg1video", "-q:v", "3", *B_FRAMES],
    "mpeg2.avi": ["-c:v", "mpeg2video", "-q:v", "3"],
    "mpeg2.mpg": ["-c:v", "mpeg2video", "-q:v", "3", *B_FRAMES],
    "mpeg2.vob": ["-c:v", "mpeg2video", "-q:v", "3", *B_FRAMES],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-q:v", "3", *B_FRAMES],
    "mpeg2.mkv": ["-c:v", "mpeg2video", "-q:v", "3", *B_FRAMES],
    "mpeg4.mp4": ["-c:v", "mpeg4", "-q:v", "3", *B_FRAMES],
    "mpeg4.avi": ["-c:v", "mpeg4", "-q:v", "3"],
    "mpeg4 b frames.avi": ["-c:v", "mpeg4", "-q:v", "3", *B_FRAMES],
    "xvid.avi": ["-c:v", "libxvid", "-q:v", "3"],
    "msmpeg4.avi": ["-c:v", "msmpeg4", "-q:v", "3"],
    "wmv2.wmv": ["-c:v", "wmv2", "-q:v", "3"],
    "flv1.flv": ["-c:v", "flv", "-q:v", "3"],
    "h263.3gp": ["-c:v", "h263", "-q:v", "3"],
    "mjpeg.avi": ["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj422p"],
    "mjpeg.mov": ["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj422p"],
    "prores.mov": ["-c:v", "prores_ks"],
    "prores alpha.mov": ["-c:v", "prores_ks", "-profile:v", "4", "-pix_fmt", "yuva444p10le"],
    "dnxhr.mov": ["-c:v", "dnxhd", "-profile:v", "dnxhr_lb", "-pix_fmt", "yuv422p", "-s", "256x192"],
    "theora.ogv": ["-c:v", "libtheora", "-q:v", "8"],
    "ffv1.mkv": ["-c:v", "ffv1"],
    "ffv1 gray 16 bit.mkv": ["-c:v", "ffv1", "-pix_fmt", "gray16le"],
    "huffyuv.avi": ["-c:v", "huffyuv"],
    "raw.avi": ["-c:v", "rawvideo", "-pix_fmt", "bgr24"],
    "png.mov": ["-c:v", "png", "-pix_fmt", "rgba"],
    "qtrle.mov": ["-c:v", "qtrle", "-pix_fmt", "argb"],
    "raw.y4m": [*YUV],
    "mpeg2.mxf": ["-c:v", "mpeg2video", "-q:v", "3"],
    "a.gif": [],
    "a.apng": ["-plays", "0"],
    "a.webp": ["-c:v", "libwebp_anim", "-loop", "0", "-q:v", "90"],
    "no square pixels.mp4": [*X264, *YUV, "-aspect", "2:1"],
    "starts late.mkv": [*X264, *YUV, *B_FRAMES, "-output_ts_offset", "3.2"],
    "starts late.mp4": [*X264, *YUV, *B_FRAMES, "-output_ts_offset", "3.2"],
    "starts late.ts": [*X264, *YUV, *B_FRAMES, "-output_ts_offset", "30"],
}


@dataclass(frozen=True)
class Case:
    """A file, with the indices of its frames and their true times."""

    path: Path
    indices: list[int]
    times: list[Fraction]
    rate: Fraction = RATE


@pytest.fixture(scope="session")
def studio(tmp_path_factory, draw) -> Callable[..., Path]:
    """`studio(name, *arguments, before=...)`: a file made of the 30 indexed frames, or of what `before` names."""
    folder = tmp_path_factory.mktemp("studio")
    encode(folder / "exact.mkv", draw(FRAMES, width=WIDTH, height=HEIGHT), RATE, lossless=True)

    def make(name: str, *arguments: str, before: list[str] | None = None) -> Path:
        target = folder / name
        if not target.exists():
            source = before or ["-i", ffmpeg.file_url(folder / "exact.mkv")]
            code, log, _ = ffmpeg.run([*source, "-threads", "1", *arguments, ffmpeg.file_url(target)])
            assert code == 0, log
        return target

    return make


def joined(reading: DecodedVideo) -> tuple[list[Fraction], np.ndarray]:
    blocks = list(reading.blocks)
    assert all(len(times) == len(frames) <= 32 for times, frames in blocks)
    return [time for times, _ in blocks for time in times], np.concatenate([frames for _, frames in blocks])


def got(path: Path, **how) -> tuple[list[Fraction], np.ndarray]:
    """What the last reading gives: the one that counts."""
    *_, last = (joined(reading) for reading in stream_frames(path, **how))
    return last


def check(case: Case, indices, *, size=None) -> None:
    """The file's own frames and times by both decoders, and what is on the screen at other rates."""
    half = 1 / case.rate / 2
    for decoder in ("auto", "ffmpeg"):
        times, frames = got(case.path, decoder=decoder, size=size)
        assert indices(frames) == case.indices
        assert all(abs(time - true) < half for time, true in zip(times, case.times, strict=True))
        assert all(a < b for a, b in pairwise(times))
    info = probe(case.path)
    slack = 0 if (1 / case.rate / info.time_base).denominator == 1 else info.time_base  # its times are rounded
    for fps in (case.rate, Fraction(10)):
        times, frames = got(case.path, fps=fps, size=size)
        assert times == [k / fps for k in range(len(times))]
        assert len(times) == math.ceil((case.times[-1] + 1 / case.rate) * fps)
        for k, index in enumerate(indices(frames)):
            at = case.indices.index(index)
            assert case.times[at] <= k / fps + slack
            assert at == len(case.times) - 1 or case.times[at + 1] > k / fps - slack


@pytest.fixture(scope="session")
def page() -> dict[str, list[str]]:
    """The rows of the page about formats, by their first cell."""
    rows = (line.strip("|\n ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line)
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file(studio, indices, page, name):
    path = studio(name, *KINDS[name])
    assert page[name] == [compare_decord(path), str(FRAMES)]  # as tools/docs/formats.py wrote it
    check(Case(path, list(range(FRAMES)), [k / RATE for k in range(FRAMES)]), indices, size=(WIDTH, HEIGHT))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
def test_variable_rates(studio, indices, suffix):
    kept = [k for k in range(FRAMES) if k % 3 == 0 or k % 7 == 0]
    codec = KINDS["vp8.webm"] if suffix == ".webm" else [*X264, *YUV, *B_FRAMES]
    choose = ["-vf", "select='not(mod(n,3))+not(mod(n,7))'", "-fps_mode", "vfr"]
    path = studio(f"variable{suffix}", *choose, *codec)
    check(Case(path, kept, [k / RATE for k in kept], probe(path).fps), indices)


@pytest.mark.parametrize("fps", ["24000/1001", "30000/1001", "12", "60", "120"])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_other_rates(studio, indices, fps, suffix):
    codec = KINDS["vp8.webm"] if suffix == ".webm" else [*X264, *YUV, "-bf", "0"]
    exact = studio("exact.mkv")
    path = studio(f"at {fps.replace('/', ' ')}{suffix}", *codec, before=["-r", fps, "-i", ffmpeg.file_url(exact)])
    rate = Fraction(fps)
    assert probe(path).fps == rate
    check(Case(path, list(range(FRAMES)), [k / rate for k in range(FRAMES)], rate), indices)


@pytest.mark.parametrize("start", [5, 13])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_cuts_without_decoding(studio, indices, start, suffix):
    """-ss before a stream copy: in mp4 an edit list hides what precedes the cut, elsewhere it begins at a keyframe."""
    whole = studio("keyed.mp4", *X264, *YUV, "-g", "6", "-bf", "2")
    cut = ["-ss", str(float(start / RATE + Fraction(1, 100))), "-i", ffmpeg.file_url(whole)]
    path = studio(f"cut {start}{suffix}", "-c", "copy", before=cut)
    first = start if suffix in (".mp4", ".mov") else start - start % 6
    times, frames = got(path)
    seen = indices(frames)
    assert seen == list(range(seen[0], FRAMES)) and abs(seen[0] - first) <= 1
    assert times == [k / RATE for k in range(len(times))]
    assert indices(got(path, decoder="ffmpeg")[1]) == seen


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
@pytest.mark.parametrize(("milliseconds", "first"), [(7, 0), (20, 0), (39, 0), (40, 1)])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_a_frame_that_an_edit_list_takes_a_part_of_is_kept(studio, indices, suffix, milliseconds, first, bframes):
    """A frame lasts 40 ms; one that is hidden altogether stays so."""
    whole = studio(f"whole {bframes}.mp4", *X264, *YUV, "-bf", bframes)
    cut = ["-ss", f"0.{milliseconds:03}", "-i", ffmpeg.file_url(whole)]
    path = studio(f"edit {milliseconds} {bframes}{suffix}", "-c", "copy", before=cut)
    assert probe(path).start_seconds == pytest.approx(-milliseconds / 1000 if first == 0 else 0, abs=0.001)
    for decoder in ("auto", "ffmpeg"):
        times, frames = got(path, decoder=decoder)
        assert indices(frames) == list(range(first, FRAMES))
        assert times == [k / RATE for k in range(FRAMES - first)]


def test_an_open_gop_that_begins_in_the_middle(studio, indices):
    """Its first frames cannot be decoded; the others are right, and time counts from the first that can."""
    whole = studio("open.ts", *X264, *YUV, "-x264-params", "open-gop=1:keyint=8:bframes=3:scenecut=0")
    path = studio("open cut.ts", "-c", "copy", before=["-ss", "0.4", "-i", ffmpeg.file_url(whole)])
    times, frames = got(path)
    seen = indices(frames)
    assert seen == list(range(seen[0], FRAMES)) and 6 <= seen[0] <= 16
    assert times == [k / RATE for k in range(len(times))]


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("decoder", ["auto", "ffmpeg"])
def test_rotation(studio, indices, degrees, decoder):
    flat = studio("h264.mp4", *KINDS["h264.mp4"])
    path = studio(f"turned {degrees}.mp4", "-c", "copy", before=["-display_rotation", str(-degrees), "-i", str(flat)])
    info = probe(path)
    assert info.rotation == degrees
    assert (info.width, info.height) == ((WIDTH, HEIGHT) if degrees == 180 else (HEIGHT, WIDTH))
    times, frames = got(path, decoder=decoder)
    assert times == [k / RATE for k in range(FRAMES)]
    assert indices(np.rot90(frames, degrees // 90, axes=(1, 2))) == list(range(FRAMES))  # turned back


def test_pixels_that_are_not_square_are_made_square(studio):
    info = probe(studio("no square pixels.mp4", *KINDS["no square pixels.mp4"]))
    assert (info.width, info.height, info.coded_width) == (2 * HEIGHT, HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_of_two_streams_the_default_one_or_the_larger(studio, indices, suffix):
    both = ["-filter_complex", "[0:v]split[a][b];[a]scale=64:48,negate[small]", "-map", "[small]", "-map", "[b]"]
    both += [] if suffix == ".ts" else ["-disposition:v:0", "0", "-disposition:v:1", "default"]
    path = studio(f"two{suffix}", *both, *X264, *YUV)
    check(Case(path, list(range(FRAMES)), [k / RATE for k in range(FRAMES)]), indices)


@pytest.mark.parametrize("offset", ["0.7", "-0.3"])
def test_sound_that_begins_at_another_time(studio, indices, offset):
    """Times count from the first frame, wherever the sound begins."""
    flat = studio("h264.mp4", *KINDS["h264.mp4"])
    sound = ["-itsoffset", offset, "-f", "lavfi", "-i", "sine=d=1", "-i", ffmpeg.file_url(flat)]
    path = studio(f"sound {offset}.mp4", "-map", "1:v", "-map", "0:a", "-c:v", "copy", "-c:a", "aac", before=sound)
    check(Case(path, list(range(FRAMES)), [k / RATE for k in range(FRAMES)]), indices)


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".apng"])
@pytest.mark.parametrize("repeats", [(3, 2, 1, 4), (1, 1, 1), (2, 5)])
def test_equal_frames_stay_as_long_as_they_were_shown(studio, indices, draw, suffix, repeats, tmp_path):
    """WebP merges them into one; its last frame's time is nowhere but in its own duration."""
    shown = [index for index, count in enumerate(repeats) for _ in range(count)]
    encode(tmp_path / "a.mkv", draw(len(repeats))[shown], Fraction(10), lossless=True)
    path = tmp_path / f"a{suffix}"
    lossless = ["-c:v", "libwebp_anim", "-lossless", "1"] if suffix == ".webp" else []
    code, log, _ = ffmpeg.run(["-i", ffmpeg.file_url(tmp_path / "a.mkv"), *lossless, ffmpeg.file_url(path)])
    assert code == 0, log
    assert indices(got(path, fps=Fraction(10))[1]) == shown


@pytest.mark.parametrize("decoder", ["decord", "ffmpeg"])
def test_reading_stops_where_it_is_told_and_forgets_nothing(studio, indices, decoder):
    path = studio("h264.mp4", *KINDS["h264.mp4"])
    for stop, count in ((Fraction(1, 2), 13), (Fraction(12, 25), 12), (Fraction(1, 1000), 1), (Fraction(100), FRAMES)):
        times, frames = got(path, decoder=decoder, stop_seconds=stop)
        assert (indices(frames), times[-1] < stop) == (list(range(count)), True)
        assert len(got(path, decoder=decoder, stop_seconds=stop, fps=Fraction(50))[0]) == min(math.ceil(stop * 50), 60)
    with pytest.raises(VidiffError, match="positive"):
        next(stream_frames(path, stop_seconds=Fraction(0)))
    info = probe(path)
    assert [reading.decoder for reading in stream_frames(info, decoder=decoder)] == [decoder]


def compare_decord(path: Path) -> str:
    """ "agrees" where decord reads a file and all of its frames are ffmpeg's; else the reason why it is refused."""
    try:
        times, frames = got(path, decoder="decord")
    except VidiffError as error:
        return str(error.__cause__ or error)
    true_times, true = got(path)
    assert times == true_times
    assert np.abs(frames.astype(int) - true).mean(axis=(1, 2, 3)).max() < 4
    return "agrees"


@pytest.fixture(scope="session")
def lopsided(tmp_path_factory) -> Callable[..., Path]:
    """`lopsided(name, *arguments, before=...)`: a copy of H.264 frames that differ from all that is made of them by
    turning, mirroring and cropping; `{}` in `before` is the file."""
    folder = tmp_path_factory.mktemp("lopsided")
    draw = "r='128+120*sin(X/6+N/2)':g='128+120*sin(Y/5+N/3)':b='X*3+N'"
    base = ["-f", "lavfi", "-i", f"color=c=black:s=64x48:r=24:d=0.75,geq={draw}", "-pix_fmt", "yuv420p"]
    for name in ("base.mp4", "base.mkv"):
        run([*base, "-c:v", "libx264", "-crf", "12", str(folder / name)])

    def make(name: str, *arguments: str, before: tuple[str, ...] = ()) -> Path:
        source = folder / ("base.mkv" if name.endswith("mkv") else "base.mp4")
        run([*before, "-i", str(source), "-c", "copy", *arguments, str(folder / name)])
        return folder / name

    return make


def run(arguments: list[str]) -> None:
    code, log, _ = ffmpeg.run(arguments)
    assert code == 0, log


def as_shown(path: Path, *arguments: str) -> np.ndarray:
    """All frames as `ffmpeg -i PATH` alone makes them; pixels must be square."""
    info = probe(path)
    command = [ffmpeg.executable(), "-v", "error", "-i", str(path), *arguments, "-f", "rawvideo", "-pix_fmt", "rgb24"]
    shown = subprocess.run([*command, "-fps_mode", "passthrough", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(shown, np.uint8).reshape(-1, info.height, info.width, 3)


CROP = "h264_metadata=crop_left=8:crop_right=8"
SHOWN_OTHERWISE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "turned.mkv": (("-display_rotation", "90"), ()),
    "turned back.mkv": (("-display_rotation", "-90"), ()),
    "upside down.mkv": (("-display_rotation", "180"), ()),
    "turned.mov": (("-display_rotation", "90"), ()),
    "turned askew.mp4": (("-display_rotation", "45"), ()),
    "mirrored.mp4": (("-display_hflip",), ()),
    "mirrored.mkv": (("-display_hflip",), ()),
    "flipped.mp4": (("-display_vflip",), ()),
    "flipped.mkv": (("-display_vflip",), ()),
    "turned and mirrored.mp4": (("-display_rotation", "90", "-display_hflip"), ()),
    "turned and flipped.mkv": (("-display_rotation", "270", "-display_vflip"), ()),
    "narrow.mp4": ((), ("-bsf:v", CROP)),
    "left.mkv": ((), ("-bsf:v", "h264_metadata=crop_left=16")),
    "low.mp4": ((), ("-bsf:v", "h264_metadata=crop_top=8:crop_bottom=2")),
    "narrow and turned.mkv": (("-display_rotation", "90"), ("-bsf:v", CROP)),
}


@pytest.mark.parametrize("name", SHOWN_OTHERWISE)
def test_frames_are_those_that_ffmpeg_shows(lopsided, name):
    """Turned, mirrored and cropped, in every container; decord agrees or is refused, and never differs in silence."""
    before, arguments = SHOWN_OTHERWISE[name]
    path = lopsided(name, *arguments, before=before)
    frames = got(path)[1]
    shown = as_shown(path)
    assert np.abs(frames.astype(int) - shown).mean(axis=(1, 2, 3)).max() < 3
    wrong = [np.flip(shown, axis) for axis in (1, 2)]
    assert min(np.abs(frames.astype(int) - other).mean() for other in wrong) > 20
    assert compare_decord(path) != "agrees" or not before
    plain = lopsided(f"plain{Path(name).suffix}")
    assert compare_decord(plain) == "agrees"


def test_decord_is_compared_with_ffmpeg_at_a_later_frame_too(studio, monkeypatch):
    path = studio("h264.mp4", *KINDS["h264.mp4"])
    true = decord_backend.ffmpeg_backend.frames

    def other(*arguments) -> Iterator:
        for number, (time, frame) in enumerate(true(*arguments)):
            yield time, frame if frame is None or number != 24 else 255 - frame

    monkeypatch.setattr(decord_backend.ffmpeg_backend, "frames", other)
    with pytest.raises(VidiffError, match="frame 24 is not the one that ffmpeg shows"):
        got(path, decoder="decord")


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.flv", "a.webm"])
def test_a_size_that_changes_is_fitted_and_said(tmp_path, name):
    """A square stays a square: bars at the sides, or none where the shape is the same."""
    codec = ["-c:v", "libvpx", "-b:v", "1M"] if name.endswith("webm") else ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    suffix = Path(name).suffix
    for number, size in enumerate(("96x64", "48x32", "32x64")):
        square = "color=black:s={}:r=10:d=0.5,drawbox=x=(iw-ih/2)/2:y=ih/4:w=ih/2:h=ih/2:c=white:t=fill"
        run(["-f", "lavfi", "-i", square.format(size), *codec, str(tmp_path / f"{number}{suffix}")])
    (tmp_path / "list.txt").write_text("".join(f"file '{number}{suffix}'\n" for number in range(3)))
    run(["-f", "concat", "-i", str(tmp_path / "list.txt"), "-c", "copy", str(tmp_path / name)])
    for reading in stream_frames(tmp_path / name):
        white = joined(reading)[1][..., 1] > 128
    assert len(white) == 15
    for frame in white:
        rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
        assert (len(rows), len(columns)) == pytest.approx((32, 32), abs=2)
        assert (rows.mean(), columns.mean()) == pytest.approx((31.5, 47.5), abs=1)
    (remark,) = reading.remarks
    assert remark.startswith("frames of several sizes, fitted into the first: to 48x32 at 0.")


def test_what_decord_pads_is_an_error(draw, tmp_path):
    frames = draw(70)
    encode(tmp_path / "a.mkv", np.concatenate([frames, frames[-1:]]), RATE, lossless=True)
    with pytest.raises(VidiffError, match=r"decord cannot be trusted .*identical, which may be padding"):
        got(tmp_path / "a.mkv", decoder="decord")


@pytest.mark.slow
def test_the_page_about_the_collection_holds(data_dir):
    spec = importlib.util.spec_from_file_location("formats", PAGE.parents[1] / "tools" / "docs" / "formats.py")
    assert spec is not None and spec.loader is not None
    formats = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formats)
    rows = list(formats.collected(data_dir))
    assert len(rows) == 63
    assert PAGE.read_text(encoding="utf-8").endswith("".join(rows))
    for row in rows:
        *_, expected, got = row.strip("|\n ").split(" | ")
        assert got == expected.split(" ")[0] or got.startswith("rejected: "), row


def test_frames_are_shrunk_by_area(tmp_path):
    """Every pixel the mean of the 3x3 that it covers; decord comes near."""
    noise = np.random.default_rng(0).integers(60, 190, (2, 24, 32, 3), np.uint8).repeat(36, axis=1).repeat(36, axis=2)
    encode(tmp_path / "a.mkv", noise, Fraction(10), lossless=True)
    mean = noise.reshape(2, 288, 3, 384, 3, 3).mean(axis=(2, 4))
    for decoder, error in (("auto", 2.5), ("decord", 40)):
        frames = got(tmp_path / "a.mkv", size=(384, 288), decoder=decoder)[1]
        assert abs(frames - mean).max() <= error


def nominal(fps: Fraction, time_base: Fraction) -> VideoInfo:
    text = {"container": "mov", "codec": "h264", "pixel_format": "yuv420p"}
    size = {"width": 1, "height": 1, "coded_width": 1, "coded_height": 1, "rotation": 0}
    rest = {"duration_seconds": None, "has_audio": False, "is_image": False}
    return VideoInfo(path=Path("a"), fps=fps, time_base=time_base, **text, **size, **rest)  # type: ignore[arg-type]


RATES = st.fractions(min_value=1, max_value=240, max_denominator=1001)


@settings(max_examples=150, deadline=None)
@given(rate=RATES, fps=RATES, frames=st.integers(1, 200), tick=st.sampled_from([None, 1000, 90000, 15360]))
def test_the_selection_is_exact_whatever_the_rates(rate, fps, frames, tick):
    """The count is the duration times the rate, rounded up; times rise evenly; each frame is the one on the screen."""
    base = 1 / rate if tick is None else Fraction(1, tick)
    info = nominal(rate, base)
    ticks = [round(k / rate / base) for k in range(frames)]
    source = ((count * int(base / time_unit(info)), np.array(k)) for k, count in enumerate(ticks))
    chosen = [(time, int(frame)) for time, frame in resample(source, fps, info)]
    slack = 0 if tick is None else min(base, 1 / rate / 4)
    assert [time for time, _ in chosen] == [k / fps for k in range(len(chosen))]
    assert abs(len(chosen) - frames / rate * fps) < 1 + 2 * (slack + base / 2) * fps
    for time, index in chosen:
        assert index / rate <= time + slack + base / 2
        assert index == frames - 1 or time < (index + 1) / rate + base / 2
    if tick is None:
        assert len(chosen) == math.ceil(frames / rate * fps)
        assert all(index == min(math.floor(time * rate), frames - 1) for time, index in chosen)


@settings(max_examples=100, deadline=None)
@given(gaps=st.lists(st.integers(1, 400), min_size=1, max_size=60), fps=RATES)
def test_the_selection_is_exact_whatever_the_gaps(gaps, fps):
    info = nominal(Fraction(25), Fraction(1, 100))
    ticks = np.cumsum([0, *gaps]).tolist()
    units = int(info.time_base / time_unit(info))
    chosen = list(resample(((count * units, np.array(k)) for k, count in enumerate(ticks)), fps, info))
    ends = ticks[-1] / Fraction(100) + Fraction(1, 25)
    assert len(chosen) == math.ceil(ends * fps)
    for k, (time, frame) in enumerate(chosen):
        assert time == k / fps
        assert int(frame) == max(i for i, count in enumerate(ticks) if Fraction(count, 100) <= time)
