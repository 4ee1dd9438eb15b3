"""The files of a result: their names, the checks before anything is made, the lock and the journal of its frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidiff_cli.device import dtype_name
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.resume_journal import WindowJournal, window_journal
from vidiff_cli.generation.sidecar import result_stem, sidecar_path, write_sidecar
from vidiff_cli.models.families import VideoModel
from vidiff_cli.video.encode import RECIPES, check_output
from vidiff_cli.video.picture import check_picture, is_picture
from vidiff_cli.video.targets import is_folder

# Settings that do not decide which frames are made.
NOT_IN_KEY = {"overwrite", "sidecar", "compare", "output", "device", "clip_model", "autoencoder", "jobs"}


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """Options of a `command` for writing its result: the file (None: named after the input or the prompt), the seed
    (None: random), and what is written beside it. `record` are all its settings as JSON, for the journal and the
    sidecar. `picture`: the size (h w) of a result that is a single picture, and may be a picture file."""

    command: str
    path: Path | None
    seed: int | None
    lossless: bool
    sidecar: bool
    compare: bool
    overwrite: bool
    record: Mapping[str, Any]
    picture: tuple[int, int] | None = None

    @classmethod
    def from_record(cls, command: str, path: Path | None, record: Mapping[str, Any]) -> OutputOptions:
        """Those of a command whose settings, as JSON, are `record`."""
        names = ("seed", "lossless", "sidecar", "compare", "overwrite")
        return cls(command=command, path=path, record=record, **{name: record[name] for name in names})

    @property
    def suffix(self) -> str:
        """The extension of a file that is not named."""
        if self.picture is not None:
            return ".png"
        return ".mkv" if self.lossless else ".mp4"

    @property
    def folder(self) -> Path:
        """The folder of the result and of temporary frames."""
        return (self.path or Path("video")).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputTarget:
    """The file of a result, its seed, and the journal that keeps finished windows until it is written.

    `again`: an interrupted call made all windows, so that files of the result may exist already.
    """

    path: Path
    seed: int
    journal: WindowJournal
    again: bool
    options: OutputOptions

    def finish(self, model: VideoModel | None, facts: Mapping[str, object]) -> None:
        """Write the sidecar, where that is asked for, and remove the journal: the result is safe."""
        if self.options.sidecar:
            write_sidecar(self.path, self.options.command, self.options.record, model, self.seed, facts)
        self.journal.remove()


@contextmanager
def open_target(
    options: OutputOptions, name: str, details: str, model: VideoModel | None, times: Sequence[Fraction], digest: str
) -> Iterator[OutputTarget]:
    """Lock the result against other processes: as asked, else NAME[_sSEED]_DETAILS with the extension.

    The name of the journal has no random seed: the same command finds it, and the seed of the interrupted call in it.

    Args:
        options: How the result is to be written.
        name: Start of the file's name.
        details: Its end, such as the number and size of frames.
        model: The model, None for an estimate.
        times: Times of all frames.
        digest: Digest of the given frames.

    Yields:
        The target.

    Raises:
        VidiffError: The result is being made by another process.
    """
    key = journal_key(options.record, model, times, [digest])
    with window_journal(target_path(options, name, details, options.seed), key, options.seed) as journal:
        path = target_path(options, name, details, journal.seed)
        yield OutputTarget(path=path, seed=journal.seed, journal=journal, again=journal.complete, options=options)


def target_path(options: OutputOptions, name: str, details: str, seed: int | None) -> Path:
    """The file of a result: as asked, else NAME[_sSEED]_DETAILS with the extension."""
    numbered = "" if seed is None else f"_s{seed}"
    return options.path or Path(f"{name}{numbered}_{details}{options.suffix}")


def check_files(
    path: Path, options: OutputOptions, fps: Fraction, *, again: bool = False, compared: Sequence[Path] = ()
) -> Path:
    """Refuse a result that could not be written in the end, with its sidecar, its sheet and what else --compare writes.

    `again`: an interrupted call may have written them already. Makes the folder of the result, so all else should be
    checked before. Returns the path of the result.
    """
    overwrite = options.overwrite or again
    if options.picture is not None and (is_picture(path) or not (is_folder(path) or path.suffix.lower() in RECIPES)):
        target = check_picture(path, options.picture, lossless=options.lossless, overwrite=overwrite)
    else:
        target = check_output(path, fps=fps, lossless=options.lossless, overwrite=overwrite)
    beside = [sidecar_path(target)] if options.sidecar else []
    beside += [sheet_path(target), *compared] if options.compare else []
    for other in beside:
        if other.is_dir():
            raise VidiffError(f"{other} is a folder", fix="choose another name for the result")
        if other.exists() and not (options.overwrite or again):
            raise VidiffError(f"{other} exists", fix="choose another name for the result, or pass --overwrite")
    return target


def journal_key(
    record: Mapping[str, Any], model: VideoModel | None, times: Sequence[Fraction], given: Sequence[str]
) -> str:
    """Hash all that decides a video: settings, weights, times, and the prompts or the digests of given frames."""
    deciding = {name: value for name, value in record.items() if name not in NOT_IN_KEY}
    weights = [model.hash, dtype_name(model.dtype)] if model else []
    parts: list[object] = [deciding, *weights, [str(moment) for moment in times], list(given)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def slug(text: str) -> str:
    """A file name from any text: letters, digits and hyphens, 50 characters at most; never empty, never hidden."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    short = "-".join(words)[:50].encode()[:150].decode(errors="ignore")  # a file name has 255 bytes at most
    return short.strip("-") or "video"


def sheet_path(path: Path) -> Path:
    """out.mp4 -> out_sheet.png."""
    return path.with_name(result_stem(path) + "_sheet.png")


def compare_path(path: Path) -> Path:
    """out.mp4 -> out_compare.mp4."""
    return path.with_name(result_stem(path) + "_compare.mp4")
