"""List the benchmarks, or run one of them.

python -m benchmarks                     the list
python -m benchmarks NAME [ARGUMENT...]  one benchmark, with its own arguments (--help lists them)
python -m benchmarks all                 those that need no data of yours, one after another, each in its own process

Run it at the root of the repository. Results go to benchmarks/results/.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALL = (  # hours on two cores; `race` and `hardware` need the peer that `make bench` installs
    ("prep",),
    ("index",),
    ("loader",),
    ("encode",),
    ("speed",),
    ("race",),
    ("hardware",),
    ("learning", "race"),
    ("learning", "recipe"),
    ("conditioning", "weights"),
    ("conditioning", "methods"),
    ("conditioning", "drift"),
    ("conditioning", "cost"),
    ("oracle",),
    ("overfit",),
    ("plan",),
    ("steps",),
    ("large",),
    ("auxiliary",),
    ("priors",),
    ("averages",),
    ("latent",),
    ("builtin",),
    ("paper.extension",),
    ("paper.guidance",),
    ("paper.samplers",),
    ("paper.images",),
    ("paper.targets",),
)


def benchmarks() -> dict[str, str]:
    """Map the name of every module with a `main` function to the first line of its docstring."""
    found = {}
    for path in sorted(HERE.rglob("*.py"), key=lambda path: (len(path.parts), path)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "main" in functions and not path.name.startswith("__"):
            summary = (ast.get_docstring(tree) or "").partition("\n")[0]
            found[".".join(path.relative_to(HERE).with_suffix("").parts)] = summary
    return found


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments name; return the exit code: 2 for an unknown name."""
    known = benchmarks()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        for name, summary in known.items():
            print(f"{name:16} {summary}")
        return 0
    if arguments[0] == "all":
        for words in ALL:
            print(f"== {' '.join(words)}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "benchmarks", *words], check=True, cwd=HERE.parent)
        return 0
    if arguments[0] not in known:
        print(f"unknown benchmark: {arguments[0]}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    sys.argv = [f"benchmarks {arguments[0]}", *arguments[1:]]
    import_module(f"benchmarks.{arguments[0]}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
