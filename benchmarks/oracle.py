"""Every plan with every way to condition, where the ideal denoiser is known: `python -m benchmarks oracle`.

The chain is that of tests/sampling/test_oracle_of_plans.py: Gaussian videos of one pixel, exact covariances, nothing
trained and nothing drawn, so that there are no intervals. Figures are the seam jump (1 is right) and the Frechet
distance to the truth (0 is right). Writes results/oracle.json and prints tables for the documentation.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks import machine

TEST = Path(__file__).resolve().parents[1] / "tests" / "sampling" / "test_oracle_of_plans.py"
SAMPLERS = ("dpmpp-2m", "ddim", "ddpm")
WAYS = [
    ("replacement", 0.0),
    *[("reconstruction", weight) for weight in (1.0, 2.0, 5.0, 10.0)],
    *[("reconstruction by level", weight) for weight in (5.0, 10.0)],
    ("reconstruction by count", 5.0),
    ("exact", 0.0),
]


def oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oracle_of_plans", TEST)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


def rows(chain: ModuleType) -> Iterable[dict[str, Any]]:
    for sampler in SAMPLERS:
        for process in chain.PROCESSES:
            for name, plan in chain.PLANS.items():
                law = chain.truth(process, plan)
                for way, weight in WAYS:
                    found = chain.made(process, name, way, weight, sampler)
                    yield {
                        "sampler": sampler,
                        "process": process,
                        "plan": name,
                        "windows": len(plan.windows()),
                        "condition": way,
                        "weight": weight,
                        "seam_jump": round(chain.jump(process, name, found), 3),
                        "distance": round(chain.frechet(found, law), 4),
                    }


def table(figures: list[dict[str, Any]], sampler: str, process: str) -> str:
    """Rows are plans, columns conditions; seam jump / Frechet distance."""
    some = [row for row in figures if (row["sampler"], row["process"]) == (sampler, process)]
    heads = [f"{way} {weight:g}" if weight else way for way, weight in WAYS]
    lines = [f"{sampler}, {process}", "| plan | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in dict.fromkeys(row["plan"] for row in some):
        cells = [f"{row['seam_jump']:.2f} / {row['distance']:.2f}" for row in some if row["plan"] == name]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    chain = oracle()
    figures = list(rows(chain))
    for sampler in SAMPLERS:
        for process in chain.PROCESSES:
            print(table(figures, sampler, process), end="\n\n")
    machine.save("oracle", {"rows": figures})
