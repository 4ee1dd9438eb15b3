"""Rules of the code that import contracts do not express. `make check` runs those (pyproject.toml)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from pictures import noise

from vidiff_cli.video.encode import encode

PACKAGE = Path(__file__).parents[1] / "src" / "vidiff_cli"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Every call in the package."""
    for path in SOURCES:
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        yield from ((path, node) for node in tree if isinstance(node, ast.Call))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, also inside functions: "torch.nn", "vidiff_cli.errors.VidiffError"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(*modules: str, under: str = "") -> list[str]:
    """The files that import one of the modules, or a part of it."""
    return [
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if path.is_relative_to(PACKAGE / under)
        and any(name == module or name.startswith(module + ".") for name in imports(path) for module in modules)
    ]


def test_nobody_imports_click_or_pickle():
    """Typer brings its own click; a pickle can run anything when it is read."""
    assert importers("click", "pickle") == []


def test_the_maths_knows_no_network_and_commands_no_tensor():
    assert importers("torch.nn", under="diffusion") == importers("torch", "numpy", "einops", under="cli") == []


def test_tasks_and_what_lies_below_do_not_print():
    printing = {path.relative_to(PACKAGE).parts[0] for path, call in calls() if ast.unparse(call.func) == "print"}
    assert printing <= {"cli"}


def test_no_shell():
    assert [path.name for path in SOURCES if "shell=True" in path.read_text(encoding="utf-8")] == []
    assert [path.name for path in SOURCES if path.stem in ("utils", "helpers", "common", "misc")] == []


def test_nothing_is_evaluated_and_no_pickle_is_loaded_by_another_name():
    """What is in a file stays data. What is written out in the source may be executed."""
    names = ("eval", "exec", "os.system", "os.popen", "torch.load", "torch.jit.load")
    found = [
        f"{path.relative_to(PACKAGE)}: {called}"
        for path, call in calls()
        if (called := ast.unparse(call.func)) in names
        and not all(isinstance(argument, ast.Constant) for argument in call.args)
    ]
    # the one program that a person names: the I3D of FVD comes as TorchScript
    assert found == ["metrics/i3d.py: torch.jit.load"]


def test_no_place_of_one_machine_is_written_down():
    places = ("/home/", "/root/", "/mnt/", "/data/", "/work/", "/Users/", "C:\\")
    texts = [
        f"{path.relative_to(PACKAGE)}: {node.value!r}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and any(place in node.value for place in places)
    ]
    assert texts == []


def in_a_fresh_interpreter(script: str) -> None:
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


def test_the_command_line_does_not_load_torch():
    """Every module of cli and config."""
    names = [f"vidiff_cli.{room}.{path.stem}" for room in ("cli", "config") for path in (PACKAGE / room).glob("*.py")]
    script = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    in_a_fresh_interpreter(script + "sys.exit('torch was imported' if 'torch' in sys.modules else 0)")


def test_the_package_exports_the_commands_when_they_are_used():
    in_a_fresh_interpreter("""
import sys, vidiff_cli
assert "torch" not in sys.modules and not hasattr(vidiff_cli, "nothing")
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.train import train
assert (vidiff_cli.prep, vidiff_cli.train) == (prep, train)
assert all(callable(getattr(vidiff_cli, name)) for name in vidiff_cli.__all__ if name != "__version__")
""")


LIBRARIES = (
    "torch._dynamo",
    "torch._inductor",
    "sympy",
    "torchvision",
    "open_clip",
    "matplotlib",
    "scipy",
    "diffusers",
    "ftfy",
    "wcwidth",
)


@pytest.mark.parametrize(
    ("asked", "heavy"),
    [
        (("sample", "a red circle moving left", "--steps", "1", "-g", "1", "-o", "out.mkv"), LIBRARIES),
        (("prep", "clips", "-o", "out", "--size", "16", "--frames", "2"), ("torch", *LIBRARIES)),
    ],
    ids=("sample", "prep"),
)
def test_a_command_loads_what_it_needs(tmp_path: Path, asked: tuple[str, ...], heavy: tuple[str, ...]):
    """A clip of the model in the box, and a dataset: seconds of imports that they can do without, and of a collector
    that looks for garbage among the modules that are being loaded."""
    (tmp_path / "clips").mkdir()
    encode(tmp_path / "clips" / "one.mkv", noise(3, 16), Fraction(8), lossless=True)
    (tmp_path / "clips" / "one.txt").write_text(20 * "many words ")
    script = f"""
import gc, os, sys
os.chdir({str(tmp_path)!r})
sys.argv = ["vidiff", *{asked}]
collections = []
gc.callbacks.append(lambda *_: collections.append("vidiff_cli.cli.app" in sys.modules and not gc.get_freeze_count()))
from vidiff_cli.__main__ import start
try:
    start()
except SystemExit as ended:
    assert not ended.code, ended.code
loaded = sorted(set({heavy}) & sys.modules.keys())
assert not loaded, loaded
assert not any(collections) and gc.isenabled(), "garbage was collected while modules were loaded, or never"
"""
    in_a_fresh_interpreter(script)
