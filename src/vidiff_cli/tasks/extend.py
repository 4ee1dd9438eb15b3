"""`vidiff extend`: more of a video, after its end or before its beginning; or a video from a photo."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.config.generate import ExtendSettings
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.frames import Window, extension
from vidiff_cli.tasks import generate as gen
from vidiff_cli.tasks.complete import Completed, Work, choose_place, complete, read_input, size_note
from vidiff_cli.tasks.events import Steps, task
from vidiff_cli.tasks.model import Model
from vidiff_cli.video.decode import Decoded
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import VideoInfo, probe

DEFAULT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtendReport:
    """The video written: `given` of its frames are the input's, `made` are new.

    `seam_jump` is the change across each window's seam over the usual change between given frames (1 is seamless; None
    where the given frames do not change), `drift` the mean brightness of what each window made minus that of the given
    frames, in 8-bit levels.
    """

    path: Path
    given: int
    made: int
    fps: Fraction
    width: int
    height: int
    seed: int
    condition: str
    windows: int
    seam_jump: tuple[float, ...] | None
    drift: tuple[float, ...]
    sheet: Path | None
    seconds: float


@task
def extend(settings: ExtendSettings) -> Steps[ExtendReport]:
    """Extends a video by --seconds or --num-frames; its own frames stay as they are, at the model's size.

    Every finished window is kept beside the output, so that an interrupted call goes on where it was.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    if settings.seconds is not None and settings.num_frames is not None:
        raise UsageError("give only one of --seconds and --num-frames")
    info = probe(settings.input)
    if settings.fps is not None and not info.is_image:
        raise VidiffError(
            f"{settings.input} keeps its own rate", found=f"--fps {settings.fps}", fix="--fps is for photos"
        )
    model = gen.open_model(settings)
    if model.settings.frames == 1:
        raise VidiffError("this model makes single pictures", fix="train on videos to extend one")
    overlap = gen.overlap_of(settings.overlap, model.settings.frames)
    clip = read_input(info, model, fps=None if info.is_image else info.fps)  # a variable rate becomes a steady one
    rate = (settings.fps or model.fps) if info.is_image else clip.fps
    new = settings.num_frames or max(1, round((settings.seconds or DEFAULT_SECONDS) * rate))
    height, width = clip.frames.shape[1:3]
    gen.check_amount(len(clip.frames) + new, width, height)
    timeline = extension(len(clip.frames), rate, new=new, before=settings.before)
    with choose_place(settings, model, "extended", clip, timeline, rate) as place:
        yield from gen.introduce(model, settings, place.seed, settings.prompt)
        yield from gen.rate_note(model, rate)
        yield from size_note(info, clip)
        prompts = settings.prompt or ("",)
        work = Work(
            place=place,
            timeline=timeline,
            overlap=overlap,
            scheme=settings.scheme,
            prompt=lambda number: prompts[min(number, len(prompts) - 1)],
        )
        done = yield from complete(model, settings, clip, work)
        report = _write(settings, model, info, clip, work, done, began)
        place.journal.remove()
        return report


def _write(
    settings: ExtendSettings, model: Model, info: VideoInfo, clip: Decoded, work: Work, done: Completed, began: float
) -> ExtendReport:
    given, rate, new = sorted(work.timeline.given), work.timeline.fps, len(done.pixels) - len(clip.frames)
    encode(
        work.place.path,
        done.pixels,
        rate,
        lossless=settings.lossless,
        audio_from=settings.input if info.has_audio else None,
        audio_delay=new / rate if settings.before else Fraction(0),
        overwrite=settings.overwrite,
        again=work.place.again,
    )
    jumps, drift = seam_jumps(done.pixels, done.windows, given), brightness_drift(done.pixels, done.windows, given)
    if settings.sidecar:
        facts = {"given": len(given), "made": new, "fps": str(rate), "condition": done.condition}
        facts |= {"seam_jump": jumps, "drift": drift}
        gen.write_sidecar(work.place.path, "extend", settings, model, work.place.seed, facts)
    return ExtendReport(
        path=work.place.path,
        given=len(given),
        made=new,
        fps=rate,
        width=done.pixels.shape[2],
        height=done.pixels.shape[1],
        seed=work.place.seed,
        condition=done.condition,
        windows=len(done.windows),
        seam_jump=jumps,
        drift=drift,
        sheet=gen.compare_sheet(work.place.path, clip.frames, done.pixels, given) if settings.compare else None,
        seconds=time.monotonic() - began,
    )


def seam_jumps(pixels: np.ndarray, windows: Sequence[Window], given: Collection[int]) -> tuple[float, ...] | None:
    """Mean square change where a window's frames meet those it observed, over that between neighbouring given frames.

    pixels (n h w c) uint8. None where there are no two neighbouring given frames that differ.
    """
    change = np.square(np.diff(pixels.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    inside = [change[frame] for frame in given if frame + 1 in given]
    usual = float(np.mean(inside)) if inside else 0.0
    if usual == 0.0:
        return None
    seams = []
    for window in windows:
        edges = [frame for frame in range(len(change)) if (frame in window.makes) != (frame + 1 in window.makes)]
        meeting = [float(change[edge]) for edge in edges if {edge, edge + 1} & window.observed]
        seams += [round(max(meeting) / usual, 3)] if meeting else []
    return tuple(seams)


def brightness_drift(pixels: np.ndarray, windows: Sequence[Window], given: Collection[int]) -> tuple[float, ...]:
    """Mean level of what each window made minus that of the given frames, in 8-bit levels."""
    base = float(pixels[sorted(given)].mean())
    return tuple(round(float(pixels[sorted(window.makes)].mean()) - base, 2) for window in windows)
