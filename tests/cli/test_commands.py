"""What every command does the same: both spellings, exit codes, error sentences, streams."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from typer.testing import CliRunner

from vidiff_cli.cli.app import Commands, either_spelling
from vidiff_cli.cli.console import print_paths
from vidiff_cli.cli.exits import Terminated
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.cli.progress import PlainDisplay, follow
from vidiff_cli.config.fields import Rate
from vidiff_cli.config.options import GENERAL, OUTPUT, REPRODUCE, Argument, Nested, Option
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import Note, Progress, task


class NetSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Annotated[int, Option("Net", unit="channels")] = Field(default=32, ge=8, le=64, multiple_of=8)
    depth: Annotated[int, Option("Net")] = 1


class ToySettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Argument("NAME")] = Field(default="toy", description="Name of the toy")
    num_frames: Annotated[int, Option("Clips", "--num-frames", "-T", unit="frames")] = Field(
        default=16, ge=1, description="Frames per clip [not seconds]"
    )
    fps: Annotated[Rate, Option("Clips")] = Field(default=Fraction(25), description="Frames per second")
    size: Annotated[Annotated[int, Field(ge=4)] | Literal["film"], Option(unit="pixels")] = "film"
    kind: Annotated[Literal["short", "long"] | None, Option()] = Field(default=None, description="Kind")
    share: Annotated[float, Option()] = Field(default=0.5, gt=0, lt=1, description="Share")
    texts: Annotated[tuple[str, ...], Option(GENERAL, "--text", values="auto|FILE")] = Field(default=("auto",))
    scenes: Annotated[bool, Option()] = Field(default=True, description="Split at cuts")
    paired: Annotated[bool | None, Option()] = None
    word: Annotated[str, Option()] = Field(default="plain_word", description="Any text")
    seed: Annotated[int | None, Option(REPRODUCE)] = Field(default=None, description="Seed")
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(default=False, description="Replace")
    hidden: int = Field(default=3, description="Set by files and --set alone")
    net: NetSettings = NetSettings()
    other: Annotated[NetSettings, Nested("Other", "depth")] = NetSettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    path: Path
    settings: ToySettings
    loss: float = float("nan")
    rate: Fraction = Fraction(30000, 1001)


ODD = "division by [bold]zero[/bold]"
FULL = "Error: CUDA out of memory: use a smaller size, fewer frames or a smaller batch, or --device cpu."
FAILURES: dict[str, BaseException] = {
    "clear": VidiffError("the film", found="nothing", expected="frames", fix="give a film"),
    "usage": UsageError("--a goes without --b"),
    "unexpected": ZeroDivisionError(ODD),
    "interrupt": KeyboardInterrupt(),
    "terminate": Terminated(),
    "file": FileNotFoundError(2, "No such file or directory", "film.mp4"),
    "memory": type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has"),
}


@task
def toy_task(settings: ToySettings):
    yield Note("a [b]note[/b]")
    yield Note("be careful", level="warning")
    for done in range(3):
        yield Progress(what="films", done=done + 1, total=3, detail="film.mp4")
    if settings.word in FAILURES:
        raise FAILURES[settings.word]
    return Report(path=Path("out [1].mp4"), settings=settings)


toy = typer.Typer(
    cls=Commands, pretty_exceptions_enable=False, context_settings={"token_normalize_func": either_spelling}
)


@toy.callback()
def root() -> None:
    """Toys."""


@toy.command()
@options(ToySettings)
def make(call: Invocation) -> None:
    """Make a toy."""
    report = call.follow(toy_task.events(call.settings(ToySettings)))
    call.print(report, report.path)


def run(*arguments: str):
    return CliRunner().invoke(toy, ["make", *arguments])


def settings_of(*arguments: str) -> dict:
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["settings"]


def test_values_and_both_spellings():
    for spelling in ("--num-frames", "--num_frames", "-T"):
        assert settings_of(spelling, "8")["num_frames"] == 8
    assert settings_of("--word=a_b-c_d")["word"] == "a_b-c_d"
    assert settings_of("--word", "-x_y")["word"] == "-x_y"


def test_sources_of_settings(tmp_path):
    """Files < flags < --set; only what was typed counts as given."""
    file = tmp_path / "a.toml"
    file.write_text("num_frames = 4\nword = 'toml'\nfps = 29.97\nscenes = true\nhidden = 5\n[net]\nwidth = 8\n")
    flags = ["--config", str(file), "--num_frames", "5", "--no-scenes", "--width", "16", "--set", "word=set"]
    found = settings_of(*flags, "--overwrite", "--seed", "3", "--text", "a", "--text", "b", "--size", "8")
    given = {"num_frames": 5, "fps": "30000/1001", "scenes": False, "word": "set", "seed": 3, "overwrite": True}
    given |= {"texts": ["a", "b"], "size": 8, "hidden": 5}
    defaults = ToySettings().model_dump(mode="json")
    assert found == defaults | given | {"net": defaults["net"] | {"width": 16}}
    assert settings_of() == defaults


def test_help_is_generated_from_the_fields():
    """Choices, units, defaults, bounds and what may be repeated; own panels before the ones of every command."""
    output = CliRunner().invoke(toy, ["make", "--help"], env={"COLUMNS": "200"}).output
    lines = [" ".join(line.strip("│ ").split()) for line in output.splitlines()]
    panels = [line.split()[1] for line in lines if line.startswith("╭─")]
    assert panels == ["Arguments", "Options", "Clips", "Net", "Other", "Output", "Reproducing"]
    for line in (
        "--num-frames -T <frames> Frames per clip [not seconds] (default: 16; at least 1).",
        "--fps <fps> Frames per second (default: 25).",
        "--kind [short|long] Kind.",
        "--share <float> Share (default: 0.5; above 0, below 1).",
        "--scenes --no-scenes Split at cuts (default: on).",
        "--overwrite Replace (default: off).",
        "--width <channels> (default: 32; 8 to 64, a multiple of 8).",
    ):
        assert line in lines, output
    assert any(line.startswith("--size [film|<pixels>]") and "(default: film; at least 4)" in line for line in lines)
    assert any(line.startswith("--text [auto|FILE]") and "(default: auto; may be repeated)" in line for line in lines)
    assert any(line.startswith("--paired --no-paired") for line in lines) and "hidden" not in output


def test_streams():
    """stdout is data; notes, warnings and progress are on stderr; --quiet leaves the warnings."""
    result = run()
    assert result.stdout == "out [1].mp4\n"
    assert "a [b]note[/b]" in result.stderr and "Warning: be careful" in result.stderr
    assert "films: 3/3" in result.stderr and "film.mp4" in result.stderr
    assert run("--quiet").stderr == "Warning: be careful\n"
    assert "films: 2/3" in run("--verbose").stderr and "films: 2/3" not in result.stderr


def test_json_is_one_plain_object():
    found = json.loads(run("--json").stdout)
    assert found["loss"] is None and found["rate"] == "30000/1001" and found["path"] == "out [1].mp4"


@pytest.mark.parametrize(
    ("word", "code", "sentence"),
    [
        ("clear", 1, "Error: the film: found nothing, expected frames; give a film."),
        ("usage", 2, "Error: --a goes without --b."),
        ("interrupt", 130, "Interrupted."),
        ("terminate", 143, "Terminated."),
        ("file", 1, "Error: cannot use film.mp4: no such file or directory."),
        (
            "memory",
            1,
            FULL,
        ),
        ("unexpected", 1, f"Error: unexpected ZeroDivisionError: {ODD}; run again with --verbose for the traceback."),
    ],
)
def test_failures(word, code, sentence):
    result = run("--word", word, "--quiet")
    assert result.exit_code == code
    assert result.stderr.splitlines() == ["Warning: be careful", sentence]
    assert result.stdout == ""


def test_traceback_only_when_asked():
    assert "Traceback" not in run("--word", "unexpected").stderr
    told = run("--word", "unexpected", "--verbose").stderr
    assert "Traceback (most recent call last)" in told and told.endswith("zero[/bold].\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num-frames", "0"], ["--num-frames: found 0", "greater than or equal to 1"]),
        (["--num-framez", "3"], ["--num-framez", "--num-frames"]),
        (["--num-frames", "few"], ["--num-frames", "integer"]),
        (["--kind", "tall"], ["--kind: found 'tall', expected 'short' or 'long'"]),
        (["--config", "none.toml"], ["none.toml"]),
    ],
)
def test_wrong_usage(arguments, words):
    result = run(*arguments)
    assert result.exit_code == 2
    assert all(word in result.stderr for word in words) and "Traceback" not in result.stderr


def test_an_interrupt_while_drawing_reaches_the_task(monkeypatch, capsys):
    """A task saves in one place, wherever the interrupt fell."""
    seen = []

    def steps():
        try:
            yield Note("first")
        except KeyboardInterrupt:
            seen.append("saved")
            yield Note("saved", level="warning")
            raise

    def interrupted(self, event):
        if event.text == "first":
            raise KeyboardInterrupt

    monkeypatch.setattr("vidiff_cli.cli.progress.PlainDisplay.__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        follow(steps())
    assert seen == ["saved"]


def vidiff(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, **more)


COMMANDS = [[], ["world"], ["world", "shapes"], ["prep"], ["train"], ["sample"], ["extend"], ["interpolate"]]
COMMANDS += [["upscale"], ["cascade"], ["export"], ["info"], ["doctor"], ["evaluate"], ["preview"], ["world", "films"]]


def test_help_imports_no_torch():
    """In one process: the app with all its commands, and the help of each."""
    script = f"""
import sys
from typer.testing import CliRunner
from vidiff_cli.cli.app import app
for command in {COMMANDS!r}:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output, (command, result.output)
    assert "Example: vidiff" in result.output or command in ([], ["world"])
heavy = [name for name in ("torch", "torchvision", "decord", "imageio_ffmpeg", "matplotlib") if name in sys.modules]
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    found = vidiff("-c", script)
    assert found.returncode == 0, found.stderr


def test_version_and_module():
    found = vidiff("-m", "vidiff_cli", "--version")
    assert found.returncode == 0
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["vidiff", "python", "torch", "ffmpeg", "decord"]


SIGNALLED = """
import os, signal, sys, typer
from vidiff_cli.cli.app import Commands, catch_signals
app = typer.Typer(cls=Commands)
@app.callback()
def root(): pass
@app.command()
def go(number: int):
    try:
        os.kill(os.getpid(), number)
        signal.pause()
    finally:
        print("cleaned up", flush=True)
catch_signals()
app(["go", sys.argv[1]])
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals(number, code):
    found = vidiff("-c", SIGNALLED, str(int(number)))
    assert (found.returncode, found.stdout) == (code, "cleaned up\n")
    assert len(found.stderr.splitlines()) == 1


CLOSED = """
import typer
from vidiff_cli.cli.app import Commands
from vidiff_cli.cli.console import print_paths
app = typer.Typer(cls=Commands)
@app.callback()
def root(): pass
@app.command()
def go():
    print_paths(*["x" * 1000] * 1000)
app(["go"])
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_a_closed_pipe_is_quiet():
    process = subprocess.Popen([sys.executable, "-c", CLOSED], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), errors) == (0, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="a file system that stores any bytes")
def test_a_path_that_is_not_text_is_printed_as_it_is(capfdbinary):
    sys.stdout.flush()
    with open(1, "w", closefd=False) as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        print_paths(Path(os.fsdecode(b"\xff.mp4")))
    assert capfdbinary.readouterr().out == b"\xff.mp4\n"


def test_the_time_that_is_left_does_not_count_what_was_done_before() -> None:
    now, out = iter([0.0, 10.0]), io.StringIO()
    show = PlainDisplay(Console(file=out, width=200), every_seconds=0, now=lambda: next(now))
    for done in (800, 810):
        show(Progress(what="training", done=done, total=1000))
    assert out.getvalue().splitlines()[-1] == "training: 810/1000, 0:10 elapsed, 3:10 left"


def test_an_interrupt_inside_an_import_has_the_same_exit_code(tmp_path: Path) -> None:
    """After an interrupt inside code that exec() runs, `python -m` would end by SIGINT itself."""
    program = """
import sys
from vidiff_cli.cli.exits import errors_as_sentences
try:
    with errors_as_sentences():
        exec("raise KeyboardInterrupt")
except BaseException as error:
    sys.exit(error.exit_code)
"""
    (tmp_path / "program.py").write_text(program)
    result = subprocess.run([sys.executable, "-m", "program"], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 130 and result.stderr == "Interrupted.\n"


DONE = """
import os, signal
from vidiff_cli.cli.exits import catch_signals, errors_as_sentences
from vidiff_cli.cli.progress import follow
def steps():
    yield from ()
    return "report"
catch_signals()
with errors_as_sentences():
    print(follow(steps()), flush=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_signal_after_the_last_step_interrupts_nothing():
    found = vidiff("-c", DONE)
    assert (found.returncode, found.stdout, found.stderr) == (0, "report\n", "")
