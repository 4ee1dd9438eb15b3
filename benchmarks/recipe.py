"""What the recipes of docs/gpu.md take, by arithmetic: memory of a step, and hours at an assumed share of the peak.

    python -m benchmarks recipe

Nothing is run on a GPU, and on none is it needed: parameters, operations and bytes are those of `vidiff train
--estimate`, computed from the shapes of the network; hours are operations over the card's data sheet times the share
that is assumed to be reached. Writes benchmarks/results/recipe.json; `make docs` puts it into docs/gpu.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import save
from vidiff_cli.commands.doctor.gpu import peak_tflops
from vidiff_cli.config.resolve import resolve
from vidiff_cli.config.train import TrainSettings, presets
from vidiff_cli.dataset.world_dataset import WorldClips
from vidiff_cli.runs.memory import GIB, USABLE_FRACTION, cheapest_change, estimate_step
from vidiff_cli.runs.setup import model_settings

SHARE = 0.35  # of the peak, compiled: assumed
ONE_CARD = "RTX 4090"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A training on GPUs of `gib` memory each, with its settings beyond those of the preset."""

    name: str
    card: str
    gib: int
    gpus: int
    preset: str
    given: Mapping[str, Any]


HALF_AS_WIDE = {"network.base_channels": 64, "steps": 50_000, "batch_size": 64}
RECIPES = (
    Recipe(name="small", card=ONE_CARD, gib=24, gpus=1, preset="small", given={"steps": 20_000, "batch_size": 64}),
    Recipe(name="base, 64 channels", card=ONE_CARD, gib=24, gpus=1, preset="base", given=HALF_AS_WIDE),
    Recipe(name="base", card="A100", gib=80, gpus=8, preset="base", given={}),
    Recipe(name="base", card="H100", gib=80, gpus=8, preset="base", given={}),
)


def main() -> None:
    save("recipe", {"share": SHARE, "usable": USABLE_FRACTION, "rows": [figures(recipe) for recipe in RECIPES]})


def figures(recipe: Recipe) -> dict[str, Any]:
    """Size, memory and time of a recipe: 16 frames of 64x64 with captions, without the estimate by motion."""
    given = {"dataset": Path("world:shapes"), "world.size": 64, "frames": 16, "motion": False, **recipe.given}
    settings = resolve(TrainSettings, under=presets()[recipe.preset], given=given)
    model = model_settings(settings, WorldClips(settings.world))
    usable = int(USABLE_FRACTION * recipe.gib * GIB)
    plain = estimate_step(settings, model, recipe.gpus)
    words = "" if plain.bytes <= usable else cheapest_change(settings, model, usable, world=recipe.gpus) or ""
    if words.startswith("--accumulate "):
        settings = settings.model_copy(update={"grad_accum_steps": int(words.split()[1])})
    peak = peak_tflops(recipe.card)
    assert peak is not None
    flops = settings.steps * plain.flops
    return {
        "name": recipe.name,
        "card": recipe.card,
        "gib": recipe.gib,
        "gpus": recipe.gpus,
        "options": words,
        "parameters": plain.parameters,
        "tflop_per_clip": plain.flops / settings.batch_size / 1e12,
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "step_gib": estimate_step(settings, model, recipe.gpus).bytes / GIB,
        "peak_tflops": peak,
        "hours": flops / (peak * 1e12 * SHARE * recipe.gpus) / 3600,
    }


if __name__ == "__main__":
    main()
