"""WebDataset shards: .tar files of KEY.mp4 with KEY.txt or KEY.json, read where they lie.

Nothing is unpacked by a name from the archive: a member is a range of bytes of the .tar, copied into a file of our own
name while it is decoded.
"""

from __future__ import annotations

import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidiff_cli.errors import VidiffError
from vidiff_cli.path_kind import SUFFIXES_MEDIA
from vidiff_cli.system.shortage import raise_shortage

SUFFIX = ".tar"
TEXTS = (".txt", ".json")
MOST_MEMBERS = 10**6
LARGEST_TEXT = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """`size` bytes of an archive from `offset` on, with the suffix of their name."""

    archive: Path
    offset: int
    size: int
    suffix: str

    def read(self) -> bytes:
        """Its bytes, at most 1 MiB. VidiffError: they are more, or cannot be read."""
        if self.size > LARGEST_TEXT:
            raise VidiffError(f"a text in {self.archive} is larger than 1 MB")
        try:
            with self.archive.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            raise_shortage(self.archive, error)
            raise VidiffError(f"{self.archive} cannot be read", found=error.strerror) from error

    def copy_to(self, target: Path) -> None:
        """Writes its bytes into a file of our own name. OSError."""
        with self.archive.open("rb") as file, target.open("wb") as copy:
            file.seek(self.offset)
            left = self.size
            while left and (block := file.read(min(left, 1 << 20))):
                copy.write(block)
                left -= len(block)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaMember:
    """A video or image of an archive: its name there, and the text beside it."""

    name: str
    media: Member
    text: Member | None
    problem: str | None = None


def media_members(archive: Path) -> list[MediaMember]:
    """The videos and images of a .tar in their order. VidiffError: it cannot be read."""
    texts: dict[str, dict[str, Member]] = defaultdict(dict)
    found: dict[str, tuple[str, Member]] = {}  # of two of one name the later counts, as tar has it
    for name, member in _members(archive):
        key = _key(name)
        if member.suffix in TEXTS:
            texts[key][member.suffix] = member
        elif member.suffix in SUFFIXES_MEDIA:
            found[name] = key, member
    return [
        MediaMember(
            name=name if _is_plain(name) else f"{number}{member.suffix}",
            media=member,
            text=next((texts[key][suffix] for suffix in TEXTS if suffix in texts[key]), None),
            problem=None if _is_plain(name) else f"its name in the archive is not a plain path: {ascii(name)[:80]}",
        )
        for number, (name, (key, member)) in enumerate(found.items())
    ]


def _members(archive: Path) -> Iterator[tuple[str, Member]]:
    try:
        with tarfile.open(archive, "r:") as tar:  # not compressed: members are ranges of bytes
            count = 0
            while (entry := tar.next()) is not None:
                count += 1
                if count > MOST_MEMBERS:
                    raise VidiffError(f"{archive} holds too many files", expected=f"at most {MOST_MEMBERS:,}")
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                if entry.isreg() and not entry.issparse():
                    suffix = PurePosixPath(entry.name).suffix.lower()
                    yield entry.name, Member(archive=archive, offset=entry.offset_data, size=entry.size, suffix=suffix)
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise_shortage(archive, error)
        raise VidiffError(f"{archive} is not a .tar that can be read", found=str(error)[:120] or None) from error


def _key(name: str) -> str:
    """The name up to the first dot of its last part, as WebDataset groups the files of an example."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name)
    return not parts.is_absolute() and ".." not in parts.parts and name.isprintable()
