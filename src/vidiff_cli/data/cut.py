"""One source to clips: decoded, scaled, cropped to a square and cut, or rejected with a reason."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.data.scan import Source
from vidiff_cli.errors import VidiffError
from vidiff_cli.video.decode import decode
from vidiff_cli.video.probe import probe

UNEXPECTED = "cannot be decoded"  # by an error that no one foresaw; it may be the machine's fault, not the file's


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What became of one source; plain data, so that it can stand in a journal.

    `kind` is "" for a kept source, else the reason in two or three words, `reason` the whole sentence. `starts` are the
    first frames of the clips, counted at `fps` (a fraction as text, "0" for an image) from the source's first frame.
    """

    kind: str = ""
    reason: str = ""
    decoder: str | None = None
    fallback: str | None = None
    width: int = 0
    height: int = 0
    fps: str = "0"
    frames_decoded: int = 0
    clip_frames: int = 0
    starts: tuple[int, ...] = ()


def cut(source: Source, settings: PrepSettings) -> tuple[Piece, np.ndarray | None]:
    """The clips of a source, uint8 (n t h w c), and what to say about it. Never raises for a bad file."""
    if source.problem:
        return Piece(kind="cannot be read", reason=source.problem), None
    try:
        info = probe(source.path)
        rate = min(settings.fps, info.fps) if info.fps > 0 else settings.fps
        decoded = decode(
            source.path,
            size=_scaled(info.width, info.height, settings.size),
            crop=(settings.size, settings.size),
            fps=None if info.is_image else rate,
            decoder=settings.decoder,
        )
    except VidiffError as error:
        return Piece(kind=_kind(error, source), reason=str(error).replace(str(source.path), source.name)), None
    except Exception as error:  # a decoder's own error: one broken file must never stop the run
        what = " ".join(str(error).split())[:300]
        return Piece(kind=UNEXPECTED, reason=f"{UNEXPECTED}: {type(error).__name__}: {what}"), None
    said = {
        "decoder": decoded.decoder,
        "fallback": decoded.fallback,
        "width": info.width,
        "height": info.height,
        "frames_decoded": len(decoded.frames),
    }
    if info.is_image:
        return Piece(fps="0", clip_frames=1, starts=(0,), **said), decoded.frames[None, :1]
    starts = clip_starts(len(decoded.frames), settings.frames, settings.clip_stride, settings.clips_per_source)
    if not starts:
        count = len(decoded.frames)
        found = f"{count} frame{'s' * (count != 1)} at {float(decoded.fps):.5g} fps, {settings.frames} needed"
        return Piece(kind="too short", reason=f"too short: {found}", fps=str(decoded.fps), **said), None
    windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(decoded.frames, settings.frames, axis=0), -1, 1)
    # A slice copies nothing: the frames of a long video are large.
    clips = windows[:: settings.clip_stride] if settings.clips_per_source is None else windows[list(starts)]
    return Piece(fps=str(decoded.fps), clip_frames=settings.frames, starts=starts, **said), clips


def clip_starts(total: int, frames: int, stride: int, most: int | None) -> tuple[int, ...]:
    """First frames of the clips that fit into `total` frames; where there are more than `most`, evenly spread ones."""
    starts = range(0, total - frames + 1, stride)
    if most is None or len(starts) <= most:
        return tuple(starts)
    return tuple(starts[index * len(starts) // most] for index in range(most))


def _scaled(width: int, height: int, short: int) -> tuple[int, int]:
    """(width, height) with the short side equal to `short`."""
    if width <= height:
        return short, max(round(height * short / width), short)
    return max(round(width * short / height), short), short


def _kind(error: VidiffError, source: Source) -> str:
    """An error without the file's name and the details, so that equal reasons can be counted."""
    what = error.what.replace(str(source.path), "").replace(source.path.name, "")
    return re.sub(r"[(:].*", "", what.strip(" :"), flags=re.DOTALL).strip() or UNEXPECTED
