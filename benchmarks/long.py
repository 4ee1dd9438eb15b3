"""Memory of a long extension: 5,000 frames against 50, with a stub in the place of the network.

    python -m benchmarks long MODEL CLIP [--frames 5000]

The command as a user runs it, but that the network's answer is its input, so that only the frames count: the most
memory that the process held while 50 and while all frames were made. Writes benchmarks/results/long.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.machine import save
from vidiff_cli.commands.extend import extend
from vidiff_cli.config.generate import ExtendSettings
from vidiff_cli.device import peak_memory, restart_peak
from vidiff_cli.models.unet_model import UNetModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=5000)
    asked = parser.parse_args()
    UNetModel.denoiser = lambda *_, **__: lambda z, level: z  # type: ignore[method-assign]
    peaks, report = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for count in (50, asked.frames):
            restart_peak(torch.device("cpu"))
            settings = {"model": asked.model, "input": asked.clip, "num_frames": count, "steps": 1, "sidecar": False}
            report = extend(ExtendSettings.model_validate(settings | {"output": Path(folder, f"{count}.mp4")}))
            peaks[count] = peak_memory(torch.device("cpu")) / 2**20
            print(f"{count} frames: {peaks[count]:.0f} MiB", file=sys.stderr)
    assert report is not None
    size = {"width": report.width, "height": report.height, "windows": report.windows}
    save("long", {"peak_mib": peaks, "seconds": report.seconds, **size})
