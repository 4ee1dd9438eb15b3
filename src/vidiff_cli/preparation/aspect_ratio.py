"""Frame sizes of clips: the shape asked for, or for `keep` the nearest of a few, so that batches can be made."""

from __future__ import annotations

from dataclasses import dataclass

from vidiff_cli.config.aspect import parse_aspect

LARGEST_RATIO = 2  # of `keep`: long side over short side
FINEST = 8  # pixels: the long side of a given aspect is a multiple of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """`scaled`: (width, height) that a whole frame is brought to; `crop`: (width, height) cut from its middle."""

    scaled: tuple[int, int]
    crop: tuple[int, int]


def framing(width: int, height: int, *, short: int, aspect: str) -> Framing:
    """Plans the scaling and cropping of a frame of width x height, as displayed, to a clip's short side `short`.

    aspect: "square"; "W:H" for that shape; "keep" for the shape of its own, in a few steps and at most 2:1.
    """
    sizes = _sizes(short, aspect, tall=height > width)
    return max((_covering(width, height, size) for size in sizes), key=_share)


def _sizes(short: int, aspect: str, *, tall: bool) -> list[tuple[int, int]]:
    if aspect == "square":
        return [(short, short)]
    if aspect != "keep":
        return [_exact(short, aspect)]
    step = 1 << (max(short // 2, 1).bit_length() - 1)  # the largest power of two up to half the short side
    longs = range(short, LARGEST_RATIO * short + 1, step)
    return [(short, long) if tall else (long, short) for long in longs]


def _exact(short: int, aspect: str) -> tuple[int, int]:
    ratio = parse_aspect(aspect)
    multiple = FINEST if short % FINEST == 0 else 2 if short % 2 == 0 else 1
    long = max(short, round(short * max(ratio, 1 / ratio) / multiple) * multiple)
    return (long, short) if ratio >= 1 else (short, long)


def _covering(width: int, height: int, crop: tuple[int, int]) -> Framing:
    """The frame scaled until it just covers the crop."""
    if width * crop[1] <= height * crop[0]:
        scaled = crop[0], max(round(height * crop[0] / width), crop[1])
    else:
        scaled = max(round(width * crop[1] / height), crop[0]), crop[1]
    return Framing(scaled=scaled, crop=crop)


def _share(framing: Framing) -> tuple[float, int]:
    """Sort key: the share of the frame that is kept; of equal ones the smaller."""
    area = framing.crop[0] * framing.crop[1]
    return area / (framing.scaled[0] * framing.scaled[1]), -area
