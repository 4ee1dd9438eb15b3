"""docs/gpu.md: from a folder of videos to a model on one GPU and on eight, with benchmarks/results/recipe.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.docs.conditioning import table

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
TEXT = """# On GPUs

<!-- made by `make docs` from benchmarks/results and tools/docs/gpu.py: change them, not this page -->

**No line of vidiff has been measured on CUDA yet.** The tests run all of its device code on a pretended `cuda:0`
(no tensor of another device, few waits, few launches: `tests/gpu/`), and several processes on CPUs. Speed, memory and
quality in bf16 on a real GPU are not known; every figure on this page is arithmetic. Begin with `vidiff doctor` and a
short run, and compare with [the CPU](quickstart-cpu.md) where something looks wrong.

## From a folder of videos to a model

1. Install with the build of torch for your driver, and check: driver, CUDA, NCCL, bf16, what `torch.compile` needs,
   free memory, and the speed of the card beside its data sheet.

    ```bash
    pip install -c constraints.txt .
    vidiff doctor
    ```

    Or as a container (`examples/gpu/Dockerfile`, not built by its authors): `docker build -f examples/gpu/Dockerfile -t
    vidiff .`, then `docker run --rm --gpus all --shm-size 8g -v "$PWD:/data" vidiff doctor`.

2. Make a dataset of clips of 16 frames of 64x64.

    ```bash
    vidiff prep videos/ --size 64 --frames 16 --fps 8
    ```

3. Ask what a training takes on this machine: it runs a few steps and says memory, seconds a step and hours.

    ```bash
    vidiff train dataset --preset small --batch-size auto --estimate
    ```

4. Train. On CUDA the network is compiled (`--compile auto`; the first step takes a minute or more) and computes in bf16
   where the card does. Compiled kernels are kept in `~/.cache/vidiff/kernels` (or `TORCHINDUCTOR_CACHE_DIR`), where the
   same command finds them when it continues after a kill. `--batch-size auto` takes the largest power of two that fits.

    ```bash
    vidiff train dataset --preset small --steps 20000 --batch-size 64
    ```

5. Use it: `vidiff sample "a caption of your dataset" -n 16`, `vidiff extend clip.mp4`, `vidiff interpolate clip.mp4`.

## What the recipes take: arithmetic, not measured

Models of 16 frames of 64x64 pixels with captions (`python -m benchmarks recipe`). Memory is what `--estimate` computes
for each GPU, with at most {usable:.0%} of it used; hours are operations over the data sheet's speed at a share of
{share:.0%}, which is assumed. A small network is bound by the launching of kernels and takes several times as long.

{rows}

On one card of 24 GB, the network of `base` with half of its channels:

```bash
{one}
```

On eight cards of 80 GB, the network of *Video Diffusion Models*:

```bash
{eight}
```

Expect of the first what a network of {one_parameters:.0f} M parameters learns from 3.2 million clips, on a dataset of
one kind (people, or water, or streets) rather than of everything. [Several GPUs, several machines](scale.md) has
DDP and FSDP, SLURM (`examples/gpu/train.slurm`) and the arithmetic of a dataset of ten million clips.

## What was counted without a GPU

On a pretended GPU (`python -m benchmarks launches`), before the CUDA path was worked on and now, in eager mode. A wait
is a copy to the host, or from pageable memory to the GPU, during which the one waits for the other. Launches are those
of kernels: at about 5 to 10 µs each they bound a small network, unless CUDA graphs replay them (`--compile auto` below
32 M parameters). The goal of 1,000 for `tiny` is missed without such graphs.

{counts}

| preset | forward | backward | update | GB of a clip, before | now |
| --- | --- | --- | --- | --- | --- |
{launches}

The last columns are what all operations but products, convolutions and attention read and write in forward and
backward pass. They rose with a norm of our own, whose passes are counted one by one; the reads within torch's norm, and
the copies to another memory layout that it forces, are not.

## Every command on every GPU

torchrun starts one process per GPU, here through `examples/gpu/entry.sh`, which counts the GPUs; the container and the
SLURM script start it too.

```bash
examples/gpu/entry.sh train dataset -o runs/first --preset base
examples/gpu/entry.sh sample --prompts prompts.txt -m runs/first -o samples
examples/gpu/entry.sh interpolate films/ --fps 48 -o smooth
examples/gpu/entry.sh evaluate runs/first
torchrun --nproc-per-node 8 -m vidiff_cli prep videos/ --size 64 --frames 16      # the same without the script
```

Each process makes its part of the files, prompts and seeds, and one speaks for all; killed, the same command goes on
([scale](scale.md#every-other-command)). On CPUs the result has the same bytes as that of one process.

## The same bytes again

On a CPU the same seed gives the same bytes with one version of torch. On CUDA some kernels add in another order each
time: `--deterministic` takes those that do not, at a cost in speed that was not measured. A GPU and a CPU differ in the
last digits.
"""


def page() -> str:
    """Return the page."""
    found = json.loads((RESULTS / "recipe.json").read_text(encoding="utf-8"))
    one = next(row for row in found["rows"] if row["gpus"] == 1 and row["name"].startswith("base"))
    eight = next(row for row in found["rows"] if row["gpus"] == 8)
    return TEXT.format(
        usable=found["usable"],
        share=found["share"],
        rows=table(HEAD, [_row(row) for row in found["rows"]]),
        one=_command("vidiff", one, "--set network.base_channels=64"),
        eight=_command("torchrun --nproc-per-node 8 -m vidiff_cli", eight),
        **_counted(),
        one_parameters=one["parameters"] / 1e6,
    )


def _counted() -> dict[str, str]:
    """The tables of launches.json."""
    found = json.loads((RESULTS / "launches.json").read_text(encoding="utf-8"))
    before, now = found["before"], found["now"]
    rows = [
        [
            f"a step: {case}",
            f"{was['waits']:.0f}",
            f"{is_['waits']:.0f}",
            f"{was['launches']:,.0f}",
            f"{is_['launches']:,.0f}",
        ]
        for (case, was), is_ in zip(before["training"].items(), now["training"].values(), strict=True)
    ]
    rows += [
        [f"a step of sampling: {case}", f"{was:g}", f"{now['sampling'][case]:g}", "", ""]
        for case, was in before["sampling"].items()
    ]
    lines = []
    for preset, was in before["networks"].items():
        is_ = now["networks"][preset]
        parts = [
            f"{was[part]['launches']:,} to {is_[part]['launches']:,}" for part in ("forward", "backward", "update")
        ]
        moved = [each["forward"]["elementwise_gb"] + each["backward"]["elementwise_gb"] for each in (was, is_)]
        lines.append(f"| {preset} | {' | '.join(parts)} | {moved[0]:.2f} | {moved[1]:.2f} |")
    head = ["", "waits, before", "now", "launches, before", "now"]
    return {"counts": table(head, rows), "launches": "\n".join(lines)}


HEAD = ["preset", "GPUs", "parameters", "TFLOP a clip", "steps of clips", "at once", "GiB of each", "hours, at least"]


def _row(row: dict[str, Any]) -> list[str]:
    parts = int(row["options"].split()[-1]) if row["options"] else 1
    return [
        row["name"],
        f"{row['gpus']} x {row['card']}, {row['gib']} GB",
        f"{row['parameters'] / 1e6:.0f} M",
        f"{row['tflop_per_clip']:.3g}",
        f"{row['steps']:,} of {row['batch_size']}",
        f"{row['batch_size'] // row['gpus'] // parts}",
        f"{row['step_gib']:.0f}",
        f"{row['hours']:.1f}",
    ]


def _command(start: str, row: dict[str, Any], *words: str) -> str:
    """The command of a recipe, over two lines."""
    options = [f"--steps {row['steps']}", f"--batch-size {row['batch_size']}", row["options"], *words]
    return f"{start} train dataset --preset base \\\n  {' '.join(word for word in options if word)}"
