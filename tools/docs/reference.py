"""docs/cli.md: the reference of every command, from the commands themselves."""

from __future__ import annotations

import subprocess
import sys

COMMAND = [sys.executable, "-m", "typer", "vidiff_cli.cli.app", "utils", "docs", "--name", "vidiff"]
COMMAND += ["--title", "The commands of vidiff"]


def page() -> str:
    """Return the reference as Markdown, with the quotes and ampersands of the help texts as they were written."""
    made = subprocess.run(COMMAND, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    made = made.replace("|\n", "|")  # the line breaks of a long list of choices are for the terminal
    for code, sign in (("&quot;", '"'), ("&#x27;", "'"), ("&amp;", "&")):  # < and > stay escaped: they would be tags
        made = made.replace(code, sign)
    return "<!-- made by `make docs` from the commands: change their help, not this file -->\n\n" + made.rstrip() + "\n"
