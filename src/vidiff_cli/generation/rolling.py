"""Generate the frames of a job in a rolling window, frame after frame, into a frame store.

Shapes: b clips, c channels of z, t frames of the window, a active frames, h w the sides of z.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from vidiff_cli.diffusion.samplers import Denoise, Noise
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.frames import Window
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.made_frames import write_made
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.generation.sampling_setup import SamplingOptions, SamplingSetup, choose_condition
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.generation.window_codec import window_codec
from vidiff_cli.generation.window_denoiser import window_denoiser
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.sampling.rolling import RollingState, roll, seeded_noise


def check_rolling(model: VideoModel, options: SamplingOptions) -> None:
    """Refuse a model that has not learned levels by frame, and options that a rolling window does not have."""
    if not model.frame_levels:
        raise VidiffError(
            "a rolling window needs a model trained with a noise level for every frame",
            found=model.name,
            fix="train with --set objective.levels.independent=0.5, or leave out --scheme rolling",
        )
    if not model.prior.is_white:
        found = f"a model trained with {model.prior.name} noise"
        raise VidiffError("a rolling window draws the noise of each frame alone", found=found)
    condition = choose_condition(options, model)
    wrong = {
        f"--condition {condition}": condition != "learned",
        f"--start-noise {options.start_noise}": options.start_noise != "fresh",
        f"--freeinit {options.freeinit}": options.freeinit != 1,
        f"--langevin {options.langevin}": bool(options.langevin),
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        fix = "leave it out, or choose another --scheme"
        raise VidiffError("--scheme rolling does not go with this", found=", ".join(found), fix=fix)


def generate_rolling(
    model: VideoModel,
    setup: SamplingSetup,
    job: VideoJob,
    plan: RollingPlan,
    store: FrameStore,
    *,
    journal: WindowJournal | None = None,
) -> Iterator[Event]:
    """Roll the window of a plan over a job and write each frame into `store` as soon as it is done.

    With a `journal` the active frames are kept after every slot, and a repeated call goes on from there with the
    same numbers.

    Args:
        model: The loaded model.
        setup: How frames are sampled; a frame takes at least its steps.
        job: Times, prompts and seeds of b clips; a frame has the prompt of the window of `job` that it lies in.
        plan: The way of the window.
        store: Frames of the b clips by rank.
        journal: Progress of an interrupted call, with the store's made frames.

    Yields:
        Progress per frame.

    Raises:
        VidiffError: The network's numbers are not finite, or the store cannot be written.
    """
    state = None if journal is None else _resume(journal, plan, store)
    if state is not None:
        yield Note(f"Continuing after slot {state.slots} of {plan.slots} of the rolling window.")
    codec = window_codec(model.codec, job, store, model.device)
    rolled = roll(
        plan,
        codec.read,
        denoise=partial(_denoiser, model, setup, job, plan),
        condition=setup.conditioner,
        step=setup.step,
        bound=setup.bound,
        levels=setup.levels(plan.active * plan.steps_per_slot(setup.steps)).to(model.device),
        noise=seeded_noise(job.seeds, store.made.shape[0]),
        context_noise=setup.context_noise,
        state=None if state is None else _on(state, model.device),
    )
    done = 0 if state is None else plan.done(state.slots)
    checksum = 0 if journal is None else journal.checksum
    yield Progress(what="frames", done=done, total=plan.made)
    with torch.no_grad():
        for z, after in rolled:
            if z is not None:
                rank = plan.rank(done)
                alone = Window(frames=(rank,), observed=frozenset(), makes=frozenset({rank}))
                write_made(store, [rank], codec.finish(alone, z), f"frame {done + 1} of {plan.made}")
                checksum = store.checksum([rank], checksum)
                done += 1
                yield Progress(what="frames", done=done, total=plan.made)
            if journal is not None:
                journal.save(after.slots, checksum, of=plan.slots, state=_tensors(after))


def _denoiser(
    model: VideoModel,
    setup: SamplingSetup,
    job: VideoJob,
    plan: RollingPlan,
    window: Window,
    known: Tensor,
    observed: Tensor,
    noise: Noise,
) -> Denoise:
    """The denoiser of a window in which every frame has the prompt of its place: that of the frames with another prompt
    is asked for them too, at the cost of its own passes."""
    clips = len(known)
    seconds = [float(job.times[frame] - job.times[window.frames[0]]) for frame in window.frames]
    times = torch.tensor(seconds, dtype=torch.float32, device=known.device).expand(clips, -1)
    prompts = {frame: tuple(job.prompts(job.window_of(frame))) for frame in window.makes}
    distinct = list(dict.fromkeys(prompts[frame] for frame in window.frames if frame in prompts))
    own = [
        window_denoiser(model, setup, times=times, prompts=words, known=known, observed=observed, noise=noise)
        for words in distinct
    ]
    if len(own) == 1:
        return own[0]
    masks = [
        torch.tensor([prompts.get(frame) == words for frame in window.frames], device=known.device)
        for words in distinct
    ]

    def by_place(z: Tensor, level: Tensor) -> Tensor:
        x = own[0](z, level)
        for denoise, mask in zip(own[1:], masks[1:], strict=True):
            x = torch.where(mask[:, None, None], denoise(z, level), x)
        return x

    return by_place


def _resume(journal: WindowJournal, plan: RollingPlan, store: FrameStore) -> RollingState | None:
    """The state of an interrupted call whose frames are unharmed."""
    kept, slots = journal.state(), journal.windows
    is_whole = 0 < slots <= plan.slots and kept.keys() == {"z", "estimate", "rise"}
    if is_whole:
        active = len(plan.active_at(slots - 1)) - (plan.finished(slots - 1) is not None)
        checksum = 0
        for number in range(plan.done(slots)):
            checksum = store.checksum([plan.rank(number)], checksum)
        is_whole = checksum == journal.checksum and kept["z"].shape[2] == active
    if not is_whole:
        journal.begin_anew(store.made.shape)
        return None
    return RollingState(slots=slots, **kept)


def _tensors(state: RollingState) -> Mapping[str, Tensor]:
    return {"z": state.z, "estimate": state.estimate, "rise": state.rise}


def _on(state: RollingState, device: torch.device) -> RollingState:
    return RollingState(slots=state.slots, **{name: value.to(device) for name, value in _tensors(state).items()})
