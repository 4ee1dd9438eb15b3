"""vidiff's own family: a video network with its text encoder, opened from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.device import clips_at_once
from vidiff_cli.diffusion.guidance import classifier_free, classifier_free_together
from vidiff_cli.diffusion.levels import cosine, grid
from vidiff_cli.diffusion.noise import Prior
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event
from vidiff_cli.models.acceleration import LaterCompilation, recompute_stages
from vidiff_cli.models.codec import Codec, PixelCodec
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.families import GUIDED, Condition
from vidiff_cli.models.one_pass_errors import OnePassErrors
from vidiff_cli.models.public.hub import Snapshot
from vidiff_cli.models.sample_steps import SampleSteps
from vidiff_cli.models.step_cost import kept_bytes
from vidiff_cli.models.unet3d import receptive_radius
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.motion import estimate_around, estimate_clip
from vidiff_cli.resize import in_part, padded, with_uncertainty
from vidiff_cli.sampling.tiles import TILE, DenoisePart, denoise_in_tiles
from vidiff_cli.text.encoder import CaptionReader
from vidiff_cli.text.long_captions import CaptionLimit
from vidiff_cli.text.prompt_encoder import download_note

PIXEL_STEPS, COMPLETION_STEPS = 8, 6  # that lost nothing where they were measured (docs/decisions/0025)
LATENT_STEPS = 30  # not measured
GUIDANCE = 2.0
HISTORY_GUIDANCE = 1.5
GUIDED_TOGETHER = 4  # clips of one pass with and without the prompt: more are no faster (`python -m benchmarks fewest`)
WINDOWS_AT_ONCE = 8  # through the network; both are a CPU's, which a few fill


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetModel:
    """A `VideoModel` of vidiff's own: `path` and `hash` of the checkpoint file, `clips_seen` in training; `errors` of
    its frames in one pass and `measured_steps` of sampling, where the checkpoint tells them; `autoencoder` of a model
    that works on latents; `clip_model` as --clip-model names it; `is_default`: no model was named; `fetched`: where it
    lies, if it is a run from the hub; `compilation` of its network.

    `reader` makes the input of the text encoder of prompts, which reads as much of each as `caption_limit` says; both
    are None for a model without text."""

    video_model: VideoNetwork
    reader: CaptionReader | None
    settings: ModelSettings
    path: Path
    hash: str
    clips_seen: int
    device: torch.device
    dtype: torch.dtype
    caption_limit: CaptionLimit | None = None
    errors: OnePassErrors | None = None
    measured_steps: SampleSteps | None = None
    autoencoder: Codec | None = None
    clip_model: str | None = None
    is_builtin: bool = False
    is_default: bool = False
    fetched: Snapshot | None = None
    licence: str | None = None
    fixed_size: bool = False
    compilation: LaterCompilation = field(default_factory=lambda: LaterCompilation("off"))

    @property
    def name(self) -> str:
        """Its name for --model."""
        if self.fetched is not None:
            return f"hf:{self.fetched.repository}"
        return "builtin" if self.is_builtin else str(self.path)

    @property
    def scale(self) -> int:
        """Scale of super-resolution; 0 for a model that makes videos."""
        return self.settings.network.upscale

    @property
    def codec(self) -> Codec:
        return PixelCodec(channels=self.settings.network.channels) if self.autoencoder is None else self.autoencoder

    @property
    def frames(self) -> int:
        return self.settings.frames

    @property
    def width(self) -> int:
        return self.settings.width

    @property
    def height(self) -> int:
        return self.settings.height

    @property
    def multiple(self) -> int:
        return self.settings.multiple

    @property
    def fps(self) -> Fraction:
        """Base rate of the training clips."""
        return Fraction(self.settings.fps)

    @property
    def rates(self) -> tuple[Fraction, Fraction]:
        return self.fps / max(self.settings.frame_strides), self.fps

    @property
    def only_between(self) -> bool:
        return self.settings.network.between

    @property
    def conditions(self) -> tuple[Condition, ...]:
        if self.only_between:
            return ("learned",)
        return ("learned", *GUIDED) if self.settings.conditioning == "mixed" else GUIDED

    @property
    def steps(self) -> int:
        """Default number of sampling steps: what it was distilled to, one for super-resolution, what training measured,
        or what was measured on other models."""
        if self.settings.distilled is not None:
            return self.settings.distilled.steps
        if self.settings.network.any_size:
            return 1
        if self.measured_steps is not None:
            return self.measured_steps.free
        return PIXEL_STEPS if self.autoencoder is None else LATENT_STEPS

    @property
    def completion_steps(self) -> int:
        """The same beside given frames that the network is shown."""
        if self.settings.distilled is not None:
            return self.settings.distilled.steps
        if self.measured_steps is not None and self.measured_steps.completion is not None:
            return self.measured_steps.completion
        return COMPLETION_STEPS if self.autoencoder is None else LATENT_STEPS

    @property
    def one_step(self) -> bool:
        return self.settings.network.motion or self.only_between

    @property
    def guidance_scale(self) -> float:
        distilled = self.settings.distilled
        return GUIDANCE if distilled is None else distilled.guidance_scale

    @property
    def is_distilled(self) -> bool:
        return self.settings.distilled is not None

    @property
    def history_guidance(self) -> float:
        """It was measured to help (`python -m benchmarks history`), and to harm a network that is shown the estimate by
        motion, which the pass without the frames lacks (docs/conditioning.md)."""
        return 1.0 if self.one_step else HISTORY_GUIDANCE

    @property
    def prior(self) -> Prior:
        return Prior(name=self.settings.diffusion.noise, strength=self.settings.diffusion.noise_strength)

    @property
    def context_noise(self) -> float:
        return self.settings.context_noise

    @property
    def frame_levels(self) -> bool:
        return self.settings.frame_levels

    @property
    def windows_at_once(self) -> int:
        return self._at_once(WINDOWS_AT_ONCE)

    @property
    def reads_text(self) -> bool:
        return self.video_model.text is not None

    def levels(self, steps: int, shift: float = 0.0) -> Tensor:
        """Levels of the cosine schedule that it was trained on, or of that schedule with another shift."""
        if shift and self.is_distilled:
            raise VidiffError(
                f"{self.name} is distilled for the levels of its teacher",
                found=f"--shift {shift:g}",
                fix="leave it out",
            )
        diffusion = self.settings.diffusion
        return grid(steps, low=diffusion.low, high=diffusion.high, shift=diffusion.shift + shift)

    def level_at(self, u: float) -> float:
        """The level at a place of the schedule, from 0 (clean) to 1 (noise)."""
        diffusion, place = self.settings.diffusion, torch.tensor(u, dtype=torch.float64)
        return float(cosine(place, low=diffusion.low, high=diffusion.high, shift=diffusion.shift))

    def describe_prompts(self, prompts: Sequence[str]) -> Iterator[Event]:
        """Say which prompts are too long, and that weights of the text encoder have to be downloaded."""
        if self.caption_limit is not None:
            yield from self.caption_limit.notes(filter(None, prompts), what="prompt")
        if any(prompts) and self.settings.text.clip is not None:
            yield from download_note(self.settings.text.clip, self.clip_model)

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """Words that the text encoder has never seen."""
        return self.video_model.text.unknown_words(prompt) if self.video_model.text is not None else ()

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """Reads prompts before any work is done. VidiffError where the encoder's weights are missing or others."""
        if self.reader is not None and any(prompts):
            self.reader([prompt for prompt in dict.fromkeys(prompts) if prompt])

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
        """A denoiser with prompts and times closed over. A network that is shown motion is shown what it makes of the
        observed frames.

        Args:
            times: Seconds (b t).
            given: True for frames that the network is told are given (b t).
            prompts: One per clip (b); "" is no prompt.
            scale: Scale of classifier-free guidance.
            negative: The prompt to guide away from; None is no prompt.
            known: Observed frames (b c t h w).
            observed: True where `known` counts (b t).

        Returns:
            (z: b c t h w, level: b t) -> x_hat.
        """
        plain = Conditioning(times=times, observed=given)
        if self.settings.network.motion and known is not None and observed is not None and bool(observed.any()):
            estimate, uncertainty = estimate_clip(known, observed, times)
            plain = replace(plain, estimate=estimate, uncertainty=uncertainty, estimated_from=observed)
        if self.only_between and known is not None and observed is not None:
            plain = replace(plain, around=estimate_around(known, observed, times))
        conditional = partial(self._denoise, self._with_text(plain, prompts))
        if not any(prompts) and not negative:
            return conditional
        without = [negative or ""] * len(prompts)
        if scale != 1 and 2 * len(prompts) <= self._at_once(GUIDED_TOGETHER):
            both = self._with_text(plain.doubled(), [*prompts, *without])
            return classifier_free_together(partial(self._denoise, both), scale)
        return classifier_free(conditional, partial(self._denoise, self._with_text(plain, without)), scale)

    def upscaler(
        self, low: Tensor, times: Tensor, given: Tensor, prompt: str = "", *, augmentation: float, tile: int
    ) -> Denoise:
        """A denoiser of large frames around low-resolution ones, tile by tile.

        Args:
            low: Low-resolution clips (b c t h w), with the noise of `augmentation`; their sides times the scale are
                multiples of the network's.
            times: Seconds (b t).
            given: True for large frames that are known (b t): they are denoised with `hold_known`.
            prompt: Of all clips; "" for no prompt.
            augmentation: Noise on the low-resolution clips, a place on the unshifted schedule.
            tile: Side of a tile in pixels.

        Returns:
            (z: b c t h*scale w*scale, level: b t) -> x_hat, the same whatever the tile.
        """
        part = self.upscaler_part(low, times, given, prompt, augmentation=augmentation)
        side, border = self.tile_sides(tile)
        in_tiles = denoise_in_tiles(part, tile=side, border=border)
        size = tuple(self.scale * side for side in low.shape[-2:])

        def whole(z: Tensor, level: Tensor) -> Tensor:
            if z.shape[-2:] != size:
                found, expected = ("x".join(map(str, reversed(each))) for each in (z.shape[-2:], size))
                raise ValueError(f"frames are {found}, expected {expected}: the low-resolution ones times the scale")
            return in_tiles(z, level)

        return whole

    def upscaler_part(
        self, low: Tensor, times: Tensor, given: Tensor, prompt: str = "", *, augmentation: float
    ) -> DenoisePart:
        """A denoiser of parts of large frames around low-resolution ones: as `upscaler`, which takes it tile by tile.
        What the network is shown is made for each part: no tensor has the size of the frame."""
        told = torch.full((len(low),), augmentation, device=low.device)
        plain = self._with_text(Conditioning(times=times, observed=given, augmentation=told), [prompt] * len(low))

        def part(z: Tensor, level: Tensor, rows: slice, columns: slice) -> Tensor:
            shown = in_part(with_uncertainty, low, self.scale, rows, columns)
            return self._denoise_whole(replace(plain, around=shown), z, level)

        return part

    def tile_sides(self, tile: int) -> tuple[int, int]:
        """Side and border of tiles of at most `tile` pixels, multiples of the network's."""
        multiple, radius = self.multiple, receptive_radius(self.settings.network)
        return max(1, tile // multiple) * multiple, -(-radius // multiple) * multiple

    def _at_once(self, on_cpu: int) -> int:
        """Clips of one pass: one of large frames, else what needs at most the bytes that a gradient would keep."""
        if self.settings.network.any_size:
            return 1
        if self.device.type == "cpu":
            return on_cpu
        shape = (1, self.settings.network.channels, self.settings.frames, *self.settings.z_size)
        return clips_at_once(self.device, clip_bytes=self.kept_bytes(shape))

    def kept_bytes(self, shape: Sequence[int]) -> int:
        """Bytes that the gradient of a pass over clips of this shape (b c t h w) keeps in memory."""
        b, _, t, h, w = shape
        side = self.settings.spatial
        window = self.settings.model_copy(update={"frames": t, "height": h * side, "width": w * side})
        return b * kept_bytes(window, half=self.dtype != torch.float32)

    def recompute(self) -> None:
        """Turn gradient checkpointing of the network's stages on."""
        recompute_stages(self.video_model.denoiser.network)

    def compile_before(self, passes: int) -> bool:
        """Compile the network where that is wanted, and worth it for passes to come; True where it was done."""
        return self.compilation.before(passes, self.video_model.denoiser.network, self.device)

    def record(self) -> Mapping[str, object]:
        """Its checkpoint in a sidecar."""
        record: dict[str, object] = {"path": self.name, "sha256": self.hash, "clips_seen": self.clips_seen}
        if (latent := self.settings.autoencoder) is not None:
            record["autoencoder"] = {"source": latent.source, "commit": latent.commit, "sha256": latent.sha256}
        if self.fetched is None:
            return record if self.licence is None else record | {"licence": self.licence}
        origin = {"repository": self.fetched.repository, "commit": self.fetched.commit, "licence": self.licence}
        return record | origin

    def _with_text(self, plain: Conditioning, prompts: Sequence[str]) -> Conditioning:
        if self.video_model.text is None or not any(prompts):
            return plain
        assert self.reader is not None, "a model with text has a reader of captions"
        with torch.no_grad():
            embedded = self.video_model.text(self.reader(prompts).to(self.device))
        return replace(
            plain,
            tokens=embedded.tokens,
            token_mask=embedded.mask,
            pooled=embedded.pooled,
            dropped=torch.tensor([not prompt for prompt in prompts], device=plain.times.device),
        )

    def _denoise(self, conditioning: Conditioning, z: Tensor, level: Tensor) -> Tensor:
        if self.only_between:
            return self._denoise_in_tiles(conditioning, z, level)
        return self._denoise_whole(conditioning, z, level)

    def _denoise_in_tiles(self, conditioning: Conditioning, z: Tensor, level: Tensor) -> Tensor:
        """x_hat around the estimate by motion, of frames of any size; without an estimate, around 0 with a spread of
        1."""
        height, width = z.shape[-2:]
        around = conditioning.around
        if around is None:
            around = torch.cat([torch.zeros_like(z), torch.zeros_like(z), torch.ones_like(z[:, :1])], dim=1)
        shown, z = (padded(each, self.multiple) for each in (around, z))

        def part(z: Tensor, level: Tensor, rows: slice, columns: slice) -> Tensor:
            return self._denoise_whole(replace(conditioning, around=shown[..., rows, columns]), z, level)

        side, border = self.tile_sides(TILE)
        in_tiles = denoise_in_tiles(part, tile=side, border=border)
        return in_tiles(z, level)[..., :height, :width]

    def _denoise_whole(self, conditioning: Conditioning, z: Tensor, level: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.video_model.denoiser(z, level.float(), conditioning)


def model_in_training(
    video_model: VideoNetwork,
    reader: CaptionReader | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    path: Path = Path(),
    autoencoder: Codec | None = None,
) -> UNetModel:
    """Open a network that is in training for generation; it is put into evaluation mode.

    Args:
        video_model: The network, with the weights that sampling uses.
        reader: Reads prompts for its text encoder; None for a model without text.
        device: Device of the network.
        dtype: Number format of the network.
        path: What it is called in errors.
        autoencoder: Codec of a network that works on latents.

    Returns:
        The model, which has no checkpoint.
    """
    return UNetModel(
        video_model=video_model.requires_grad_(False).eval(),
        reader=reader,
        settings=video_model.settings,
        path=path,
        hash="",
        clips_seen=0,
        device=device,
        dtype=dtype,
        autoencoder=autoencoder,
    )
