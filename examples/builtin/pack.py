"""Puts the averaged weights of a run into the package, in half precision: a model in the box.

python examples/builtin/pack.py RUN [src/vidiff_cli/builtin/model.safetensors]

Of a run that was trained on a world, its settings are kept: `vidiff evaluate` draws captions of that world.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from vidiff_cli.checkpoint import read_header, read_tensors, write_tensors
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.world import ADDRESS
from vidiff_cli.generation.builtin import builtin_file
from vidiff_cli.generation.load_model import find_checkpoint

MOST_BYTES = 25 * 10**6


def main(run: Path, target: Path) -> None:
    source = find_checkpoint(run)
    halves = {name: value.to(torch.float16) for name, value in read_tensors(source).items()}
    if bad := [name for name, value in halves.items() if not bool(torch.isfinite(value).all())]:
        raise SystemExit(f"{bad[0]} does not fit into half precision")
    trained = read_run_config(run)["train"]
    assert isinstance(trained, dict)
    world = {"world": trained["world"]} if trained["dataset"] == ADDRESS else {}
    write_tensors(target, halves, read_header(source) | world)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB from {source}")
    if target.stat().st_size > MOST_BYTES:
        raise SystemExit("too large for the package")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else builtin_file())
