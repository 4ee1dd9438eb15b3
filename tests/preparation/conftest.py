"""Tiny videos made on the spot, and the folder of real ones where it is at hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from files import real_data

data_dir = pytest.fixture(real_data, scope="session")


@pytest.fixture(scope="session")
def make_clip():
    """make_clip(path, frames=20, fps=10, size="48x32"): a small moving test picture."""

    def make(path: Path, *, frames: int = 20, fps: int = 10, size: str = "48x32") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = f"testsrc=size={size}:rate={fps}"
        given = ["-f", "lavfi", "-i", picture, "-frames:v", str(frames), "-pix_fmt", "yuv420p"]
        binary = imageio_ffmpeg.get_ffmpeg_exe()
        subprocess.run([binary, "-v", "error", "-y", *given, str(path)], check=True, stdin=subprocess.DEVNULL)
        return path

    return make
