"""Commands that the README and the pages of docs/ tell people to type exist, with the options that they name."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vidiff_cli.cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "cli.md"]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "src" / "vidiff_cli" / "builtin" / "README.md"]
TEXT = "\n".join([README, *(page.read_text(encoding="utf-8") for page in PAGES)])


def fenced(language: str, text: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def typed(text: str) -> list[str]:
    """The commands of the bash blocks, without prompts, comments and continuations."""
    lines = [line for block in fenced("bash", text) for line in block.replace("\\\n", " ").splitlines()]
    commands = {line.strip().removeprefix("$ ").partition("  #")[0].strip() for line in lines}
    return sorted(command for command in commands if command.startswith("vidiff "))


TYPED = typed(TEXT)
OTHER_TOOLS = {  # flags that the pages name of pip, torchrun, SLURM, docker, benchmarks and the tests' own harness
    "--cpus-per-task", "--gpus", "--index-url", "--no-deps", "--nnodes", "--nodes", "--nproc-per-node", "--ntasks",
    "--rm", "--rounds", "--shm-size"
} | {"--losses", "--name", "--people", "--resolution", "--seeds"}  # fmt: skip
NAMED = sorted(set(re.findall(r"`(vidiff(?: [a-z-]+)+)[^`]*`", README)))


@pytest.mark.parametrize("command", TYPED)
def test_every_command_is_taken(command: str) -> None:
    """With --help at its end nothing runs, but an option that is not there is refused."""
    words = shlex.split(command)[1:]
    assert CliRunner().invoke(app, [*words, "--no-such-option", "--help"], prog_name="vidiff").exit_code == 2
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="vidiff")
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("command", NAMED)
def test_every_command_that_is_named_is_there(command: str) -> None:
    assert CliRunner().invoke(app, [*command.split()[1:], "--help"], prog_name="vidiff").exit_code == 0


def test_every_flag_that_is_named_exists() -> None:
    """Of code spans and blocks in the README and the pages; the reference of the commands has all flags."""
    flag = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
    known = set(flag.findall((ROOT / "docs" / "cli.md").read_text(encoding="utf-8"))) | OTHER_TOOLS
    code = re.findall(r"```.*?```|`[^`]*`", TEXT, flags=re.DOTALL)
    assert sorted({name for part in code for name in flag.findall(part)} - known) == []


def test_there_is_something_to_type() -> None:
    named = {command.split()[1] for command in typed(README)}
    assert named >= {"prep", "train", "sample", "extend", "interpolate", "upscale"}


def test_the_readme_is_short_and_its_set_up_is_two_commands() -> None:
    assert len(README.split()) <= 900
    assert "`make demo`" in README and "`make test`" in README


@pytest.mark.parametrize("code", fenced("python", TEXT))
def test_every_snippet_of_python_names_what_is_there(code: str) -> None:
    """It compiles, its imports exist, and its settings are valid."""
    tree = ast.parse(code)
    names: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            names |= {alias.name: getattr(module, alias.name) for alias in node.names}
    settings = [
        call for call in ast.walk(tree) if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Settings")
    ]
    assert settings
    for call in settings:
        model = names[ast.unparse(call.func)]
        model(**{word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg})  # type: ignore[operator]
