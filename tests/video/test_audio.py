"""Sound under new pictures: where it is heard, how long, at which pitch; and that its packets are the source's.

The probe is ffmpeg's own count of packets and samples, and decord's; nothing of it is asked of the code under test.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.timeline import interpolation
from vidiff_cli.video import encode, ffmpeg, probe

RATE = 48000
PACKET_SECONDS = 1024 / 44100  # of AAC; no codec here has longer ones
TONE = 1000  # Hz
BURSTS = "between(t,0.5,0.6)+between(t,0.9,1)"
PICTURES = ["-f", "lavfi", "-i", "testsrc2=s=32x32:r=10:d=1.2"]
SOURCES = {  # file, arguments between pictures and sound, after both
    "aac.mp4": ([], []),
    "opus.mkv": ([], ["-c:a", "libopus"]),
    "vorbis.webm": ([], ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libvorbis"]),
    "pcm.mov": ([], ["-c:a", "pcm_s16le"]),
    "five-one.mkv": ([], ["-af", "pan=5.1(side)|FL=c0|FR=c0|FC=c0|LFE=c0|SL=c0|SR=c0", "-c:a", "ac3"]),
    "late.mp4": (["-itsoffset", "0.3"], []),  # the sound begins after the pictures
    "stream.ts": ([], ["-c:v", "mpeg2video", "-c:a", "mp2"]),
}


class Packet(NamedTuple):
    stream: int
    seconds: Fraction
    lasts: Fraction
    content: str  # size and checksum


def packets(path: Path) -> list[Packet]:
    """All packets of a file, in order of their times."""
    command = [ffmpeg.executable(), "-v", "error", "-i", str(path), "-map", "0", "-c", "copy", "-f", "framecrc", "-"]
    ticks, found = dict[int, Fraction](), list[Packet]()
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.startswith("#tb"):
            number, tick = line.removeprefix("#tb").split(":")
            ticks[int(number)] = Fraction(tick.strip())
        elif not line.startswith("#"):
            stream, _, pts, lasts, size, check = (part.strip() for part in line.split(",")[:6])
            tick = ticks[int(stream)]
            found.append(Packet(int(stream), int(pts) * tick, int(lasts) * tick, f"{size} {check}"))
    return sorted(found, key=lambda packet: (packet.stream, packet.seconds))


def heard(path: Path, track: int = 0) -> np.ndarray:
    """What is heard from the first frame on, mono, RATE samples a second."""
    begins = min(packet.seconds for packet in packets(path) if packet.stream == 0)
    command = [ffmpeg.executable(), "-v", "error", "-i", str(path), "-map", f"0:a:{track}"]
    command += ["-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(RATE), "-f", "f32le", "-"]
    samples = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
    return samples[round(begins * RATE) :]


def loud(samples: np.ndarray) -> tuple[float, float]:
    """When the first loud sound begins, and the last one ends, in seconds."""
    places = np.flatnonzero(np.abs(samples) > 0.05)
    return float(places[0] / RATE), float(places[-1] / RATE)


def middle(samples: np.ndarray) -> float:
    """The mean time of what is heard, in seconds."""
    energy = np.square(samples.astype(np.float64))
    return float((energy * np.arange(len(samples))).sum() / energy.sum() / RATE)


def pitch(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * RATE / len(samples))


def dark(count: int) -> list[np.ndarray]:
    return [np.full((16, 16, 3), number % 200, np.uint8) for number in range(count)]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A video of 1.2 s, 10 frames a second, with two short tones: `source("aac.mp4")`, made once."""
    folder = tmp_path_factory.mktemp("sound")

    def made(name: str, *, seconds: float = 1.2) -> Path:
        path = folder / f"{seconds}-{name}"
        if not path.exists():
            between, after = SOURCES[name]
            tone = f"aevalsrc='if({BURSTS},0.5*sin(2*PI*{TONE}*t),0)':s={RATE}:d={seconds}"
            sound = [*between, "-f", "lavfi", "-i", tone]
            code, log, _ = ffmpeg.run([*PICTURES, *sound, *after, ffmpeg.file_url(path)])
            assert code == 0, log
        return path

    return made


@pytest.fixture(scope="session", params=["early.mkv", "early.ts"])
def early(request: pytest.FixtureRequest, source: Callable[..., Path]) -> Path:
    """The pictures of a source begin 0.7 s after its sound."""
    plain = source("aac.mp4")
    path = plain.with_name(request.param)
    tracks = ["-map", "1:v", "-map", "0:a", "-c", "copy"]
    whole = ffmpeg.file_url(plain)
    code, log, _ = ffmpeg.run(["-i", whole, "-itsoffset", "0.7", "-i", whole, *tracks, ffmpeg.file_url(path)])
    assert code == 0, log
    return path


CASES = [  # each kind of source, each container, copied and encoded anew
    ("aac.mp4", ".mp4"),
    ("aac.mp4", ".webm"),
    ("opus.mkv", ".webm"),
    ("vorbis.webm", ".mp4"),
    ("pcm.mov", ".mp4"),
    ("five-one.mkv", ".mkv"),
    ("late.mp4", ".mp4"),
    ("late.mp4", ".mkv"),
    ("stream.ts", ".webm"),
]


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_sound_is_heard_where_it_was_and_as_long(tmp_path, source, name, suffix):
    given, target = source(name), tmp_path / f"a{suffix}"
    encode(target, dark(12), Fraction(10), audio_from=given)
    before, after = heard(given), heard(target)
    assert np.allclose(loud(after), loud(before), atol=0.005)
    assert abs(len(after) - len(before)) / RATE < PACKET_SECONDS
    assert min(packet.seconds for packet in packets(target) if packet.stream == 0) == 0, "pictures begin at 0"


@pytest.mark.parametrize(("name", "suffix"), CASES[::3])
def test_delayed_sound_for_frames_put_before(tmp_path, source, name, suffix):
    given, target = source(name), tmp_path / f"a{suffix}"
    encode(target, dark(22), Fraction(10), audio_from=given, audio_delay=Fraction(1))
    assert np.allclose(loud(heard(target)), np.add(loud(heard(given)), 1), atol=0.005)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_sound_before_the_first_frame_is_left_out(tmp_path, early, suffix):
    target = tmp_path / f"a{suffix}"
    encode(target, dark(12), Fraction(10), audio_from=early)
    begins, ends = loud(heard(target))
    assert begins == pytest.approx(0.2, abs=0.005) and ends == pytest.approx(0.3, abs=0.005)
    assert min(packet.seconds for packet in packets(target) if packet.stream == 0) == 0
    if suffix != ".webm":  # AAC: the same packets, but for the first ones
        old, new = ([packet.lasts for packet in packets(path) if packet.stream == 1] for path in (early, target))
        assert 20 < len(new) < len(old) - 25
    longer = tmp_path / f"b{suffix}"
    encode(longer, dark(22), Fraction(10), audio_from=early, audio_delay=Fraction(1))
    assert loud(heard(longer))[0] == pytest.approx(0.8, abs=0.005), "with room before it, it is heard"


@pytest.mark.parametrize(("given", "wanted"), [(24, 60), (10, 24), (Fraction(30000, 1001), 60)], ids=str)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_frames_times_and_duration_at_another_rate(tmp_path, make, given, wanted, suffix):
    given, wanted, count = Fraction(given), Fraction(wanted), 24
    lasts = count / given
    tone = ["-f", "lavfi", "-i", f"sine=f={TONE}:r={RATE}:d={float(lasts):.6f}"]
    plain = make(
        tmp_path / "in.mp4", "-f", "lavfi", "-i", f"testsrc2=s=16x16:r={given}", *tone, "-frames:v", str(count)
    )
    line = interpolation(count, given, fps=wanted)
    target = tmp_path / f"a{suffix}"
    assert encode(target, dark(len(line.written)), wanted, audio_from=plain) == len(line.written)
    pictures = [packet for packet in packets(target) if packet.stream == 0]
    tick = Fraction(0) if suffix == ".mp4" else Fraction(1, 2000)
    assert max(abs(packet.seconds - k / wanted) for k, packet in enumerate(pictures)) <= tick
    assert 0 <= len(pictures) / wanted - lasts < 1 / wanted, "as long as before, to less than a frame"
    assert abs(len(heard(target)) / RATE - lasts) < PACKET_SECONDS + 0.001


@pytest.mark.parametrize(("suffix", "factor"), [(".mp4", 2), (".mp4", 3), (".mkv", 2), (".webm", 3)])
def test_slow_motion_keeps_the_pitch_and_lasts_as_long(tmp_path, source, suffix, factor):
    given, target = source("aac.mp4"), tmp_path / f"a{suffix}"
    encode(target, dark(12 * factor), Fraction(10), audio_from=given, audio_speed=Fraction(1, factor))
    before, after = heard(given), heard(target)
    assert abs(len(after) / RATE - factor * len(before) / RATE) < 0.002
    assert pitch(after) == pytest.approx(TONE, rel=0.02)
    assert middle(after) == pytest.approx(factor * middle(before), abs=0.012 * factor)


def test_slow_motion_has_its_delay_and_all_its_channels(tmp_path, source):
    given, target = source("five-one.mkv"), tmp_path / "a.mp4"
    encode(target, dark(30), Fraction(10), audio_from=given, audio_speed=Fraction(1, 2), audio_delay=Fraction(1, 2))
    assert middle(heard(target)) == pytest.approx(0.5 + 2 * middle(heard(given)), abs=0.024)
    assert "5.1" in ffmpeg.run(ffmpeg.input_arguments(target))[1]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_is_neither_cut_nor_longer_than_wanted(tmp_path, source, suffix):
    longer, shorter = source("aac.mp4", seconds=2.5), source("aac.mp4", seconds=1.05)
    for given, stop, expected in [
        (longer, False, 2.5),
        (longer, True, 1.2),
        (shorter, False, 1.05),
        (shorter, True, 1.05),
    ]:
        target = tmp_path / f"a{suffix}"
        assert encode(target, dark(12), Fraction(10), audio_from=given, audio_stop=stop, overwrite=True) == 12
        assert len(heard(target)) / RATE == pytest.approx(expected, abs=PACKET_SECONDS + 0.001)
        assert sum(packet.stream == 0 for packet in packets(target)) == 12, "no frame is cut for it"


@pytest.mark.parametrize(("seconds", "other", "suffix"), [(2.5, "five-one.mkv", ".mp4"), (1.2, "late.mp4", ".mkv")])
def test_a_second_sound_takes_over_where_its_frames_begin(tmp_path, source, make, seconds, other, suffix):
    """Two inputs with frames made between them: the first's sound may last on until then."""
    first = source("aac.mp4", seconds=seconds)
    then, target = source(other), tmp_path / f"a{suffix}"
    begins = Fraction(2)
    encode(target, dark(32), Fraction(10), audio_from=first, audio_after=(then, begins))
    samples, place = heard(target), int(begins * RATE)
    assert np.allclose(loud(samples[:place]), loud(heard(first)[:place]), atol=0.005)
    assert np.allclose(loud(samples[place:]), loud(heard(then)), atol=PACKET_SECONDS)
    assert len(samples) / RATE == pytest.approx(2 + len(heard(then)) / RATE, abs=PACKET_SECONDS)
    silent = make(tmp_path / "silent.mp4", *PICTURES)
    for nothing in (silent, None):
        encode(target, dark(32), Fraction(10), audio_from=nothing, audio_after=(then, begins), overwrite=True)
        assert loud(heard(target))[0] == pytest.approx(2 + loud(heard(then))[0], abs=0.005)
    encode(target, dark(32), Fraction(10), audio_from=first, audio_after=(silent, begins), overwrite=True)
    assert loud(heard(target))[0] == pytest.approx(loud(heard(first))[0], abs=0.005)


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (("five-one.mkv", "five-one.mkv"), "5.1"),
        (("aac.mp4", "five-one.mkv"), "5.1"),
        (("five-one.mkv", "aac.mp4"), "5.1"),
        (("aac.mp4", "late.mp4"), "mono"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_two_sounds_keep_the_channels_of_the_wider_one(tmp_path, source, names, layout, suffix):
    first, then = (source(name) for name in names)
    target = tmp_path / f"a{suffix}"
    encode(target, dark(32), Fraction(10), audio_from=first, audio_after=(then, Fraction(2)))
    (line,) = [line for line in ffmpeg.run(ffmpeg.input_arguments(target))[1].splitlines() if ": Audio:" in line]
    assert f" Hz, {layout}, " in line or f" Hz, {layout}(side), " in line


def test_every_track_that_can_be_read_is_kept(tmp_path, source, make):
    """Some phones add a track that nobody can read: it is left out, and the others are not."""
    tracks = ["-map", "0:v", "-map", "0:a", "-map", "0:a", "-map", "0:a", "-c", "copy"]
    three = make(tmp_path / "three.mkv", "-i", ffmpeg.file_url(source("aac.mp4")), *tracks)
    parts = three.read_bytes().split(b"A_AAC")
    assert len(parts) == 4
    three.write_bytes(parts[0] + b"A_AAC" + parts[1] + b"A_ZZZ" + parts[2] + b"A_AAC" + parts[3])
    for suffix in (".mp4", ".webm"):
        target = tmp_path / f"a{suffix}"
        encode(target, dark(12), Fraction(10), audio_from=three)
        assert {packet.stream for packet in packets(target)} == {0, 1, 2}
        assert loud(heard(target, 1))[0] == pytest.approx(0.5, abs=0.005)
    three.write_bytes(three.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    encode(tmp_path / "silent.mp4", dark(12), Fraction(10), audio_from=three)
    assert not probe(tmp_path / "silent.mp4").has_audio


@pytest.mark.parametrize("early", ["early.mkv"], indirect=True)
def test_sound_that_lies_outside_the_result_is_no_error(tmp_path, early, source):
    for suffix, speed in ((".mp4", Fraction(1)), (".mkv", Fraction(1, 2)), (".webm", Fraction(1))):
        target = tmp_path / f"a{suffix}"
        late = {"audio_from": source("late.mp4"), "audio_speed": speed, "audio_stop": True, "overwrite": True}
        assert encode(target, dark(2), Fraction(10), **late) == 2
        gone = {"audio_from": early, "audio_delay": Fraction(-3), "audio_speed": speed, "overwrite": True}
        assert encode(target, dark(2), Fraction(10), **gone) == 2


def test_a_broken_timestamp_is_not_filled_with_silence(tmp_path, source, make):
    """The sound of this file is announced for two hours later: as silence that would be gigabytes."""
    whole = ffmpeg.file_url(source("aac.mp4"))
    tracks = ["-map", "0:v", "-map", "1:a", "-c", "copy"]
    hole = make(tmp_path / "hole.mkv", "-i", whole, "-itsoffset", "7200", "-i", whole, *tracks)
    for speed in (Fraction(1), Fraction(1, 2)):
        encode(tmp_path / "a.webm", dark(3), Fraction(10), audio_from=hole, audio_speed=speed, overwrite=True)
        assert len(heard(tmp_path / "a.webm")) / RATE < 3


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "frames/"])
def test_kinds_without_sound_ignore_it(tmp_path, source, name):
    extra = {"audio_from": source("aac.mp4"), "metadata_from": source("aac.mp4"), "audio_speed": Fraction(1, 2)}
    assert encode(f"{tmp_path}/{name}", dark(3), Fraction(10), **extra) == 3
    Image.fromarray(dark(1)[0]).save(tmp_path / "photo.png")
    photo = tmp_path / "photo.png"
    assert encode(tmp_path / "b.mp4", dark(3), Fraction(10), audio_from=photo, metadata_from=photo) == 3


def test_a_failure_with_sound_leaves_nothing_behind(tmp_path, source):
    def failing():
        yield from dark(5)
        raise VidiffError("made up")

    given = source("aac.mp4")
    with pytest.raises(VidiffError, match="made up"):
        encode(tmp_path / "a.mp4", failing(), Fraction(10), audio_from=given, metadata_from=given)
    with pytest.raises(VidiffError, match="nowhere"):
        encode(tmp_path / "a.mp4", dark(5), Fraction(10), audio_from=tmp_path / "nowhere.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["sample.3gp", "sample.flv", "sample_h262_mpeg_audio.ts"])
def test_the_sound_of_real_files(tmp_path, data_dir, name):
    given = data_dir / "clips" / name
    for suffix, speed in ((".mp4", Fraction(1)), (".mkv", Fraction(1, 2))):
        encode(tmp_path / f"a{suffix}", dark(3), Fraction(10), audio_from=given, audio_speed=speed)
        expected = len(heard(given)) / RATE / float(speed)
        assert len(heard(tmp_path / f"a{suffix}")) / RATE == pytest.approx(expected, abs=0.03)
