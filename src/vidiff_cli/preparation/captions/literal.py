"""Lists of texts and numbers as Python prints them, read with bounds and without evaluating anything."""

from __future__ import annotations

import ast
import re
import warnings
from itertools import accumulate
from typing import Any

LONGEST = 1 << 20
DEEPEST = 8
MOST_ITEMS = 10_000  # Python needs about 1 KiB for each while it parses them

# ast.literal_eval reads much more than such lists: prefixes, adjacent texts, comments, sums. Only texts and decimal
# numbers followed by "," or "]" get that far. Possessive, so that no input takes more than linear time.
ITEM = (
    r"""(?:'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+"|[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*+(?=[,\]])"""
)
LIST = re.compile(rf"(?:[\[\],\s]|{ITEM})*+", re.ASCII | re.DOTALL)
ITEMS = re.compile(ITEM, re.ASCII | re.DOTALL)


def parse_list(text: str) -> list[object] | str:
    """Parses a list of str, float and such lists, at most 8 deep and 1 MiB long; returns the problem as text if it is
    not one."""
    text = text.strip()
    if len(text) > LONGEST:
        return "the list is longer than 1 MiB"
    stop = LIST.match(text).end()  # type: ignore[union-attr]  # it matches nothing at least
    if stop < len(text):
        return f"not a list of texts or numbers (at character {stop + 1})"
    brackets = ITEMS.sub("", text)
    if max(accumulate((each == "[") - (each == "]") for each in brackets), default=0) > DEEPEST:
        return f"a list that is nested more than {DEEPEST} deep"
    if brackets.count(",") >= MOST_ITEMS:
        return f"a list of more than {MOST_ITEMS:,} items"
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            value = ast.literal_eval(text)
        return _with_floats(value) if isinstance(value, list) else "not a list"
    except (ValueError, SyntaxError, OverflowError, MemoryError, RecursionError):
        return "not a list of texts or numbers"


def _with_floats(values: list[Any]) -> list[object]:
    return [
        _with_floats(value) if isinstance(value, list) else value if isinstance(value, str) else float(value)
        for value in values
    ]
