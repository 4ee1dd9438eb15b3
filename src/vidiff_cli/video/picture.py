"""A single frame as a picture file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import unwritable
from vidiff_cli.video.encode import RECIPES
from vidiff_cli.video.targets import beside, check_target

FORMATS: dict[str, tuple[str, dict[str, object]]] = {  # with the options of Pillow that write them
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
}
LOSSLESS = {".png": {}, ".webp": {"lossless": True}}
LONGEST_WEBP = 16_383  # pixels of a side


def is_picture(path: Path) -> bool:
    """True if a path names a picture file, though it may be an extension alone, and not a folder."""
    return not FORMATS.keys().isdisjoint({path.suffix.lower(), path.name.lower()}) and not path.is_dir()


def check_picture(path: Path, size: tuple[int, int], *, lossless: bool = False, overwrite: bool = False) -> Path:
    """Check, before a picture of `size` (h w) is made, that its file can be written; make its folder.

    Raises VidiffError for an existing target without `overwrite`, an unsupported extension, `lossless` for another
    format than PNG and WebP, a size that WebP does not have, or a folder that cannot be written.
    """
    suffix = path.suffix.lower()
    if path.name.lower() in FORMATS:
        raise VidiffError(f"{path} is an extension without a name", expected=f"such as out{path.name}")
    if suffix not in FORMATS:
        expected = f"{', '.join(FORMATS)}, a folder for a PNG file, or {', '.join(sorted({*RECIPES} - {*FORMATS}))}"
        raise VidiffError(f"cannot write {path}", found=suffix, expected=expected)
    if lossless and suffix not in LOSSLESS:
        raise VidiffError(f"a picture in {suffix} cannot be lossless", expected=", ".join(LOSSLESS))
    if suffix == ".webp" and max(size) > LONGEST_WEBP:
        raise VidiffError(f"{path} cannot be that large", found=f"{size[1]}x{size[0]}", fix="write a .png")
    check_target(path, folder=False, overwrite=overwrite)
    return path


def write_picture(
    path: Path, frame: np.ndarray, *, lossless: bool = False, overwrite: bool = False, again: bool = False
) -> None:
    """Write a frame (h w 3) uint8; the file is whole or untouched afterwards.

    Args:
        path: The target, .png, .jpg, .jpeg or .webp.
        frame: The pixels.
        lossless: Exact pixels; PNG always has them.
        overwrite: Replace an existing target.
        again: An interrupted call may have written the target; one with the same bytes is accepted.

    Raises:
        VidiffError: As `check_picture`, or a full disk.
    """
    target = check_picture(path, frame.shape[:2], lossless=lossless, overwrite=overwrite or again)
    with beside(target, same=again and not overwrite) as part:
        try:
            _save(part, frame, target.suffix.lower(), lossless=lossless)
        except OSError as error:
            raise unwritable(target, error) from error


def _save(part: Path, frame: np.ndarray, suffix: str, *, lossless: bool) -> None:
    kind, options = FORMATS[suffix]
    Image.fromarray(frame).save(part, kind, **(LOSSLESS[suffix] if lossless else options))
