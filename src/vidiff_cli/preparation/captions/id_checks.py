"""Checks of the outer shape of an annotation file."""

from __future__ import annotations

import re
from typing import Any

from vidiff_cli.errors import VidiffError

KIND = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
NO_ID = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\ud800-\udfff]")
LONGEST_ID = 255


def as_object(document: object, value: Any, name: str) -> dict[str, Any]:
    """Returns the outermost value of a file. VidiffError: it is not an object."""
    if not isinstance(value, dict):
        raise VidiffError(f"{document} is not a {name} file", found=f"{kind(value)} outermost", expected="an object")
    return value


def as_list(document: object, value: Any, name: str, what: str = "the outermost value") -> list[Any]:
    """Returns `value`. VidiffError: it is not a list; `what` names it."""
    if not isinstance(value, list):
        raise VidiffError(f"{document} is not a {name} file", found=f"{kind(value)} as {what}", expected="a list")
    return value


def video_id(value: Any) -> tuple[str, str]:
    """Returns (the id, "") or ("", the reason why the value is not an id)."""
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        return "", "no video id"
    if len(text) > LONGEST_ID or NO_ID.search(text):
        return "", f"the video id {shown(text)} can be no file name"
    return text, ""


def shown(value: Any) -> str:
    """Formats any value as a short text that is safe to print."""
    if isinstance(value, list | dict):  # may be large, or too deep to be printed
        return kind(value)
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def kind(value: Any) -> str:
    return KIND.get(type(value), "a number")
