"""Text files of the user (settings, prompts, sidecars, captions): their encoding, and small ones read up to a limit,
because /dev/zero is a file too."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from vidiff_cli.errors import VidiffError

LARGEST_BYTES = 16 * 2**20
SNIFFED_BYTES = 64 << 10
LEAST_NULS = 0.2  # of the characters, in UTF-16 without a mark: text of Latin letters, digits, blanks
DELIMITERS = ",;\t"  # spreadsheets of many countries write semicolons
DECLARED = re.compile(r'"?sep=(.|\\t)"?[,;\t ]*', re.IGNORECASE)
USUAL = "cp1252"  # of text that is not UTF-8: what Windows writes in western languages
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(start: bytes) -> str:
    """The encoding of a text by its first bytes: by its mark, or by the places of the NULs in UTF-16 without one; else
    UTF-8."""
    for mark, name in BOMS:
        if start.startswith(mark):
            return name
    pairs = min(len(start), SNIFFED_BYTES) // 2
    nuls = [start[first : 2 * pairs : 2].count(0) for first in (0, 1)]
    for first, name in ((0, "utf-16-be"), (1, "utf-16-le")):
        if nuls[first] >= max(1, LEAST_NULS * pairs) and not nuls[1 - first]:
            return name
    return "utf-8"


def decode_text(content: bytes, subject: str, *, encoding: str | None = None, offered: bool = False) -> str:
    """The text of a file, without its byte order mark: UTF-8, UTF-16, UTF-32, else `encoding`.

    Args:
        content: All its bytes.
        subject: The file, in errors.
        encoding: The encoding of text that is not UTF-8; None where the user has named none.
        offered: The command has an option --encoding, which the error may name.

    Returns:
        The text.

    Raises:
        VidiffError: It is not text, or text of another encoding.
    """
    found = detect_encoding(content)
    try:
        text = content.decode(found)
    except UnicodeDecodeError as error:
        if encoding is None or found not in ("utf-8", "utf-8-sig"):
            raise _not_text(content, subject, found, error, offered) from error
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as second:
            raise VidiffError(
                f"{subject} is neither UTF-8 text nor {encoding}", found=f"byte {second.start}", fix="save it as UTF-8"
            ) from second
    if "\0" in text:
        raise VidiffError(f"{subject} is not text", found="NUL bytes", fix="save it as UTF-8")
    return text


def _not_text(content: bytes, subject: str, found: str, error: UnicodeDecodeError, offered: bool) -> VidiffError:
    fix, name = "save it as UTF-8", found.removesuffix("-sig").upper()
    if name == "UTF-8" and b"\0" not in content:
        try:
            line = content.decode(USUAL)[max(0, error.start - 20) : error.start + 20]
        except UnicodeDecodeError:
            pass
        else:
            reads = f"where it reads {' '.join(line.split())!r}"
            fix = f"pass --encoding {USUAL}, {reads}, or {fix}" if offered else f"{fix} (it may be {USUAL}, {reads})"
    return VidiffError(f"{subject} is not {name} text", found=f"byte {error.start}", fix=fix)


def declared_delimiter(line: str) -> str | None:
    """The delimiter that the first line of a table declares, as spreadsheets write it ("sep=;"); None for another
    line."""
    found = DECLARED.fullmatch(line.strip("\ufeff\r\n "))
    return None if found is None else "\t" if found[1] == "\\t" else found[1]


def guess_delimiter(line: str) -> str:
    """The delimiter of a table by the line with the names of its columns."""
    return max(DELIMITERS, key=line.count)


def read_text(path: Path, *, what: str, encoding: str | None = None, offered: bool = False) -> str:
    """Read a text file of at most 16 MB, decoded as by `decode_text`.

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
    return decode_text(content, f"{what} {path}", encoding=encoding, offered=offered)
