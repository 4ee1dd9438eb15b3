"""Classification of a measured path as a motion of the larger world: least squares, the simplest good fit wins.

Legend: t moments; positions (t, 2) and areas (t,) are fractions of the canvas and of its square; times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidiff_cli.worlds import scenes

STILL = 0.4  # of the slow speed: slower is standing still
NARROWEST = 0.92  # cosine of the angle to the nearest direction (cos 22.5 degrees): every angle has one
GROWTH = 1.5  # of the area, over the whole clip; half as much again is growing
STRAY = 0.012  # of the canvas: farther off its path on average, and the path is not a straight one
BETTER = 0.6  # of the straight residual: what a curved path must do better to be one
ERRATIC = 0.06  # of the canvas: farther off every path, and nothing moves along it


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionFit:
    """`motion` of MOTIONS except `turning`, or None if no path fits; `areas` (t,) are smoothed over time."""

    motion: str | None
    direction: str | None
    speed: str | None
    residual: float
    areas: np.ndarray


def fit_motion(times: np.ndarray, centers: np.ndarray, areas: np.ndarray) -> MotionFit:
    """Names the motion of an object with centers (t, 2) and areas (t,) at some times (t,)."""
    sides = np.sqrt(areas)
    slope, middle = np.polyfit(times, sides, 1)
    smooth = np.maximum(slope * times + middle, 1e-3) ** 2
    ends = np.maximum(middle + slope * np.array([0.0, scenes.SECONDS]), 1e-3)
    growth = float((ends[1] / ends[0]) ** 2)
    velocity, straight = _straight(times, centers)
    pace = float(np.hypot(*velocity))
    slow = STILL * scenes.SPEEDS["slowly"]
    found: dict[str, str | None] = {"motion": None, "direction": None, "speed": None}
    residual = straight
    curved = {"circling": _circle(times, centers), "bouncing": _bounce(times, centers)}
    best_curve = min(curved, key=curved.__getitem__)
    if straight <= STRAY or curved[best_curve] > BETTER * straight:
        if straight <= ERRATIC:
            found["motion"] = "moving" if pace >= slow else "still"
    elif curved[best_curve] <= ERRATIC:
        found["motion"], residual = best_curve, curved[best_curve]
    if found["motion"] in ("moving", "still") and pace < 2 * slow and not 1 / GROWTH < growth < GROWTH:
        found["motion"] = "growing" if growth > 1 else "shrinking"
    if found["motion"] == "moving":
        middle_speed = sum(scenes.SPEEDS.values()) / 2
        found["speed"] = "slowly" if pace < middle_speed else "quickly"
        along = {name: float(velocity @ np.asarray(unit)) / pace for name, unit in scenes.DIRECTIONS.items()}
        found["direction"] = max(along, key=along.__getitem__)
    return MotionFit(**found, residual=residual, areas=smooth)


def _straight(times: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, float]:
    """Velocity and residual of a uniform straight motion."""
    design = np.stack([np.ones_like(times), times], axis=1)
    solution = np.linalg.lstsq(design, centers, rcond=None)[0]
    return solution[1], _off(centers - design @ solution)


def _circle(times: np.ndarray, centers: np.ndarray) -> float:
    """Residual of a uniform circular motion in either direction; infinite for a radius outside the world's range."""
    residuals = [float("inf")]
    for turn in (scenes.CIRCLING, -scenes.CIRCLING):
        cos, sin, one, nil = np.cos(turn * times), np.sin(turn * times), np.ones_like(times), np.zeros_like(times)
        # x = x0 + a cos - b sin, y = y0 + a sin + b cos, for a radius sqrt(a^2 + b^2)
        design = np.concatenate([np.stack([one, nil, cos, -sin], axis=1), np.stack([nil, one, sin, cos], axis=1)])
        target = centers.T.reshape(-1)
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        if 0.08 <= np.hypot(*solution[2:]) <= 0.4:
            residuals.append(_off((target - design @ solution).reshape(2, -1).T))
    return min(residuals)


def _bounce(times: np.ndarray, centers: np.ndarray) -> float:
    """Residual of a uniform motion that is reflected once along one axis or both."""
    span = times[-1] - times[0]
    kinks = np.linspace(times[0] + 0.1 * span, times[-1] - 0.1 * span, 33)
    errors = []
    for place in centers.T:
        straight = np.stack([np.ones_like(times), times], axis=1)
        folded = [np.stack([np.ones_like(times), kink - np.abs(times - kink)], axis=1) for kink in kinks]
        errors.append(min(_square_error(design, place) for design in (straight, *folded)))
    return float(np.sqrt(sum(errors) / len(times)))


def _square_error(design: np.ndarray, values: np.ndarray) -> float:
    solution = np.linalg.lstsq(design, values, rcond=None)[0]
    return float(np.square(values - design @ solution).sum())


def _off(differences: np.ndarray) -> float:
    return float(np.sqrt(np.square(differences).sum(axis=1).mean()))
