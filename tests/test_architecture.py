"""The rules of the house that an import graph does not show by itself. The layers are checked by `make check`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "vidiff_cli"
SOURCES = sorted(PACKAGE.rglob("*.py"))


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


def test_the_maths_knows_no_network():
    assert importers("torch.nn", "vidiff_cli.models", under="diffusion") == []


def test_sampling_receives_a_denoise_function():
    assert importers("vidiff_cli.models", under="sampling") == []


def test_only_video_talks_to_decord_and_ffmpeg():
    outside = [name for name in importers("decord", "imageio_ffmpeg") if not name.startswith("video/")]
    assert outside == []


def test_nobody_imports_click_or_pickle():
    """Typer brings its own click; a pickle can run anything when it is read."""
    assert importers("click", "pickle") == []


def test_commands_know_no_tensor():
    assert importers("torch", "numpy", "einops", under="cli") == []


def test_tasks_and_what_lies_below_do_not_print():
    printing = [
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if not path.is_relative_to(PACKAGE / "cli")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_no_shell():
    assert [path.name for path in SOURCES if "shell=True" in path.read_text(encoding="utf-8")] == []


def test_nothing_is_evaluated_and_no_pickle_is_loaded_by_another_name():
    """What is in a file stays data. What is written out in the source may be executed."""
    calls = [
        f"{path.relative_to(PACKAGE)}: {called}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (called := ast.unparse(node.func))
        in ("eval", "exec", "os.system", "os.popen", "torch.load", "torch.jit.load")
        and not all(isinstance(argument, ast.Constant) for argument in node.args)
    ]
    # the one program that a person names: the I3D of FVD comes as TorchScript
    assert calls == ["metrics/i3d.py: torch.jit.load"]


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


def test_no_room_for_leftovers():
    assert [path.name for path in SOURCES if path.stem in ("utils", "helpers", "common", "misc")] == []


@pytest.mark.parametrize("modules", [("cli.app",), ("config", "frames", "errors")])
def test_light_modules_do_not_load_torch(modules):
    """In a fresh interpreter, with every module of a room."""
    names = []
    for module in modules:
        place = PACKAGE / module.replace(".", "/")
        names += [f"vidiff_cli.{module}"] if not place.is_dir() else []
        names += [f"vidiff_cli.{module}.{path.stem}" for path in place.glob("*.py") if path.stem != "__init__"]
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    script += "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    found = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


def test_the_package_exports_the_commands_when_they_are_used():
    script = """
import sys, vidiff_cli
assert "torch" not in sys.modules and not hasattr(vidiff_cli, "nothing")
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.train import train
assert (vidiff_cli.prepare, vidiff_cli.train) == (prep, train)
assert all(callable(getattr(vidiff_cli, name)) for name in vidiff_cli.__all__ if name != "__version__")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
