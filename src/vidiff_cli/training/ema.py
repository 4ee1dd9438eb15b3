"""Power-function averages of weights, from which an average of any length is put together afterwards (post-hoc EMA).

The average of length s after n updates weighs the weights after update k by (k / n)^(g + 1) - ((k - 1) / n)^(g + 1):
its standard deviation is the share s of the training, however long that is. Two of them are updated at every step;
their values at a few steps (snapshots) span nearly every other length, which is found by least squares between the
profiles of weights. Source: Karras et al. 2024 (EDM2), section 3.2 and appendix C. Shapes: m cells of updates, n
averages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vidiff_cli.models.sharding import local

LENGTHS = (0.05, 0.1)  # of the averages that are updated, as shares of the training
USUAL = 0.05  # the one that sampling uses while the training goes on, or where nothing is held out
CELLS = 4096  # of updates, in which profiles are compared: exact up to as many


class Ema:
    """Averages of all parameters and buffers of a module, by length. Of a module in shards (FSDP2), these are shards
    too."""

    def __init__(self, module: nn.Module) -> None:
        self.updates = 0
        self.averages = {length: _copy(module) for length in LENGTHS}

    @property
    def shadow(self) -> dict[str, Tensor]:
        """The average of the usual length."""
        return self.averages[USUAL]

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves the averages towards the module's present values; at first they are these."""
        self.updates += 1
        present = {name: local(value) for name, value in module.state_dict().items()}
        floats = [name for name, value in present.items() if value.is_floating_point()]
        for length, averages in self.averages.items():
            share = 1 - (1 - 1 / self.updates) ** (exponent(length) + 1)
            # on a GPU a launch for all of them, not one for each
            mine, theirs = [local(averages[name]) for name in floats], [present[name] for name in floats]
            torch._foreach_lerp_(mine, theirs, share)  # pyright: ignore[reportPrivateImportUsage]
            for name in present.keys() - floats:
                local(averages[name]).copy_(present[name])


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def exponent(length: float) -> float:
    """The exponent g of a length (the relative standard deviation of the profile), by EDM2's equation 126."""
    inverse = length**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(max(roots.real[np.abs(roots.imag) < 1e-9]))


def profile(length: float, updates: int, edges: np.ndarray) -> np.ndarray:
    """The weights of an average after `updates`, summed over the cells between `edges` (m + 1) of updates: (m)."""
    return np.diff((np.minimum(edges, updates) / updates) ** (exponent(length) + 1))


def combine(averages: Sequence[tuple[float, int]], length: float) -> np.ndarray:
    """Factors (n) of averages (length, updates) whose sum is nearest to the average of `length` after the most updates.

    The factors add up to 1. Nearest is meant between profiles of weights, as densities.
    """
    most = max(updates for _, updates in averages)
    edges = np.unique(np.linspace(0, most, min(most, CELLS) + 1).round())
    scale = 1 / np.sqrt(np.diff(edges))
    columns = np.stack([profile(*each, edges) * scale for each in averages], axis=1)
    last, wanted = columns[:, -1], profile(length, most, edges) * scale
    others = np.linalg.lstsq(columns[:, :-1] - last[:, None], wanted - last, rcond=None)[0]
    return np.append(others, 1 - others.sum())


def residual(averages: Sequence[tuple[float, int]], length: float) -> float:
    """The distance of the combined profile from that of the length, relative to its own size."""
    most = max(updates for _, updates in averages)
    edges = np.unique(np.linspace(0, most, min(most, CELLS) + 1).round())
    scale = 1 / np.sqrt(np.diff(edges))
    wanted = profile(length, most, edges) * scale
    found = sum(
        factor * profile(*each, edges) * scale for factor, each in zip(combine(averages, length), averages, strict=True)
    )
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
