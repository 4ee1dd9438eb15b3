"""Video files to uint8 frames with exact times and back; the only package that uses decord and ffmpeg."""

from vidiff_cli.video.decode import SUFFIXES_IMAGE, SUFFIXES_VIDEO, Decoded, DecodedVideo, decode, stream_frames
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
    "stream_frames",
]
