"""Typer options generated from the settings models (config/options.py says how to declare them).

A command, whole:

    @options(ShrinkSettings)
    def shrink(call: Invocation) -> None:
        \"\"\"Shrink a video.

        Example: vidiff shrink in.mp4 --size 32
        \"\"\"
        settings = call.settings(ShrinkSettings)
        from vidiff_cli.commands.shrink import shrink as task    # here, so that --help imports no torch

        report = call.follow(task.events(settings))
        call.print(report, report.path)

Typer options that are in no settings model are parameters of the function after `call`.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape

from vidiff_cli.cli.console import print_json, print_paths, stderr
from vidiff_cli.cli.progress import follow
from vidiff_cli.config.options import GENERAL, OUTPUT, REPRODUCE, Argument, Nested, Option
from vidiff_cli.config.resolve import resolve
from vidiff_cli.events import EventStream
from vidiff_cli.system.launcher import ProcessInfo

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")

VERBOSE_KEY = "vidiff.verbose"
# Commands whose work several processes of a launcher share; the first process alone runs the others.
SHARED = frozenset({"prep", "train", "distill", "sample", "extend", "interpolate", "upscale", "evaluate"})
LAST_PANELS = (OUTPUT, REPRODUCE)  # shown after the panels of the command
METAVAR_WIDTH = 22  # longest line of choices in the help
METAVARS = {int: "<int>", float: "<float>", Path: "<path>", Fraction: "<fps>"}


class Invocation:
    """A command as it was typed: gives its settings, shows its progress and prints its report."""

    def __init__(self, context: typer.Context) -> None:
        self.context = context
        self.quiet, self.verbose = bool(context.params["quiet"]), bool(context.params["verbose"])
        self.as_json = bool(context.params["as_json"])
        self.launch = ProcessInfo.from_environment(os.environ)

    def settings(self, model: type[M], *, under: Mapping[str, Any] | None = None, **extra: object) -> M:
        """Resolve defaults < `under` < --config files < flags < --set. Raises UsageError.

        `under` are nested values to start from (a preset, the settings in a sidecar). `extra` are settings that the
        command works out itself; they count as flags.
        """
        given: dict[str, object] = {}
        flags: dict[str, str] = {}
        names = {str(parameter.name): _main_name(parameter) for parameter in self.context.command.params}
        for name, value in self.context.params.items():
            dotted = name.replace("__", ".")
            if dotted.partition(".")[0] in model.model_fields and value is not None and self._was_given(name):
                given[dotted], flags[dotted] = value, names[name]
        files, sets = self.context.params["config"] or (), self.context.params["sets"] or ()
        return resolve(model, under=under, files=files, given=given | extra, sets=sets, names=flags)

    def _was_given(self, name: str) -> bool:
        source = self.context.get_parameter_source(name)
        return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")

    def follow(self, events: EventStream[R], *, more: bool = False) -> R:
        """Run a task and show its events on stderr; returns its report. `more`: another task follows."""
        events = events if self.is_main else _unheard(events)
        return follow(events, quiet=self.quiet, verbose=self.verbose, more=more)

    @property
    def is_main(self) -> bool:
        """True for the process that prints: of several that a launcher started, the first."""
        return self.launch.rank == 0

    def note_idle(self, what: str) -> None:
        """Print, where there are several processes, that those but the first have nothing to do."""
        if self.launch.world > 1:
            self.note(f"{what}: {self.launch.world - 1} of {self.launch.world} processes have nothing to do.")

    def note(self, text: str) -> None:
        """Print a line on stderr, unless --quiet."""
        if not self.quiet:
            stderr().print(text, markup=False)

    def print(self, report: object, *paths: Path | str) -> None:
        """Print the paths on stdout, or with --json the report."""
        print_json(report) if self.as_json else print_paths(*paths)


def _unheard(events: EventStream[R]) -> EventStream[R]:
    """A task without its events: those of a process that is not the first."""
    while True:
        try:
            next(events)
        except StopIteration as done:
            return done.value
    yield


def _main_name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])


def options(*models: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function `f(call, ...)` into a typer command with the options of the models and of every command."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        generated = [parameter for model in models for parameter in _model_parameters(model)]
        common = [parameter for name, parameter in COMMON.items() if models or name not in ("config", "sets")]
        parameters = sorted([*own, *generated, *common], key=_panel_rank)

        @functools.wraps(function)
        def run(context: typer.Context, **given: Any) -> None:
            if function.__name__ not in SHARED and ProcessInfo.from_environment(os.environ).rank:
                return
            function(Invocation(context), **{parameter.name: given[parameter.name] for parameter in own})

        first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        run.__signature__ = inspect.Signature([first, *keywords])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (first, *keywords)}
        return run

    return decorate


def _panel_rank(parameter: inspect.Parameter) -> int:
    panel = next((part.rich_help_panel for part in parameter.annotation.__metadata__), None)
    return LAST_PANELS.index(panel) if panel in LAST_PANELS else -1


def _model_parameters(
    model: type[BaseModel], above: tuple[str, ...] = (), nested: Nested | None = None
) -> Iterator[inspect.Parameter]:
    """The marked fields of a settings model, those of the class itself before those that it inherits."""
    ranks = {
        name: rank for rank, owner in reversed([*enumerate(model.__mro__)]) for name in inspect.get_annotations(owner)
    }
    for name in sorted(model.model_fields, key=lambda name: ranks[name]):
        info, place = model.model_fields[name], (*above, name)
        mark = next((part for part in info.metadata if isinstance(part, Option | Argument | Nested)), None)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _model_parameters(info.annotation, place, mark if isinstance(mark, Nested) else None)
        elif isinstance(mark, Option) and (nested is None or name in nested.fields):
            yield _option(info, mark, place, nested.panel if nested else mark.panel)
        elif isinstance(mark, Argument):
            yield _argument(info, mark, name)


def _option(info: FieldInfo, mark: Option, place: tuple[str, ...], panel: str) -> inspect.Parameter:
    kind = _typed_as(info, mark)
    off = info.default is False and kind is bool
    plain = "--" + place[-1].replace("_", "-")
    names = mark.names or (plain if off or kind is not bool else f"{plain}/--no-{plain[2:]}",)
    option = typer.Option(
        *names,
        help=_help(info, mark, repeated=get_origin(kind) is list),
        metavar="" if kind is bool else _metavar(info, mark),
        show_default=False,
        rich_help_panel=None if panel == GENERAL else panel,
        readable=False,  # the command refuses a file that cannot be read, with its own message
    )
    return _parameter("__".join(place), kind, option, required=info.is_required())


def _argument(info: FieldInfo, mark: Argument, name: str) -> inspect.Parameter:
    argument = typer.Argument(metavar=mark.metavar, help=_help(info, mark), show_default=False, readable=False)
    return _parameter(name, _typed_as(info, Option()), argument, required=info.is_required())


def _parameter(name: str, kind: Any, typed: Any, *, required: bool) -> inspect.Parameter:
    """A parameter that is None where it is not given."""
    default = inspect.Parameter.empty if required else None
    annotation = Annotated[kind if required else kind | None, typed]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _typed_as(info: FieldInfo, mark: Option) -> Any:
    """The Python type by which typer parses the value; `str` leaves it to the settings model."""
    members = _members(info.annotation)
    if get_origin(members[0]) is tuple:
        return list[str]
    plain = len(members) == 1 and not mark.values and members[0] in (bool, int, float, Path)
    return members[0] if plain else str


def _members(annotation: Any) -> list[Any]:
    """The members of a union without None; one member of any other type."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in _members(part) if member is not NoneType]
    return [annotation]


def _metavar(info: FieldInfo, mark: Option) -> str:
    """`[a|b|c]` for choices, else the unit or type: `<pixels>`."""
    members = _members(info.annotation)
    choices = [str(choice) for member in members if get_origin(member) is Literal for choice in get_args(member)]
    others = [METAVARS.get(member, "<text>") for member in members if get_origin(member) is not Literal][:1]
    forms = mark.values.split("|") if mark.values else choices + ([f"<{mark.unit}>"] if mark.unit else others)
    if len(forms) == 1:
        return forms[0] if forms[0].startswith("<") else f"<{forms[0]}>"
    lines = [""]
    for form in forms:  # broken between two forms, where rich would break inside a word
        if len(lines[-1] + form) >= METAVAR_WIDTH:
            lines.append("")
        lines[-1] += form + "|"
    return "[" + "\n".join(lines)[:-1] + "]"


def _help(info: FieldInfo, mark: Option | Argument, *, repeated: bool = False) -> str:
    """The description with the default and the bounds, which `values` replace."""
    text = (info.description or "").rstrip(". ")
    bounds = "" if isinstance(mark, Option) and mark.values else _bounds_text(info)
    default = _default_text(info)
    facts = [f"default: {default}"] if default else []
    facts += [bounds] if bounds else []
    facts += ["may be repeated"] if repeated else []
    return escape(f"{text} ({'; '.join(facts)})." if facts else f"{text}.")


def _default_text(info: FieldInfo) -> str:
    """The default as a person would type it; empty for None or a required field."""
    value = None if info.is_required() else info.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _bounds_text(info: FieldInfo) -> str:
    """The bounds of a number in words: "1 to 64", "above 0"."""
    bounds: dict[str, Any] = {}
    for part in [*info.metadata, *_inner_metadata(info.annotation)]:
        names = ("ge", "gt", "le", "lt", "multiple_of")
        bounds |= {name: getattr(part, name) for name in names if getattr(part, name, None) is not None}
    shown = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in bounds.items()}
    if "ge" in shown and "le" in shown:
        words = [f"{shown['ge']} to {shown['le']}"]
    else:
        prefixes = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        words = [f"{prefix} {shown[name]}" for name, prefix in prefixes.items() if name in shown]
    return ", ".join(words + ([f"a multiple of {shown['multiple_of']}"] if "multiple_of" in shown else []))


def _inner_metadata(annotation: Any) -> Iterator[Any]:
    """The annotations on the members of a union: the bounds of `Annotated[int, Field(ge=1)] | Literal["auto"]`."""
    for part in get_args(annotation):
        if get_origin(part) is Annotated:
            for mark in part.__metadata__:
                yield from mark.metadata if isinstance(mark, FieldInfo) else [mark]


def _remember_verbose(context: typer.Context, value: bool) -> bool:
    context.meta[VERBOSE_KEY] = value or context.meta.get(VERBOSE_KEY, False)
    return value


def _every_command(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            metavar="<FILE.toml>",
            readable=False,
            help="Settings from a TOML file (may be repeated; later files win).",
            rich_help_panel=REPRODUCE,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="<A.B=C>",
            help="One setting by its name; wins over files and flags (may be repeated).",
            rich_help_panel=REPRODUCE,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print one JSON object instead of paths.", rich_help_panel=OUTPUT),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar="", help="Print warnings only on stderr.", rich_help_panel=OUTPUT),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            metavar="",
            help="Print more notes, and the traceback of an error.",
            callback=_remember_verbose,
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """The parameters that every command has."""


COMMON = inspect.signature(_every_command, eval_str=True).parameters
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", metavar="", help="Print what would be done and write nothing.", rich_help_panel=OUTPUT),
]
