"""Properties of a video file, from ffmpeg's log and its first decoded frame.

Sizes are as displayed: rotation and sample aspect are applied, so that pixels are square. Rates and times are
Fractions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg, image_file
from vidiff_cli.video.image_file import SUFFIXES_IMAGE
from vidiff_cli.video.packets import packet_rate

SUFFIXES_VIDEO = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".f4v", ".wmv", ".asf", ".mpg", ".mpeg", ".m2v", ".vob"}
    | {".ts", ".m2ts", ".mts", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".gif", ".apng"}
)
PROBE_SECONDS = 60.0

CONTAINER = re.compile(r"^\[info\] Input #0, (.+), from '", re.M)
DURATION = re.compile(r"^\[info\]   Duration: (\d{1,9}):(\d\d):(\d\d(?:\.\d+)?)", re.M)
STREAM = re.compile(r"^\[info\]   Stream #0:(\d{1,9})\S*: (Video|Audio): (\w+)(.*)$", re.M)
MAPPED = re.compile(r"^\[info\]   Stream #0:(\d{1,9}) -> #0:0", re.M)
ROTATION = re.compile(r"^\[info\] +display ?matrix: rotation of (-?\d{1,3}(?:\.\d+)?) degrees", re.M | re.I)
CODED_SIZE = re.compile(r", (\d{1,9})x(\d{1,9})[ ,]")
CONFIG = re.compile(ffmpeg.SHOWN + r"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)", re.M)
NOT_PICTURES = ("Format not on whitelist", "m3u8")  # in ffmpeg's complaint
TOO_LARGE = re.compile(
    r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )+\[error\] Picture size (\d{1,9})x(\d{1,9}) (?:is invalid|exceeds)", re.M
)
FRAME = re.compile(ffmpeg.SHOWN + r"n: *\d+ pts: *(-?\d+|NOPTS) .*fmt:(\S+) .*sar:(\d+)/(\d+) s:(\d+)x(\d+)", re.M)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """Properties of a file: sizes in pixels, `rotation` in degrees clockwise, `fps` the rate by the times of its
    frames (0: a still image); `header_fps` the one that the header gives, which may be far from it.

    `time_base` is the unit of timestamps in seconds; `start_seconds` is the time of the first frame by the file's clock
    (audio starts at 0 as a rule); `video_streams` counts the video streams, of which the best one is described.
    `last_seconds`: how long the last frame stays, where `with_last_frame` found another time than a nominal frame's.
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
    header_fps: Fraction = Fraction(0)
    last_seconds: Fraction | None = None


def probe(path: str | Path) -> VideoInfo:
    """Describes a video or a still image; decodes one frame.

    Raises VidiffError if the path is missing, a folder, unreadable, empty, not a video, without frames, damaged or too
    large.
    """
    path = Path(path)
    check_readable(path)
    if path.suffix.lower() in SUFFIXES_IMAGE and not image_file.is_animated(path):
        return _probe_image(path)
    arguments = ["-an", "-sn", "-dn", "-vf", ffmpeg.SHOWINFO, "-frames:v", "1", "-f", "null", "-"]
    _, log, complaint = ffmpeg.run([*ffmpeg.input_arguments(path), *arguments], timeout_seconds=PROBE_SECONDS)
    info = _parse_log(path, log, complaint)
    return replace(info, fps=packet_rate(path, info.fps), header_fps=info.fps)


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
    head = log.split("Stream mapping:")[0]
    container = CONTAINER.search(head)
    if container is None and any(sign in complaint for sign in NOT_PICTURES):
        found = "a playlist, a script, a drawing or another kind of file that holds no pictures itself"
        raise VidiffError(f"{path} is not a video", found=found)
    if container is None:
        raise VidiffError(f"{path} cannot be opened as a video ({complaint})")
    streams = list(STREAM.finditer(head))
    pictures = {int(s[1]): s for s in streams if s[2] == "Video" and "(attached pic)" not in s[4]}
    if not pictures:
        kinds = sorted({s[2].lower() for s in streams}) or ["nothing"]
        raise VidiffError(f"{path} has no pictures", found=f"only {' and '.join(kinds)}", expected="a video stream")
    if refused := TOO_LARGE.search(log):
        image_file.check_pixels(path, int(refused[1]), int(refused[2]))
    mapped, config, frame = MAPPED.search(log), CONFIG.search(log), FRAME.search(log)
    if mapped is None or int(mapped[1]) not in pictures or config is None or frame is None:
        raise VidiffError(f"{path} is damaged ({complaint})", found="not one frame that could be decoded")
    stream = pictures[int(mapped[1])]
    after = [s.start() for s in streams if s.start() > stream.start()]
    turned = ROTATION.search(head, stream.end(), min(after, default=len(head)))
    coded = CODED_SIZE.search(stream[4])
    width, height = int(frame[5]), int(frame[6])
    coded_width, coded_height = (int(coded[1]), int(coded[2])) if coded else (width, height)
    aspect = Fraction(int(frame[3]), int(frame[4])) if int(frame[3]) and int(frame[4]) else Fraction(1)
    width = max(1, round(width * aspect))
    image_file.check_pixels(path, max(width, coded_width), max(height, coded_height))
    tick = Fraction(int(config[1]), int(config[2]))
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        coded_width=coded_width,
        coded_height=coded_height,
        rotation=round(-float(turned[1]) / 90) % 4 * 90 if turned else 0,
        container=container[1],
        codec=stream[3],
        pixel_format=frame[2],
        fps=_rate(config, stream[4]),
        duration_seconds=_duration(head),
        has_audio=any(s[2] == "Audio" for s in streams),
        is_image=False,
        time_base=tick,
        start_seconds=int(frame[1]) * tick if frame[1] != "NOPTS" else Fraction(0),
        video_streams=len(pictures),
    )


def _rate(config: re.Match[str], description: str) -> Fraction:
    """The exact rate of ffmpeg's filter graph, else the printed one, else 25."""
    if int(config[3]) and int(config[4]):
        return snap_ntsc_rate(Fraction(int(config[3]), int(config[4])))
    printed = re.search(r", (\d{1,9}(?:\.\d{1,9})?) (?:fps|tbr)", description)
    return snap_ntsc_rate(Fraction(printed[1])) if printed and float(printed[1]) else Fraction(25)


def _duration(head: str) -> float | None:
    found = DURATION.search(head)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def _probe_image(path: Path) -> VideoInfo:
    width, height, turned, kind, mode = image_file.image_header(path)
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
    )
