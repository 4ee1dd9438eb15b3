"""Splits sources into training and validation: a stable draw of whole groups, never of clips."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Literal

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import Captions
from vidiff_cli.preparation.scan import MediaSource

Side = Literal["train", "val"]
FOLDER = "folder"


def assign_groups(sources: Sequence[MediaSource], captions: Captions, column: str | None) -> dict[str, str | None]:
    """The group of each source by name: its value in `column` of the caption table, None where it has none.

    The column "folder" that no table has is the first folder of the source's name: train, validation and test of many
    datasets. VidiffError: no table has such a column.
    """
    if column is None:
        return {source.name: None for source in sources}
    if column not in captions.column_names:
        if column == FOLDER:
            return {source.name: source.name.partition("/")[0] if "/" in source.name else None for source in sources}
        raise VidiffError(
            f"--split-by {column} is not a column of a caption table",
            found=", ".join(captions.column_names) or "no caption table",
        )
    return {source.name: captions.columns[source.name].get(column) or None for source in sources}


def check_held_out(hold_out: Collection[str], groups: Collection[str | None]) -> None:
    """Raises VidiffError for a value to hold out that is not a group: a typo would silently train on that group."""
    known = sorted({group for group in groups if group is not None})
    for value in hold_out:
        if value not in known:
            shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise VidiffError(f"--hold-out {value} is not a value of the --split-by column", found=shown or "no value")


def split(
    groups: dict[str, str | None],
    *,
    val_fraction: float,
    seed: int,
    hold_out: Collection[str] = (),
    stills: Collection[str] = (),
) -> dict[str, Side]:
    """The side of each source by name; a source without a group is a group of its own.

    With `hold_out` exactly these groups validate. Otherwise the groups are put in the order of a hash of (seed, group)
    and the first round(val_fraction * n) validate: at least one where n > 1 and val_fraction > 0, never all. Where all
    of them are `stills` (names of sources that do not move) and two groups or more are not, the first group that moves
    takes the place of the last of them: pictures alone cannot tell how well motion is learned.
    """
    unit = {name: f"group:{group}" if group is not None else f"source:{name}" for name, group in groups.items()}
    if hold_out:
        held = {f"group:{value}" for value in hold_out}
    else:
        units = sorted(set(unit.values()), key=lambda value: _hash(seed, value))
        count = min(max(round(val_fraction * len(units)), 1), len(units) - 1) if val_fraction > 0 and units else 0
        held = set(units[:count])
        moving = {unit[name] for name in groups if name not in stills}
        if held and len(moving) > 1 and not held & moving:
            held = {*units[: count - 1], next(each for each in units if each in moving)}
    return {name: "val" if of_source in held else "train" for name, of_source in unit.items()}


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogateescape")).hexdigest()
