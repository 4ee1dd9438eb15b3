"""Version of the installed ffmpeg, and the encoders and decoders that it lacks."""

from __future__ import annotations

import re
from typing import Literal

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg

LISTED = re.compile(r"^ [VAS][A-Z.]{5} (\S+) ", re.M)

# What each is for. For decoding, one of several may do: FFmpeg's own "av1" needs a graphics card.
ENCODERS = {
    "libx264": ".mp4 and .mkv",
    "ffv1": "--lossless .mkv",
    "libvpx-vp9": ".webm",
    "gif": ".gif",
    "libwebp_anim": ".webp",
    "aac": "the sound of .mp4",
    "libopus": "the sound of .webm and .mkv",
}
DECODERS = {
    ("h264",): "H.264",
    ("hevc",): "HEVC",
    ("libdav1d", "libaom-av1"): "AV1",
    ("vp9", "libvpx-vp9"): "VP9",
    ("vp8", "libvpx"): "VP8",
    ("mpeg4",): "MPEG-4",
    ("mpeg2video",): "MPEG-2",
    ("prores",): "ProRes",
    ("mjpeg",): "Motion JPEG",
    ("ffv1",): "FFV1",
    ("gif",): "GIF",
}


def ffmpeg_version() -> str:
    """The version, such as "9.0.2-static". Raises VidiffError if ffmpeg cannot be started or is another program."""
    text = _ask_ffmpeg("-version")
    found = re.match(r"ffmpeg version (\S+)", text)
    if found is None:
        raise VidiffError(
            f"{ffmpeg.executable()} is not ffmpeg", found=repr(text[:40]), fix="pip install imageio-ffmpeg"
        )
    return found[1]


def missing_encoders() -> dict[str, str]:
    """Encoders that vidiff uses and this ffmpeg lacks, with their purpose."""
    available = _listed("encoders")
    return {name: purpose for name, purpose in ENCODERS.items() if name not in available}


def missing_decoders() -> tuple[str, ...]:
    """Common video formats that this ffmpeg cannot decode."""
    available = _listed("decoders")
    return tuple(kind for names, kind in DECODERS.items() if not available.intersection(names))


def _listed(kind: Literal["encoders", "decoders"]) -> frozenset[str]:
    return frozenset(LISTED.findall(_ask_ffmpeg(f"-{kind}")))


def _ask_ffmpeg(question: str) -> str:
    with ffmpeg.Ffmpeg([question], stdout=True) as process:
        return process.stdout.read().decode(errors="replace")
