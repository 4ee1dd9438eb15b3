"""Kernel launches, waits of the host and memory traffic of the CUDA path, counted on a pretended GPU.

    python -m benchmarks launches [NAME=PATH...]

No GPU is needed, and nothing is timed: tests/gpu/pretended.py counts what torch dispatches, in eager mode. Bytes are
those that all operations but products, convolutions and attention read and write, for a clip of 16 frames of the
preset's size. NAME=PATH also counts another checkout of vidiff, such as before=../old.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import save

ROOT = Path(__file__).resolve().parents[1]
PRESETS = {"tiny": (32, 8), "small": (64, 8), "base": (64, 16)}  # side and frames of a clip


def main() -> None:
    asked = dict(word.split("=", 1) for word in sys.argv[1:])
    figures: dict[str, Any] = {}
    for name, checkout in {**asked, "now": str(ROOT)}.items():
        figures[name] = {
            "networks": {preset: child(checkout, Path(__file__), preset) for preset in PRESETS},
            "training": {case: summary(counts) for case, counts in cases(checkout, "train").items()},
            "sampling": {case: waits(counts) for case, counts in cases(checkout, "generate").items()},
        }
        save("launches", figures)


def child(checkout: str, *command: str | Path) -> dict[str, Any]:
    """What a script prints as JSON, with the package of a checkout: the pretended GPU changes its process."""
    paths = [Path(checkout).resolve() / "src", ROOT, ROOT / "tests/support", ROOT / "tests/gpu"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, command)], env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def cases(checkout: str, group: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return child(checkout, ROOT / "tests/gpu/cases.py", group, folder)


def waits(counts: dict[str, Any]) -> float | str:
    """Waits in a step, or the last line of the error of a case that this checkout does not run."""
    return counts["error"].strip().splitlines()[-1] if "error" in counts else sum(counts["waits"].values())


def summary(counts: dict[str, Any]) -> dict[str, Any]:
    return {"waits": waits(counts)} | ({} if "error" in counts else {"launches": counts["launches"]})


def count(preset: str) -> dict[str, Any]:
    """Forward and backward pass of one clip, and the update, in bf16."""
    import torch
    from pretended import LOG

    from vidiff_cli.config.model import ModelSettings, TextSettings
    from vidiff_cli.config.train import OptimizerSettings, presets
    from vidiff_cli.models.conditioning import Conditioning
    from vidiff_cli.models.video_model import new_video_model
    from vidiff_cli.training.state import TrainState

    chosen, (side, frames) = presets()[preset], PRESETS[preset]
    network = chosen["network"] | {"dropout": 0.0}
    settings = ModelSettings.model_validate(
        {"width": side, "height": side, "frames": frames, "network": network, "text": TextSettings(kind="none")}
    )
    device = torch.device("cuda")
    video_model = new_video_model(settings, 0).to(device)
    state = TrainState(video_model, OptimizerSettings(**chosen.get("optimizer", {})))
    noise = torch.ones(1, 3, frames, side, side, device=device)
    width = settings.network.context_dim
    conditioning = Conditioning(
        times=torch.zeros(1, frames, device=device),
        observed=torch.zeros(1, frames, dtype=torch.bool, device=device),
        tokens=torch.ones(1, 8, width, device=device),
        token_mask=torch.ones(1, 8, dtype=torch.bool, device=device),
        pooled=torch.ones(1, width, device=device),
    )
    figures: dict[str, Any] = {}

    def keep(phase: str) -> None:
        launches, moved = sum(LOG.launches.values()), LOG.elementwise_bytes
        figures[phase] = {"launches": launches, "elementwise_gb": round(moved / 1e9, 3)}
        LOG.reset()

    LOG.reset()
    with torch.autocast("cuda", torch.bfloat16):
        loss = video_model.denoiser.predict(noise, torch.zeros(1, frames, device=device), conditioning).square().mean()
    keep("forward")
    loss.backward()
    keep("backward")
    for _ in range(2):  # the first one makes the optimizers' states
        LOG.reset()
        for optimizer in state.optimizers.values():
            optimizer.step()
        state.ema.update(video_model)
    keep("update")
    return figures


if __name__ == "__main__":
    from pretended import pretended_gpu

    with pretended_gpu():
        print(json.dumps(count(sys.argv[1])), flush=True)
    os._exit(0)  # torch's tables point into this process's memory
