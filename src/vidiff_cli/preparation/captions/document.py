"""One text that may hold annotations: a file, or a file inside a .zip, read with bounds and never unpacked to disk."""

from __future__ import annotations

import codecs
import io
import json
import lzma
import math
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from vidiff_cli.config.reading import decode_text, detect_encoding
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.id_checks import shown
from vidiff_cli.preparation.captions.types import collapse_spaces
from vidiff_cli.system.shortage import raise_shortage

LARGEST_JSON_BYTES = 256 << 20  # VATEX, the largest of the published ones, has about 60 MB
LARGEST_ARCHIVE_BYTES = 2 * LARGEST_JSON_BYTES  # of all its texts, unpacked
LARGEST_LINE = 1 << 20
HEAD_BYTES = 64 << 10
MOST_MEMBERS = 1000

NOT_TEXT = "not UTF-8 text (--encoding cp1252 reads that of Windows), or longer than 1 MiB"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, RuntimeError, EOFError, ValueError)


class Repeated(ValueError):
    """A key that occurs twice in a JSON object, so that its value is ambiguous."""


@dataclass(frozen=True)
class Document:
    """`content` is None for a file on disk, which is then read piece by piece; `encoding` is that of text that is
    neither UTF-8 nor UTF-16."""

    path: Path
    member: str = ""
    content: bytes | None = None
    encoding: str | None = None

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    def open(self) -> BinaryIO:
        """VidiffError: the file cannot be read."""
        if self.content is not None:
            return io.BytesIO(self.content)
        check_regular(self.path)
        try:
            return self.path.open("rb")
        except OSError as error:
            raise_shortage(self.path, error)
            raise VidiffError(f"{self.path} cannot be read", found=error.strerror) from error

    @cached_property
    def head(self) -> str:
        """The first 64 KiB as text; bytes that are no text become U+FFFD or, at the cut, nothing."""
        raw = self._read(HEAD_BYTES)
        found = detect_encoding(raw)
        if self.encoding is not None and found == "utf-8":
            try:
                return codecs.getincrementaldecoder(found)().decode(raw)
            except UnicodeDecodeError:
                found = self.encoding
        return codecs.getincrementaldecoder(found)("replace").decode(raw)

    def lines(self) -> Iterator[tuple[int, str | None]]:
        """(number from 1, line with its end), None for a line that is not text (NOT_TEXT)."""
        with self.open() as raw:
            encoding = detect_encoding(raw.read(HEAD_BYTES))
            raw.seek(0)
            escape = "surrogateescape" if encoding.startswith("utf-8") else "replace"
            reader = io.TextIOWrapper(raw, encoding=encoding, errors=escape, newline="")
            number = 0
            try:
                while line := reader.readline(LARGEST_LINE):
                    number += 1
                    complete = line.endswith(("\n", "\r")) or len(line) < LARGEST_LINE
                    rest = line
                    while not complete and (rest := reader.readline(LARGEST_LINE)):
                        complete = rest.endswith(("\n", "\r")) or len(rest) < LARGEST_LINE
                    too_long = rest is not line
                    if escape == "surrogateescape" and self.encoding is not None:
                        line = _in_encoding(line, self.encoding)
                    damaged = "\0" in line or ("\ufffd" in line if escape == "replace" else not _is_text(line))
                    yield number, None if damaged or too_long else line
            except OSError as error:
                raise VidiffError(f"{self} cannot be read to its end", found=error.strerror) from error

    @cached_property
    def json(self) -> Any:
        """The whole as JSON, fractions as Decimal. VidiffError: too large, no text, no JSON, a key twice, too deep."""
        raw = self._read(LARGEST_JSON_BYTES + 1)
        if len(raw) > LARGEST_JSON_BYTES:
            raise VidiffError(f"{self} is larger than {LARGEST_JSON_BYTES >> 20} MB, too large for a JSON file")
        try:
            text = decode_text(raw, str(self), encoding=self.encoding, offered=True)
            return parse_json(text, parse_float=_decimal)
        except Repeated as error:
            raise VidiffError(f"{self} cannot be used", found=str(error)) from error
        except RecursionError as error:
            raise VidiffError(f"{self} cannot be used", found="JSON that is nested too deep") from error
        except ValueError as error:
            raise VidiffError(f"{self} is not valid JSON", found=error) from error

    def _read(self, most: int) -> bytes:
        with self.open() as raw:
            try:
                return raw.read(most)
            except OSError as error:
                raise VidiffError(f"{self} cannot be read", found=error.strerror) from error


def documents(path: Path, encoding: str | None = None) -> Iterator[Document]:
    """The file itself, or each text inside it if it is a .zip.

    VidiffError: it cannot be read; a .zip that is damaged, encrypted, or unpacks to too much.
    """
    document = Document(path, encoding=encoding)
    with document.open() as raw:
        if raw.read(4) != b"PK\x03\x04":
            yield document
            return
        raw.seek(0)
        try:
            with zipfile.ZipFile(raw) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) > MOST_MEMBERS:
                    raise VidiffError(f"{path} holds {len(members)} files", expected=f"at most {MOST_MEMBERS}")
                unpacked = 0
                for member in members:
                    content = _unpacked(path, archive, member)
                    unpacked += len(content)
                    if unpacked > LARGEST_ARCHIVE_BYTES:
                        raise VidiffError(f"{path} unpacks to more than {LARGEST_ARCHIVE_BYTES >> 20} MB of text")
                    if content:
                        yield Document(path, collapse_spaces(member.filename), content, encoding)
        except ZIP_ERRORS as error:
            raise VidiffError(
                f"{path} is not a .zip that can be read", found=str(error) or type(error).__name__
            ) from error


def _unpacked(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """b"" for what is no text: a .zip of videos is not unpacked."""
    with archive.open(member) as raw:
        content = raw.read(HEAD_BYTES)
        if b"\0" in content and detect_encoding(content).startswith("utf-8"):
            return b""
        content += raw.read(LARGEST_JSON_BYTES + 1 - len(content))  # the header's size may be a lie
    if len(content) > LARGEST_JSON_BYTES:
        raise VidiffError(f"{path}/{member.filename} unpacks to more than {LARGEST_JSON_BYTES >> 20} MB")
    return content


def parse_json(text: str, **options: Any) -> Any:
    """json.loads that refuses a key that stands twice in one object (Repeated)."""
    return json.loads(text, object_pairs_hook=_unique, **options)


def check_regular(path: Path) -> None:
    """VidiffError: there is no such file, or it is a folder or a pipe (which would be waited for without end)."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise VidiffError(f"{path} cannot be read", found=getattr(error, "strerror", None) or error) from error
    if not regular:
        raise VidiffError(f"{path} cannot be read", found="something that is not a regular file")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Repeated(f"the key {shown(key)} twice in one object")
            seen.add(key)
    return record


def _decimal(text: str) -> Decimal | float:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of many digits
        return math.nan


def _in_encoding(line: str, encoding: str) -> str:
    """A line that is not UTF-8 in another encoding, as it was where it is not of that either."""
    if _is_text(line):
        return line
    try:
        return line.encode("utf-8", "surrogateescape").decode(encoding)
    except UnicodeDecodeError:
        return line


def _is_text(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
