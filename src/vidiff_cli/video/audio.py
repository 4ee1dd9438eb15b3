"""Audio of a source file muxed under new frames: shifted, copied if possible, time-stretched on demand.

Invariant: a sound s seconds after the source's first frame is heard `delay + s / speed` seconds after the first frame
of the result. Audio from before the result's first frame is dropped. Audio may end after the frames (by at most ten
minutes, if it is encoded); with `stop` it ends with them. No silence is appended.

Copied audio consists of whole packets: the invariant holds to 20 ms, and a packet that starts before the first frame is
dropped. Encoded audio (if the container or browsers do not support its codec) keeps it to a millisecond. At another
speed the pitch is kept, the end is exact, and positions before it are right to about 10 ms of the source's time,
because pieces of 40 ms are moved unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.ffmpeg_log import parse_input
from vidiff_cli.video.probe import CONFIG, FRAME, WITHOUT_EDITS, probe

INAUDIBLE_SECONDS = Fraction(1, 50)  # a shift below one audio packet is left alone, so that every packet is copied
UNKNOWN = "none"  # ffmpeg's name for a codec that it does not know: some phones add such a track
# The codecs that are copied; into a container that is not here, whatever it takes.
COPIED = {
    ".mp4": frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}),
    ".webm": frozenset({"opus", "vorbis"}),
}
ANEW = {".mp4": "aac", ".mkv": "libopus", ".webm": "libopus"}
LAYOUTS = {"mono": 1, "stereo": 2, "3.0": 3, "5.0": 5, "5.1": 6}  # those of FORMATS, and their channels
CHANNELS = LAYOUTS | {"downmix": 2, "2.1": 3, "quad": 4, "4.0": 4, "3.1": 4, "4.1": 5}
# Channels that both encoders write in the usual order. Opus is always 48 kHz: ffmpeg gets the times of a Matroska file
# wrong where its encoder is handed less.
FORMATS = {
    "aac": "aformat=channel_layouts=mono|stereo|3.0|5.0|5.1",
    "libopus": "aformat=channel_layouts=mono|stereo|3.0|5.0|5.1:sample_rates=48000",
}
MOST_AFTER_SECONDS = 600  # behind the pictures: later sound is a broken timestamp, and silence up to it fills memory
PIECE = ["-c:a", "pcm_s16le", "-f", "matroska"]
TEMPO = 2  # of one atempo filter at most, and its inverse at least: beyond, several are chained
TEMPO_LOSES_SECONDS = 1  # more than the filters keep to themselves at the end
# They play pieces of about 40 ms as they are, from where each begins: all that is in one comes early.
TEMPO_EARLY_SECONDS = Fraction(1, 60)
COUNTED_RATE = 8000  # samples a second, where only their number matters


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioTrack:
    """Audio of a file whose first frame has time `first_seconds` by the file's clock. `codecs` and `channels`: those of
    its tracks.

    `anew`: every track is encoded, none is copied.
    """

    path: Path
    first_seconds: Fraction
    codecs: tuple[str, ...]
    channels: tuple[int, ...]
    delay: Fraction
    speed: Fraction
    stop: bool
    anew: bool


def find_audio(path: Path, *, delay: Fraction, speed: Fraction, stop: bool) -> list[AudioTrack]:
    """The audio of a file; empty if it has none that can be decoded. Raises VidiffError as `probe`.

    Times are by the file's own clock: without `-copyts`, ffmpeg sets it to 0 at the start of the used tracks in some
    containers.
    """
    info = probe(path)
    if not info.has_audio:
        return []
    arguments = ["-an", "-sn", "-dn", "-vf", ffmpeg.SHOWINFO, "-frames:v", "1", "-f", "null", "-"]
    _, log, _ = ffmpeg.run(["-copyts", *ffmpeg.input_arguments(path), *arguments])
    found, tick, frame = parse_input(log), CONFIG.search(log), FRAME.search(log)
    tracks = found.of_kind("audio") if found else ()
    codecs = tuple(track.codec for track in tracks)
    if all(codec == UNKNOWN for codec in codecs):
        return []
    first = Fraction(0)
    if tick is not None and frame is not None and frame[1] != "NOPTS":
        first = int(frame[1]) * Fraction(int(tick[1]), int(tick[2]))
    anew = speed != 1
    if info.input_options == WITHOUT_EDITS:
        first = info.start_seconds
    channels = tuple(_channels(track.channel_layout) for track in tracks)
    placed = {"delay": delay, "speed": speed}
    return [
        AudioTrack(path=path, first_seconds=first, codecs=codecs, channels=channels, stop=stop, anew=anew, **placed)
    ]


def _channels(layout: str) -> int:
    """Number of channels of a layout by ffmpeg's name; those with more than six have six here."""
    counted = re.match(r"(\d+) channels", layout)
    return int(counted[1]) if counted else CHANNELS.get(re.sub(r"\(.*", "", layout), 6 if layout else 2)


def concatenate_audio(path: Path, first: AudioTrack, then: AudioTrack, *, seconds: Fraction) -> AudioTrack:
    """Writes `path`: the first track of one source until the first frame of another appears, then that one's.

    With the channels of the one that has more. Audio of the second source from before its first frame is dropped.
    Raises VidiffError if ffmpeg fails.
    """
    end = then.delay * then.speed
    chosen = [next(number for number, codec in enumerate(each.codecs) if codec != UNKNOWN) for each in (first, then)]
    most = max(each.channels[track] for each, track in zip((first, then), chosen, strict=True))
    layout = next((name for name, count in LAYOUTS.items() if count >= most), "5.1")
    pieces = [path.with_name(f"{path.name}-{number}") for number in range(2)]
    moves = first.delay * first.speed, Fraction(0)
    for piece, sound, moved, track in zip(pieces, (first, then), moves, chosen, strict=True):
        source = ["-copyts", *_moved(sound.path, moved - sound.first_seconds), "-map", f"0:a:{track}"]
        chain = f"{_placed(seconds * sound.speed)},aformat=channel_layouts={layout}:sample_rates=48000"
        _run([*source, "-af", chain, *PIECE, ffmpeg.file_url(piece)])
    inputs = [word for piece in pieces for word in ("-i", ffmpeg.file_url(piece))]
    chain = f"[0:a]apad=whole_dur={float(end):.6f},atrim=end={float(end):.6f}[a];[a][1:a]concat=v=0:a=1"
    _run([*inputs, "-filter_complex", chain, *PIECE, ffmpeg.file_url(path)])
    return replace(
        first, path=path, first_seconds=Fraction(0), codecs=("joined",), channels=(most,), delay=Fraction(0), anew=True
    )


def _run(arguments: Sequence[str | ffmpeg.FfmpegInput]) -> None:
    code, _, complaint = ffmpeg.run(arguments)
    if code != 0:
        raise VidiffError("the sound of two files cannot be joined", found=complaint, fix="leave the sound out")


def mux_audio(
    pictures: Path, joined: Path, sound: AudioTrack, *, suffix: str, seconds: Fraction, muxer: Sequence[str]
) -> str | None:
    """Write the frames of one file and the audio of another into a third.

    Args:
        pictures: The file with the frames.
        joined: The file to write.
        sound: The audio, and how it is moved and stretched.
        suffix: Extension that names the container.
        seconds: Duration of the frames.
        muxer: ffmpeg's arguments for the container.

    Returns:
        ffmpeg's error, or None.
    """
    complaint = None
    for ways in _attempts(sound, suffix):
        moved = sound.delay * sound.speed - sound.first_seconds
        if "copy" in ways.values() and abs(moved) < INAUDIBLE_SECONDS:
            moved = Fraction(0)
        late = moved + TEMPO_EARLY_SECONDS * (1 - sound.speed)
        inputs = ["-copyts", "-i", ffmpeg.file_url(pictures), *_moved(sound.path, late)]
        streams = ["-map", "0:v:0", "-c:v", "copy", "-map_metadata", "0", "-map_chapters", "-1"]
        for place, (number, way) in enumerate(ways.items()):
            streams += ["-map", f"1:a:{number}?", f"-c:a:{place}", way]
            if way != "copy":
                chain = [*_filters(sound, number, moved, seconds), FORMATS[way]]
                streams += [f"-filter:a:{place}", ",".join(chain)]
        if moved < 0:
            streams += ["-copypriorss:a", "0"]
        if sound.stop:
            streams += ["-t", f"{float(seconds):.6f}"]
        code, _, complaint = ffmpeg.run([*inputs, *streams, *muxer, ffmpeg.file_url(joined)])
        if code == 0:
            return None
    return complaint


def _attempts(sound: AudioTrack, suffix: str) -> Iterator[dict[int, str]]:
    """Yields, by track number, copy or an encoder for each known codec; first with copies, then without."""
    codecs = {number: codec for number, codec in enumerate(sound.codecs) if codec != UNKNOWN}
    allowed = COPIED.get(suffix)
    if not sound.anew:
        yield {n: "copy" if allowed is None or codec in allowed else ANEW[suffix] for n, codec in codecs.items()}
    yield dict.fromkeys(codecs, ANEW[suffix])


def _filters(sound: AudioTrack, number: int, moved: Fraction, seconds: Fraction) -> list[str]:
    """Filters for an encoded track under frames that last `seconds`."""
    placed = _placed(seconds * sound.speed)
    if sound.speed == 1:
        return [placed]
    count = max(1, math.ceil(abs(math.log(sound.speed, TEMPO)) - 1e-9))
    tempo = [f"atempo={float(sound.speed) ** (1 / count):.12f}"] * count
    end = _end_seconds(sound, number, moved, placed) / sound.speed
    return [placed, f"apad=pad_dur={TEMPO_LOSES_SECONDS}", *tempo, f"atrim=end={float(end):.6f}"]


def _placed(seconds: Fraction) -> str:
    """Filter for audio from time 0, with silence before a track begins and in its gaps."""
    return f"atrim=end={float(seconds + MOST_AFTER_SECONDS):.6f},aresample=async=1:first_pts=0"


def _end_seconds(sound: AudioTrack, number: int, moved: Fraction, placed: str) -> Fraction:
    """End of a track: it is decoded and its samples are counted, because headers may be wrong."""
    track = [*_moved(sound.path, moved), "-map", f"0:a:{number}?", "-af", placed]
    output = ["-ac", "1", "-ar", str(COUNTED_RATE), "-f", "u8", "-"]
    count = 0
    with ffmpeg.Ffmpeg(["-copyts", *track, *output], stdout=True) as process:
        while piece := process.stdout.read(ffmpeg.PIPE_BYTES):
            count += len(piece)
    return Fraction(count, COUNTED_RATE)


def _moved(path: Path, seconds: Fraction) -> list[str | ffmpeg.FfmpegInput]:
    return ["-itsoffset", f"{float(seconds):.6f}", *ffmpeg.input_arguments(path)]
