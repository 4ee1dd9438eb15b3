"""Notes and warnings before anything is generated: the model, its words and rates, or the estimate without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from vidiff_cli.device import dtype_name
from vidiff_cli.events import Event, Note
from vidiff_cli.frames import Window
from vidiff_cli.generation.load_model import HARDLY_TRAINED
from vidiff_cli.generation.sampling_setup import SamplingOptions, SamplingSetup
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan


def announce_model(
    model: VideoModel, seed: int, prompts: Sequence[str], *, negative: str | None = None
) -> Iterator[Event]:
    """Say which model, device and seed are used, and what may disappoint; embed the prompts."""
    yield Note(f"Model {model.name} on {model.device} in {dtype_name(model.dtype)}, seed {seed}.")
    if model.is_builtin and model.is_default:
        yield Note("No run found under runs/: the built-in model knows colored shapes that move, nothing else.")
    if model.clips_seen is not None and model.clips_seen < HARDLY_TRAINED:
        yield Note(f"This model is hardly trained: it has seen {model.clips_seen:,} clips.", "warning")
    texts = [*prompts, *([negative] if negative else [])]
    for text in dict.fromkeys(texts):
        if unknown := model.unknown_words(text):
            yield Note(_unknown_words(model, unknown, text), "warning")
    if any(texts) and not model.reads_text:
        yield Note("The model was trained without captions: the prompt has no effect.", "warning")
    yield from model.describe_prompts(texts)
    model.embed_prompts(texts)


def _unknown_words(model: VideoModel, words: Sequence[str], prompt: str) -> str:
    named = ", ".join(words)
    if not model.is_builtin:
        return f"The model has never seen: {named} (in {prompt!r})."
    known = 'it knows such as "a small red circle moving left"'
    return (
        f"Outside the words of the built-in model: {named} (in {prompt!r}); {known}. For more, train on your own "
        "videos (vidiff prep, vidiff train), or name another model with --model."
    )


def describe_guidance(
    setup: SamplingSetup, windows: Sequence[Window], rolling: RollingPlan | None = None
) -> Iterator[Event]:
    """Say what history guidance takes in passes, where any window observes frames, and how a window rolls."""
    if rolling is not None and windows:
        each = rolling.steps_per_slot(setup.steps)
        yield Note(
            f"Rolling window of {rolling.window}: {rolling.active} active frames, one done every {each} "
            f"step{'s' * (each > 1)}, {rolling.slots * each:,} in all."
        )
    if not any(window.observed for window in windows):
        return
    if setup.history_parts > 1:
        yield Note(f"The frames shown are in {setup.history_parts} parts: as many network passes in the place of one.")
    if setup.history_guidance != 1:
        yield Note(f"Guided by the frames shown ({setup.history_guidance:g}): one network pass more per step.")


def warn_fps(model: VideoModel, fps: Fraction) -> Iterator[Event]:
    """Warn where a rate lies outside the rates that the model was trained at."""
    slowest, fastest = model.rates
    if not slowest * Fraction(9, 10) <= fps <= fastest * Fraction(11, 10):
        trained = f"{float(slowest):g}" if slowest == fastest else f"{float(slowest):g} to {float(fastest):g}"
        yield Note(f"The model was trained at {trained} fps, and this is {float(fps):g} fps.", "warning")


def announce_completion(
    model: VideoModel | None,
    options: SamplingOptions,
    prompts: Sequence[str],
    *,
    seed: int,
    given: int,
    fps: Fraction,
    estimate_only: bool,
) -> Iterator[Event]:
    """Say what completes a clip: a model, or the estimate by motion alone.

    Args:
        model: The model, or None.
        options: The options of sampling; those that have no effect without a model are named.
        prompts: The prompts as given.
        seed: The seed of the result.
        given: Number of given frames.
        fps: Rate at which frames are made.
        estimate_only: No model was asked for.

    Yields:
        Notes and warnings.
    """
    if model is not None:
        yield from announce_model(model, seed, prompts, negative=options.negative_prompt)
        yield from warn_fps(model, fps)
        return
    yield Note("New frames are estimated from the motion of the given ones, without a model.")
    changed = {
        "--prompt": any(prompts),
        "--negative-prompt": options.negative_prompt is not None,
        "--steps": options.steps is not None,
        "--condition": options.condition != "auto",
        "--context-noise": options.context_noise > 0,
        "--history-guidance": options.history_guidance is not None,
        "--history-parts": options.history_parts > 1,
    }
    if any(changed.values()) and not estimate_only:
        named = ", ".join(option for option, is_changed in changed.items() if is_changed)
        yield Note(f"Without a model {named} has no effect.", "warning")
    if given == 1:
        yield Note("A single picture has no motion to follow: without a model the video stands still.", "warning")
