"""Writes docs/cli.md, the reference of every command, from the commands themselves; --check only compares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REFERENCE = Path(__file__).with_name("cli.md")
COMMAND = [sys.executable, "-m", "typer", "vidiff_cli.cli.app", "utils", "docs", "--name", "vidiff"]
COMMAND += ["--title", "The commands of vidiff"]


def reference() -> str:
    """The reference as Markdown, with the quotes and ampersands of the help texts as they were written."""
    made = subprocess.run(COMMAND, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    made = made.replace("|\n", "|")  # a long list of choices has line breaks for the terminal
    for code, sign in (("&quot;", '"'), ("&#x27;", "'"), ("&amp;", "&")):  # < and > stay escaped: they would be tags
        made = made.replace(code, sign)
    return "<!-- made by `make docs` from the commands: change their help, not this file -->\n\n" + made.rstrip() + "\n"


def main() -> int:
    """Exit code: 0 written or up to date, 1 when --check found a difference."""
    made = reference()
    if "--check" in sys.argv[1:]:
        if not REFERENCE.exists() or REFERENCE.read_text(encoding="utf-8") != made:
            print("docs/cli.md does not match the commands any more; run `make docs` and commit it.", file=sys.stderr)
            return 1
        return 0
    REFERENCE.write_text(made, encoding="utf-8")
    print(REFERENCE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
