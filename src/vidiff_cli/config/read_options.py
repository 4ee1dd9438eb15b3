"""Options for reading videos and images, shared by the commands that read them."""

from __future__ import annotations

from typing import Annotated, Literal

from PIL import ImageColor
from pydantic import BaseModel, ConfigDict, Field, field_validator

from vidiff_cli.config.options import Nested, Option

PANEL = "Reading"


class ReadOptions(BaseModel):
    """Options for what plain 8-bit RGB frames do not have: a wider range of brightness, transparency, fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hdr: Annotated[Literal["tonemap", "clip", "refuse"], Option(PANEL)] = Field(
        default="tonemap",
        description="Reading of HDR video (PQ, HLG); tonemap: white stays near white, brighter light is compressed; "
        "clip: brighter light is cut off; refuse: such a file is an error",
    )
    background: Annotated[str, Option(PANEL, values="COLOR|#RRGGBB")] = Field(
        default="black", description="Color behind transparent pixels"
    )
    deinterlace: Annotated[Literal["auto", "off"], Option(PANEL)] = Field(
        default="auto", description="Deinterlacing; auto: frames that are marked as interlaced"
    )

    @field_validator("background")
    @classmethod
    def _known_color(cls, value: str) -> str:
        try:
            opaque = len(ImageColor.getrgb(value)) == 3
        except ValueError:
            opaque = False
        if not opaque:
            raise ValueError(f"{value[:40]!r} is not a color; expected a name such as white, or #rrggbb")
        return value

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The background as three 8-bit levels."""
        red, green, blue = ImageColor.getrgb(self.background)[:3]
        return red, green, blue


DEFAULT = ReadOptions()
SharedReadOptions = Annotated[
    ReadOptions,
    Nested(PANEL, "hdr", "background", "deinterlace"),
    Field(description="How HDR, transparent and interlaced input is read"),
]
