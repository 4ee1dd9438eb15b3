"""CPU time of writing samples as .mp4, against imageio-ffmpeg's own writer at its defaults.

    python -m benchmarks encode [FRAMES]

Clips of the shapes world (64x64, 16 frames) and one film of the same, FRAMES long (default 1,000). Contestants take
turns, one warm-up and five rounds each; the median of their CPU time with ffmpeg's counts. Both files are read again,
so that the quality is told beside the speed. Writes benchmarks/results/encode.json.
"""

from __future__ import annotations

import math
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from statistics import median

import imageio_ffmpeg
import numpy as np

from benchmarks.machine import save
from vidiff_cli.video import encode, stream_frames
from vidiff_cli.worlds.shapes import draw_numbered, render

SIDE, CLIP, CLIPS, ROUNDS, FPS = 64, 16, 24, 5, 16


def main() -> None:
    long = int((sys.argv[1:2] or ["1000"])[0])
    numbers = range(max(CLIPS, -(-long // CLIP)))
    clips = [render(draw_numbered(0, number, canvas=SIDE, frames=CLIP)) for number in numbers]
    work = {f"{CLIPS} clips of {CLIP} frames": clips[:CLIPS], f"one of {long} frames": [np.concatenate(clips)[:long]]}
    writers: dict[str, Callable[[Path, np.ndarray], object]] = {
        "vidiff": lambda path, frames: encode(path, frames, Fraction(FPS), overwrite=True),
        "imageio-ffmpeg": theirs,
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for what, films in work.items():
            taken: dict[str, list[float]] = {name: [] for name in writers}
            for _ in range(ROUNDS + 1):
                for name, write in writers.items():
                    taken[name].append(cpu_seconds(write, Path(folder, f"{name}.mp4"), films))
            seconds = {name: median(times[1:]) for name, times in taken.items()}
            quality = {name: psnr(films[-1], Path(folder, f"{name}.mp4")) for name in writers}
            rows.append(
                {
                    "row": "18",
                    "what": f"{what}: CPU time of imageio-ffmpeg's writer over vidiff's",
                    "ratio": seconds["imageio-ffmpeg"] / seconds["vidiff"],
                    "floor": ">= 1.8",
                    "cpu_seconds": seconds,
                    "psnr": quality,
                }
            )
            print(rows[-1], file=sys.stderr)
    save("encode", {"rounds": ROUNDS, "rows": rows})


def theirs(path: Path, frames: np.ndarray) -> None:
    writer = imageio_ffmpeg.write_frames(str(path), (SIDE, SIDE), fps=FPS)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def cpu_seconds(write: Callable[[Path, np.ndarray], object], path: Path, films: Iterable[np.ndarray]) -> float:
    """CPU time of this process and of the ffmpeg processes that it started and waited for."""
    before = spent()
    for frames in films:
        write(path, frames)
    return spent() - before


def spent() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def psnr(frames: np.ndarray, path: Path) -> float:
    """PSNR of the frames that a reader gets back, in dB."""
    *_, back = [
        [block for _, block in reading.blocks] for reading in stream_frames(path)
    ]  # the last one is the good one
    back = np.concatenate(back)
    assert back.shape == frames.shape
    return 10 * math.log10(255**2 / np.mean((back.astype(float) - frames) ** 2))
