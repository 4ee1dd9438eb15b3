"""A rolling window over the values of a codec: each frame is decoded once, and what is observed of it is what was
sampled."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lossy_codec import LossyCodec
from torch import Tensor

from vidiff_cli.diffusion.guidance import hold_known
from vidiff_cli.diffusion.levels import grid
from vidiff_cli.diffusion.noise import INDEPENDENT
from vidiff_cli.diffusion.samplers import SAMPLER_STEPS, Denoise
from vidiff_cli.frames import plan
from vidiff_cli.generation.frame_store import FrameStore, MemoryFrameArray
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.generation.rolling import generate_rolling
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.generation.window_codec import latent_shape
from vidiff_cli.rolling import RollingPlan

GIVEN, TOTAL, CLIPS, SIDE = 4, 10, 2, 8


class Spy:
    """A model whose estimate of a frame is the mean of its window, darker; it keeps what it is shown."""

    def __init__(self) -> None:
        self.codec, self.device, self.shown = LossyCodec(), torch.device("cpu"), list[tuple[Tensor, Tensor]]()

    def denoiser(self, times: Tensor, given: Tensor, prompts: Any, **_: Any) -> Denoise:
        def denoise(z: Tensor, level: Tensor) -> Tensor:
            self.shown.append((z.clone(), given))
            return 0.5 * z.mean(dim=2, keepdim=True).expand_as(z).clamp(-1, 1)

        return denoise


def setup() -> SamplingSetup:
    values: dict[str, Any] = {
        "condition": "learned",
        "automatic": True,
        "conditioner": hold_known,
        "sample": None,
        "step": SAMPLER_STEPS["dpmpp-2m"],
        "bound": lambda denoise: denoise,
        "steps": 4,
        "levels": grid,
        "init_noise": None,
        "prior": INDEPENDENT,
        "guidance_scale": 1.0,
        "negative_prompt": None,
        "history_guidance": 1.0,
        "history_level": -20.0,
        "history_parts": 1,
        "context_noise": False,
        "gradient_checkpointing": "off",
        "passes": 4,
    }
    return SamplingSetup(**values)


def rolled(model: Spy, store: FrameStore, journal: WindowJournal | None = None) -> None:
    job = VideoJob(
        windows=plan(TOTAL, range(GIVEN), window=4, overlap=2),
        times=[Fraction(number, 8) for number in range(TOTAL)],
        prompts=lambda number: [""] * CLIPS,
        seeds=[0],
    )
    way = RollingPlan(way=range(TOTAL), known=GIVEN, window=4, overlap=2)
    for _ in generate_rolling(model, setup(), job, way, store, journal=journal):  # type: ignore[arg-type]
        pass


def new_store(journal: WindowJournal | None = None) -> FrameStore:
    given = SimpleNamespace(frames=np.random.default_rng(0).integers(0, 256, (GIVEN, SIDE, SIDE, 3), np.uint8))
    given.read = lambda numbers: given.frames[list(numbers)]
    shape = latent_shape(LossyCodec(), CLIPS, SIDE, SIDE)
    assert shape is not None
    sources = {number: number for number in range(GIVEN)}
    if journal is not None:
        made, latents = journal.frames((CLIPS, SIDE, SIDE, 3)), journal.latents(shape)
    else:
        made = MemoryFrameArray(np.zeros((TOTAL, CLIPS, SIDE, SIDE, 3), np.uint8))
        latents = MemoryFrameArray(np.zeros((TOTAL, *shape), np.float32))
    return FrameStore(made, given, sources, latents)  # type: ignore[arg-type]


def test_what_is_observed_is_what_was_sampled() -> None:
    model, store = Spy(), new_store()
    rolled(model, store)
    assert store.latents is not None and model.codec.encoded == CLIPS * 2, (
        "the two given frames that are observed, once"
    )
    values = torch.from_numpy(store.latents.read(range(TOTAL))).permute(1, 2, 0, 3, 4)
    last, given = model.shown[-1]
    assert given[0].tolist() == [True, True, True, False]
    torch.testing.assert_close(last[:, :, :3], values[:, :, TOTAL - 4 : TOTAL - 1], rtol=0, atol=1e-6)
    decoded = LossyCodec().decode(values[:, :, GIVEN:]).clamp(-1, 1)
    frames = torch.from_numpy(store.read(range(GIVEN, TOTAL))).permute(1, 4, 0, 2, 3) / 127.5 - 1
    torch.testing.assert_close(frames, decoded, rtol=0, atol=1 / 127)


def test_values_of_a_codec_are_resumed_too(tmp_path: Path, monkeypatch) -> None:
    whole = new_store()
    rolled(Spy(), whole)
    original, saved = WindowJournal.save, list[int]()

    def save(self: WindowJournal, *arguments: Any, **more: Any) -> None:
        if len(saved) == 4:
            raise KeyboardInterrupt
        saved.append(arguments[0])
        original(self, *arguments, **more)

    with ExitStack() as ending, monkeypatch.context() as patch:
        patch.setattr(WindowJournal, "save", save)
        journal = WindowJournal(tmp_path / ".partial", "key", 0, ending=ending)
        with suppress(KeyboardInterrupt):
            rolled(Spy(), new_store(journal), journal)
    with ExitStack() as ending:
        journal, model = WindowJournal(tmp_path / ".partial", "key", 0, ending=ending), Spy()
        store = new_store(journal)
        rolled(model, store, journal)
        assert len(model.shown) == 2 * (TOTAL - GIVEN + 1 - 4), "two steps in each of the slots that were left"
        assert np.array_equal(store.read(range(TOTAL)), whole.read(range(TOTAL)))
