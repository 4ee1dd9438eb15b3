"""Thousands of frames are written in the memory of a few, by this process and by ffmpeg."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from vidiff_cli.video import encode

count, name = int(sys.argv[1]), sys.argv[2]
row = np.arange(64, dtype=np.uint8)

def frames():
    for number in range(count):
        yield np.broadcast_to((row + number % 150)[None, :, None], (48, 64, 3))

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert encode(name, frames(), Fraction(50)) == count
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peaks(count: int, target: Path) -> tuple[int, int]:
    """Kilobytes by which this process grew, and the most that ffmpeg held."""
    command = [sys.executable, "-c", PROGRAM, str(count), str(target)]
    own, ffmpeg = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(own), int(ffmpeg)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, suffix):
    few, many = (peaks(count, tmp_path / f"{count}{suffix}") for count in (200, 2500))
    assert many[0] < 6_000, "kilobytes: 2,500 frames have 23 MB"
    assert many[1] < few[1] + 6_000
