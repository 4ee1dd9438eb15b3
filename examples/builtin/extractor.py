"""Trains the `shapes` extractor of `vidiff evaluate`, which comes with vidiff.

    python examples/builtin/extractor.py src/vidiff_cli/builtin/extractor.safetensors

The small network of metrics/extractors.py learns to name what clips of the shapes world show (colors, shapes, sizes,
moves, speeds, ground, and how many things), at 16 and 32 pixels, 8 and 16 frames and two rates. Its head is thrown
away, its convolutions are kept in half precision, and its features are divided by their spread over such clips. Prints
how well it names scenes that it has not seen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.metrics.extractors import SmallNetwork
from vidiff_cli.worlds import scenes
from vidiff_cli.worlds.splits import MOVES, draw_scene

STEPS, BATCH, LR, SEED = 1500, 24, 3e-3, 0
VIEWS = ((16, 8, 8), (16, 16, 8), (32, 8, 8), (32, 16, 16))  # canvas, frames, frames per second; in turn
HELD_OUT = 1_000_000  # the number of the first scene that is not trained on
NAMES: dict[str, Sequence[str]] = {
    "color": tuple(scenes.COLORS),
    "shape": scenes.SHAPES,
    "size": tuple(scenes.SIZES),
    "move": MOVES,
    "speed": tuple(scenes.SPEEDS),
    "ground": scenes.GROUNDS,
    "count": ("two things",),
}
LABELS = sum(len(words) for words in NAMES.values())


def batch(first: int, count: int, view: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Scenes first, first + 1, ... as pixels in [-1, 1] (n c t h w), and which words are true of them (n labels)."""
    canvas, frames, fps = view
    clips, truth = [], []
    for number in range(first, first + count):
        scene = draw_scene("whole", SEED, number, side="any")
        clips.append(scenes.render(scene, np.arange(frames) / fps, canvas=canvas))
        said = {name: {getattr(thing, name) for thing in scene.things} for name in ("color", "shape", "size", "speed")}
        said |= {"move": {thing.move for thing in scene.things}, "ground": {scene.ground.kind}}
        said |= {"count": {"two things"} if len(scene.things) == 2 else set()}
        truth.append([float(word in said[name]) for name, words in NAMES.items() for word in words])
    pixels = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return pixels, torch.tensor(truth)


def train() -> tuple[SmallNetwork, nn.Module]:
    torch.manual_seed(SEED)
    network = SmallNetwork()
    head = nn.Linear(network.dimension, LABELS)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        pixels, truth = batch(step * BATCH, BATCH, VIEWS[step % len(VIEWS)])
        loss = functional.binary_cross_entropy_with_logits(head(network(pixels)), truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == STEPS - 1:
            print(f"step {step}: loss {float(loss.detach()):.4f}, {time.process_time():.0f} s", flush=True)
    return network.eval(), head


@torch.no_grad()
def accuracy(network: SmallNetwork, head: nn.Module) -> dict[str, float]:
    """For each kind of word the mean over its words of the mean of both rates: of being named where it is true, and of
    not being named where it is not (0.5 by chance)."""
    said, true = [], []
    for number, view in enumerate(VIEWS * 4):
        pixels, truth = batch(HELD_OUT + 64 * number, 64, view)
        said.append(head(network(pixels)))
        true.append(truth)
    scores, truth = torch.cat(said), torch.cat(true) > 0.5
    rates, place = {}, 0
    for name, words in NAMES.items():
        each = []
        for label in range(place, place + len(words)):
            named = scores[:, label] > torch.quantile(scores[:, label], 1 - truth[:, label].float().mean())
            right = named[truth[:, label]].float().mean(), (~named[~truth[:, label]]).float().mean()
            each.append(float(sum(right) / 2))
        place += len(words)
        rates[name] = round(float(np.mean(each)), 3)
    return rates


@torch.no_grad()
def standardise(network: SmallNetwork) -> None:
    """Sets the shift and scale of the features to their mean and standard deviation over 1,024 training scenes."""
    found = torch.cat([network(batch(64 * number, 64, view)[0]) for number, view in enumerate(VIEWS * 4)])
    network.shift.copy_(found.mean(dim=0))
    network.scale.copy_(found.std(dim=0).clamp(min=1e-3 * float(found.std())))


def main(path: Path) -> None:
    torch.set_num_threads(1)
    network, head = train()
    network.load_state_dict({name: value.half().float() for name, value in network.state_dict().items()})
    rates = accuracy(network, head)  # of the weights as they are kept
    standardise(network)
    state = {
        name: value.half() if name.startswith("layers.") else value for name, value in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={"recipe": "examples/builtin/extractor.py", "steps": str(STEPS)})
    path.chmod(0o644)
    print({"accuracy": rates, "bytes": path.stat().st_size, "cpu_seconds": round(time.process_time())})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
