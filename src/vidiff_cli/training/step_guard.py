"""Guard against updates with NaN or gradient spikes, the loss scale of fp16, and names of the clips involved.

The state of both is a few numbers. A checkpoint stores them as JSON, so that a resumed run skips the same updates as an
uninterrupted one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

REMEMBERED = 100  # sound updates whose gradient norms make the running median
ENOUGH = 20  # of them, before anything is called a spike
GIVE_UP_AFTER = 5  # unsound updates in a row
MOST_NAMED = 4  # clips
SCALE, GROW_AFTER = 2.0**16, 2000  # of fp16: the first loss scale, and the sound updates after which it doubles


class LossScale:
    """The factor on the loss that keeps small fp16 gradients from becoming zero; 1 for other formats.

    It halves when a gradient overflows and doubles after many that did not. Source: Micikevicius et al. 2018, section
    3.2.
    """

    def __init__(self, value: float = 1.0) -> None:
        self.value, self.sound = value, 0

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divides gradients by the factor, in place."""
        if self.value != 1.0:
            torch._foreach_mul_(gradients, 1.0 / self.value)  # pyright: ignore[reportPrivateImportUsage]

    def halve(self) -> None:
        self.value, self.sound = self.value / 2, 0

    def record_success(self) -> None:
        """Counts a sound update; after enough of them, the factor doubles."""
        self.sound += 1
        if self.value != 1.0 and self.sound == GROW_AFTER:
            self.value, self.sound = self.value * 2, 0


class StepGuard:
    """Checks an update before it is made, by its loss and the norm of its gradient.

    `scale` is fp16's loss scale. `skipped` counts the updates in a row that were not made, `clipped` those in a row
    whose norm was at the limit.
    """

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=REMEMBERED)
        self.scale = LossScale()
        self.skipped = self.clipped = 0

    def check(self, loss: float, norm: float, *, spike: float) -> str:
        """The reason to skip the update: "overflow" (of fp16; halves the scale), "not finite", "spike" (a norm above
        `spike` times the running median; 0: never); "" for a sound one."""
        reason = self._reason(loss, norm, spike)
        if reason == "overflow":
            self.scale.halve()
        elif reason:
            self.skipped += 1
        else:
            self.skipped = 0
            self.norms.append(norm)
            self.scale.record_success()
        return reason

    def _reason(self, loss: float, norm: float, spike: float) -> str:
        if not math.isfinite(loss) or not math.isfinite(norm):
            return "overflow" if math.isfinite(loss) and self.scale.value > 1.0 else "not finite"
        if spike and len(self.norms) >= ENOUGH and norm > spike * median(self.norms):
            return "spike"
        return ""

    def state_dict(self) -> dict[str, Any]:
        return {
            "norms": list(self.norms),
            "scale": self.scale.value,
            "sound": self.scale.sound,
            "unsound": self.skipped,
            "clipped": self.clipped,
        }

    def load_state_dict(self, numbers: Mapping[str, Any]) -> None:
        """Loads the numbers of `state_dict`. TypeError, ValueError or KeyError for anything else."""
        if not numbers:  # of a checkpoint that is older than the guard
            return
        norms = [float(norm) for norm in numbers["norms"]][-REMEMBERED:]
        scale, counts = float(numbers["scale"]), [int(numbers[name]) for name in ("sound", "unsound", "clipped")]
        if not all(math.isfinite(each) and each >= 0 for each in (*norms, scale, *counts)) or not scale:
            raise ValueError("numbers of the guard are out of range")
        self.norms.clear()
        self.norms.extend(norms)
        self.scale.value, self.scale.sound, self.skipped, self.clipped = scale, *counts


def name_clips(rows: Sequence[int], losses: np.ndarray, clip_name: Callable[[int], str]) -> str:
    """Names the clips of a batch (b numbers and losses), the highest loss first, at most four."""
    worst = (
        np.argsort(-np.nan_to_num(losses, nan=np.inf), kind="stable") if len(losses) == len(rows) else range(len(rows))
    )
    named = dict.fromkeys(clip_name(rows[place]) for place in worst)
    shown = ", ".join(list(named)[:MOST_NAMED])
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return f"batch of {len(rows)} clips, the highest loss first: {shown}{more}"
