"""Averages of weights: held-out loss by the length of the average, put together afterwards and run directly.

    python -m benchmarks averages [--steps 250] [--batch 8]

The preset tiny on the shapes world (16x16, 8 frames) with held-out clips. Beside the training run directly: power
averages of every length, and the exponential averages of vidiff before (decay .998 and .9999 with a warm-up). Put
together afterwards: the same lengths from the two averages that a run keeps and 8 snapshots of them in half precision.
`off` is the largest difference of a weight from the average that was run directly, over the largest weight; `profile`
is how far the profiles are apart. Writes benchmarks/results/averages.json.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import learning
from benchmarks.machine import save
from vidiff_cli.training.ema import LENGTHS, Ema, combine, exponent, residual
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.validation import make_validation_set, validate

TRIED = (0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25)
DECAYS = (0.998, 0.9999)
SNAPSHOTS = 8


@dataclass(frozen=True)
class Row:
    """A held-out clip."""

    frames: int
    captions: tuple[str, ...]
    fps: str = str(learning.FPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    variant = learning.Variant(batch=asked.batch)
    settings = learning.settings_of(variant).model_copy(update={"seed": asked.seed})
    state = learning.new_state(variant, settings, told=True)
    direct: dict[str, dict[str, Tensor]] = {f"length {length:g}": {} for length in TRIED}
    direct |= {f"decay {decay:g}": {} for decay in DECAYS}
    snapshots = list[tuple[float, int, dict[str, Tensor]]]()
    ema = Ema(state.video_model)
    for step in learning.steps_of(state, settings, asked.steps, torch.float32):
        ema.update(state.video_model)
        present = {name: value.detach().clone() for name, value in state.video_model.state_dict().items()}
        for name, average in direct.items():
            move(average, present, share(name, step))
        if step % max(1, asked.steps // SNAPSHOTS) == 0:
            snapshots += [
                (length, step, {name: value.half() for name, value in ema.averages[length].items()})
                for length in LENGTHS
            ]
    snapshots += [(length, asked.steps, ema.averages[length]) for length in LENGTHS]
    kept = [(length, updates) for length, updates, _ in snapshots]
    rows: dict[str, Any] = {"raw": {"loss": loss(state, dict(state.video_model.state_dict()))}}
    for name, average in direct.items():
        rows[name] = {"loss": loss(state, average)}
    for length in TRIED:
        factors = combine(kept, length).tolist()
        terms = [(factor, each) for factor, (*_, each) in zip(factors, snapshots, strict=True)]
        made = {
            name: torch.stack([factor * each[name].float() for factor, each in terms]).sum(dim=0)
            for name in direct["length 0.1"]
        }
        exact = direct[f"length {length:g}"]
        off = max(
            float((made[name] - exact[name]).abs().max() / exact[name].abs().max().clamp(min=1e-6)) for name in exact
        )
        rows[f"together {length:g}"] = {"loss": loss(state, made), "off": off, "profile": residual(kept, length)}
    for name, row in rows.items():
        print(f"{name:16}", row, file=sys.stderr)
    save("averages", {"steps": asked.steps, "batch": asked.batch, "snapshots": SNAPSHOTS, "rows": rows})


def share(name: str, step: int) -> float:
    """The share of the present weights in an average after `step` updates."""
    kind, value = name.split()
    if kind == "length":
        return 1 - (1 - 1 / step) ** (exponent(float(value)) + 1)
    return 1 - min(float(value), (1 + step) / (10 + step))


def move(average: dict[str, Tensor], present: dict[str, Tensor], part: float) -> None:
    for name, value in present.items():
        average[name] = value.clone() if name not in average else average[name].lerp_(value, part)


def loss(state: Any, weights: dict[str, Tensor]) -> float:
    videos, captions, _ = learning.clips(1, learning.HELD_OUT)
    rows = [Row(frames=len(videos[0]), captions=(each,)) for each in captions]
    source = ClipSource(rows=rows, read=lambda number, frames: videos[number, list(frames)])
    held = make_validation_set(source, state.video_model.settings)
    assert held is not None
    model = state.video_model.with_weights(weights, torch.device("cpu"))
    found = validate(model, held, reader=model.caption_reader(), device=torch.device("cpu"), dtype=torch.float32)
    return found.loss
