"""Small text files of the user (settings, prompts, sidecars), read up to a limit: /dev/zero is a file too."""

from __future__ import annotations

from pathlib import Path

from vidiff_cli.errors import VidiffError

LARGEST_BYTES = 16 * 2**20


def read_text(path: Path, *, what: str) -> str:
    """Read a UTF-8 file of at most 16 MB, without its byte order mark.

    `what` names the kind of file in errors ("the settings file"). VidiffError if the file is missing, unreadable, too
    large or not text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise VidiffError(f"cannot read {what} {path}", found=found.lower()) from error
    if len(content) > LARGEST_BYTES:
        raise VidiffError(f"{what} {path} is too large", expected=f"at most {LARGEST_BYTES >> 20} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VidiffError(
            f"{what} {path} is not UTF-8 text", found=f"byte {error.start}", fix="save it as UTF-8"
        ) from error
