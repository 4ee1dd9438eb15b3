"""The commands as a person types them, in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from vidiff_cli.cli.app import app


def vidiff(*arguments: str | Path) -> Any:
    """The result of a command: exit_code, stdout, stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="vidiff")


def json_of(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The one object that a command prints with --json."""
    result = vidiff(*arguments, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def sentence_of(result: Any, code: int = 1) -> str:
    """The one sentence after "Error:", which ends stderr, of a command that failed without a traceback."""
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == "" and "Traceback" not in result.stderr and "unexpected" not in result.stderr
    before, _, sentence = result.stderr.partition("Error: ")
    assert re.fullmatch(r"[^\n]+\.\n", sentence), result.stderr
    assert not re.search(r"\. [A-Z]|Error:", sentence) and "Error" not in before
    return sentence.strip()
