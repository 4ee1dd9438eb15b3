"""Properties of a video file, from ffmpeg's log and its first decoded frame, and the way in which it is read.

Sizes are as displayed: rotation and sample aspect are applied, so that pixels are square. Rates and times are
Fractions.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vidiff_cli.config.read_options import DEFAULT, ReadOptions
from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg, image_file
from vidiff_cli.video.damage import Damage
from vidiff_cli.video.ffmpeg_log import LoggedStream, parse_input
from vidiff_cli.video.image_file import SUFFIXES_IMAGE
from vidiff_cli.video.packets import MEASURED_PACKETS, partly_shown_start, read_packet_times
from vidiff_cli.video.resample import measure_rate
from vidiff_cli.video.shown_frames import CONFIG

SUFFIXES_VIDEO = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".f4v", ".wmv", ".asf", ".mpg", ".mpeg", ".m2v", ".vob"}
    | {".ts", ".m2ts", ".mts", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".gif", ".apng"}
)
PROBE_SECONDS = 60.0

NOT_PICTURES = ("Format not on whitelist", "m3u8")  # in ffmpeg's complaint
TOO_LARGE = re.compile(
    r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )+\[error\] Picture size (\d{1,9})x(\d{1,9}) (?:is invalid|exceeds)", re.M
)
FRAME = re.compile(
    ffmpeg.SHOWN + r"n: *\d+ pts: *(-?\d+|NOPTS) .*fmt:(\S+) .*sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(\S)", re.M
)
COLORS = re.compile(ffmpeg.SHOWN + r"color_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)", re.M)
ALPHA = re.compile(r"^(?:yuva|gbrap|rgba|bgra|argb|abgr|ya\d|ayuv|vuya|pal8|RGBA|LA|PA|RGBa|La)")
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own skip the second picture
FIELDS = re.compile(r"\b(top|bottom) (coded )?first\b")  # of an interlaced stream
Fields = Literal["", "marked", "tff", "bff"]
WITHOUT_EDITS = ("-ignore_editlist", "1")
HDR_TRANSFERS = {"smpte2084": "PQ", "arib-std-b67": "HLG"}
WIDE_PRIMARIES = {"bt2020": "BT.2020", "smpte431": "DCI-P3", "smpte432": "Display P3"}


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """Properties of a file: sizes in pixels, `rotation` in degrees clockwise, `fps` the rate by the times of its
    frames (0: a still image); `header_fps` the one that the header gives, which may be far from it.

    `time_base` is the unit of timestamps in seconds; `start_seconds` is the time of the first frame by the file's clock
    (audio starts at 0 as a rule); `video_streams` counts the video streams, of which the best one is described.
    `last_seconds`: how long the last frame stays, where `with_last_frame` found another time than a nominal frame's.
    `frame_size` is the upright size before pixels are made square. `transfer`, `primaries`, `matrix`: ffmpeg's names of
    the color properties, "unknown" without a tag. `alpha`: pixels may be transparent. `has_display_matrix`: frames are
    turned or mirrored for display. `fields`: "" for progressive frames, "marked" where frames themselves say, else the
    field that comes first in all of them. `others`: what else the file holds: subtitles, chapters, a cover.
    `input_options` make ffmpeg read the file rightly; `options` are the user's. With `damage`, only the intact frames
    are read. `pictures`: the frames of a video that is a folder of images.
    """

    path: Path
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    container: str
    codec: str
    pixel_format: str
    fps: Fraction
    duration_seconds: float | None
    has_audio: bool
    is_image: bool
    time_base: Fraction = Fraction(1)
    start_seconds: Fraction = Fraction(0)
    video_streams: int = 1
    frame_size: tuple[int, int] = (1, 1)
    header_fps: Fraction = Fraction(0)
    last_seconds: Fraction | None = None
    transfer: str = "unknown"
    primaries: str = "unknown"
    matrix: str = "unknown"
    fields: Fields = ""
    alpha: bool = False
    has_display_matrix: bool = False
    others: tuple[str, ...] = ()
    input_options: tuple[str, ...] = ()
    options: ReadOptions = DEFAULT
    damage: Damage | None = None
    pictures: tuple[Path, ...] = ()

    @property
    def interlaced(self) -> bool:
        """True if frames consist of two fields of different times."""
        return bool(self.fields)

    @property
    def hdr(self) -> str | None:
        """ "PQ" or "HLG"; None for a video of standard dynamic range."""
        return HDR_TRANSFERS.get(self.transfer)

    @property
    def wide_gamut(self) -> str | None:
        """Name of the primaries if they reach beyond those of BT.709 and sRGB."""
        return WIDE_PRIMARIES.get(self.primaries)


def probe(path: str | Path, options: ReadOptions = DEFAULT) -> VideoInfo:
    """Describes a video or a still image, which is to be read with `options`; decodes one frame.

    Raises VidiffError if the path is missing, a folder, unreadable, empty, not a video, without frames, damaged, too
    large, or HDR with options that refuse it.
    """
    path = Path(path)
    check_readable(path)
    if path.suffix.lower() in SUFFIXES_IMAGE and not image_file.is_animated(path):
        return replace(_probe_image(path), options=options)
    arguments = ["-an", "-sn", "-dn", "-vf", ffmpeg.SHOWINFO, "-frames:v", "1", "-f", "null", "-"]
    _, log, complaint = ffmpeg.run([*ffmpeg.input_arguments(path), *arguments], timeout_seconds=PROBE_SECONDS)
    info = replace(_parse_log(path, log, complaint), options=options)
    if info.hdr and options.hdr == "refuse":
        raise VidiffError(f"{path} is HDR", found=info.hdr, expected="standard dynamic range", fix="--hdr tonemap")
    packets = read_packet_times(path, limit=MEASURED_PACKETS)
    info = replace(info, fps=measure_rate([*packets.times], info.fps), header_fps=info.fps)
    start = partly_shown_start(path) if packets.hidden == 1 and "mov" in info.container else None
    return info if start is None else replace(info, start_seconds=start, input_options=WITHOUT_EDITS)


def check_readable(path: Path) -> None:
    """Raises VidiffError if the file cannot be opened or is empty."""
    try:
        if path.is_dir():
            raise VidiffError(f"{path} is a folder", expected="a video or an image file")
        if not path.is_file():
            raise VidiffError(f"{path} is not a regular file" if path.exists() else f"{path} does not exist")
        with path.open("rb") as file:
            if not file.read(1):
                raise VidiffError(f"{path} is empty", found="0 bytes", expected="a video or an image file")
    except PermissionError as error:
        raise VidiffError(f"{path} may not be read", found="permission denied", fix="ask its owner") from error
    except (OSError, ValueError) as error:
        raise VidiffError(f"{path} cannot be read", found=getattr(error, "strerror", None) or str(error)) from error


def snap_ntsc_rate(rate: Fraction) -> Fraction:
    """Maps 23.98 or 2997/100 to the exact NTSC rate, 24000/1001 or 30000/1001; other rates are unchanged."""
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return ntsc if rate.denominator != 1 and abs(rate - ntsc) * 5000 < rate else rate


def _parse_log(path: Path, log: str, complaint: str) -> VideoInfo:
    found = parse_input(log)
    if found is None and any(sign in complaint for sign in NOT_PICTURES):
        kinds = "a playlist, a script, a drawing or another kind of file that holds no pictures itself"
        raise VidiffError(f"{path} is not a video", found=kinds)
    if found is None:
        raise VidiffError(f"{path} cannot be opened as a video ({complaint})")
    pictures = {stream.index: stream for stream in found.of_kind("video")}
    if not pictures:
        kinds = sorted({"a cover" if stream.is_cover else stream.kind for stream in found.streams}) or ["nothing"]
        raise VidiffError(f"{path} has no pictures", found=f"only {' and '.join(kinds)}", expected="a video stream")
    if refused := TOO_LARGE.search(log):
        image_file.check_pixels(path, int(refused[1]), int(refused[2]))
    config, frame = CONFIG.search(log), FRAME.search(log)
    if found.mapped not in pictures or config is None or frame is None:
        raise VidiffError(f"{path} is damaged ({complaint})", found="not one frame that could be decoded")
    stream = pictures[found.mapped]
    width, height = int(frame[5]), int(frame[6])
    coded_width, coded_height = stream.coded_size or (width, height)
    aspect = Fraction(int(frame[3]), int(frame[4])) if int(frame[3]) and int(frame[4]) else Fraction(1)
    width = max(1, round(width * aspect))
    image_file.check_pixels(path, max(width, coded_width), max(height, coded_height))
    tick = Fraction(int(config[1]), int(config[2]))
    colors = COLORS.search(log, frame.end())
    decoder = ALPHA_DECODERS.get(stream.codec) if stream.alpha_mode else None
    others = (("subtitles", found.of_kind("subtitle")), ("chapters", found.chapters), ("a cover", found.has_cover))
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        coded_width=coded_width,
        coded_height=coded_height,
        rotation=_rotation(stream),
        container=found.container,
        codec=stream.codec,
        pixel_format="yuva420p" if decoder else frame[2],
        fps=_rate(config, stream.description),
        duration_seconds=found.duration_seconds,
        has_audio=bool(found.of_kind("audio")),
        is_image=False,
        time_base=tick,
        start_seconds=int(frame[1]) * tick if frame[1] != "NOPTS" else Fraction(0),
        video_streams=len(pictures),
        frame_size=(int(frame[5]), int(frame[6])),
        transfer=colors[4] if colors else "unknown",
        primaries=colors[3] if colors else "unknown",
        matrix=colors[2] if colors else "unknown",
        fields=_fields(frame[7], stream.description),
        alpha=decoder is not None or bool(ALPHA.match(frame[2])),
        has_display_matrix=stream.rotation is not None,
        others=tuple(name for name, present in others if present),
        input_options=("-c:v", decoder) if decoder else (),
    )


def _fields(mark: str, description: str) -> Fields:
    """Fields by the mark of the first frame, else by the description of the stream."""
    found = FIELDS.search(description)
    if found is None or mark in "TB":
        return "marked" if mark in "TB" else ""
    return "tff" if (found[1] == "top") != bool(found[2]) else "bff"  # "coded first (swapped)": shown second


def _rotation(stream: LoggedStream) -> int:
    """Degrees clockwise, in quarters of a turn."""
    turned = stream.rotation
    return 0 if turned is None or math.isnan(turned) else round(-turned / 90) % 4 * 90


def _rate(config: re.Match[str], description: str) -> Fraction:
    """The exact rate of ffmpeg's filter graph, else the printed one, else 25."""
    if int(config[3]) and int(config[4]):
        return snap_ntsc_rate(Fraction(int(config[3]), int(config[4])))
    printed = re.search(r", (\d{1,9}(?:\.\d{1,9})?) (?:fps|tbr)", description)
    return snap_ntsc_rate(Fraction(printed[1])) if printed and float(printed[1]) else Fraction(25)


def _probe_image(path: Path) -> VideoInfo:
    width, height, turned, kind, mode, transparent = image_file.image_header(path)
    return VideoInfo(
        path=path,
        width=height if turned in (90, 270) else width,
        height=width if turned in (90, 270) else height,
        coded_width=width,
        coded_height=height,
        rotation=turned,
        container=kind,
        codec=kind,
        pixel_format=mode,
        fps=Fraction(0),
        duration_seconds=None,
        has_audio=False,
        is_image=True,
        alpha=transparent,
    )
