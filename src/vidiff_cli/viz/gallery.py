"""A page of videos and pictures in one HTML file: everything is embedded, sorted and filtered in the browser.

Every text on it comes from untrusted files and is escaped; a content security policy restricts the browser to the
page's one script and to embedded media.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import re
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import atomic_path
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import VideoInfo

SUFFIXES = (".html", ".htm")
MEGABYTE = 10**6
LONGEST_TEXT = 2000  # characters of a name, a prompt or a value
SMALL = 128  # pixels: of frames whose long side is smaller every pixel is to be seen
LARGEST_FILE = 4 * MEGABYTE  # a larger file is not embedded as it is
WIDEST = 480  # pixels of the long side of what is encoded for the page
ENLARGED = 64  # pixels: H.264 halves the resolution of colors, so smaller frames are enlarged before
FASTEST = Fraction(30)  # frames a second of what is encoded for the page
LONGEST_SECONDS = 60  # of a video that is encoded for the page
CRF, JPEG_QUALITY = 20, 88
IMAGES = {  # container: type of what browsers show as a picture, moving or not
    "png": "image/png",
    "apng": "image/apng",
    "jpeg": "image/jpeg",
    "mpo": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "webp_anim": "image/webp",
}
VIDEOS = {  # suffix, container and codec that all browsers of today play
    (".mp4", "mp4", "h264"): "video/mp4",
    (".m4v", "mp4", "h264"): "video/mp4",
    (".webm", "webm", "vp8"): "video/webm",
    (".webm", "webm", "vp9"): "video/webm",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """Content that browsers can show: the bytes of a file of the given type, and a remark on its conversion."""

    kind: str
    content: bytes
    remark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryEntry:
    """Description of one video or picture. Sizes in pixels; `fps` an exact fraction, None for a picture.

    `frames` is None if they were not counted to the end. `facts` are shown, `scores` are also keys to sort by;
    `problem` is the reason for a missing or incomplete preview.
    """

    name: str
    kind: str
    path: Path | None = None
    prompt: str = ""
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None

    @property
    def keys(self) -> dict[str, str | int | float]:
        """Values to sort by; missing ones are absent."""
        named = {"name": self.name, "prompt": self.prompt, "seed": self.seed}
        return {name: value for name, value in named.items() if value not in (None, "")} | dict(self.scores)


class Gallery:
    """A gallery page under construction, as a context manager: `add` entries, then `write` it. Holds one entry at a
    time.

    `limit` is the maximum number of bytes of all entries; an entry that does not fit is counted in `left_out`.
    """

    def __init__(self, *, limit: float) -> None:
        self.limit, self.bytes, self.shown, self.left_out = limit, 0, 0, 0
        self._keys: dict[str, None] = {}
        self._cards = tempfile.TemporaryFile(prefix="vidiff-")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None):
        self._cards.close()

    def add(self, entry: GalleryEntry, media: Media | None) -> bool:
        """Adds an entry; returns False if it does not fit."""
        card = _card(entry, media).encode()
        if self.bytes + len(card) > self.limit:
            self.left_out += 1
            return False
        self._cards.write(card)
        self.bytes, self.shown = self.bytes + len(card), self.shown + 1
        self._keys |= dict.fromkeys(entry.keys)
        return True

    def write(self, path: Path, *, title: str, summary: Iterable[str], facts: Mapping[str, str], sort: str = "") -> int:
        """Writes the page atomically and returns its size in bytes. Raises VidiffError: no entry fitted, or a full
        disk."""
        if not self.shown:
            fix = "give it more with --megabytes, or show fewer pixels"
            raise VidiffError("nothing fits into the gallery", found=f"a limit of {_megabytes(self.limit)}", fix=fix)
        before, after = _page(title, summary, facts, self._keys, sort)
        self._cards.seek(0)
        with atomic_path(path, parents=True) as partial, partial.open("wb") as file:
            file.write(before.encode())
            shutil.copyfileobj(self._cards, file, MEGABYTE)
            file.write(after.encode())
        return path.stat().st_size


def _page(
    title: str, summary: Iterable[str], facts: Mapping[str, str], keys: Iterable[str], sort: str
) -> tuple[str, str]:
    """HTML before and after the cards."""
    template = (files("vidiff_cli.viz") / "gallery.html").read_text(encoding="utf-8")
    parts = {
        "policy": _policy(template),
        "title": escape_text(title),
        "heading": f"<bdi>{escape_text(title)}</bdi>",
        "summary": "\n".join([*(f"<p>{escape_text(line)}</p>" for line in summary), _facts(facts)]),
        "sort": escape_text(sort),
        "keys": "".join(f'<option value="{escape_text(key)}">{escape_text(key)}</option>' for key in keys),
    }
    # one pass: a marker within a text stays what it is
    before, after = template.split("{{cards}}\n")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], before), after


def _policy(template: str) -> str:
    """Content security policy: no sources but embedded media, and the one script and style by their hashes."""
    sums = {}
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
        assert inside is not None
        sums[tag] = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
    allowed = {f"{tag}-src": f"'sha256-{value}'" for tag, value in sums.items()}
    allowed |= {"default-src": "'none'", "img-src": "data:", "media-src": "data:", "base-uri": "'none'"}
    allowed |= {"form-action": "'none'"}
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _card(entry: GalleryEntry, media: Media | None) -> str:
    known = entry.width is not None and entry.height is not None
    small = known and max(entry.width or 0, entry.height or 0) < SMALL
    classes = ["card", *(["small"] if small else []), *(["wide"] if entry.kind == "sheet" else [])]
    lines = [f"<h2><bdi>{escape_text(entry.name)}</bdi></h2>"]
    lines += [f'<p class="prompt"><bdi>{escape_text(entry.prompt)}</bdi></p>'] if entry.prompt else []
    lines += [f'<p class="problem">{escape_text(entry.problem)}</p>'] if entry.problem else []
    lines += [_facts(entry_facts(entry))]
    lines += [f'<p class="remark">{escape_text(media.remark)}</p>'] if media and media.remark else []
    keys = html.escape(json.dumps(dict(_bounded(entry.keys))))
    stage = f'<div class="stage">{_element(entry, media)}</div>\n' if media else ""
    inside = "\n".join(line for line in lines if line)
    return f'<li class="{" ".join(classes)}" data-keys="{keys}">\n{stage}<div class="text">\n{inside}\n</div>\n</li>\n'


def _bounded(keys: Mapping[str, str | int | float]) -> Iterator[tuple[str, str | int | float]]:
    """Text that the browser's script can parse, whatever a file contained."""
    for name, value in keys.items():
        if isinstance(value, str):
            yield name[:LONGEST_TEXT], value[:LONGEST_TEXT]
        elif math.isfinite(value):
            yield name[:LONGEST_TEXT], value


def _element(entry: GalleryEntry, media: Media) -> str:
    label = escape_text(f"{entry.name}: {entry.prompt}" if entry.prompt else entry.name, most=300)
    size = f' width="{entry.width}" height="{entry.height}"' if entry.width and entry.height else ""
    source = f"data:{media.kind};base64,{base64.b64encode(media.content).decode()}"
    if media.kind.startswith("image/"):
        return f'<img alt="{label}"{size} src="{source}">'
    return f'<video aria-label="{label}"{size} muted loop playsinline controls preload="auto" src="{source}"></video>'


def entry_facts(entry: GalleryEntry) -> dict[str, str]:
    """The line below a name: size, length, seed, facts, scores."""
    said: dict[str, str] = {}
    if entry.width and entry.height:
        said["size"] = f"{entry.width}x{entry.height}"
    if entry.fps is not None:
        counted = "" if entry.frames is None else f"{entry.frames} at "
        said["frames"] = f"{counted}{float(Fraction(entry.fps)):.6g} fps"
    if entry.seed is not None:
        said["seed"] = str(entry.seed)
    return said | dict(entry.facts) | {name: f"{value:.6g}" for name, value in entry.scores.items()}


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<dt>{escape_text(name)}</dt><dd><bdi>{escape_text(value)}</bdi></dd>" for name, value in facts.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def escape_text(said: str, *, most: int = LONGEST_TEXT) -> str:
    """Escapes text for HTML, attributes included: bounded length, unprintable characters as U+FFFD."""
    said = said if len(said) <= most else f"{said[: most - 1]}…"
    return html.escape("".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in said))


def _megabytes(count: float) -> str:
    return f"{count / MEGABYTE:.3g} MB"


# --- what a browser can show ------------------------------------------------------------------------------------------


def media_of_file(info: VideoInfo) -> Media:
    """A file unchanged if every browser shows it and it is small, else re-encoded, smaller, with a remark.

    Raises VidiffError if it cannot be read.
    """
    kind = browser_type(info)
    large = info.path.stat().st_size > LARGEST_FILE
    if kind is not None and not large:
        return Media(kind=kind, content=info.path.read_bytes())
    was = (
        f"a file of {_megabytes(info.path.stat().st_size)}"
        if kind
        else f"{info.codec} in {info.path.suffix or info.container}"
    )
    size = _reduced(info.width, info.height)
    with closing(_frames(info, size)) as frames:
        if info.is_image:
            return _picture(next(frames), remark=f"Shown as JPEG; it is {was}.")
        long = info.duration_seconds is not None and info.duration_seconds > LONGEST_SECONDS
        part = f", its first {LONGEST_SECONDS} s" if long else ""
        sound = ", without sound" if info.has_audio else ""
        remark = f"Encoded anew for browsers, {size[0]}x{size[1]}{sound}{part}; it is {was}."
        return _video(frames, min(info.fps, FASTEST), remark=remark)


def media_of_frames(frames: Iterable[np.ndarray], fps: Fraction) -> Media:
    """Encodes frames (h w c) uint8 at `fps`, or the first of them as a picture if `fps` is 0. VidiffError: no
    frames."""
    if fps > 0:
        return _video(iter(frames), fps, remark="")
    return _picture(next(iter(frames)), remark="", lossless=True)


def browser_type(info: VideoInfo) -> str | None:
    """MIME type of a file that every browser shows unchanged; None for others."""
    containers = info.container.split(",")
    if picture := next((IMAGES[name] for name in containers if name in IMAGES), None):
        return picture
    if info.pixel_format not in ("yuv420p", "yuvj420p") or info.video_streams > 1:
        return None
    found = (VIDEOS.get((info.path.suffix.lower(), name, info.codec)) for name in containers)
    return next((kind for kind in found if kind), None)


def _frames(info: VideoInfo, size: tuple[int, int]) -> Generator[np.ndarray]:
    """Frames (h w c) of a file, scaled to `size` (w, h), up to a damage. Raises VidiffError without any frame."""
    fps, stop = (None, None) if info.is_image else (min(info.fps, FASTEST), Fraction(LONGEST_SECONDS))
    there = False
    try:
        # ffmpeg alone: decord may give up in the midst of a file, and all would begin anew
        for attempt in stream_frames(info, size=size, fps=fps, decoder="ffmpeg", stop_seconds=stop):
            for _, block in attempt.blocks:
                there = True
                yield from block
    except VidiffError:
        if not there:
            raise


def _reduced(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, WIDEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _video(frames: Iterator[np.ndarray], fps: Fraction, *, remark: str) -> Media:
    with tempfile.TemporaryDirectory(prefix="vidiff-") as folder:
        path = Path(folder) / "video.mp4"
        encode(path, map(_fit_for_h264, frames), fps, crf=CRF)
        return Media(kind="video/mp4", content=path.read_bytes(), remark=remark)


def _fit_for_h264(frame: np.ndarray) -> np.ndarray:
    """Enlarges small frames by a whole number; makes sides even by repeating the last row or column."""
    factor = max(1, ENLARGED // max(frame.shape[:2]))
    frame = frame.repeat(factor, axis=0).repeat(factor, axis=1)
    odd = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
    return np.pad(frame, odd, mode="edge") if any(side for _, side in odd) else frame


def _picture(frame: np.ndarray, *, remark: str, lossless: bool = False) -> Media:
    target, kind = io.BytesIO(), "png" if lossless else "jpeg"
    Image.fromarray(np.ascontiguousarray(frame)).save(target, kind.upper(), quality=JPEG_QUALITY)
    return Media(kind=f"image/{kind}", content=target.getvalue(), remark=remark)
