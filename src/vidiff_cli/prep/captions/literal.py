"""Lists of texts and numbers as Python prints them, read without evaluating anything."""

from __future__ import annotations

import re

LONGEST = 1 << 20
DEEPEST = 8

# Reference: docs.python.org/3/reference/lexical_analysis.html (string literals, escape sequences).
TOKEN = re.compile(
    r"\s*(?:(?P<open>\[)|(?P<close>\])|(?P<comma>,)"
    r"|(?P<text>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)(?![\w.]))",
    re.ASCII | re.DOTALL,
)
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)
PLAIN_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": ""}


def parse_list(text: str) -> list[object] | str:
    """A list of str, float and such lists, at most 8 deep and of 1 MiB; or, as text, why it is none."""
    if len(text) > LONGEST:
        return "the list is longer than 1 MiB"
    stack: list[list[object]] = []
    ready = True  # for an item: after "[" or ","
    position = 0
    end = len(text.rstrip())
    while position < end:
        token = TOKEN.match(text, position)
        if token is None:
            return f"not a list of texts or numbers (at character {position + 1})"
        kind, position = str(token.lastgroup), token.end()
        if kind == "close" and stack:
            done = stack.pop()
            if not stack:
                return done if position == end else f"not a list of texts or numbers (at character {position + 1})"
            ready = False
        elif kind == "comma" and stack and stack[-1] and not ready:
            ready = True
        elif kind == "open" and ready and len(stack) < DEEPEST:
            stack.append([])
            if len(stack) > 1:
                stack[-2].append(stack[-1])
        elif kind in ("text", "number") and ready and stack:
            value = _text(token[kind][1:-1]) if kind == "text" else float(token[kind])
            if value is None:
                return f"not a list of texts or numbers (at character {token.start() + 1})"
            stack[-1].append(value)
            ready = False
        else:
            return f"not a list of texts or numbers (at character {token.start() + 1})"
    return "the list has no end" if stack else "not a list"


def _text(body: str) -> str | None:
    try:
        return ESCAPE.sub(_unescaped, body)
    except (ValueError, OverflowError):  # beyond the last character there is
        return None


def _unescaped(match: re.Match[str]) -> str:
    two, four, eight, octal, other = match.groups()
    if digits := two or four or eight:
        return chr(int(digits, 16))
    if octal:
        return chr(int(octal, 8))
    return PLAIN_ESCAPES.get(other, "\\" + other if other not in "'\"\\" else other)
