"""docs/presets.md, from the presets' own files and benchmarks/results/large.json."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

ORDER = ("tiny", "small", "base", "latent", "kinetics")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
OPENING = """# Presets

A preset is a file of settings, `src/vidiff_cli/config/presets/NAME.toml`: what it does not name has its default. Each
begins with what it makes, on what hardware, how long it takes, what was measured and the command. `--config my.toml` is
a preset of your own, `--set network.base_channels=96` changes one setting, and `vidiff train DATASET --estimate`
measures a few steps and says what memory, disk and time a training will need on your machine.

<!-- made by `make docs` from those files: change them, not this page -->
"""


def page() -> str:
    """Return the page: each preset's file unchanged, then the memory table."""
    folder = files("vidiff_cli.config") / "presets"
    parts = [f"## {name}\n\n```toml\n{(folder / f'{name}.toml').read_text('utf-8')}```\n" for name in ORDER]
    return "\n".join([OPENING, *parts, memory()])


def memory() -> str:
    """Return the section on larger frames, from the results of benchmarks/large.py."""
    found = json.loads((RESULTS / "large.json").read_text(encoding="utf-8"))
    rows = [
        f"| {row['side']}x{row['side']}, {row['frames']} frames | {row['plain_plan_mib']} | {row['step_mib']} | "
        f"{row['checkpointed_plan_mib']} | {row['sample_mib']} |"
        for row in found["results"]
    ]
    options = " ".join(f"--set 'network.{name}'" for name in found["network"])
    return f"""## Larger frames, less memory

`--accumulate N` takes a batch through the network in N parts: less memory, the same step.
`--gradient-checkpointing on` keeps the input of each stage alone and computes the rest again: a third more operations,
the same gradient. Both may be changed in an existing run. `--batch-size auto` takes the largest batch that fits, once
for a run.

One clip at a time, a network of {found["results"][0]["parameters"] / 1e6:.1f} M parameters, largest resident set in MiB
without a GPU (`python -m benchmarks large`):

```bash
vidiff train dataset --preset small --batch-size 1 --frames 16 \\
  {options}
```

| clip | planned | one step of a run | planned with checkpointing | one sample |
|---|---|---|---|---|
{chr(10).join(rows)}

These sizes run on such a machine; none was trained on it.
"""
