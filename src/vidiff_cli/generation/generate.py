"""What sample, extend and interpolate share: a model, a way to condition, windows to fill, files to write.

Shapes: b clips, n frames of the whole video, t frames of a window; videos b c n h w in [-1, 1]; files hold uint8 (n h w
c).
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidiff_cli import __version__
from vidiff_cli.config.generate import CompletionSettings, GenerationSettings
from vidiff_cli.device import available_memory, choose_device, choose_dtype, dtype_name
from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct, snr_weight, threshold
from vidiff_cli.diffusion.levels import cosine, grid, levels_from
from vidiff_cli.diffusion.noise import Prior
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Noise, ddpm
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.frames import Window, batch_independent_windows
from vidiff_cli.generation.frame_store import FrameStore, free_bytes
from vidiff_cli.generation.load_model import HARDLY_TRAINED, LoadedModel, load_model, newest_run
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.generation.sidecar import sidecar_path
from vidiff_cli.models.acceleration import recompute_stages
from vidiff_cli.models.step_cost import kept_bytes
from vidiff_cli.models.video_model import VideoModel
from vidiff_cli.pixels import clip_to_uint8, from_uint8, quantize_8bit, to_uint8
from vidiff_cli.runs.text_encoder import download_note
from vidiff_cli.sampling.initial_noise import InitNoise, SampleFn, free_init, free_noise, fresh, previous_frames
from vidiff_cli.sampling.windows import Conditioner, fill, sample_windows
from vidiff_cli.system.atomic_files import write_text
from vidiff_cli.video.encode import check_output

LONG_SECONDS = 60
STEPS = 30  # of sampling
LANGEVIN = 0.1  # VDM's delta
PREVIOUS = 0.8  # of the schedule from 0 (clean) to 1: where sampling begins with the frames before
MEMORY = 0.5  # of what is free: more than that, and guidance keeps less and computes more
TOGETHER = 8  # clips that are sampled at a time, of windows that do not look at one another
MOST_FRAMES = 1_000_000  # of one video: each has a time, which is an object
WEIGHTS = {"dpmpp-2m": 10.0, "ddim": 20.0, "ddpm": 10.0}  # of reconstruction guidance, for frames of 16 pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoJob:
    """One batch of videos to make: windows over `times` (n seconds), a prompt per clip (b) and window, a seed per
    clip."""

    windows: Sequence[Window]
    times: Sequence[Fraction]
    prompts: Callable[[int], Sequence[str]]
    seeds: Sequence[int]
    anchor: Callable[[Tensor], Tensor] | None = None  # applied to what a window made (b c m h w)


def open_model(settings: GenerationSettings) -> LoadedModel:
    """The model of the settings on its device. VidiffError also for a --condition that it was not trained for."""
    device = choose_device(settings.device)
    model = load_model(settings.model, device, choose_dtype(settings.dtype, device), clip=settings.clip_model)
    choose_condition(settings, model)
    return model


def open_completing_model(settings: CompletionSettings) -> LoadedModel | None:
    """The model of an extension or interpolation; None where the estimate by motion is taken alone: because it is asked
    for, or because no model is named and there is no run. VidiffError as `open_model`, and for what needs a model."""
    if settings.detail != "estimate" and (settings.model is not None or newest_run() is not None):
        return open_model(settings)
    asked = "--detail model" if settings.detail == "model" else "--size model" if settings.size == "model" else None
    if asked is not None:
        found = "--detail estimate" if settings.detail == "estimate" else "no run under runs/"
        raise VidiffError(f"{asked} needs a model", found=found, fix="name one with --model")
    return None


def announce_model(
    model: LoadedModel, settings: GenerationSettings, seed: int, prompts: Sequence[str]
) -> Iterator[Event]:
    """Says which model, device and seed are used, and what may disappoint."""
    yield Note(f"Model {model.name} on {model.device} in {dtype_name(model.dtype)}, seed {seed}.")
    if model.is_builtin and settings.model is None:
        yield Note("There is no run under runs/: the model in the box knows colored shapes that move, nothing else.")
    if model.clips_seen < HARDLY_TRAINED:
        yield Note(f"This model is hardly trained: it has seen {model.clips_seen:,} clips.", "warning")
    negative = [settings.negative_prompt] if settings.negative_prompt else []
    for prompt in dict.fromkeys([*prompts, *negative]):
        if unknown := model.unknown_words(prompt):
            yield Note(_unknown(model, unknown, prompt), "warning")
    if any([*prompts, *negative]) and model.video_model.text is None:
        yield Note("The model was trained without captions: the prompt has no effect.", "warning")
    if any([*prompts, *negative]) and model.settings.text.clip is not None:
        yield from download_note(model.settings.text.clip, settings.clip_model)
    model.embed_prompts([*prompts, *negative])


def _unknown(model: LoadedModel, words: Sequence[str], prompt: str) -> str:
    named = ", ".join(words)
    if not model.is_builtin:
        return f"The model has never seen: {named} (in {prompt!r})."
    known = 'it knows such as "a small red circle moving left"'
    return (
        f"Outside the words of the model in the box: {named} (in {prompt!r}); {known}. For more, train on your own "
        "videos (vidiff prep, vidiff train), or name another model with --model."
    )


def choose_condition(settings: GenerationSettings, model: LoadedModel) -> str:
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


def noise_prior(model: LoadedModel) -> Prior:
    """The noise that a model was trained with."""
    return Prior(name=model.settings.diffusion.noise, strength=model.settings.diffusion.noise_strength)


def reconstruction_weight(settings: GenerationSettings, side: int) -> float:
    """The weight asked for, or what was measured best for the sampler and frames of that short side in pixels
    (docs/decisions/0004)."""
    asked = settings.reconstruction_weight
    return WEIGHTS[settings.sampler] * (16 / side) ** (2 / 3) if asked is None else asked


def conditioner(name: str, settings: GenerationSettings, model: LoadedModel) -> Conditioner:
    """denoise -> denoise for one of the three ways to condition."""
    diffusion, prior = model.settings.diffusion, noise_prior(model)

    def reconstruction(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
        constant = reconstruction_weight(settings, min(known.shape[-2:]))
        weight = snr_weight(constant) if settings.reconstruction_schedule == "snr" else constant
        covariance = None if prior.is_white else prior.covariance(known.shape[2])
        return clamp_known(reconstruct(denoise, known, observed, weight, covariance=covariance), known, observed)

    place = torch.tensor(settings.context_noise, dtype=torch.float64)
    level = float(cosine(place, low=diffusion.low, high=diffusion.high, shift=diffusion.shift))

    ways: dict[str, Conditioner] = {
        "reconstruction": reconstruction,
        "replacement": clamp_known,
        "learned": partial(hold_known, level=level),
    }
    return ways[name]


def sampler(settings: GenerationSettings, model: LoadedModel, condition: str) -> SampleFn:
    """The sampler of the settings with the model's levels and the threshold closed over."""
    diffusion = model.settings.diffusion
    levels = grid(
        sampling_steps(settings, model, condition), low=diffusion.low, high=diffusion.high, shift=diffusion.shift
    )
    bound = partial(threshold, percentile=None if settings.threshold == "static" else float(settings.threshold))
    default = LANGEVIN if condition == "reconstruction" else 0.0
    correct = default if settings.langevin is None else settings.langevin

    def sample(denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor:
        walked = levels if level is None else levels_from(levels, level)
        if settings.sampler == "ddpm":
            return ddpm(bound(denoise), z, walked, correct=correct, noise=noise)
        return SAMPLERS[settings.sampler](bound(denoise), z, walked)

    return free_init(sample, passes=settings.freeinit, prior=noise_prior(model))


def sampling_steps(settings: GenerationSettings, model: LoadedModel, condition: str) -> int:
    """Sampling steps: as asked, else 1 where the given frames and their motion leave little open, which is the mean of
    what is possible (docs/films.md)."""
    if settings.steps is not None:
        return settings.steps
    narrow = isinstance(settings, CompletionSettings) and condition == "learned" and model.settings.network.motion
    return 1 if narrow else STEPS


def choose_init_noise(
    settings: GenerationSettings, model: LoadedModel, windows: Sequence[Window], seeds: Sequence[int]
) -> InitNoise:
    """What windows begin with, by --start-noise."""
    diffusion = model.settings.diffusion
    if settings.start_noise == "freenoise" and windows:
        first = windows[0]
        step = abs(windows[1].frames[0] - first.frames[0]) if len(windows) > 1 else len(first.frames)
        stride = max(1, min(step, model.settings.frames))
        return free_noise(
            window=model.settings.frames, stride=stride, first=first.frames[0], seeds=seeds, prior=noise_prior(model)
        )
    if settings.start_noise == "previous":
        place = torch.tensor(PREVIOUS, dtype=torch.float64)
        return previous_frames(float(cosine(place, low=diffusion.low, high=diffusion.high, shift=diffusion.shift)))
    return fresh


def generate(
    model: LoadedModel,
    settings: GenerationSettings,
    job: VideoJob,
    reel: FrameStore,
    *,
    condition: str,
    journal: WindowJournal | None = None,
    what: str = "windows",
) -> Iterator[Event]:
    """Fills the windows of a job: what they make goes into the `reel`, which holds the given frames.

    With a `journal` every finished window is kept, and a repeated call goes on after the last one; the file is removed
    by the caller when the result is safe.
    """
    batches, start = batch_windows(job.windows, len(job.seeds)), 0
    if journal is not None:
        if journal.stale:
            yield Note("The windows kept by an interrupted call are of other settings or another input: making all.")
        whole = journal.windows in {0, *(batch.stop for batch in batches)}  # batches are made whole or not at all
        if not whole or _checksum(reel, job.windows[: journal.windows]) != journal.checksum:
            journal.begin_anew(reel.made.shape)
        start = journal.windows
        if start == len(job.windows):
            journal.save(start, journal.checksum, of=start)
    if start:
        yield Note(f"Continuing after window {start} of {len(job.windows)}.")
    making = sample_windows(
        job.windows,
        [batch for batch in batches if batch.start >= start],
        lambda ranks: _shown(reel, ranks, model.device),
        denoise=partial(_denoiser, model, settings, job, condition),
        **_how(model, settings, job, condition),
    )
    with torch.no_grad():
        began, done = time.monotonic(), start
        yield Progress(what=what, done=start, total=len(job.windows))
        for made in making:
            checksum = 0 if journal is None else journal.checksum
            for window, frames in zip(job.windows[done:], made, strict=False):
                _check_finite(frames, f"window {done + 1} of {len(job.windows)}")
                pixels = to_uint8(frames).cpu().permute(2, 0, 3, 4, 1).contiguous().numpy()
                reel.write(sorted(window.makes), pixels)
                checksum = zlib.crc32(pixels.data, checksum)
                done += 1
            remaining = (time.monotonic() - began) / (done - start) * (len(job.windows) - done)
            if done == start + len(made) and remaining > LONG_SECONDS:
                yield Note(f"About {remaining / 60:.0f} more minutes for {len(job.windows) - done} windows.")
            yield Progress(what=what, done=done, total=len(job.windows))
            if journal is not None:
                journal.save(done, checksum, of=len(job.windows))


def generate_in_memory(
    model: LoadedModel, settings: GenerationSettings, job: VideoJob, frames: Tensor, *, condition: str
) -> Tensor:
    """The same for short videos (b c n h w) that hold the given frames in place: returns them with all frames made."""
    video = frames
    filling = fill(
        job.windows,
        frames.to(model.device),
        denoise=lambda window, *given: _denoiser(model, settings, job, condition, [window], *given),
        **_how(model, settings, job, condition),
    )
    with torch.no_grad():
        for number, (window, filled) in enumerate(zip(job.windows, filling, strict=True), 1):
            _check_finite(filled[:, :, sorted(window.makes)], f"window {number} of {len(job.windows)}")
            video = filled
    return video.cpu()


def _how(model: LoadedModel, settings: GenerationSettings, job: VideoJob, condition: str) -> dict[str, Any]:
    """What `make` and `fill` are told alike."""
    return {
        "sample": sampler(settings, model, condition),
        "condition": conditioner(condition, settings, model),
        "seeds": job.seeds,
        "prior": noise_prior(model),
        "context_noise": settings.context_noise > 0 and condition == "learned",
        "init_noise": choose_init_noise(settings, model, job.windows, job.seeds),
        "finish": lambda made: quantize_8bit(made if job.anchor is None else job.anchor(made)),
    }


def batch_windows(windows: Sequence[Window], clips: int) -> list[range]:
    """Windows that are sampled together: a few clips fill the machine, more would only take memory."""
    return batch_independent_windows(windows, max(1, TOGETHER // clips))


def _checksum(reel: FrameStore, windows: Sequence[Window]) -> int:
    """Of what these windows made."""
    checksum = 0
    for window in windows:
        checksum = zlib.crc32(reel.read(sorted(window.makes)).data, checksum)
    return checksum


def _shown(reel: FrameStore, ranks: Sequence[int], device: torch.device) -> Tensor:
    """Frames of a reel for the network (b c n h w)."""
    return from_uint8(torch.from_numpy(reel.read(ranks))).permute(1, 4, 0, 2, 3).contiguous().to(device)


def _denoiser(
    model: LoadedModel,
    settings: GenerationSettings,
    job: VideoJob,
    condition: str,
    windows: Sequence[Window],
    known: Tensor,
    observed: Tensor,
) -> Denoise:
    """The denoiser of windows that are sampled together: their times, their prompts, the frames that they are given
    (known: b c t h w, observed: b t), as such where the `condition` is the learned one."""
    seconds, prompts = list[list[float]](), list[str]()
    for window in windows:
        told = job.prompts(job.windows.index(window))
        first = job.times[window.frames[0]]
        seconds += [[float(job.times[frame] - first) for frame in window.frames]] * len(told)
        prompts += told
    times = torch.tensor(seconds, dtype=torch.float32, device=model.device)
    return model.denoiser(
        times,
        observed if condition == "learned" else torch.zeros_like(observed),
        prompts,
        scale=settings.guidance_scale,
        negative=settings.negative_prompt,
        known=known,
        observed=observed,
    )


def _check_finite(made: Tensor, where: str) -> None:
    """A number format too narrow for a network makes NaN, which would be written as black."""
    if not bool(made.isfinite().all()):
        fix = "use --dtype fp32, or an earlier checkpoint"
        raise VidiffError("the network's numbers are not finite", found=f"NaN in {where}", fix=fix)


def save_memory(
    model: LoadedModel, settings: GenerationSettings, shape: Sequence[int], condition: str
) -> Iterator[Event]:
    """Gradient checkpointing for the guidance of windows of `shape` (b c t h w), where it is asked for or needed."""
    if condition != "reconstruction" or settings.gradient_checkpointing == "off":
        return
    b, _, t, h, w = shape
    window = model.settings.model_copy(update={"frames": t, "height": h, "width": w})
    needed = 2 * b * kept_bytes(window, half=model.dtype != torch.float32)  # with and without the prompt
    short = needed > MEMORY * available_memory(model.device)
    if short and settings.gradient_checkpointing == "auto":
        yield Note(f"Guidance would keep {needed / 2**30:.1f} GiB: parts of the network are computed twice instead.")
    if short or settings.gradient_checkpointing == "on":
        recompute_stages(model.video_model.denoiser.network)


def estimate_seconds(
    model: LoadedModel, settings: GenerationSettings, job: VideoJob, shape: Sequence[int], condition: str
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
    passes = (
        sampling_steps(settings, model, condition)
        * (2 if prompted else 1)
        * (3 if condition == "reconstruction" else 1)
    )
    return once * passes * (2 if settings.sampler == "ddpm" and condition == "reconstruction" else 1) * len(job.windows)


def long_note(seconds: float) -> Iterator[Event]:
    """The estimate, where it is worth saying."""
    if seconds > LONG_SECONDS:
        yield Note(f"This will take about {seconds / 60:.0f} minutes.")


def journal_key(
    settings: GenerationSettings, model: LoadedModel | None, times: Sequence[Fraction], given: Sequence[str]
) -> str:
    """Stands for all that decides a video: settings, weights, times, and the prompts or digests of frames that are
    given."""
    asked = settings.model_dump(
        mode="json", exclude={"overwrite", "sidecar", "compare", "output", "device", "clip_model", "jobs"}
    )
    of_model = [model.hash, dtype_name(model.dtype)] if model else []
    parts: list[object] = [asked, *of_model, [str(moment) for moment in times], list(given)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def slug(text: str) -> str:
    """A file name from any text: letters, digits and hyphens, 50 characters at most; never empty, never hidden."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    short = "-".join(words)[:50].encode()[:150].decode(errors="ignore")  # a file name has 255 bytes at most
    return short.strip("-") or "video"


def sheet_path(path: Path) -> Path:
    """out.mp4 -> out_sheet.png."""
    return path.with_name(path.stem + "_sheet.png")


def check_files(
    path: Path, settings: GenerationSettings, fps: Fraction, *, again: bool = False, compared: Sequence[Path] = ()
) -> Path:
    """Refuses a result that could not be written in the end, with its sidecar, its sheet and what else --compare
    writes; returns its path.

    `again`: an interrupted call may have written them already. Makes the folder it goes to, so all else should be
    checked before.
    """
    target = check_output(path, fps=fps, lossless=settings.lossless, overwrite=settings.overwrite or again)
    beside = [sidecar_path(target)] if settings.sidecar else []
    beside += [sheet_path(target), *compared] if settings.compare else []
    for other in beside:
        if other.is_dir():
            raise VidiffError(f"{other} is a folder", fix="choose another name for the result")
        if other.exists() and not (settings.overwrite or again):
            raise VidiffError(f"{other} exists", fix="choose another name for the result, or pass --overwrite")
    return target


def write_sidecar(
    path: Path,
    command: str,
    settings: GenerationSettings,
    model: LoadedModel | None,
    seed: int,
    facts: dict[str, object],
) -> None:
    """Writes how a video was made beside it. `settings` are enough to repeat it (all but the output path).

    They name the checkpoint file itself: a run may have a later one by then.
    """
    content = {
        "command": command,
        "argv": sys.argv,
        "settings": recorded_settings(settings, model, seed),
        "seed": seed,
        "checkpoint": model and {"path": model.name, "sha256": model.hash, "clips_seen": model.clips_seen},
        "device": str(model.device) if model else "cpu",
        "dtype": dtype_name(model.dtype) if model else "fp32",
        "threads": torch.get_num_threads(),
        "versions": {"vidiff": __version__, "torch": torch.__version__, "numpy": version("numpy")},
        **facts,
    }
    write_text(sidecar_path(path), json.dumps(content, indent=2) + "\n")


def recorded_settings(settings: GenerationSettings, model: LoadedModel | None, seed: int | None) -> dict[str, object]:
    """Settings as a sidecar records them: with what was chosen for this result, without where it was written."""
    resolved = {"seed": seed, **({"model": model.name} if model else {"detail": "estimate"})}
    return settings.model_dump(mode="json", exclude={"output", "overwrite", "jobs"}) | resolved


def network_size(width: int, height: int, model: LoadedModel) -> tuple[tuple[int, int], tuple[int, int]]:
    """(scaled size, crop) of an input: short side the model's, long side cropped to the network's multiple."""
    multiple, short = model.settings.network.multiple, min(model.settings.width, model.settings.height)
    scale = Fraction(short, min(width, height))
    scaled = tuple(max(short, round(side * scale)) for side in (width, height))
    crop = tuple(side // multiple * multiple for side in scaled)
    return (scaled[0], scaled[1]), (crop[0], crop[1])


def warn_fps(model: LoadedModel, fps: Fraction) -> Iterator[Event]:
    """A warning where a rate lies outside the rates that the model was trained at."""
    slowest, fastest = model.fps / max(model.settings.frame_strides), model.fps
    if not slowest * Fraction(9, 10) <= fps <= fastest * Fraction(11, 10):
        trained = f"{float(slowest):g}" if slowest == fastest else f"{float(slowest):g} to {float(fastest):g}"
        yield Note(f"The model was trained at {trained} fps, and this is {float(fps):g} fps.", "warning")


def sample_sheet(
    video_model: VideoModel, prompts: Sequence[str], path: Path, *, device: torch.device, dtype: torch.dtype
) -> None:
    """A contact sheet of one window per prompt, made in 16 steps: how a run is doing."""
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    video_model.requires_grad_(False).eval()
    model = LoadedModel(
        video_model=video_model,
        settings=video_model.settings,
        path=path,
        hash="",
        clips_seen=0,
        device=device,
        dtype=dtype,
    )
    settings = GenerationSettings(steps=16)
    length = model.settings.frames
    job = VideoJob(
        windows=[Window(frames=tuple(range(length)), observed=frozenset(), makes=frozenset(range(length)))],
        times=[Fraction(frame) / model.fps for frame in range(length)],
        prompts=lambda number: prompts,
        seeds=list(range(len(prompts))),
    )
    shape = (len(prompts), model.settings.network.channels, length, model.settings.height, model.settings.width)
    video = generate_in_memory(model, settings, job, torch.zeros(shape), condition="replacement")
    rows = [
        SheetRow(label=prompt or "(no caption)", frames=clip_to_uint8(clip))
        for prompt, clip in zip(prompts, video, strict=True)
    ]
    contact_sheet(rows, path)


def introduce_estimate(settings: CompletionSettings, frames: int) -> Iterator[Event]:
    """Says that no model takes part, and what has no effect without one; so many frames are given."""
    yield Note("New frames are estimated from the motion of the given ones, without a model.")
    told = ("prompt", "negative_prompt", "steps", "condition", "context_noise")
    idle = [name for name in told if getattr(settings, name, None) != type(settings).model_fields[name].default]
    if idle and settings.detail != "estimate":
        named = ", ".join("--" + name.replace("_", "-") for name in idle)
        yield Note(f"Without a model {named} has no effect.", "warning")
    if frames == 1:
        yield Note("A single picture says nothing of motion: without a model the video stands still.", "warning")


def check_amount(frames: int, width: int, height: int, folder: Path) -> None:
    """VidiffError for more frames than the disk of the result has room for, or than can be counted."""
    size, fix = f"{frames:,} frames of {width}x{height}", "make fewer, or go on from the result"
    if frames > MOST_FRAMES:
        raise VidiffError("that is too much to make at once", found=size, expected=f"at most {MOST_FRAMES:,}", fix=fix)
    room = free_bytes(folder) // (width * height * 3)
    if frames > room:
        what = f"there is not enough space in {folder} for the frames in the making"
        raise VidiffError(what, found=size, expected=f"at most {room:,}", fix=fix)


def output_folder(settings: GenerationSettings) -> Path:
    """Where the result goes, and the frames in the making."""
    return (settings.output or Path("video")).parent


def choose_overlap(asked: int | None, window: int) -> int:
    """Frames that a window is shown of what was before: as asked, else half of it. VidiffError where nothing would be
    made."""
    if asked is not None and asked >= window:
        raise VidiffError("--overlap leaves nothing to make", found=asked, expected=f"less than the window of {window}")
    return asked or window // 2
