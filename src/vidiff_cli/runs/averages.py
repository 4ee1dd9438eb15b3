"""Averages of a run: snapshots of the two that are updated, and the one of any length that becomes its result.

`averages/step-N.safetensors` (`step-N-of-M` in the decay branch) has both averages after N steps in half precision.
There are 4 to 8, evenly over the training, at steps that follow from its length alone: when there would be more, every
second one goes. A missing or damaged one makes other lengths less exact, and nothing else.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vidiff_cli.checkpoint import Checkpoint, read_checkpoint, write_tensors
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs.checkpoints import checkpoint_name
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.training.distributed import DistributedContext
from vidiff_cli.training.ema import LENGTHS, USUAL, combine
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import ChosenAverage, TrainState

FOLDER, SUFFIX = "averages", ".safetensors"
EVERY, MOST = 32, 8  # steps between snapshots at first; snapshots before every second one goes
TRIED = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2)  # lengths for the result, from the usual one downhill


def save_snapshot(
    state: TrainState, run: Path | None, schedule: LRSchedule, parallel: DistributedContext, *, every: int = EVERY
) -> None:
    """Writes a snapshot of this step, where one is due, and removes those that are too many.

    Args:
        state: The state after a step; all ranks call this after every step.
        run: The run folder; of rank 0 alone, which writes.
        schedule: The schedule of the run, which names the snapshot's branch.
        parallel: This rank.
        every: Steps between snapshots of a short run.
    """
    while state.step > every * MOST:
        every *= 2
    if state.step % every or state.step == schedule.steps:
        return
    halves = dict[str, Tensor]()
    for length, averages in state.ema.averages.items():
        whole = parallel.gather_full_state(averages)
        if run is not None:
            halves |= {f"{length:g}/{name}": value.cpu().half() for name, value in whole.items()}
    if run is None:
        return
    path = run / FOLDER / f"{checkpoint_name(state, schedule)}{SUFFIX}"
    path.parent.mkdir(exist_ok=True)
    write_tensors(path, halves, {"step": state.step, "updates": state.ema.updates})
    for other in path.parent.glob(f"step-*{SUFFIX}"):
        step = _step(other, schedule)
        if step is None or (step < state.step and step % every):
            remove(other)


def _step(path: Path, schedule: LRSchedule) -> int | None:
    """The step of a snapshot; None for one of another decay branch."""
    step, _, steps = path.name.removesuffix(SUFFIX).removeprefix("step-").partition("-of-")
    if not step.isdecimal() or (int(steps or 0) != schedule.steps if steps else int(step) > schedule.stable):
        return None
    return int(step)


def read_snapshots(run: Path, state: TrainState, schedule: LRSchedule) -> list[tuple[int, Checkpoint]]:
    """The snapshots before this step as (updates, file); those that cannot be read or do not fit are left out."""
    expected = {f"{length:g}/{name}" for length in LENGTHS for name in state.ema.shadow}
    found = []
    for path in sorted((run / FOLDER).glob(f"step-*{SUFFIX}")):
        step = _step(path, schedule)
        with contextlib.suppress(VidiffError):
            if step is not None and step < state.step:
                snapshot = read_checkpoint(path)
                updates = snapshot.header.get("updates")
                if isinstance(updates, int) and 0 < updates < state.ema.updates and snapshot.tensors.keys() == expected:
                    found.append((updates, snapshot))
    return found


def average_of(
    length: float,
    state: TrainState,
    averages: Mapping[float, Mapping[str, Tensor]],
    snapshots: list[tuple[int, Checkpoint]],
) -> dict[str, Tensor]:
    """The average of a length at the end, put together from the last `averages` (whole, by length) and snapshots."""
    if length in averages:
        return dict(averages[length])
    terms = [(each, updates, snapshot) for updates, snapshot in snapshots for each in LENGTHS]
    known = [(each, updates) for each, updates, _ in terms] + [(each, state.ema.updates) for each in LENGTHS]
    factors = combine(known, length).tolist()
    made = {}
    for name, last in averages[LENGTHS[-1]].items():
        if not last.is_floating_point():
            made[name] = last
            continue
        total = torch.zeros_like(last, dtype=torch.float64, device="cpu")
        for factor, (each, _, snapshot) in zip(factors, terms, strict=False):
            total += factor * snapshot.tensors[f"{each:g}/{name}"].reshape(total.shape).double()
        for factor, each in zip(factors[len(terms) :], LENGTHS, strict=True):
            total += factor * averages[each][name].cpu().double()
        made[name] = total.to(last.dtype)
    return made


def choose_average(
    state: TrainState,
    run: Path | None,
    settings: TrainSettings,
    schedule: LRSchedule,
    parallel: DistributedContext,
    *,
    loss: Callable[[Mapping[str, Tensor]], float] | None,
) -> ChosenAverage | None:
    """The average that becomes the result: of the length that is asked for, else of the one with the lowest loss.

    Args:
        state: The state after the last step.
        run: The run folder; of rank 0 alone, which alone has the weights afterwards.
        settings: The settings of the run.
        schedule: The schedule of the run.
        parallel: This rank.
        loss: The held-out loss of whole weights; None without held-out clips.

    Returns:
        The average; None for the usual one, where it is asked for, or nothing is asked for and measured.
    """
    asked = settings.optimizer.ema_length
    if not state.ema.updates or asked == USUAL or not (asked or parallel.all_reduce_max(int(loss is not None))):
        return None
    averages = {length: parallel.gather_full_state(each) for length, each in state.ema.averages.items()}
    if run is None:
        return ChosenAverage(length=asked, weights={}, losses={})
    snapshots = read_snapshots(run, state, schedule)
    if asked:
        return ChosenAverage(length=asked, weights=average_of(asked, state, averages, snapshots), losses={})
    assert loss is not None, "rank 0 has the held-out clips"
    losses = dict[float, float]()

    def measure(place: int) -> float:
        length = TRIED[place]
        if length not in losses:
            losses[length] = loss(average_of(length, state, averages, snapshots))
        return losses[length] if math.isfinite(losses[length]) else math.inf

    best = lowest(measure, start=TRIED.index(USUAL), count=len(TRIED))
    chosen = average_of(TRIED[best], state, averages, snapshots)
    return ChosenAverage(length=TRIED[best], weights=chosen, losses=dict(sorted(losses.items())))


def lowest(measure: Callable[[int], float], *, start: int, count: int) -> int:
    """The place of a minimum among `count`, found from `start` by going downhill: its neighbors are no lower."""
    best = start
    while True:
        near = min((place for place in (best - 1, best + 1) if 0 <= place < count), key=measure)
        if not measure(near) < measure(best):
            return best
        best = near
