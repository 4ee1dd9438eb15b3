"""Speed of `vidiff prep` against the decoder alone and against the simple way, and of two cores against one.

    python -m benchmarks prep [ROUNDS] [SECONDS]

Four films (test pattern, Mandelbrot zoom, and both in other colors) in H.264 at 1280x720 and at 320x240 are made in a
temporary folder, SECONDS of each at 720p, four times as long at 320x240. Contestants take turns, one warm-up and ROUNDS
rounds each; the median of their *CPU time with all child processes* counts, from the start of the command to its end.
One process decodes at a time, for two that share a core's caches cost each other CPU time. Row 15 alone is the wall
time of two workers, and means something on a quiet machine only: the load is written down beside it. "Limit":
`ffmpeg -threads 1 -f null` over the same files. "Simple": decord at full size, then Pillow's `resize` as it comes,
frame by frame. "Threads": one file after the other through ffmpeg with two decoding threads. The memory of the command
on a 4K film is measured too. Writes benchmarks/results/prep.json and prints the table.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import imageio_ffmpeg

SIZES = {"720p": (1280, 720), "320x240": (320, 240)}
LONGER = {"720p": 1, "320x240": 4}
SOURCES = ("testsrc2", "mandelbrot")
COLORS = {"": [], " in other colors": ["-vf", "hue=h=120"]}
FPS, FRAMES = 25, 16
FFMPEG = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
H264 = ["-c:v", "libx264", "-preset", "medium", "-g", "48", "-pix_fmt", "yuv420p"]


def main() -> None:
    if sys.argv[1:2] == ["--simple"]:
        simple(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        return
    if sys.argv[1:2] == ["--threads"]:
        threads(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        return
    from machine import save  # not above: the simple way's process shall be light

    rounds, seconds = int((sys.argv[1:2] or ["2"])[0]), int((sys.argv[2:3] or ["60"])[0])
    with tempfile.TemporaryDirectory() as folder:
        films = {name: make_films(Path(folder, name), name, seconds) for name in SIZES}
        out = Path(folder, "out")
        times = in_turns({name: jobs(films[name], out) for name in SIZES}, rounds, out)
        kept = counted(films["320x240"], out)
        held = memory(Path(folder, "4k"), out)
    table = rows(times)
    for row in table:
        print(f"{row['row']:>3}  {row['what']:70} {row['ratio']:6.2f}  (floor {row['floor']})", file=sys.stderr)
    load = {"load_average": os.getloadavg()[0], "peak_memory_4k_mb": held}
    save("prep", {"rounds": rounds, "seconds_720p": seconds, **load, "check": kept, "rows": table, "times": times})


def make_films(folder: Path, name: str, seconds: int) -> Path:
    folder.mkdir()
    width, height = SIZES[name]
    for source in SOURCES:
        made = ["-f", "lavfi", "-i", f"{source}=s={width}x{height}:r={FPS}", "-t", str(seconds * LONGER[name])]
        for more, changed in COLORS.items():
            subprocess.run([*FFMPEG, *made, *changed, *H264, str(folder / f"{source}{more}.mp4")], check=True)
    return folder


def jobs(films: Path, out: Path) -> dict[str, Callable[[], object]]:
    """Contestants that take turns, each from nothing to its result on disk."""
    script = [sys.executable, "-m", "benchmarks", "prep"]

    def alone() -> None:
        for film in sorted(films.iterdir()):
            subprocess.run([*FFMPEG, "-threads", "1", "-i", str(film), "-an", "-f", "null", "-"], check=True)

    return {
        "limit": alone,
        "prep 64": lambda: prep(films, out, 64),
        "prep 256": lambda: prep(films, out, 256),
        "two workers 64": lambda: prep(films, out, 64, workers=2),
        "simple 64": lambda: subprocess.run([*script, "--simple", str(films), "64", str(out)], check=True),
        "threads 64": lambda: subprocess.run([*script, "--threads", str(films), "64", str(out)], check=True),
    }


def prep(films: Path, out: Path, size: int, *, workers: int = 1) -> None:
    """The command as a user runs it, with all that it does by default but the pictures to look at."""
    command = [sys.executable, "-m", "vidiff_cli", "prep", str(films), "-o", str(out), "--size", str(size)]
    options = ["--frames", str(FRAMES), "--fps", str(FPS), "--workers", str(workers), "--preview", "0", "--quiet"]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)


def in_turns(work: dict[str, dict[str, Callable[[], object]]], rounds: int, out: Path) -> dict[str, Any]:
    """CPU and wall seconds of every job, the median of all rounds but the first."""
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for name, each in work.items():
            for what, job in each.items():
                pair = timed(job)
                shutil.rmtree(out, ignore_errors=True)  # every round writes its result anew
                if number:
                    taken.setdefault((name, what), []).append(pair)
    times: dict[str, Any] = {}
    for (name, what), pairs in taken.items():
        cpu, wall = zip(*pairs, strict=True)
        entry = {"cpu_seconds": median(cpu), "range": [min(cpu), max(cpu)], "wall_seconds": median(wall)}
        times.setdefault(name, {})[what] = entry
    return times


def timed(job: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of the processes that a job starts, and its wall seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    job()
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def rows(times: dict[str, Any]) -> list[dict[str, Any]]:
    """The ratios that count, each with the floor that it has to reach."""

    def ratio(name: str, mine: str, other: str, unit: str = "cpu_seconds") -> float:
        return times[name][other][unit] / times[name][mine][unit]

    table: list[tuple[str, str, float, str]] = []
    for name, floors in {"720p": (0.75, 0.50, 3.0, 1.10), "320x240": (0.65, 0.33, 2.0, 1.10)}.items():
        table += [
            ("12", f"{name}: prep at 64 px, share of the decoder's speed", ratio(name, "prep 64", "limit"), floors[0]),
            ("13", f"{name}: prep at 256 px, the same", ratio(name, "prep 256", "limit"), floors[1]),
            ("14", f"{name}: prep at 64 px over decord and Pillow", ratio(name, "prep 64", "simple 64"), floors[2]),
            (
                "15",
                f"{name}: wall of two workers, over two threads a file",
                ratio(name, "two workers 64", "threads 64", WALL),
                floors[3],
            ),
        ]
    made = [{"row": row, "what": what, "ratio": value, "floor": f">= {floor}"} for row, what, value, floor in table]
    return sorted(made, key=lambda row: row["row"])


WALL = "wall_seconds"


def counted(films: Path, out: Path) -> dict[str, int]:
    """Counts of the dataset that prep made, so that the figures are known to be of the whole work."""
    prep(films, out, 64)
    ledger = [json.loads(line) for line in (out / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"sources": len(ledger), "frames": sum(row.get("frames_decoded", 0) for row in ledger)}


def memory(folder: Path, out: Path) -> float:
    """Most megabytes that the command with one worker and all its children held together, cutting 20 s of 3840x2160.
    Pages of files do not count."""
    from vidiff_cli.system.process_tree import Families

    folder.mkdir()
    made = ["-f", "lavfi", "-i", f"mandelbrot=s=3840x2160:r={FPS}", "-t", "20"]
    subprocess.run([*FFMPEG, *made, *H264, "-preset", "ultrafast", str(folder / "a.mp4")], check=True)
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "vidiff_cli", "prep", str(folder), "-o", str(out), "--workers", "1", "--quiet"]
    held, families = 0, Families()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            families.look()
            held = max(held, families.resident_bytes(process.pid))
            time.sleep(0.05)
        assert process.returncode == 0
    return held / 1e6


def simple(films: Path, size: int, out: Path) -> None:
    """Every frame at full size to Python, scaled and cropped by Pillow, clips as .npy."""
    import decord
    import numpy as np
    from PIL import Image

    out.mkdir()
    for film in sorted(films.iterdir()):
        reader = decord.VideoReader(str(film), num_threads=1)
        clip: list[np.ndarray] = []
        for index in range(len(reader)):
            frame = Image.fromarray(reader[index].asnumpy())
            scale = size / min(frame.size)
            width, height = (max(size, round(side * scale)) for side in frame.size)
            left, top = (width - size) // 2, (height - size) // 2
            small = frame.resize((width, height)).crop((left, top, left + size, top + size))
            clip.append(np.asarray(small))
            if len(clip) == FRAMES:
                np.save(out / f"{film.stem}-{index:06}.npy", np.stack(clip))
                clip = []


def threads(films: Path, size: int, out: Path) -> None:
    """One file after the other through ffmpeg's pipe with two decoding threads, clips as .npy."""
    import numpy as np

    out.mkdir()
    scale = f"scale={size}:{size}:force_original_aspect_ratio=increase:flags=area,crop={size}:{size}"
    for film in sorted(films.iterdir()):
        command = [*FFMPEG, "-threads", "2", "-i", str(film), "-an", "-vf", scale, "-f", "rawvideo"]
        with subprocess.Popen([*command, "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            number = 0
            while len(data := process.stdout.read(FRAMES * size * size * 3)) == FRAMES * size * size * 3:
                clip = np.frombuffer(data, np.uint8).reshape(FRAMES, size, size, 3)
                np.save(out / f"{film.stem}-{number:06}.npy", clip)
                number += 1
