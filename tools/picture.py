"""Draw docs/picture.webp: a clip at a low rate beside what `interpolate` and `extend` make of it, given frames marked.

    python tools/picture.py CLIP [--start SECONDS]      # the page shows flower.mp4 of MDN's examples, CC0

The clip is reduced to frames of 256 pixels at 6 fps; `vidiff extend` makes half a second after the last one, and
`vidiff interpolate` three frames between each two. Both run without a trained model.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vidiff_cli.video import decode, encode
from vidiff_cli.viz.fonts import load_font

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "picture.webp"
GIVEN_COLOR, MADE_COLOR, AFTER_COLOR = (255, 255, 255), (38, 139, 210), (220, 80, 47)
WIDTH, HEIGHT, RATE, FACTOR, GIVEN, AFTER = 256, 144, Fraction(6), 4, 9, 3
BORDER, STRIP = 4, 22  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--start", type=float, default=0.0, help="seconds into the clip")
    asked = parser.parse_args()
    first = round(asked.start * RATE)
    frames = decode(asked.clip, fps=RATE, size=(WIDTH, HEIGHT)).frames[first : first + GIVEN]
    with tempfile.TemporaryDirectory() as folder:
        given, longer, smooth = (Path(folder, name) for name in ("given.mkv", "longer.mkv", "smooth.mkv"))
        encode(given, frames, RATE, lossless=True)
        vidiff("extend", given, "--num-frames", AFTER, "-o", longer)
        vidiff("interpolate", longer, "--factor", FACTOR, "-o", smooth)
        made = decode(smooth).frames[: (GIVEN + AFTER - 1) * FACTOR + 1]  # without the repeats of the last one
    marked = {number: number % FACTOR == 0 for number in range((GIVEN - 1) * FACTOR + 1)}
    pages = []
    for number, frame in enumerate(made):
        shown = frames[min(number // FACTOR, GIVEN - 1)]
        color, label = MADE_COLOR, "made between"
        if marked.get(number):
            color, label = GIVEN_COLOR, "given"
        elif number not in marked:
            color, label = AFTER_COLOR, "made after"
        left = framed(shown, GIVEN_COLOR if number in marked else (90, 90, 90), f"input, {RATE} frames a second")
        pages.append(np.concatenate([left, framed(frame, color, label)], axis=1))
    pages += [pages[-1]] * 8
    first_page, *others = (Image.fromarray(page) for page in pages)
    first_page.save(PICTURE, save_all=True, append_images=others, duration=70, loop=0, quality=60, method=6)
    print(PICTURE, PICTURE.stat().st_size)


def vidiff(*words: object) -> None:
    """Run a command of vidiff; its result is lossless."""
    command = [sys.executable, "-m", "vidiff_cli", *map(str, words), "--lossless", "--seed", "0", "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def framed(frame: np.ndarray, color: tuple[int, int, int], label: str) -> np.ndarray:
    """Return a frame (h w c) inside a colored border above a strip with its label."""
    page = Image.new("RGB", (WIDTH + 2 * BORDER, HEIGHT + 2 * BORDER + STRIP), (20, 20, 20))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, page.width - 1, HEIGHT + 2 * BORDER - 1), fill=color)
    page.paste(Image.fromarray(frame), (BORDER, BORDER))
    draw.text((BORDER, HEIGHT + 2 * BORDER + 3), label, fill=color, font=load_font(13))
    return np.asarray(page)


if __name__ == "__main__":
    main()
