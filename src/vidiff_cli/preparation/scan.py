"""Finds the source files: folders, files and globs to a sorted list of videos and images without repetitions."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.path_kind import SUFFIXES_MEDIA, SUFFIXES_TEXT
from vidiff_cli.preparation import archives as archive
from vidiff_cli.preparation.archives import MediaMember
from vidiff_cli.preparation.image_folders import FEWEST, FrameFolder, frame_folders
from vidiff_cli.system.shortage import ShortageError


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaSource:
    """One file to prepare, one folder of numbered `pictures` that are the frames of a video, or a `member` of an
    archive, whose `path` is of no file.

    `name` is its path relative to what was given, unique, with forward slashes.
    """

    path: Path
    root: Path
    name: str
    bytes: int
    mtime_ns: int
    problem: str | None = None  # why it must not even be opened
    pictures: tuple[Path, ...] = ()
    member: MediaMember | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """The sources, sorted by name; the number of other files (captions, tables, ...) found beside them."""

    sources: tuple[MediaSource, ...]
    other_files: int


def scan(given: Sequence[str], *, exclude: Path | None = None, images: str = "stills", archives: bool = False) -> Scan:
    """Finds the videos and images of folders (recursive, sorted), files and globs; hidden files are skipped.

    `images`: "stills" are sources of their own; "frames", folders of numbered ones are one source; "auto", where they
    look like frames (`frame_folders`). A file with an unknown suffix is a source only where it is named itself.
    `exclude` is a folder never entered; with `archives` the videos and images in .tar files are sources too.
    VidiffError: something given does not exist, or there is no video or image in all of it.
    """
    found: dict[Path, Path] = {}  # file -> root
    other: set[Path] = set()
    excluded = os.path.realpath(exclude) if exclude else None
    for text in given:
        for path, root, wanted in _expand(text, excluded):
            if wanted or (archives and path.suffix.lower() == archive.SUFFIX):
                found.setdefault(path, root)
            else:
                other.add(path)
    roots = sorted(set(found.values()))
    base = roots[0] if len(roots) == 1 else _common(roots) if roots else None
    sources = list(_sources(found, base, images, archives))
    if not sources:
        raise VidiffError(
            f"no video or image in {', '.join(given)}",
            found=f"{len(other)} other files" if other else "nothing",
            expected="files such as .mp4, .webm, .gif, .png",
        )
    return Scan(sources=tuple(sorted(sources, key=lambda source: source.name)), other_files=len(other - set(found)))


def _sources(found: Mapping[Path, Path], base: Path | None, images: str, archives: bool) -> Iterator[MediaSource]:
    taken: set[Path] = set()
    folders = [] if images == "stills" else frame_folders(found, least=2 if images == "frames" else FEWEST)
    for folder in folders:
        taken |= set(folder.frames)
        yield _picture_source(folder, found[folder.frames[0]], base)
    for path, root in found.items():
        if path not in taken:
            source = _source(path, root, base)
            if archives and not source.problem and path.suffix.lower() == archive.SUFFIX:
                yield from _members(source)
            else:
                yield source


def _members(source: MediaSource) -> Iterator[MediaSource]:
    """The videos and images of an archive; an archive that cannot be read is one source, with the problem."""
    try:
        members = archive.media_members(source.path)
    except ShortageError:
        raise
    except VidiffError as error:
        yield replace(source, problem=str(error).replace(str(source.path), source.name))
        return
    for member in members:
        yield replace(
            source,
            path=source.path / member.name,
            name=f"{source.name}/{member.name}",
            bytes=member.media.size,
            problem=member.problem,
            member=member,
        )


def _picture_source(folder: FrameFolder, root: Path, base: Path | None) -> MediaSource:
    parts = [_source(path, root, base) for path in folder.frames]
    problem = next((part.problem for part in parts if part.problem), None)
    name = folder.folder.relative_to(base).as_posix() if base else folder.folder.as_posix()
    return MediaSource(
        path=folder.folder,
        root=root,
        name=folder.folder.name if name == "." else name,
        bytes=sum(part.bytes for part in parts),
        mtime_ns=max(part.mtime_ns for part in parts),
        problem=problem,
        pictures=folder.frames,
    )


def _absolute(path: str | Path) -> Path:
    """Absolute without following links: a linked file keeps the name under which its caption stands."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def _expand(text: str, excluded: str | None) -> Iterator[tuple[Path, Path, bool]]:
    """(file, root, is it a source) for one thing that was given."""
    path = _absolute(text)
    if path.is_dir():
        yield from _walk(path, excluded)
    elif os.path.lexists(path):
        yield path, path.parent, path.suffix.lower() not in SUFFIXES_TEXT  # a shell expands clips/* to captions too
    elif glob.has_magic(text):
        pattern = str(path)
        matches = sorted(glob.glob(pattern, recursive=True))
        if not matches:
            raise VidiffError(f"{text} matches no file")
        root = _fixed_part(path)
        for match in map(Path, matches):
            if match.is_dir():
                if "**" not in pattern:
                    yield from ((inner, root, wanted) for inner, _, wanted in _walk(match, excluded))
            elif excluded is None or not Path(os.path.realpath(match)).is_relative_to(excluded):
                yield match, root, match.suffix.lower() in SUFFIXES_MEDIA
    else:
        raise VidiffError(f"{text} does not exist", expected="a folder, a file or a glob of videos and images")


def _walk(root: Path, excluded: str | None) -> Iterator[tuple[Path, Path, bool]]:
    """All files below a folder, through linked folders too, each real folder once."""
    entered: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered or real == excluded:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = Path(folder, name)
                yield path, root, path.suffix.lower() in SUFFIXES_MEDIA


def _fixed_part(pattern: Path) -> Path:
    """The folder of a glob before its first wildcard."""
    fixed = [part for part in pattern.parents if not glob.has_magic(str(part))]
    return fixed[0] if fixed else Path(pattern.anchor)


def _common(roots: Sequence[Path]) -> Path | None:
    try:
        return Path(os.path.commonpath(roots))
    except ValueError:  # different drives
        return None


def _source(path: Path, root: Path, base: Path | None) -> MediaSource:
    name = path.relative_to(base).as_posix() if base else path.as_posix()
    try:
        status = path.stat()
    except OSError as error:
        return MediaSource(
            path=path, root=root, name=name, bytes=0, mtime_ns=0, problem=f"unreadable: {error.strerror}"
        )
    # Opening a pipe waits for a writer for ever.
    problem = None if stat.S_ISREG(status.st_mode) else "not a regular file"
    return MediaSource(
        path=path, root=root, name=name, bytes=status.st_size, mtime_ns=status.st_mtime_ns, problem=problem
    )
