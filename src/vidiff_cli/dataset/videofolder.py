"""A dataset as a Hugging Face videofolder: train/ and validation/, each with its videos and a metadata.jsonl.

    load_dataset("videofolder", data_dir=FOLDER)

takes the splits from the names of the folders and joins the rows to the videos by `file_name`. Every clip becomes a
video of its own at its own rate; an image becomes a video of one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidiff_cli.dataset.dataset import Clip, Dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.video.encode import encode

FOLDERS = {"train": "train", "val": "validation"}
METADATA = "metadata.jsonl"
PER_FOLDER = 10_000  # files: more are slow to list, and refused by the Hub
STILL_FPS = Fraction(1)  # the rate of a video that holds an image


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Clip `index` of a dataset and where it goes: `file_name` is relative to `split`, a folder of the export."""

    index: int
    split: str
    file_name: str


def targets(dataset: Dataset, *, lossless: bool) -> Sequence[Target]:
    """Plans the output file of each clip, in their order. Names come from clip indices."""
    suffix = ".mkv" if lossless else ".mp4"
    found = []
    for side, folder in FOLDERS.items():
        clips = dataset.split(side)
        for number, index in enumerate(clips):
            below = f"{number // PER_FOLDER:04d}/" if len(clips) > PER_FOLDER else ""
            found.append(Target(index=index, split=folder, file_name=f"{below}clip-{index:07d}{suffix}"))
    return sorted(found, key=lambda target: target.index)


def write_video(dataset: Dataset, target: Target, folder: Path, *, lossless: bool, crf: int) -> None:
    """One clip as a video file. VidiffError where it cannot be written."""
    path = folder / target.split / target.file_name
    rate = Fraction(dataset.clips[target.index].fps) or STILL_FPS
    encode(path, dataset.rgb(target.index), rate, lossless=lossless, crf=crf)


def metadata(clip: Clip, target: Target) -> dict[str, object]:
    """The row of a clip: `text` is its first caption, `captions` are all, `fps` an exact fraction ("0" for an image);
    a source's name that is no valid text loses what is not."""
    row = {
        "file_name": target.file_name,
        "text": clip.captions[0] if clip.captions else "",
        "captions": clip.captions,
        "source": clip.source,
        "start_seconds": float(clip.start_seconds),
        "fps": clip.fps,
        "frames": clip.frames,
        "width": clip.width,
        "height": clip.height,
        "group": clip.group,
    }
    scores = {"scores": {name: float(value) for name, value in sorted(clip.scores.items())}} if clip.scores else {}
    return {name: _valid(value) for name, value in (row | scores).items()}


def _valid(value: object) -> object:
    """Text without lone surrogates, which other readers refuse."""
    if isinstance(value, list):
        return [_valid(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape" if _escaped(value) else "replace").decode("utf-8", "replace")
    return value


def _escaped(text: str) -> bool:
    """True if all lone surrogates stand for bytes, as in file names."""
    return all("\udc80" <= letter <= "\udcff" for letter in text if "\ud800" <= letter <= "\udfff")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """VidiffError for a folder that is not empty; with `overwrite`, for one that holds anything but an export."""
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise VidiffError(f"{folder} is not a folder", fix="give the name of a folder")
        return
    names = sorted(path.name for path in folder.iterdir())
    known = [name for name in names if name in FOLDERS.values() and (folder / name / METADATA).is_file()]
    if names and not overwrite:
        raise VidiffError(f"{folder} is not empty", found=names[0], fix="give another folder, or --overwrite")
    if names != known:
        foreign = next(name for name in names if name not in known)
        fix = "give another folder: --overwrite replaces only an export"
        raise VidiffError(f"{folder} holds more than an export", found=foreign, fix=fix)
