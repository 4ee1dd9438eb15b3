"""The interface between generation and the families of video models: vidiff's own networks and public ones.

Shapes: b clips, t frames of a window, m values along time (`codec`), c channels of z, h w values of a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import torch
from torch import Tensor

from vidiff_cli.diffusion.noise import Prior
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.events import Event
from vidiff_cli.models.codec import Codec
from vidiff_cli.models.one_pass_errors import OnePassErrors

Condition = Literal["learned", "reconstruction", "replacement"]
GUIDED: tuple[Condition, ...] = ("reconstruction", "replacement")  # which need no training


class VideoModel(Protocol):
    """A loaded model, as generation sees it.

    `frames` of its window, at `width` x `height` pixels and at a rate between those of `rates` (slowest, fastest);
    sides are multiples of `multiple` pixels; `fixed_size`: it knows no other size; `only_between`: it makes frames
    between given ones alone, of any size. `conditions` that it can take, the default one first. `steps` are the default
    of sampling, `one_step` says that frames on both sides leave so little open that one will do. `guidance_scale` is
    the default; `is_distilled`: the only one, for it is in the weights; `history_guidance` is the default of that.
    `prior` is the covariance of its noise; `context_noise` the highest noise of given frames that it was trained with,
    as a place of the schedule; `frame_levels`: it was trained on frames with levels of their own, as a rolling window
    has them. `windows_at_once` that a device takes. `clips_seen` in training, None for a model of others; `licence` of
    its weights where one is known.
    """

    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def is_builtin(self) -> bool: ...
    @property
    def is_default(self) -> bool: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def frames(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def multiple(self) -> int: ...
    @property
    def fixed_size(self) -> bool: ...
    @property
    def only_between(self) -> bool: ...
    @property
    def rates(self) -> tuple[Fraction, Fraction]: ...
    @property
    def conditions(self) -> tuple[Condition, ...]: ...
    @property
    def steps(self) -> int: ...
    @property
    def completion_steps(self) -> int: ...
    @property
    def one_step(self) -> bool: ...
    @property
    def guidance_scale(self) -> float: ...
    @property
    def is_distilled(self) -> bool: ...
    @property
    def history_guidance(self) -> float: ...
    @property
    def prior(self) -> Prior: ...
    @property
    def context_noise(self) -> float: ...
    @property
    def frame_levels(self) -> bool: ...
    @property
    def windows_at_once(self) -> int: ...
    @property
    def clips_seen(self) -> int | None: ...
    @property
    def licence(self) -> str | None: ...
    @property
    def reads_text(self) -> bool: ...
    @property
    def errors(self) -> OnePassErrors | None: ...

    @property
    def fps(self) -> Fraction:
        """The rate of its videos."""
        ...

    def levels(self, steps: int, shift: float = 0.0) -> Tensor:
        """The sampling grid of so many steps (steps + 1), from noise to clean, its schedule shifted. VidiffError where
        it has a grid of its own."""
        ...

    def level_at(self, u: float) -> float:
        """The level at a place of the schedule, from 0 (clean) to 1 (noise)."""
        ...

    def describe_prompts(self, prompts: Sequence[str]) -> Iterator[Event]:
        """Notes on prompts before they are embedded."""
        ...

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """Words of a prompt that its text encoder has never seen."""
        ...

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """Read all prompts before any work is done. VidiffError where the encoder's weights are missing or others."""
        ...

    def denoiser(
        self,
        times: Tensor,
        given: Tensor,
        prompts: Sequence[str],
        *,
        scale: float,
        negative: str | None = None,
        known: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Denoise:
        """A denoiser of z with a prompt per clip closed over; "" is no prompt.

        Args:
            times: Seconds of the values along time (b m).
            given: True for those that the network is told are given (b m).
            prompts: One per clip (b).
            scale: Scale of classifier-free guidance.
            negative: The prompt to guide away from; None is no prompt.
            known: Given values (b c m h w), for a network that is shown the motion between them.
            observed: True where `known` counts (b m).

        Returns:
            (z: b c m h w, level: b m) -> x_hat.
        """
        ...

    def kept_bytes(self, shape: Sequence[int]) -> int:
        """Bytes that the gradient of a pass over z of this shape (b c m h w) keeps in memory."""
        ...

    def recompute(self) -> None:
        """Compute the parts of the network a second time for the gradient, which then keeps less."""
        ...

    def compile_before(self, passes: int) -> bool:
        """Compile the network where that is wanted, and worth it for passes to come; True where it was done."""
        ...

    def record(self) -> Mapping[str, object]:
        """The model in a sidecar: where it is, hashes, licence."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A family of public models in the diffusers format: the classes of its parts, and what their files do not say.

    `network` is the class in the folder `part`; `codecs` and `encoders` are the classes that its other parts may have.
    `tokens` of a prompt; `width`, `height`, `frames` and `fps` it was trained at (a size in its files wins); `multiple`
    of its sides in values of the codec; `fixed_size`: it knows no other. `steps` and `guidance_scale` are its authors'.
    `levels_by_frame`: trained with a level of its own for every value along time.
    """

    name: str
    part: str
    network: str
    codecs: tuple[str, ...]
    encoders: tuple[str, ...]
    tokens: int
    width: int
    height: int
    frames: int
    fps: int
    multiple: int
    steps: int
    guidance_scale: float
    fixed_size: bool = False
    levels_by_frame: bool = False


FAMILIES = (
    Family(
        name="ModelScope",
        part="unet",
        network="UNet3DConditionModel",
        codecs=("AutoencoderKL",),
        encoders=("CLIPTextModel",),
        tokens=77,
        width=256,
        height=256,
        frames=16,
        fps=8,
        multiple=8,
        steps=50,
        guidance_scale=9.0,
    ),
    Family(
        name="AnimateDiff",
        part="unet",
        network="UNetMotionModel",
        codecs=("AutoencoderKL",),
        encoders=("CLIPTextModel",),
        tokens=77,
        width=512,
        height=512,
        frames=16,
        fps=8,
        multiple=8,
        steps=50,
        guidance_scale=7.5,
    ),
    Family(
        name="Wan 2.1",
        part="transformer",
        network="WanTransformer3DModel",
        codecs=("AutoencoderKLWan",),
        encoders=("UMT5EncoderModel",),
        tokens=512,
        width=832,
        height=480,
        frames=81,
        fps=16,
        multiple=2,
        steps=50,
        guidance_scale=5.0,
    ),
    Family(
        name="CogVideoX",
        part="transformer",
        network="CogVideoXTransformer3DModel",
        codecs=("AutoencoderKLCogVideoX",),
        encoders=("T5EncoderModel",),
        tokens=226,
        width=720,
        height=480,
        frames=49,
        fps=8,
        multiple=2,
        steps=50,
        guidance_scale=6.0,
        fixed_size=True,
    ),
    Family(
        name="SkyReels V2 DF",
        part="transformer",
        network="SkyReelsV2Transformer3DModel",
        codecs=("AutoencoderKLWan",),
        encoders=("UMT5EncoderModel",),
        tokens=512,
        width=960,
        height=544,
        frames=97,
        fps=24,
        multiple=2,
        steps=50,
        guidance_scale=6.0,
        levels_by_frame=True,
    ),
)
