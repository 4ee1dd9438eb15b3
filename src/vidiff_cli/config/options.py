"""Marks of the settings fields that are options of the command line.

To add an option, add a field to the settings model of the command, and nothing else:

    class ShrinkSettings(BaseModel):
        size: Annotated[int, Option("Clips", unit="pixels")] = Field(default=64, ge=4, description="Short side")

`vidiff shrink --help` then has a panel "Clips" with `--size <pixels>  Short side (default: 64; at least 4).`, and
`--size 32`, `size = 32` in a `--config` file and `--set size=32` all reach `ShrinkSettings.size`.

Everything that the help shows comes from the field:

- flag: the field's name with hyphens, or the names given, `Option(OUTPUT, "--output", "-o")`. A bool that is on by
  default, or has no default, is `--name/--no-name`; one that is off is `--name`;
- value: the choices of a `Literal` as `[a|b|c]`; `values` for text with a form of its own ("auto|never|PATH"); else the
  unit (`<pixels>`) or the type. The settings model parses and refuses values, so its messages are the only ones;
- text: `description`, then the default and the bounds (`ge`, `gt`, `le`, `lt`, `multiple_of`). A tuple may be repeated;
- a field without a default is required.

A marked field of a nested model is an option too (`text.clip_model` is `--clip-model`); `Nested` takes only the named
fields of a model that several commands share. `Argument` marks a positional argument. A field without a mark is
reached by `--config` and `--set` alone. `cli/options.py` builds the typer signatures.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

GENERAL = "Options"
OUTPUT = "Output"
REPRODUCE = "Reproducing"


class Option:
    """Mark of a field that is an option, shown in `panel`.

    names: its flags; the first one is used in messages. unit: of its number. values: the form of a text value.
    """

    def __init__(self, panel: str = GENERAL, *names: str, unit: str = "", values: str = "") -> None:
        self.panel, self.names, self.unit, self.values = panel, names, unit, values


class Argument:
    """Mark of a field that is a positional argument, called `metavar` in the help."""

    def __init__(self, metavar: str) -> None:
        self.metavar = metavar


class Nested:
    """Mark of a nested model of which only the named fields are options, all in `panel`."""

    def __init__(self, panel: str, *fields: str) -> None:
        self.panel, self.fields = panel, fields


def _named(value: object) -> object:
    """on and off for the values of older runs."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Compile = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(_named),
    Option(REPRODUCE),
    Field(
        description="Compile the network (torch.compile), which takes a minute or more at first; auto: on CUDA, where "
        "a compiler works, but not in shards"
    ),
]
Deterministic = Annotated[
    bool,
    Option(REPRODUCE),
    Field(
        description="On CUDA, take only algorithms that give the same bytes each time; slower (not measured). A CPU "
        "gives them without it"
    ),
]
Device = Annotated[
    str,
    Option(REPRODUCE, values="auto|cpu|cuda|cuda:1|mps"),
    Field(description="Device that computes"),
]
