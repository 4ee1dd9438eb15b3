"""Measures a model on real clips that it was not trained on: what the demo prints at the end of a run on own videos.

Of each clip the first half is given and the rest made (`vidiff extend`, against freezing the last given frame), and
every 2nd frame is given and those between made (`vidiff interpolate`, against blending the neighbors). Scores are PSNR
of the made frames in dB: of a clip, that of its mean squared error. Beside them stands what betrays noise: sharpness
and motion of the made frames over those of the true ones, and the seam jump of `vidiff extend`.

Legend: n frames, h and w pixels, c = 3 colors; uint8.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.metrics.baselines import interpolation_baselines
from vidiff_cli.metrics.drift import frame_stats
from vidiff_cli.metrics.fidelity import psnr
from vidiff_cli.video import decode, encode, probe
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

FEWEST = 4  # frames of a clip that is worth it
MOST_DB = 100.0  # PSNR of frames that are equal to the bit
EXACT: dict[str, Any] = {"seed": 0, "lossless": True, "sidecar": False, "overwrite": True}
TITLES = {
    "extension": ("the second half after the first", "freezing"),
    "in_betweens": ("between every 2nd", "blending"),
}
Clip = dict[str, Any]


def cut(
    source: Path, start_seconds: float, count: int, target: Path, *, side: int, fps: Fraction, square: bool = False
) -> None:
    """Writes at most `count` frames from a place in a video to a lossless file, those shown at times k / fps.

    The short side has at most `side` pixels, both sides are even; `square` cuts out the middle.
    """
    info = probe(source)
    short = min(info.width, info.height)
    scale = Fraction(min(side, short), short)
    width, height = (max(2, round(length * scale / 2) * 2) for length in (info.width, info.height))
    crop = (min(width, height),) * 2 if square else (width, height)
    start = round(start_seconds * fps)
    for reading in stream_frames(info, size=(width, height), crop=crop, fps=fps, stop_seconds=(start + count) / fps):
        seen, frames = 0, list[np.ndarray]()
        for _, block in reading.blocks:
            frames += [frame.copy() for frame in block[max(0, start - seen) :]]
            seen += len(block)
    encode(target, frames[:count], fps, lossless=True)


def measure(model: Path, clips: Sequence[tuple[str, Path]], sheets: Path) -> dict[str, Any]:
    """All measurements of a model (a run) on clips, lossless files with a name each; prints them, writes contact sheets
    to the folder `sheets`, returns them. Clips of fewer than four frames are left out."""
    sheets.mkdir(exist_ok=True)
    report: dict[str, Any] = {}
    for kind, made in (("extension", _extended), ("in_betweens", _between)):
        found = [made(model, name, path) for name, path in clips if len(decode(path).frames) >= FEWEST]
        if found:
            found.sort(key=lambda clip: clip["ahead_db"])  # losses first
            rows = [row for clip in found for row in clip.pop("rows")]
            sheet = contact_sheet(rows, sheets / f"held-out-{kind.replace('_', '-')}.png")
            report[kind] = {"clips": found, "mean": _mean(found), "sheet": str(sheet)}
    _print(report)
    return report


def _extended(model: Path, name: str, path: Path) -> Clip:
    """The second half of a clip by the model, and by freezing."""
    truth = decode(path)
    given, count = truth.frames[: len(truth.frames) // 2], len(truth.frames)
    source, target = path.with_name("given.mkv"), path.with_name("made.mkv")
    encode(source, given, truth.fps, lossless=True, overwrite=True)
    report: Any = extend(
        ExtendSettings(input=source, output=target, model=model, num_frames=count - len(given), **EXACT)
    )
    made, frames = _at_one_size(target, path)
    frozen = frames.copy()
    frozen[len(given) :] = frames[len(given) - 1]
    facts = {"seam_jump": report.seam_jump[0] if report.seam_jump else None}
    return _scores(name, made, frames, {"freezing": frozen}, range(len(given))) | facts


def _between(model: Path, name: str, path: Path) -> Clip:
    """Every other frame of a clip by the model, and by blending."""
    truth = decode(path)
    given = truth.frames[::2]
    count = 2 * len(given) - 1
    source, target = path.with_name("given.mkv"), path.with_name("made.mkv")
    encode(source, given, truth.fps / 2, lossless=True, overwrite=True)
    interpolate(InterpolateSettings(input=source, output=target, model=model, factor=2, hold=False, **EXACT))
    made, frames = _at_one_size(target, path)
    frames = frames[:count]
    times = [Fraction(frame) for frame in range(count)]
    blended = interpolation_baselines(frames[::2], times[::2], times)["blending"]
    return _scores(name, made, frames, {"blending": blended}, range(0, count, 2))


def _at_one_size(made: Path, truth: Path) -> tuple[np.ndarray, np.ndarray]:
    """The frames of a result, and the true ones at its size."""
    frames = decode(made).frames
    return frames, decode(truth, size=(frames.shape[2], frames.shape[1])).frames


def _scores(name: str, made: np.ndarray, truth: np.ndarray, simple: dict[str, np.ndarray], given: range) -> Clip:
    """PSNR of the frames that are not given, how far the model is ahead, and rows for a sheet."""
    held_out = [frame for frame in range(len(truth)) if frame not in given]
    scores = {who: _psnr(frames[held_out], truth[held_out]) for who, frames in {"ours": made, **simple}.items()}
    (rival,) = simple
    ours, true = (frame_stats(frames[held_out], frames[held_out[0] - 1]) for frames in (made, truth))
    rows = [SheetRow(label=f"{name}: truth", frames=truth)]
    rows += [SheetRow(label=f"{who}, {scores[who]:.1f} dB", frames=each, given=given) for who, each in simple.items()]
    rows.insert(1, SheetRow(label=f"ours, {scores['ours']:.1f} dB", frames=made, given=given))
    return {
        "clip": name,
        "width": int(truth.shape[2]),
        "height": int(truth.shape[1]),
        "given": len(given),
        "made": len(held_out),
        **{f"{who}_db": score for who, score in scores.items()},
        "ahead_db": scores["ours"] - scores[rival],
        "sharpness": ours.sharpness / max(true.sharpness, 0.01),
        "motion": None if not ours.motion or not true.motion else ours.motion / true.motion,
        "rows": rows,
    }


def _psnr(made: np.ndarray, truth: np.ndarray) -> float:
    error = float(np.mean(10 ** (-psnr(made, truth) / 10)))  # equal frames add nothing
    return min(MOST_DB, float(-10 * np.log10(max(error, 1e-99))))


def _mean(clips: Sequence[Clip]) -> dict[str, float]:
    """Mean of every number over the clips that have it."""
    numbers = {key: [clip[key] for clip in clips if isinstance(clip[key], float)] for key in clips[0]}
    return {key: float(np.mean(values)) for key, values in numbers.items() if values}


def _print(report: dict[str, Any]) -> None:
    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    if not report:
        tell("\nNo clip is long enough to compare anything.")
    for kind, found in report.items():
        title, rival = TITLES[kind]
        losses = sum(clip["ahead_db"] < 0 for clip in found["clips"])
        tell(f"\n{f'Made {title}: PSNR in dB':40}    ours  {rival}   ahead  sharpness  motion")
        for clip in [*found["clips"], {"clip": "mean", "motion": None} | found["mean"]]:
            motion = "-" if clip["motion"] is None else f"x{clip['motion']:.2f}"
            scores = f"{clip['ours_db']:8.1f}  {clip[f'{rival}_db']:8.1f}  {clip['ahead_db']:+6.1f}"
            tell(f"  {clip['clip'][:36]:36}{scores}      x{clip['sharpness']:.2f}  {motion:>6}")
        tell(f"  behind {rival} in {losses} of {len(found['clips'])}")
