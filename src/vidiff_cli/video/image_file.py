"""Still images through Pillow, upright (EXIF orientation applied)."""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vidiff_cli.errors import VidiffError
from vidiff_cli.video.ffmpeg import MAX_PIXELS

# what Pillow's readers raise on damaged bytes
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error)
TURNS = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}  # EXIF orientation -> degrees clockwise
SUFFIXES_IMAGE = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
# By content, not by name. Pillow knows more, and starts Ghostscript for one of them.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")  # MPO, two pictures of a phone, is a JPEG that Pillow knows by itself

LONGEST_STRIP = 100
EXPECTED = f"at most {MAX_PIXELS // 1_000_000} megapixels a frame"


def check_pixels(path: Path, width: int, height: int) -> None:
    """Raises VidiffError for a frame above 64 megapixels, stored or scaled, and for a strip.

    A strip has a side of over 100 times the other one, in most cases because of a wrong pixel aspect ratio.
    """
    if width * height > MAX_PIXELS:
        raise VidiffError(f"{path} is too large", found=f"{width}x{height}", expected=EXPECTED)
    if max(width, height) > LONGEST_STRIP * max(1, min(width, height)):
        expected = f"one side at most {LONGEST_STRIP} times the other"
        raise VidiffError(f"{path} is a strip", found=f"{width}x{height} as shown", expected=expected)


def is_animated(path: Path) -> bool:
    """True if an image file holds several frames (an animated WebP) and has to be decoded as a video."""
    try:
        with _opened(path) as image:
            return path.suffix.lower() == ".webp" and getattr(image, "n_frames", 1) > 1
    except VidiffError:
        return False


def image_header(path: Path) -> tuple[int, int, int, str, str, bool]:
    """Stored width and height, rotation in degrees clockwise, format, mode, and True if pixels may be transparent;
    nothing is decoded."""
    with _opened(path) as image:
        check_pixels(path, *image.size)
        turned = TURNS.get(_orientation(path, image), 0)
        return *image.size, turned, (image.format or "").lower(), image.mode, image.has_transparency_data


def read_image(path: Path, size: tuple[int, int] | None, background: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """An upright image (h w c) uint8 RGB, scaled to `size` (w, h) by area, in front of `background`."""
    with _opened(path) as image:
        check_pixels(path, *image.size)
        try:
            upright = image if _orientation(path, image) == 1 else ImageOps.exif_transpose(image)
            upright = _eight_bits(upright, sixteen=";16" in image.mode or image.format == "PNG")
            if upright.has_transparency_data:
                behind = Image.new("RGBA", upright.size, (*background, 255))
                upright = Image.alpha_composite(behind, upright.convert("RGBA"))
            upright = upright if upright.mode == "RGB" else upright.convert("RGB")
            upright.load()
        except BROKEN as error:
            raise VidiffError(f"{path} is a damaged image", found=_brief(error)) from error
    if size is not None and size != upright.size:
        shrinks = size[0] <= upright.width and size[1] <= upright.height
        upright = upright.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.array(upright)


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            return Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        size = re.search(r"\d+ pixels", str(error))
        raise VidiffError(f"{path} is too large", found=size and size[0], expected=EXPECTED) from error
    except Image.UnidentifiedImageError as error:
        raise VidiffError(f"{path} cannot be read as an image", expected=", ".join(FORMATS)) from error
    except BROKEN as error:
        raise VidiffError(f"{path} cannot be read as an image", found=_brief(error)) from error


def _orientation(path: Path, image: Image.Image) -> int:
    """The EXIF orientation; 1 is upright."""
    try:
        found = image.getexif().get(0x0112, 1)
    except BROKEN as error:
        raise VidiffError(f"{path} is a damaged image", found=_brief(error)) from error
    return found if isinstance(found, int) else 1


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _eight_bits(image: Image.Image, *, sixteen: bool) -> Image.Image:
    """Scales deep gray to 8 bits; Pillow's own conversion clips it.

    White is 65535 for 16 bits. Wider numbers say nothing of it: it is the least of 1 (floating point only), 255 and
    65535 that the image does not exceed. What is brighter than 65535 is white, what is not a number is black.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    levels = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=np.inf, neginf=0)
    brightest = levels.max(initial=0, where=np.isfinite(levels))
    whites = (65535,) if sixteen else (1, 255, 65535) if image.mode == "F" else (255, 65535)
    white = next((white for white in whites if brightest <= white), 65535)
    return Image.fromarray((np.clip(levels / white, 0, 1) * 255 + 0.5).astype(np.uint8))
