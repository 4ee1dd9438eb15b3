"""Field types that several settings models share."""

from __future__ import annotations

import codecs
import re
from fractions import Fraction
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

NTSC_NOMINAL = (12, 15, 24, 30, 48, 60, 120, 240)  # broadcast rates that run at 1000/1001 of their name
LARGEST_TERM = 10**15  # of a fraction
# bounded, because Fraction("1e999999999") would never return
_WRITTEN = re.compile(r"\d{1,30}(\.\d{1,30})?(/\d{1,30})?")
_RECORDED = re.compile(r"\d{1,16}(/0*[1-9]\d{0,15})?", re.ASCII)
_SNAP_WITHIN = 0.005  # "23.98" and "23.976" both mean 24000/1001; 24 and 23.5 do not


def parse_rate(value: object) -> Fraction:
    """Parse a frame rate to an exact fraction, from "30000/1001", "29.97", 25, 12.5 or a Fraction.

    Decimal spellings of NTSC rates ("23.976", "29.97", 59.94) become the exact n*1000/1001; other numbers are exact.
    Raises ValueError for anything but a positive number.
    """
    if isinstance(value, Fraction):
        rate = value
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a frame rate is a number such as 25, 29.97 or 30000/1001")
    else:
        text = str(value).strip()
        if not _WRITTEN.fullmatch(text) or ("." in text and "/" in text) or re.fullmatch(r".*/0+", text):
            raise ValueError("a frame rate is a positive number such as 25, 29.97 or 30000/1001")
        rate = _snap(Fraction(text)) if "." in text else Fraction(text)
    if rate <= 0:
        raise ValueError("a frame rate is above 0")
    if max(rate.numerator, rate.denominator) > LARGEST_TERM:
        raise ValueError(f"a frame rate is a fraction of numbers up to {LARGEST_TERM:,}")
    return rate


def recorded_rate(text: str) -> Fraction:
    """Parse a frame rate from a file of vidiff: "25" or "30000/1001". ValueError for anything else."""
    if not isinstance(text, str) or not _RECORDED.fullmatch(text) or Fraction(text) <= 0:
        raise ValueError(f"{str(text)[:40]!r} is not a frame rate such as 25 or 30000/1001")
    return Fraction(text)


def _snap(rate: Fraction) -> Fraction:
    near = (Fraction(nominal * 1000, 1001) for nominal in NTSC_NOMINAL)
    return next((exact for exact in near if abs(exact - rate) <= _SNAP_WITHIN and rate.denominator != 1), rate)


def rate_text(rate: Fraction) -> str:
    """Format a rate so that `parse_rate` reads it back exactly: "25" or "30000/1001"."""
    return str(rate)


def _json_schema() -> dict[str, Any]:
    return {"type": "string", "description": "frames per second as a number or an exact fraction"}


Rate = Annotated[
    Fraction,
    PlainValidator(parse_rate),
    PlainSerializer(rate_text, return_type=str),
    WithJsonSchema(_json_schema()),
]


class FrameSize(NamedTuple):
    """Width and height of frames in pixels."""

    width: int
    height: int


def parse_size(value: object) -> FrameSize:
    """Parse width and height in pixels, from "576x320" or (576, 320). ValueError for anything else."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", value.strip())):
        size = FrameSize(int(match[1]), int(match[2]))
    elif isinstance(value, tuple | list) and len(value) == 2 and all(type(side) is int for side in value):
        size = FrameSize(value[0], value[1])
    else:
        raise ValueError("a size is width and height in pixels such as 576x320")
    if min(size) < 1:
        raise ValueError("a side of frames has at least 1 pixel")
    return size


def size_text(size: FrameSize) -> str:
    """Format a size so that `parse_size` reads it back: "576x320"."""
    return f"{size.width}x{size.height}"


Size = Annotated[
    FrameSize,
    PlainValidator(parse_size),
    PlainSerializer(size_text, return_type=str),
    WithJsonSchema({"type": "string", "description": "width and height in pixels, such as 576x320"}),
]


def _known_encoding(name: str) -> str:
    """ValueError for a name that Python knows no encoding of text by."""
    try:
        found = codecs.lookup(name)
        "a".encode(found.name)
    except (LookupError, ValueError, TypeError) as error:  # "hex" is a codec, but not of text
        raise ValueError(f"{name!r} is not an encoding of text; such as cp1252, latin-1, shift_jis, gb18030") from error
    return found.name


Encoding = Annotated[str, AfterValidator(_known_encoding)]
