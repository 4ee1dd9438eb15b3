"""docs/distillation.md: `vidiff distill`, and passes of the network against what they are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.docs.conditioning import table

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
TEXT = r"""# Distillation

<!-- made by `make docs` from benchmarks/results: run the benchmarks named here, not an editor -->

A model with guidance takes two passes of its network in each step of sampling. A student takes one, and fewer steps:

```bash
vidiff distill runs/dataset-tiny -o runs/fast        # 4 steps of one pass, for 8 steps of two
vidiff sample "a person waving one hand" -m runs/fast
```

The student starts as a copy of its teacher and is trained on the teacher's clips and captions; the teacher's folder is
left as it is. The student's folder is a run like any other: the same command continues it after a kill, to the same
bits, and `sample`, `extend`, `interpolate`, `evaluate` and `info` take it. Its guidance is in the weights: another
`--guidance-scale` and a `--negative-prompt` are refused, for those use the teacher. Other `--steps` are taken; the
trained number is the default.

## What is learned

With $N$ steps (`--steps`) the student goes from a place on the noise schedule to one $1 / N$ nearer to the clean end.
The teacher goes there in $k$ steps of DDIM (`--teacher-steps` is $k N$, by default twice `--steps`) with the estimate
$\operatorname{clamp}(u + w (c - u), -1, 1)$, of $c$ with the caption and $u$ without; for a clip whose caption is
dropped it is $\operatorname{clamp}(u)$. The target is the $\tilde x$ for which one step from $z_t$ leads where the
teacher arrives,

$$\tilde x = \frac{z'' - (\sigma_s / \sigma_t) z_t}{\alpha_s (1 - e^{-h})}, \qquad h = (\lambda_s - \lambda_t) / 2,$$

and the loss the mean over made frames of $\min(1 + \mathrm{SNR}, 4)\, |x_S - \tilde x|^2$. $k = 1$ is guidance
distillation (Meng et al. 2023), $k = 2$ progressive distillation (Salimans and Ho 2022), here of both at once. Observed
frames stay as they are in every step of the teacher, so a student extends and interpolates as its teacher does.

A distilled run can be distilled again into a part of its steps: `vidiff distill runs/fast --steps 2`. A run without
captions has no guidance; its steps alone are distilled.
"""
MEASURED = """
## Measured

The model of `examples/builtin/two-cores.toml` and its student, on up to {count} captions of the world of shapes with
the same noise (`python -m benchmarks distill`). *All words*: the oracle reads every word of the caption from the
frames, % (Wilson, 95 %). *Spread*: the deviation of the object's place over that of true clips; few steps pull it to
the center. *Sharpness*: the root mean square difference of neighboring pixels over that of true clips. *Extension*: the
object's distance in pixels from its true place in 8 frames after 8 given ones, without a caption. CPU seconds are of
one video on a busy core. The intervals of *spread* are about ±.04 at 300 videos.

{table}

The student was made by `vidiff distill builtin --train-steps 360 --precision fp32`, with averaged weights of decay .99,
in 14.5 CPU minutes; the loss of held-out clips fell from .0026 (its teacher's) to .0016. It has a quarter of the passes
of 8 guided steps for a point of words and .03 of spread, within the error of the measure, and is better than 4 guided
steps at half of their passes. Beside 60 passes (99.4 % of 1,000 captions, `python -m benchmarks builtin`) it loses more
than a point. So the model in the box is the teacher, whose guidance can be chosen; `vidiff distill builtin` makes the
student.

`--shift -1` moves the steps of this model to noisier levels, and gains at every number of them: six steps are then
worth eight. It is not the default, for the model of the [levels by frame](conditioning.md), trained without a shift of
its own, loses words by it. Try it where few steps
pull objects to the center.
"""
GUIDES = """
## Guidance by other means

At equal passes, on captions of the world that the model was trained on (`python -m benchmarks guides`; a model of
{model:,} clips, its guide the same training after {guide:,}): away from a worse model (autoguidance, Karras et al.
2024), rescaled (Lin et al. 2024), and in an interval of levels (Kynkäänniemi et al. 2024). *Distance*: Frechet, over
features of the `shapes` extractor.

{table}

{verdict}
"""
VERDICT = """`--guide` is an option: with captions, at the passes of text guidance, the distance falls and nothing is
pulled to the center. Best is a scale of 2; 3 exaggerates. Without captions it sharpens, and the distance rises.
Rescaling gains nothing, and an interval nothing for its more passes: they are not options. One training, one seed; the
distances have no intervals."""


def page() -> str:
    """Return the page: the text, and the tables of distill.json and guides.json where they are there."""
    return TEXT + measured() + guides()


def measured() -> str:
    """The table of models by passes."""
    path = RESULTS / "distill.json"
    if not path.is_file():
        return ""
    figures = json.loads(path.read_text())["figures"]
    head = ["model", "steps", "guidance", "passes", "videos", "all words", "spread", "sharpness", "extension", "CPU s"]
    rows = []
    for key, row in sorted(figures.items(), key=lambda item: -item[1]["passes"]):
        name, steps, scale, sampler, shift = (*key.split(":"), "", "", "", "")[:5]
        each = [f"{row[part]:.2f}" for part in ("spread", "sharpness", "error", "cpu_seconds")]
        others = ", ".join(word for word in (sampler, f"shift {shift}" if shift else "") if word)
        shown = f"{steps} ({others})" if others else steps
        rows.append(
            [
                name,
                shown,
                scale or ("in it" if str(row["passes"]) == steps else "2"),
                str(row["passes"]),
                str(row["all words"]["count"]),
                words(row),
                *each,
            ]
        )
    count = max(row["all words"]["count"] for row in figures.values())
    return MEASURED.format(count=count, table=table(head, rows).strip())


def words(row: dict[str, Any]) -> str:
    """The share of captions with all words right, with its interval."""
    if "all words" not in row:
        return ""
    share = row["all words"]
    low, high = (round(100 * end) for end in share["interval"])
    return f"{100 * share['right']:.1f} ({low} to {high})"


def guides() -> str:
    """The table of ways to guide."""
    path = RESULTS / "guides.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    head = ["guidance", "passes", "all words", "distance", "spread", "sharpness"]
    rows = [
        [name, f"{row['passes']:g}", words(row), *(f"{row[part]:.2f}" for part in ("distance", "spread", "sharpness"))]
        for name, row in found["rows"].items()
    ]
    return GUIDES.format(table=table(head, rows).strip(), verdict=VERDICT, **found["clips_seen"])
