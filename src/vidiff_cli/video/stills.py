"""Photos and other still images through Pillow, upright (EXIF orientation applied)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vidiff_cli.errors import VidiffError

SUFFIXES_IMAGE = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 64_000_000


def check_pixels(path: Path, width: int, height: int) -> None:
    """Refuses a frame that would fill the memory: VidiffError above 64 megapixels."""
    if width * height > MAX_PIXELS:
        raise VidiffError(f"{path} is too large", found=f"{width}x{height}", expected="at most 64 megapixels a frame")


def is_animated(path: Path) -> bool:
    """Whether an image file holds several pictures (an animated WebP): then it is a video."""
    try:
        with _opened(path) as image:
            return path.suffix.lower() == ".webp" and getattr(image, "n_frames", 1) > 1
    except VidiffError:
        return False


def image_header(path: Path) -> tuple[int, int, int, str, str]:
    """Width and height as stored, rotation in degrees clockwise, format and mode, without decoding the pixels."""
    with _opened(path) as image:
        check_pixels(path, *image.size)
        turned = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}.get(image.getexif().get(0x0112, 1), 0)
        return *image.size, turned, (image.format or "").lower(), image.mode


def read_image(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """One upright picture, (h w c) uint8 RGB, scaled to `size` (w, h) by area; transparency is dropped."""
    with _opened(path) as image:
        check_pixels(path, *image.size)
        try:
            upright = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise VidiffError(f"{path} is a damaged image", found=str(error)) from error
    if size is not None and size != upright.size:
        shrinks = size[0] <= upright.width and size[1] <= upright.height
        upright = upright.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.array(upright)


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            return Image.open(path)
    except Image.DecompressionBombError as error:
        raise VidiffError(f"{path} is too large", found=str(error), expected="at most 64 megapixels a frame") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise VidiffError(f"{path} cannot be read as an image", found=str(error)) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen-bit grey scaled to eight bits; Pillow's own conversion clips it."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) / 257 + 0.5).astype(np.uint8))
