"""What sample, extend and interpolate share: a model, a way to condition, windows to fill, files to write.

Shapes: b clips, n frames of the whole video, t frames of a window; videos b c n h w in [-1, 1]; files hold uint8 (n h w
c).
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidiff_cli import __version__
from vidiff_cli.checkpoint import write_text
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct, threshold
from vidiff_cli.diffusion.levels import cosine, grid
from vidiff_cli.diffusion.noise import Prior
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Noise, ddpm
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window
from vidiff_cli.generation.fill import Condition, fill
from vidiff_cli.tasks.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.tasks.events import Event, Note, Progress
from vidiff_cli.tasks.model import HARDLY_TRAINED, Model, load_model
from vidiff_cli.tasks.sidecar import sidecar_of
from vidiff_cli.tasks.text import download_note
from vidiff_cli.tasks.window_journal import WindowJournal
from vidiff_cli.training.state import Learner
from vidiff_cli.video.encode import check_output

LONG_SECONDS = 60
LANGEVIN = 0.1  # VDM's delta
MOST_BYTES = 2**28  # of 8-bit frames made at a time; the work on them takes about twenty times as much memory
WEIGHT = 10.0  # of reconstruction guidance


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One batch of videos to make: windows over `times` (n seconds), a prompt per clip (b) and window, a seed per
    clip."""

    windows: Sequence[Window]
    times: Sequence[Fraction]
    prompts: Callable[[int], Sequence[str]]
    seeds: Sequence[int]


def open_model(settings: GenerationSettings) -> Model:
    """The model of the settings on its device. VidiffError also for a --condition that it was not trained for."""
    device = choose_device(settings.device)
    model = load_model(settings.model, device, choose_dtype(settings.dtype, device), clip=settings.clip_model)
    choose_condition(settings, model)
    return model


def introduce(model: Model, settings: GenerationSettings, seed: int, prompts: Sequence[str]) -> Iterator[Event]:
    """Says which model, device and seed are used, and what may disappoint."""
    yield Note(f"Model {model.path} on {model.device} in {dtype_name(model.dtype)}, seed {seed}.")
    if model.clips_seen < HARDLY_TRAINED:
        yield Note(f"This model is hardly trained: it has seen {model.clips_seen:,} clips.", "warning")
    negative = [settings.negative_prompt] if settings.negative_prompt else []
    for prompt in dict.fromkeys([*prompts, *negative]):
        if unknown := model.unknown_words(prompt):
            yield Note(f"The model has never seen: {', '.join(unknown)} (in {prompt!r}).", "warning")
    if any([*prompts, *negative]) and model.learner.text is None:
        yield Note("The model was trained without captions: the prompt has no effect.", "warning")
    if any([*prompts, *negative]) and model.settings.text.clip is not None:
        yield from download_note(model.settings.text.clip, settings.clip_model)
    model.embed_prompts([*prompts, *negative])


def choose_condition(settings: GenerationSettings, model: Model) -> str:
    """`auto` is the learned condition of a model that was trained with it, else reconstruction guidance."""
    trained = model.settings.conditioning == "mixed"
    if settings.condition == "learned" and not trained:
        raise VidiffError("this model was not trained on observed frames", fix="use --condition reconstruction")
    chosen = ("learned" if trained else "reconstruction") if settings.condition == "auto" else settings.condition
    most = model.settings.context_noise
    if settings.context_noise and chosen != "learned":
        found = (
            f"--condition {chosen}" if settings.condition == chosen else "a model that was not trained on given frames"
        )
        raise VidiffError("--context-noise is for given frames that the network is shown", found=found)
    if settings.context_noise > most:
        raise VidiffError(
            "this model was trained on given frames of less noise" if most else "this model takes given frames clean",
            found=f"--context-noise {settings.context_noise:g}",
            expected=f"at most {most:g}" if most else None,
            fix=None if most else "leave it out, or train with --set objective.context_noise=0.5",
        )
    return chosen


def prior_of(model: Model) -> Prior:
    """The noise that a model was trained with."""
    return Prior(name=model.settings.diffusion.noise, strength=model.settings.diffusion.noise_strength)


def reconstruction_weight(settings: GenerationSettings, given: int) -> float:
    """The weight asked for, or the default: larger where one frame alone has to guide (docs/decisions/0004)."""
    if settings.reconstruction_weight is not None:
        return settings.reconstruction_weight
    return WEIGHT * (2.0 if given == 1 else 1.0)


def conditioner(name: str, settings: GenerationSettings, model: Model) -> Condition:
    """denoise -> denoise for one of the three ways to condition."""
    diffusion, prior = model.settings.diffusion, prior_of(model)

    def reconstruction(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
        weight = reconstruction_weight(settings, int(observed[0].sum()))
        covariance = None if prior.is_white else prior.covariance(known.shape[2])
        return clamp_known(reconstruct(denoise, known, observed, weight, covariance=covariance), known, observed)

    place = torch.tensor(settings.context_noise, dtype=torch.float64)
    level = float(cosine(place, low=diffusion.low, high=diffusion.high, shift=diffusion.shift))

    ways: dict[str, Condition] = {
        "reconstruction": reconstruction,
        "replacement": clamp_known,
        "learned": partial(hold_known, level=level),
    }
    return ways[name]


def sampler(settings: GenerationSettings, model: Model, condition: str) -> Callable[[Denoise, Tensor, Noise], Tensor]:
    """The sampler of the settings with the model's levels and the threshold closed over."""
    diffusion = model.settings.diffusion
    levels = grid(settings.steps, low=diffusion.low, high=diffusion.high, shift=diffusion.shift)
    bound = partial(threshold, percentile=None if settings.threshold == "static" else float(settings.threshold))
    default = LANGEVIN if condition == "reconstruction" else 0.0
    correct = default if settings.langevin is None else settings.langevin

    def sample(denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
        if settings.sampler == "ddpm":
            return ddpm(bound(denoise), z, levels, correct=correct, noise=noise)
        return SAMPLERS[settings.sampler](bound(denoise), z, levels)

    return sample


def generate(
    model: Model,
    settings: GenerationSettings,
    job: Job,
    frames: Tensor,
    *,
    condition: str,
    journal: WindowJournal | None = None,
    what: str = "windows",
) -> Iterator[Event | Tensor]:
    """Fills the windows of a job: yields progress, and at last the video (b c n h w).

    `frames` holds the given frames in place. With a `journal` every finished window is kept, and a repeated call goes
    on after the last one; the file is removed by the caller when the result is safe.
    """
    start, video = 0, frames
    if journal is not None:
        if journal.stale:
            yield Note("The windows kept by an interrupted call are of other settings or another input: making all.")
        kept = journal.recall() if journal.windows else None
        if kept is not None and kept.shape == frames.shape:
            start, video = journal.windows, from_pixels(kept)
        if start == len(job.windows):
            journal.save(to_pixels(video), start, of=start)
    if start:
        yield Note(f"Continuing after window {start} of {len(job.windows)}.")

    def denoise(window: Window) -> Denoise:
        number = job.windows.index(window)
        prompts = job.prompts(number)
        first = job.times[window.frames[0]]
        seconds = [float(job.times[frame] - first) for frame in window.frames]
        times = torch.tensor([seconds] * len(prompts), dtype=torch.float32, device=model.device)
        observed = [condition == "learned" and frame in window.observed for frame in window.frames]
        given = torch.tensor([observed] * len(prompts), device=model.device)
        return model.denoiser(times, given, prompts, scale=settings.guidance_scale, negative=settings.negative_prompt)

    filling = fill(
        job.windows,
        video.to(model.device),
        denoise=denoise,
        sample=sampler(settings, model, condition),
        condition=conditioner(condition, settings, model),
        seeds=job.seeds,
        prior=prior_of(model),
        context_noise=settings.context_noise > 0 and condition == "learned",
        start=start,
    )
    with torch.no_grad():
        began = time.monotonic()
        yield Progress(what=what, done=start, total=len(job.windows))
        for done, filled in enumerate(filling, start + 1):
            video = filled
            _check_finite(video[:, :, sorted(job.windows[done - 1].makes)], f"window {done} of {len(job.windows)}")
            remaining = (time.monotonic() - began) / (done - start) * (len(job.windows) - done)
            if done == start + 1 and remaining > LONG_SECONDS:
                yield Note(f"About {remaining / 60:.0f} more minutes for {len(job.windows) - done} windows.")
            yield Progress(what=what, done=done, total=len(job.windows))
            if journal is not None:
                journal.save(to_pixels(video), done, of=len(job.windows))
    yield video.cpu()


def _check_finite(made: Tensor, where: str) -> None:
    """A number format too narrow for a network makes NaN, which would be written as black."""
    if not bool(made.isfinite().all()):
        fix = "use --dtype fp32, or an earlier checkpoint"
        raise VidiffError("the network's numbers are not finite", found=f"NaN in {where}", fix=fix)


def estimate_seconds(
    model: Model, settings: GenerationSettings, job: Job, shape: Sequence[int], condition: str
) -> float:
    """Wall seconds that a job will take, from one measured pass of the network over a window of `shape` (b c t h w)."""
    z = torch.zeros(*shape, device=model.device)
    times = torch.zeros(shape[0], shape[2], device=model.device)
    denoise = model.denoiser(times, times > 0, [""] * shape[0], scale=1.0)
    with torch.no_grad():
        denoise(z, times)
        began = time.perf_counter()
        denoise(z, times)
        once = time.perf_counter() - began
    prompted = (any(job.prompts(0)) or settings.negative_prompt) and settings.guidance_scale != 1
    passes = settings.steps * (2 if prompted else 1) * (3 if condition == "reconstruction" else 1)
    return once * passes * (2 if settings.sampler == "ddpm" and condition == "reconstruction" else 1) * len(job.windows)


def long_note(seconds: float) -> Iterator[Event]:
    """The estimate, where it is worth saying."""
    if seconds > LONG_SECONDS:
        yield Note(f"This will take about {seconds / 60:.0f} minutes.")


def run(steps: Iterator[Event | Tensor]) -> Iterator[Event]:
    """Passes events on and returns the tensor that came last (for `yield from`)."""
    result: Tensor | None = None
    for step in steps:
        if isinstance(step, Tensor):
            result = step
        else:
            yield step
    return result  # type: ignore[return-value]


def key_of(
    settings: GenerationSettings, model: Model, times: Sequence[Fraction], given: np.ndarray | Sequence[str]
) -> str:
    """Stands for all that decides a video: settings, weights, times, and the frames or prompts it is made from."""
    asked = settings.model_dump(
        mode="json", exclude={"overwrite", "sidecar", "compare", "output", "device", "clip_model"}
    )
    parts: list[object] = [asked, model.hash, dtype_name(model.dtype), [str(moment) for moment in times]]
    if isinstance(given, np.ndarray):
        parts += [given.shape, hashlib.sha256(given.tobytes()).hexdigest()]
    else:
        parts += [list(given)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def to_pixels(video: Tensor) -> Tensor:
    """[-1, 1] -> uint8, rounded to the nearest; the shape stays."""
    return ((video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def from_pixels(pixels: Tensor) -> Tensor:
    """uint8 -> [-1, 1] float32; the shape stays."""
    return (pixels.double() / 127.5 - 1).float()


def as_frames(video: Tensor) -> np.ndarray:
    """One video (c n h w) in [-1, 1] -> uint8 (n h w c), as it is written."""
    return to_pixels(video).permute(1, 2, 3, 0).contiguous().numpy()


def as_video(frames: np.ndarray) -> Tensor:
    """uint8 (n h w c) -> (1 c n h w) in [-1, 1]."""
    return from_pixels(torch.from_numpy(np.ascontiguousarray(frames))).permute(3, 0, 1, 2)[None].contiguous()


def slug(text: str) -> str:
    """A file name from any text: letters, digits and hyphens, 50 characters at most; never empty, never hidden."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    short = "-".join(words)[:50].encode()[:150].decode(errors="ignore")  # a file name has 255 bytes at most
    return short.strip("-") or "video"


def sheet_of(path: Path) -> Path:
    """out.mp4 -> out_sheet.png."""
    return path.with_name(path.stem + "_sheet.png")


def check_files(path: Path, settings: GenerationSettings, fps: Fraction, *, again: bool = False) -> Path:
    """Refuses a result that could not be written in the end, with its sidecar and its sheet; returns its path.

    `again`: an interrupted call may have written them already. Makes the folder it goes to, so all else should be
    checked before.
    """
    target = check_output(path, fps=fps, lossless=settings.lossless, overwrite=settings.overwrite or again)
    beside = [sidecar_of(target)] if settings.sidecar else []
    beside += [sheet_of(target)] if settings.compare else []
    for other in beside:
        if other.is_dir():
            raise VidiffError(f"{other} is a folder", fix="choose another name for the result")
        if other.exists() and not (settings.overwrite or again):
            raise VidiffError(f"{other} exists", fix="choose another name for the result, or pass --overwrite")
    return target


def write_sidecar(
    path: Path, command: str, settings: GenerationSettings, model: Model, seed: int, facts: dict[str, object]
) -> None:
    """Writes how a video was made beside it. `settings` are enough to repeat it (all but the output path).

    They name the checkpoint file itself: a run may have a later one by then.
    """
    resolved = {"model": str(model.path), "seed": seed}
    content = {
        "command": command,
        "argv": sys.argv,
        "settings": settings.model_dump(mode="json", exclude={"output", "overwrite"}) | resolved,
        "seed": seed,
        "checkpoint": {"path": str(model.path), "sha256": model.hash, "clips_seen": model.clips_seen},
        "device": str(model.device),
        "dtype": dtype_name(model.dtype),
        "threads": torch.get_num_threads(),
        "versions": {"vidiff": __version__, "torch": torch.__version__, "numpy": version("numpy")},
        **facts,
    }
    write_text(sidecar_of(path), json.dumps(content, indent=2) + "\n")


def compare_sheet(path: Path, given: np.ndarray, result: np.ndarray, marks: Sequence[int]) -> Path:
    """A contact sheet beside `path`: what was given above the result, in which the given frames are marked."""
    from vidiff_cli.viewing.sheet import Row, contact_sheet

    rows = [Row(label="given", frames=given), Row(label="result", frames=result, given=marks)]
    return contact_sheet(rows, sheet_of(path))


def network_size(width: int, height: int, model: Model) -> tuple[tuple[int, int], tuple[int, int]]:
    """(scaled size, crop) of an input: short side the model's, long side cropped to the network's multiple."""
    multiple, short = model.settings.network.multiple, min(model.settings.width, model.settings.height)
    scale = Fraction(short, min(width, height))
    scaled = tuple(max(short, round(side * scale)) for side in (width, height))
    crop = tuple(side // multiple * multiple for side in scaled)
    return (scaled[0], scaled[1]), (crop[0], crop[1])


def rate_note(model: Model, fps: Fraction) -> Iterator[Event]:
    """A warning where a rate lies outside the rates that the model was trained at."""
    slowest, fastest = model.fps / max(model.settings.frame_steps), model.fps
    if not slowest * Fraction(9, 10) <= fps <= fastest * Fraction(11, 10):
        trained = f"{float(slowest):g}" if slowest == fastest else f"{float(slowest):g} to {float(fastest):g}"
        yield Note(f"The model was trained at {trained} fps, and this is {float(fps):g} fps.", "warning")


def sample_sheet(
    learner: Learner, prompts: Sequence[str], path: Path, *, device: torch.device, dtype: torch.dtype
) -> None:
    """A contact sheet of one window per prompt, made in 16 steps: how a run is doing."""
    from vidiff_cli.viewing.sheet import Row, contact_sheet

    learner.requires_grad_(False).eval()
    model = Model(
        learner=learner, settings=learner.settings, path=path, hash="", clips_seen=0, device=device, dtype=dtype
    )
    settings = GenerationSettings(steps=16)
    length = model.settings.frames
    job = Job(
        windows=[Window(frames=tuple(range(length)), observed=frozenset(), makes=frozenset(range(length)))],
        times=[Fraction(frame) / model.fps for frame in range(length)],
        prompts=lambda number: prompts,
        seeds=list(range(len(prompts))),
    )
    empty = torch.zeros(
        len(prompts), model.settings.network.channels, length, model.settings.height, model.settings.width
    )
    video: Tensor = empty
    for step in generate(model, settings, job, empty, condition="replacement"):
        if isinstance(step, Tensor):
            video = step
    rows = [
        Row(label=prompt or "(no caption)", frames=as_frames(clip)) for prompt, clip in zip(prompts, video, strict=True)
    ]
    contact_sheet(rows, path)


def check_amount(frames: int, width: int, height: int) -> None:
    """VidiffError for more frames than memory can be expected to hold, before anything is allocated for them."""
    most = MOST_BYTES // (width * height * 3)
    if frames > most:
        raise VidiffError(
            "that is too much to make at once",
            found=f"{frames:,} frames of {width}x{height}",
            expected=f"at most {most:,}",
            fix="make fewer, or go on from the result",
        )


def overlap_of(asked: int | None, window: int) -> int:
    """Frames that a window is shown of what was before: as asked, else half of it. VidiffError where nothing would be
    made."""
    if asked is not None and asked >= window:
        raise VidiffError("--overlap leaves nothing to make", found=asked, expected=f"less than the window of {window}")
    return asked or window // 2
