"""Measures a model of the shapes world against its known truth: what the demo prints at its end.

Samples: color and direction (and the rest) as the oracle reads them from the written files. Held-out clips, without a
caption: 4 frames are given and the next 4 made (one window), then 8 and 8 (two windows); every 4th frame is given and
those between made; by each condition, against freezing the last frame and blending the neighbors. Errors are distances
of the object's center from the true one, in pixels.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.frames import plan
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.video.decode import decode
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.worlds import oracle, shapes

WAYS = {name: {"condition": name} for name in ("learned", "reconstruction", "replacement")}
SLOW_WAYS = {"reconstruction, ddpm": {"condition": "reconstruction", "sampler": "ddpm"}}
EVERY = 4
Ways = Mapping[str, Mapping[str, str]]


def measure(folder: Path, truth: Path, samples: Path) -> dict[str, Any]:
    """All measurements of a demo folder; prints them, writes contact sheets to `folder`/sheets, returns them."""
    rows = json.loads((truth / "trajectories.json").read_text(encoding="utf-8"))
    model = open_model(folder / "run")
    sheets = folder / "sheets"
    sheets.mkdir(exist_ok=True)
    clips = np.stack([decode(truth / row["file"]).frames for row in rows])
    paths = np.asarray([row["positions"] for row in rows])
    report = {
        "samples": _samples(samples),
        "color_swap": _swap(model, [row["caption"] for row in rows]),
        "extension": _extension(model, clips[:, :8], paths[:, :8], sheets / "extension.png", WAYS | SLOW_WAYS),
        "long_extension": _extension(model, clips, paths, sheets / "long-extension.png", WAYS),
        "in_betweens": _in_betweens(model, clips, paths, sheets),
    }
    _print(report)
    return report


def _samples(folder: Path) -> dict[str, float]:
    """Share of the written samples in which each attribute that the prompt names is read back."""
    right: dict[str, list[bool]] = {name: [] for name in shapes.ATTRIBUTES}
    for sidecar in sorted(folder.glob("*.json")):
        prompt = json.loads(sidecar.read_text(encoding="utf-8"))["prompt"]
        seen = oracle.read_shape(decode(sidecar.with_suffix(".mp4")).frames).attributes
        for name, word in shapes.parse_caption(prompt).items():
            right[name].append(seen[name] == word)
    return {name: float(np.mean(values)) for name, values in right.items()} | {"count": len(right["color"])}


def read_back(model: UNetModel, captions: list[str], settings: GenerationSettings) -> dict[str, float]:
    """Share of one sample per caption in which each attribute is right, and `all` of them: as `_samples`, without files
    between."""
    empty = np.zeros((len(captions), model.settings.frames, model.settings.height, model.settings.width, 3), np.uint8)
    made = _make(model, empty, (), settings, captions)
    seen = [oracle.read_shape(clip).attributes for clip in made]
    wanted = [shapes.parse_caption(caption) for caption in captions]
    pairs = list(zip(wanted, seen, strict=True))
    right = {name: float(np.mean([word[name] == found[name] for word, found in pairs])) for name in shapes.ATTRIBUTES}
    return right | {"all": float(np.mean([word == found for word, found in pairs]))}


def _swap(model: UNetModel, captions: list[str]) -> float:
    """Share of pairs, same seed and another color word, in which the measured color follows the word."""
    colors = list(shapes.COLORS)
    swapped = []
    for caption in captions:
        color = shapes.parse_caption(caption)["color"]
        swapped.append(caption.replace(color, colors[(colors.index(color) + 1) % len(colors)]))
    empty = np.zeros((len(captions), model.settings.frames, model.settings.height, model.settings.width, 3), np.uint8)
    follows = []
    for prompts in (captions, swapped):
        made = _make(model, empty, (), GenerationSettings(seed=0), prompts)
        seen = [oracle.read_shape(clip).color for clip in made]
        follows.append(
            [shapes.parse_caption(prompt)["color"] == color for prompt, color in zip(prompts, seen, strict=True)]
        )
    return float(np.mean(np.logical_and(*follows)))


def _extension(
    model: UNetModel, clips: np.ndarray, paths: np.ndarray, sheet: Path, ways: Ways
) -> dict[str, dict[str, float]]:
    """Errors of the second half of the frames after the first half, by way of making them."""
    given = clips.shape[1] // 2
    frozen = clips.copy()
    frozen[:, given:] = clips[:, given - 1 : given]
    return _compare(model, clips, paths, range(given), {"freezing": frozen}, sheet, ways)


def _in_betweens(model: UNetModel, clips: np.ndarray, paths: np.ndarray, sheets: Path) -> dict[str, dict[str, float]]:
    """The same between every 4th frame; the frames after the last given one are left out."""
    length = (clips.shape[1] - 1) // EVERY * EVERY + 1
    clips, paths = clips[:, :length], paths[:, :length]
    blended = clips.astype(np.float64)
    for frame in range(length):
        left = frame // EVERY * EVERY
        share = (frame - left) / EVERY
        if share:
            blended[:, frame] = (1 - share) * clips[:, left] + share * clips[:, left + EVERY]
    nearest = clips[:, [min(length - 1, (frame + EVERY // 2) // EVERY * EVERY) for frame in range(length)]]
    simple = {"blending": np.rint(blended).astype(np.uint8), "freezing": nearest}
    return _compare(model, clips, paths, range(0, length, EVERY), simple, sheets / "in-betweens.png", WAYS)


def _compare(
    model: UNetModel,
    clips: np.ndarray,
    paths: np.ndarray,
    given: range,
    simple: dict[str, np.ndarray],
    sheet: Path,
    ways: Ways,
) -> dict[str, dict[str, float]]:
    made = dict(simple)
    for name, choice in ways.items():
        made[name] = complete(model, clips, given, GenerationSettings.model_validate({**choice, "seed": 0}))
    rows = [SheetRow(label="truth", frames=clips[0])]
    rows += [SheetRow(label=name, frames=frames[0], given=list(given)) for name, frames in made.items()]
    contact_sheet(rows, sheet)
    return {name: errors(frames, clips, paths, given) for name, frames in made.items()}


def complete(
    model: UNetModel, clips: np.ndarray, given: range, settings: GenerationSettings, prompts: list[str] | None = None
) -> np.ndarray:
    """All clips (b n h w c) at once, without captions if there are no prompts: the frames that are not given made
    anew."""
    return _make(model, clips, given, settings, prompts or [""] * len(clips))


def errors(made: np.ndarray, clips: np.ndarray, paths: np.ndarray, given: range) -> dict[str, float]:
    """Errors on the frames that are not given: mean distance from the true center in pixels (a frame that
    shows nothing is half the canvas off), mean square error in [-1, 1], and the change across the first seam over the
    true one (1 is seamless)."""
    ranks = [frame for frame in range(clips.shape[1]) if frame not in given]
    seen = np.stack([oracle.positions(clip) for clip in made])
    distance = np.linalg.norm(seen - paths, axis=-1)[:, ranks]
    change, true = (np.square(_step(frames, ranks[0])).mean() for frames in (made, clips))
    return {
        "center_px": float(np.where(np.isnan(distance), made.shape[2] / 2, distance).mean()),
        "mse": float(np.square((made[:, ranks].astype(float) - clips[:, ranks]) / 127.5).mean()),
        "seam_jump": float(change / true),
    }


def _step(clips: np.ndarray, frame: int) -> np.ndarray:
    return clips[:, frame].astype(float) - clips[:, frame - 1]


def _make(
    model: UNetModel, clips: np.ndarray, given: Sequence[int], settings: GenerationSettings, prompts: list[str]
) -> np.ndarray:
    """All clips at once through the plan and the filling loop: (b n h w c), everything that is not given made."""
    total, window = clips.shape[1], model.settings.frames
    job = VideoJob(
        windows=plan(total, given, window=window, overlap=min(len(given), window // 2)),
        times=[Fraction(frame) / model.fps for frame in range(total)],
        prompts=lambda number: prompts,
        seeds=list(range(len(prompts))),
    )
    return generate_clips(model, resolve_sampling(model, settings), job, clips)


def _print(report: dict[str, Any]) -> None:
    samples = report["samples"]
    print(f"\nOver {samples['count']} samples the oracle reads back, right:", file=sys.stderr)
    for name in shapes.ATTRIBUTES:
        print(f"  {name:10} {100 * samples[name]:5.1f} %", file=sys.stderr)
    print(f"  another color word, another color: {100 * report['color_swap']:.1f} % of pairs", file=sys.stderr)
    titles = {
        "extension": "4 frames after 4 given",
        "long_extension": "8 frames after 8 given",
        "in_betweens": "3 frames between every 4th",
    }
    for key, title in titles.items():
        print(f"{title + ', no caption':40}    center off by      MSE  seam jump", file=sys.stderr)
        for name, row in report[key].items():
            numbers = f"{row['center_px']:8.2f} px {row['mse']:8.4f} {row['seam_jump']:9.2f}"
            print(f"  {name:40}   {numbers}", file=sys.stderr)
