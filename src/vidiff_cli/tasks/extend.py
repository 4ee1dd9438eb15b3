"""`vidiff extend`: more of a video, after its end or before its beginning; or a video from a photo."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vidiff_cli.config.generate import ExtendSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window, extension, plan
from vidiff_cli.tasks import generate as gen
from vidiff_cli.tasks.events import Note, Steps, task
from vidiff_cli.video.decode import Decoded, decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe

DEFAULT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtendReport:
    """The video written: `given` of its frames are the input's, `made` are new.

    `seam_jump` is the change across each window's seam over the usual change between given frames (1 is seamless; None
    for a photo), `drift` the mean colour of each window minus that of the given frames, in 8-bit levels.
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
    """Extends a video (its own frames stay as they are, at the model's size) by --seconds or --num-frames.

    Every finished window is kept beside the output, so that an interrupted call goes on where it was.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    info = probe(settings.input)
    path = settings.output
    if path is not None:
        gen.check_output(path, overwrite=settings.overwrite, lossless=settings.lossless)
    model = gen.open_model(settings)
    window = model.settings.frames
    if window == 1:
        raise VidiffError("this model makes single pictures", fix="train on videos to extend one")
    (scaled, crop), fps = gen.network_size(info.width, info.height, model), settings.fps if info.is_image else None
    clip = decode(settings.input, size=scaled, crop=crop, fps=None if info.is_image else _steady(info.fps))
    rate = (fps or model.fps) if info.is_image else clip.fps
    new = settings.num_frames or max(1, round((settings.seconds or DEFAULT_SECONDS) * rate))
    timeline = extension(len(clip.frames), rate, new=new, before=settings.before)
    total = len(timeline.times)
    if path is None:
        path = Path(
            f"{gen.slug(settings.input.stem)}_extended_{total}f_{crop[0]}x{crop[1]}{'.mkv' if settings.lossless else '.mp4'}"
        )
        gen.check_output(path, overwrite=settings.overwrite, lossless=settings.lossless)
    journal = path.with_name(f".{path.name}.partial")
    seed = gen.fresh_seed(settings.seed, journal)
    yield from gen.introduce(model, settings, seed, settings.prompt)
    yield from gen.rate_note(model, rate)
    if (crop[0], crop[1]) != (info.width, info.height):
        yield Note(f"Working at {crop[0]}x{crop[1]}, the model's size (the input is {info.width}x{info.height}).")
    windows = plan(
        total, timeline.given, window=window, overlap=gen.overlap_of(settings.overlap, window), scheme=settings.scheme
    )
    condition = gen.choose_condition(settings, model)
    prompts = settings.prompt or ("",)
    job = gen.Job(
        windows=windows,
        times=timeline.times,
        prompts=lambda number: [prompts[min(number, len(prompts) - 1)]],
        seeds=[seed],
    )
    frames = torch.zeros(1, model.settings.network.channels, total, crop[1], crop[0])
    given = sorted(timeline.given)
    frames[:, :, given] = gen.as_video(clip.frames)
    shape = (1, frames.shape[1], min(window, total), crop[1], crop[0])
    yield from gen.long_note(gen.estimate_seconds(model, settings, job, shape, condition))
    video = yield from gen.run(gen.generate(model, settings, job, frames, condition=condition, journal=journal))
    pixels = gen.as_frames(video[0])
    pixels[given] = clip.frames  # the given frames are copied, never taken from a sampler
    encode(
        path,
        pixels,
        rate,
        lossless=settings.lossless,
        audio_from=settings.input if info.has_audio and not settings.before else None,
        overwrite=settings.overwrite,
    )
    journal.unlink(missing_ok=True)
    jumps, drift = _seams(pixels, windows, given), _drift(pixels, windows, given)
    if settings.sidecar:
        facts = {
            "given": len(given),
            "made": new,
            "fps": str(rate),
            "condition": condition,
            "seam_jump": jumps,
            "drift": drift,
        }
        gen.write_sidecar(path, "extend", settings, model, seed, facts)
    return ExtendReport(
        path=path,
        given=len(given),
        made=new,
        fps=rate,
        width=crop[0],
        height=crop[1],
        seed=seed,
        condition=condition,
        windows=len(windows),
        seam_jump=jumps,
        drift=drift,
        sheet=_sheet(path, clip, pixels, given) if settings.compare else None,
        seconds=time.monotonic() - began,
    )


def _steady(fps: Fraction) -> Fraction | None:
    """The rate at which a video is read: its own, so that a variable rate becomes a steady one."""
    return fps if fps > 0 else None


def _seams(pixels: np.ndarray, windows: list[Window], given: list[int]) -> tuple[float, ...] | None:
    """Mean square change across the seams between what a window makes and what was there, over that between given
    frames."""
    change = np.square(np.diff(pixels.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    inside = [change[frame] for frame in given if frame + 1 in given]
    usual = float(np.mean(inside)) if inside else 0.0
    if usual == 0.0:
        return None
    seams = []
    for window in windows:
        makes = window.makes
        edges = [frame for frame in range(len(change)) if (frame in makes) != (frame + 1 in makes)]
        edges = [edge for edge in edges if edge in window.observed or edge + 1 in window.observed]
        seams += [float(change[edge]) / usual for edge in edges[:1]]
    return tuple(round(seam, 3) for seam in seams)


def _drift(pixels: np.ndarray, windows: list[Window], given: list[int]) -> tuple[float, ...]:
    base = float(pixels[given].mean())
    return tuple(round(float(pixels[sorted(window.makes)].mean()) - base, 2) for window in windows)


def _sheet(path: Path, clip: Decoded, pixels: np.ndarray, given: list[int]) -> Path:
    from vidiff_cli.viewing.sheet import Row, contact_sheet

    sheet = path.with_name(path.stem + "_sheet.png")
    contact_sheet([Row(label="given", frames=clip.frames), Row(label="extended", frames=pixels, given=given)], sheet)
    return sheet
