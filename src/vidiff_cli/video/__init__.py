"""Files <-> uint8 frames with exact times; the only room that knows decord and ffmpeg."""

from vidiff_cli.video.decode import SUFFIXES_IMAGE, SUFFIXES_VIDEO, Decoded, DecodedVideo, decode, read
from vidiff_cli.video.encode import check_output, encode
from vidiff_cli.video.probe import VideoInfo, probe

__all__ = [
    "SUFFIXES_IMAGE",
    "SUFFIXES_VIDEO",
    "Decoded",
    "DecodedVideo",
    "VideoInfo",
    "check_output",
    "decode",
    "encode",
    "probe",
    "read",
]
