"""Options of the commands: their help and shown defaults come from the settings models, so both stand in one place.

A command, whole:

    def shrink(
        ctx: typer.Context,
        source: Annotated[Path, typer.Argument(help="A video.")],
        size: Annotated[int | None, setting(ShrinkSettings, "size")] = None,
        fps: Annotated[str | None, setting(ShrinkSettings, "fps", panel="Time")] = None,
        model__width: Annotated[int | None, setting(ShrinkSettings, "model.width")] = None,    # a nested setting
        seed: Seed = None,
        config: ConfigFiles = None,
        sets: Sets = None,
        as_json: AsJson = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
    ) -> None:
        \"\"\"Shrinks a video.

        Example: vidiff shrink in.mp4 --size 32
        \"\"\"
        settings = settings_from(ctx, ShrinkSettings)
        from vidiff_cli.tasks.shrink import shrink as task    # here, so that --help imports no torch

        with errors_as_sentences(verbose):
            report = follow(task.events(settings), quiet=quiet, verbose=verbose)
        print_json(report) if as_json else print_paths(report.path)

Every option defaults to None, "not given". A parameter named like a field of the settings (`a__b` for the nested
`a.b`) is taken over when it was given. Rates are `str` here: the settings model reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape

from vidiff_cli.config.resolve import resolve

M = TypeVar("M", bound=BaseModel)

REPRODUCE = "Reproducing"
OUTPUT = "Output"
VERBOSE_KEY = "vidiff.verbose"


def setting(model: type[BaseModel], field: str, *names: str, panel: str | None = None) -> Any:
    """A typer.Option for `field` ("size", or dotted: "model.width"): help and shown default are the field's own.

    `names` are as for typer.Option ("--fps", "-f", "--scenes/--no-scenes"); without any, the field's last name.
    """
    info = _field(model, field)
    names = names or ("--" + field.rpartition(".")[2].replace("_", "-"),)
    # a file that may not be read is no wrong usage: the task says so
    return typer.Option(*names, help=_help(info), show_default=False, rich_help_panel=panel, readable=False)


def _field(model: type[BaseModel], dotted: str) -> FieldInfo:
    first, _, rest = dotted.partition(".")
    info = model.model_fields[first]
    if not rest:
        return info
    inner = info.annotation
    assert isinstance(inner, type) and issubclass(inner, BaseModel), f"{model.__name__}.{first} is not a settings model"
    return _field(inner, rest)


def _help(info: FieldInfo) -> str:
    text = (info.description or "").rstrip(". ")
    shown = _shown(info)
    return escape(f"{text} (default: {shown})." if shown else f"{text}.")


def _shown(info: FieldInfo) -> str:
    """The default as a person would type it; nothing where there is none or where None speaks for itself."""
    if info.is_required():
        return ""
    value = info.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_from(ctx: typer.Context, model: type[M], *, under: Mapping[str, Any] | None = None, **extra: object) -> M:
    """The command's settings: defaults < `under` < --config files < what was given on the command line < --set.

    `under` are nested values to start from (a preset, the settings in a sidecar). `extra` are settings that the command
    works out itself (they count as given). Raises UsageError.
    """
    given: dict[str, object] = {}
    names: dict[str, str] = {}
    written = {str(parameter.name): _written(parameter) for parameter in ctx.command.params}
    for name, value in ctx.params.items():
        dotted = name.replace("__", ".")
        if dotted.partition(".")[0] in model.model_fields and _was_given(ctx, name) and value is not None:
            given[dotted], names[dotted] = value, written.get(name, name)
    given |= extra
    files, sets = ctx.params.get("config") or (), ctx.params.get("sets") or ()
    return resolve(model, under=under, files=[Path(file) for file in files], given=given, sets=list(sets), names=names)


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _written(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])


def _remember_verbose(ctx: typer.Context, value: bool) -> bool:
    ctx.meta[VERBOSE_KEY] = value or ctx.meta.get(VERBOSE_KEY, False)
    return value


Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of every random draw (default: random, printed).", rich_help_panel=REPRODUCE),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cuda|cuda:1|mps|cpu",
        help="Where to compute (default: auto).",
        rich_help_panel=REPRODUCE,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", metavar="auto|bf16|fp16|fp32", help="Number format (default: auto).", rich_help_panel=REPRODUCE
    ),
]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        readable=False,
        help="Settings from a TOML file; may be repeated, later files win.",
        rich_help_panel=REPRODUCE,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="One setting by its name; wins over all else.", rich_help_panel=REPRODUCE
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.", rich_help_panel=OUTPUT)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of paths.", rich_help_panel=OUTPUT)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes; warnings stay.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="More notes, and the traceback of an error.",
        callback=_remember_verbose,
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output that is already there.", rich_help_panel=OUTPUT)
]
