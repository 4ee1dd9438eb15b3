"""Options for reading videos and images: what is made of a range of brightness, transparency or fields that plain 8-bit
RGB frames do not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hdr = Literal["tonemap", "clip", "refuse"]
Deinterlace = Literal["auto", "off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """Options for reading.

    `hdr`: tonemap: white stays white, brighter light is compressed; clip: it is cut off; refuse: an HDR file is an
    error. `background`: RGB color behind transparent pixels. `deinterlace`: auto: frames marked as interlaced; off.
    """

    hdr: Hdr = "tonemap"
    background: tuple[int, int, int] = (0, 0, 0)
    deinterlace: Deinterlace = "auto"


DEFAULT = ReadOptions()
