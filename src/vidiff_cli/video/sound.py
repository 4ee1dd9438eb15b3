"""The sound of a file put under new pictures: at its place in time, copied where it can be, at another speed on demand.

The law: what the source lets one hear s seconds after its first frame is heard `delay + s / speed` seconds after the
first frame of the result. Sound from before the result's first frame is left out. The sound ends where it ends, also
after the pictures; with `stop` it ends with them. No silence is added at its end.

Copied sound consists of whole packets: the law then holds to 20 ms, and a packet that begins before the first frame is
left out whole. Sound that is encoded anew (because the container does not take its codec, or browsers do not play it
there) keeps the law to a millisecond. At another speed the pitch is kept, the end is exact, and what is heard before
is right to about 10 ms of the source's time, since pieces of 40 ms are moved as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidiff_cli.video import ffmpeg
from vidiff_cli.video.probe import CONFIG, FRAME, probe

INAUDIBLE_SECONDS = Fraction(1, 50)  # a shift below one audio packet is left alone, so that every packet is copied
TRACK = re.compile(r"^\[info\]   Stream #0:\d{1,9}\S*: Audio: (\w+)", re.M)
UNKNOWN = "none"  # ffmpeg's name for a codec that it does not know: some phones add such a track
# The codecs that are copied; into a container that is not here, whatever it takes.
COPIED = {
    ".mp4": frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}),
    ".webm": frozenset({"opus", "vorbis"}),
}
ANEW = {".mp4": "aac", ".mkv": "libopus", ".webm": "libopus"}
# Channels that both encoders write in the usual order. Opus is always 48 kHz: ffmpeg gets the times of a Matroska file
# wrong where its encoder is handed less.
FORMATS = {
    "aac": "aformat=channel_layouts=mono|stereo|3.0|5.0|5.1",
    "libopus": "aformat=channel_layouts=mono|stereo|3.0|5.0|5.1:sample_rates=48000",
}
TEMPO = 2  # of one atempo filter at most, and its inverse at least: beyond, several are chained
TEMPO_LOSES_SECONDS = 1  # more than the filters keep to themselves at the end
# They play pieces of about 40 ms as they are, from where each begins: all that is in one comes early.
TEMPO_EARLY_SECONDS = Fraction(1, 60)
COUNTED_RATE = 8000  # samples a second, where only their number matters


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """What is heard of a file, whose first frame appears at `first_seconds` by its own clock. `codecs`: its tracks'."""

    path: Path
    first_seconds: Fraction
    codecs: tuple[str, ...]
    delay: Fraction
    speed: Fraction
    stop: bool


def find_sound(path: Path, *, delay: Fraction, speed: Fraction, stop: bool) -> Sound | None:
    """The sound of a file; None where it has none that can be read. VidiffError as `probe`.

    By the file's own clock: without `-copyts` ffmpeg sets it to 0 where the tracks in use begin, in some containers.
    """
    if not probe(path).has_audio:
        return None
    look = ["-an", "-sn", "-dn", "-vf", ffmpeg.SHOWINFO, "-frames:v", "1", "-f", "null", "-"]
    _, log, _ = ffmpeg.run(["-copyts", *ffmpeg.reading(path), *look])
    codecs, tick, frame = tuple(TRACK.findall(log)), CONFIG.search(log), FRAME.search(log)
    if all(codec == UNKNOWN for codec in codecs):
        return None
    first = Fraction(0)
    if tick is not None and frame is not None and frame[1] != "NOPTS":
        first = int(frame[1]) * Fraction(int(tick[1]), int(tick[2]))
    return Sound(path=path, first_seconds=first, codecs=codecs, delay=delay, speed=speed, stop=stop)


def add_sound(
    pictures: Path, joined: Path, sound: Sound, *, suffix: str, seconds: Fraction, muxer: Sequence[str]
) -> str | None:
    """Writes `joined`: the pictures of a file, which last `seconds`, and the sound. Returns what ffmpeg complains of.

    `suffix` names the container, `muxer` is what ffmpeg is told about it.
    """
    complaint = None
    for ways in _attempts(sound, suffix):
        moved = sound.delay * sound.speed - sound.first_seconds
        if "copy" in ways.values() and abs(moved) < INAUDIBLE_SECONDS:
            moved = Fraction(0)
        late = moved + TEMPO_EARLY_SECONDS * (1 - sound.speed)
        inputs = ["-copyts", "-i", ffmpeg.url(pictures), *_moved(sound.path, late)]
        streams = ["-map", "0:v:0", "-c:v", "copy", "-map_metadata", "0", "-map_chapters", "-1"]
        for place, (number, way) in enumerate(ways.items()):
            streams += ["-map", f"1:a:{number}?", f"-c:a:{place}", way]
            if way != "copy":
                streams += [f"-filter:a:{place}", ",".join([*_filters(sound, number, moved), FORMATS[way]])]
        if moved < 0:
            streams += ["-copypriorss:a", "0"]
        if sound.stop:
            streams += ["-t", f"{float(seconds):.6f}"]
        code, _, complaint = ffmpeg.run([*inputs, *streams, *muxer, ffmpeg.url(joined)])
        if code == 0:
            return None
    return complaint


def _attempts(sound: Sound, suffix: str) -> Iterator[dict[int, str]]:
    """What to do with each track that can be read, by its number: copied where it may be, then all encoded anew."""
    known = {number: codec for number, codec in enumerate(sound.codecs) if codec != UNKNOWN}
    allowed = COPIED.get(suffix)
    if sound.speed == 1:
        yield {n: "copy" if allowed is None or codec in allowed else ANEW[suffix] for n, codec in known.items()}
    yield dict.fromkeys(known, ANEW[suffix])


def _filters(sound: Sound, number: int, moved: Fraction) -> list[str]:
    """What is done to a track: time 0 becomes the result's first frame. There is silence where the track has not begun
    or has a hole; what lies before is cut off."""
    placed = "aresample=async=1:first_pts=0"
    if sound.speed == 1:
        return [placed]
    count = max(1, math.ceil(abs(math.log(sound.speed, TEMPO)) - 1e-9))
    tempo = [f"atempo={float(sound.speed) ** (1 / count):.12f}"] * count
    end = _end_seconds(sound, number, moved, placed) / sound.speed
    return [placed, f"apad=pad_dur={TEMPO_LOSES_SECONDS}", *tempo, f"atrim=end={float(end):.6f}"]


def _end_seconds(sound: Sound, number: int, moved: Fraction, placed: str) -> Fraction:
    """When a track ends: all of it is decoded and its samples are counted, since headers only announce."""
    track = [*_moved(sound.path, moved), "-map", f"0:a:{number}?", "-af", placed]
    output = ["-ac", "1", "-ar", str(COUNTED_RATE), "-f", "u8", "-"]
    count = 0
    with ffmpeg.Ffmpeg(["-copyts", *track, *output], stdout=True) as process:
        while piece := process.stdout.read(ffmpeg.PIPE_BYTES):
            count += len(piece)
    return Fraction(count, COUNTED_RATE)


def _moved(path: Path, seconds: Fraction) -> list[str | ffmpeg.Source]:
    return ["-itsoffset", f"{float(seconds):.6f}", *ffmpeg.reading(path)]
