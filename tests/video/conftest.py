"""Frames that carry their own index, files made with ffmpeg, and the folder of real clips where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli.video import encode, ffmpeg

BITS = 8


def draw_indexed(count: int, *, width: int = 64, height: int = 32) -> np.ndarray:
    """(t h w c): eight blocks are the bits of the frame's index, the lowest left; a bar moves below them."""
    frames = np.full((count, height, width, 3), 90, np.uint8)
    block = width // BITS
    for index, frame in enumerate(frames):
        for bit in range(BITS):
            frame[: height // 2, bit * block : (bit + 1) * block] = 230 if index >> bit & 1 else 20
        column = index * 3 % (width - 4)
        frame[height // 2 :, column : column + 4] = (200, 60, 40)
    return frames


def read_indexed(frames: np.ndarray) -> list[int]:
    """The indices that the frames carry, whatever their size."""
    _, height, width, _ = frames.shape
    block = width // BITS
    middle = frames[:, height // 8 : max(height // 8 + 1, height // 3), :, :].astype(float).mean(axis=(1, 3))
    inner = [slice(bit * block + block // 4, (bit + 1) * block - block // 4) for bit in range(BITS)]
    bits = np.stack([middle[:, columns].mean(axis=1) > 125 for columns in inner], axis=1)
    return (bits @ (1 << np.arange(BITS))).tolist()


@pytest.fixture
def indexed() -> Callable[..., np.ndarray]:
    return draw_indexed


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    return draw_indexed


@pytest.fixture(scope="session")
def indices() -> Callable[[np.ndarray], list[int]]:
    return read_indexed


@pytest.fixture
def make() -> Callable[..., Path]:
    """Runs ffmpeg: `make(target, *arguments)`; it must end well."""

    def run(target: Path, *arguments: str) -> Path:
        code, log, _ = ffmpeg.run([*arguments, ffmpeg.file_url(target)])
        assert code == 0, log
        return target

    return run


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 indexed frames, 30 a second, H.264 with a keyframe every 30 frames and B-frames between."""
    folder = tmp_path_factory.mktemp("long")
    encode(folder / "exact.mkv", draw_indexed(120), Fraction(30), lossless=True)
    h264 = ["-c:v", "libx264", "-g", "30", "-bf", "2", "-crf", "12", "-pix_fmt", "yuv420p"]
    code, log, _ = ffmpeg.run(
        ["-i", ffmpeg.file_url(folder / "exact.mkv"), *h264, ffmpeg.file_url(folder / "long.mp4")]
    )
    assert code == 0, log
    return folder / "long.mp4"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real clips: $VIDIFF_TEST_DATA, else ../shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("VIDIFF_TEST_DATA", beside))
    if not (folder / "clips").is_dir():
        pytest.skip(f"no real clips: {folder}/clips is not there (set VIDIFF_TEST_DATA)")
    return folder
