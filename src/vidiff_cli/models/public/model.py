"""A public model as generation sees it, loaded in three stages: text encoder, network, decoder.

Shapes: b clips, m values along time, c channels of z, h w values of a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from vidiff_cli.config.model import LongCaptions
from vidiff_cli.diffusion.guidance import classifier_free
from vidiff_cli.diffusion.noise import INDEPENDENT, Prior
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note
from vidiff_cli.models.codec import Codec, z_length
from vidiff_cli.models.families import GUIDED, Condition
from vidiff_cli.models.meta import meta_device
from vidiff_cli.models.one_pass_errors import OnePassErrors
from vidiff_cli.models.public.codecs import codec_of, save_decoder_memory
from vidiff_cli.models.public.folder import PublicFolder, folder_hash, read_config
from vidiff_cli.models.public.known import native_shape
from vidiff_cli.models.public.loading import open_part
from vidiff_cli.models.public.networks import PREDICT, Process, recompute_layers
from vidiff_cli.models.public.parts import build_network, network_config, open_network
from vidiff_cli.models.public.prompts import PromptStates
from vidiff_cli.models.step_cost import measure_kept


class PublicModel:
    """A `VideoModel` from a folder in the diffusers format; parts are opened when they are first needed.

    With `offload` only one of network and autoencoder is on the device at a time. `check_shape` is False where its
    window and size are decided later.
    """

    is_builtin = False
    is_default = False
    only_between = False
    one_step = False
    history_guidance = 1.0  # other scales are not measured
    clips_seen = None
    context_noise = 0.0
    windows_at_once = 1
    reads_text = True
    errors: OnePassErrors | None = None
    prior: Prior = INDEPENDENT

    def __init__(
        self,
        folder: PublicFolder,
        *,
        device: torch.device,
        dtype: torch.dtype,
        size: tuple[int, int] | None = None,
        frames: int | None = None,
        offload: bool = False,
        long_captions: LongCaptions = "cut",
        check_shape: bool = True,
    ) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self.family = folder.family
        self._process = Process.from_config(folder.scheduler)
        self.prompts = PromptStates(folder, device, dtype, long_captions)
        self._offload, self._recompute = offload and device.type != "cpu", False
        self._size, self._frames = size, frames
        self._check_parts()
        if check_shape:
            self._check_shape()
            self._check_longest()

    @property
    def name(self) -> str:
        """Its name for --model."""
        return self.folder.name

    @property
    def licence(self) -> str | None:
        """The licence of its weights, where it is known."""
        return self.folder.licence

    @cached_property
    def hashes(self) -> tuple[str, dict[str, str]]:
        """sha256 over all weights, and of each file."""
        return folder_hash(self.folder)

    @property
    def hash(self) -> str:
        """sha256 over all weights."""
        return self.hashes[0]

    @property
    def width(self) -> int:
        """Width of its videos in pixels."""
        return self._size[0] if self._size else self._native[0]

    @property
    def height(self) -> int:
        """Height of its videos in pixels."""
        return self._size[1] if self._size else self._native[1]

    @property
    def frames(self) -> int:
        """Frames of its window."""
        return self._frames or native_shape(self.family, self.folder.repository).frames

    @property
    def multiple(self) -> int:
        """Pixels that a side is a multiple of."""
        blocks = self._network_config.get("down_block_types")
        return self.codec.spatial * (2 ** (len(blocks) - 1) if blocks else self._patch)

    @property
    def fixed_size(self) -> bool:
        """True if it knows one size of frames."""
        return self.family.fixed_size

    @property
    def fps(self) -> Fraction:
        """The rate that it was trained at."""
        return Fraction(native_shape(self.family, self.folder.repository).fps)

    @property
    def rates(self) -> tuple[Fraction, Fraction]:
        """Slowest and fastest rate of training."""
        return self.fps, self.fps

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Ways to condition: `learned` for a family with a level by frame."""
        return ("learned", *GUIDED) if self.family.levels_by_frame else GUIDED

    @property
    def frame_levels(self) -> bool:
        """True for a family with a level by frame."""
        return self.family.levels_by_frame

    @property
    def steps(self) -> int:
        """Default number of sampling steps."""
        return self.family.steps

    @property
    def completion_steps(self) -> int:
        """As many beside given frames."""
        return self.family.steps

    @property
    def guidance_scale(self) -> float:
        """Default scale of classifier-free guidance."""
        return self.family.guidance_scale

    @property
    def is_distilled(self) -> bool:
        return False

    @property
    def codec(self) -> Codec:
        """The autoencoder."""
        return self._codec

    @cached_property
    def _codec(self) -> Codec:
        name = self.folder.classes["vae"]
        exact = name == "AutoencoderKLWan"  # its authors keep it in full precision
        dtype = torch.float32 if exact or self.dtype == torch.float32 else self.dtype
        vae = open_part(self.folder.path / "vae", "diffusers", name, dtype, self.device)
        if self.device.type == "cuda":
            save_decoder_memory(vae)
        try:
            codec = codec_of(vae)
        except (ValueError, TypeError, AttributeError) as error:
            found = str(error)[:80]
            raise VidiffError(
                f"{self.folder.path / 'vae'} does not say how its values are scaled", found=found
            ) from error
        return OffloadedCodec(codec, self) if self._offload else codec

    def levels(self, steps: int, shift: float = 0.0) -> Tensor:
        """The grid of its own noise process."""
        if shift:
            raise VidiffError(f"{self.name} has its own grid of levels", found=f"--shift {shift:g}", fix="leave it out")
        most = self._process.timesteps
        if steps > most:
            raise VidiffError("more steps than the model has timesteps", found=steps, expected=f"at most {most}")
        return self._process.grid(steps)

    def level_at(self, u: float) -> float:
        """The level at a place of the schedule, from 0 (clean) to 1 (noise)."""
        return self._process.level_at(u)

    def describe_prompts(self, prompts: Sequence[str]) -> Iterator[Event]:
        """Say what of a prompt does not fit the text encoder, and the licence."""
        if self.licence is not None:
            yield Note(f"The weights of {self.name} have the licence {self.licence}.")
        if any(prompts):
            yield from self.prompts.limit.notes(filter(None, prompts), what="prompt")

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """None: its tokenizer knows parts of every word."""
        return ()

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """The first stage: read all prompts and free the text encoder again."""
        self.prompts.embed(prompts)

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
        """A denoiser of z with prompts closed over. Public networks are told no times, no mask and no motion.

        Args:
            times: Not used.
            given: Not used.
            prompts: One per clip (b); "" is no prompt.
            scale: Scale of classifier-free guidance.
            negative: The prompt to guide away from; None is no prompt.
            known: Not used.
            observed: Not used.

        Returns:
            (z: b c m h w, level: b m) -> x_hat.
        """
        conditional = partial(self._denoise, self.prompts.states(prompts))
        if not any(prompts) and not negative:
            return conditional
        against = self.prompts.states([negative or ""] * len(prompts))
        return classifier_free(conditional, partial(self._denoise, against), scale)

    def kept_bytes(self, shape: Sequence[int]) -> int:
        """Bytes that the gradient of a pass over z of this shape (b c m h w) keeps, measured without memory for it."""
        with meta_device():
            network = build_network(self.folder).to(self.dtype).requires_grad_(False)
            z = torch.empty(*shape, dtype=self.dtype, requires_grad=True)
            states = torch.empty(shape[0], self.family.tokens, self.state_width, dtype=self.dtype)
            steps = (shape[0], shape[2]) if self.family.levels_by_frame else (shape[0],)
            timestep = torch.empty(*steps)
            kept, _ = measure_kept(lambda: PREDICT[self.family.network](network, z, timestep, states), network)
        return kept

    def recompute(self) -> None:
        """Turn gradient checkpointing of every layer on."""
        if not self._recompute:
            self._recompute = True
            recompute_layers(self._network)

    def compile_before(self, passes: int) -> bool:
        """It is never compiled."""
        return False

    def record(self) -> Mapping[str, object]:
        """The model in a sidecar."""
        folder = self.folder
        return {
            "path": self.name,
            "sha256": self.hash,
            "clips_seen": None,
            "family": self.family.name,
            "repository": folder.repository,
            "commit": folder.commit,
            **(
                {"adapter": folder.adapter_repository, "adapter_commit": folder.adapter_commit}
                if folder.adapter
                else {}
            ),
            "licence": folder.licence,
            "weights": self.hashes[1],
        }

    def on_device(self, part: str) -> None:
        """With `offload`: bring the "network" or the "codec" to the device, and the other one to the CPU."""
        network = self.__dict__.get("_network")
        codec = self.__dict__.get("_codec")
        parts = {"network": network, "codec": codec and codec.vae}
        for name, module in sorted(parts.items(), key=lambda item: item[0] == part):
            if module is not None:
                module.to(self.device if name == part else "cpu")

    @cached_property
    def _network_config(self) -> dict[str, Any]:
        return network_config(self.folder)

    @cached_property
    def _network(self) -> Any:
        return open_network(self.folder, self.dtype, self.device)

    def _denoise(self, states: Tensor, z: Tensor, level: Tensor) -> Tensor:
        network = self._network
        if self._offload:
            self.on_device("network")

        def predict(values: Tensor, timestep: Tensor) -> Tensor:
            made = PREDICT[self.family.network](network, values.to(self.dtype), timestep, states.to(self.dtype))
            return made.to(z.dtype)

        return self._process.denoise(predict, z, level, by_frame=self.family.levels_by_frame)

    @property
    def state_width(self) -> int:
        """Width of its text encoder's states."""
        config = self._network_config
        return int(config.get("cross_attention_dim") or config.get("text_dim") or config.get("text_embed_dim") or 1)

    @property
    def _patch(self) -> int:
        patch = self._network_config.get("patch_size", 2)
        return int(patch[-1] if isinstance(patch, list) else patch)

    @cached_property
    def _native(self) -> tuple[int, int]:
        """Width and height of a known name, else in its files, else of its family."""
        known = native_shape(self.family, self.folder.repository)
        if known is not self.family:
            return known.width, known.height
        config, side = self._network_config, self.codec.spatial
        if isinstance(sample := config.get("sample_size"), int):
            return sample * side, sample * side
        if "sample_width" in config and "sample_height" in config:
            return int(config["sample_width"]) * side, int(config["sample_height"]) * side
        return self.family.width, self.family.height

    def _check_parts(self) -> None:
        """Refuse parts that do not fit together."""
        config, path = self._network_config, self.folder.path
        for name in ("in_channels", "out_channels"):
            channels = config.get(name, self.codec.channels)
            if channels != self.codec.channels:
                found = f"{channels} {name}"
                expected = f"{self.codec.channels}, those of its autoencoder"
                raise VidiffError(f"{path / self.family.part} is of another kind", found=found, expected=expected)
        encoder = read_config(path / "text_encoder" / "config.json")
        width = encoder.get("hidden_size") or encoder.get("d_model")
        if width is not None and width != self.state_width:
            subject = f"{path / 'text_encoder'} does not fit the network"
            raise VidiffError(subject, found=f"states of {width} numbers", expected=self.state_width)

    def _check_longest(self) -> None:
        """Refuse a size or a number of frames beyond the positions that the network knows."""
        config, codec = self._network_config, self.codec
        side, most = config.get("rope_max_seq_len"), config.get("motion_max_seq_length")
        if type(side) is int:
            patch, (depth, height, width) = self._patch, (z_length(codec, self.frames), self.height, self.width)
            longest = side * patch * codec.spatial
            if max(height, width) > longest or depth > side:
                found = f"{self.frames} frames of {width}x{height}"
                expected = f"at most {1 + (side - 1) * codec.temporal} frames and {longest} pixels a side"
                raise VidiffError(f"{self.name} cannot make this size", found=found, expected=expected)
        if type(most) is int and self.frames > most:
            subject = f"{self.name} cannot make so many frames at once"
            raise VidiffError(subject, found=f"{self.frames} frames", expected=f"at most {most}")

    def _check_shape(self) -> None:
        """Refuse a size or a window that the network cannot hold."""
        codec = self.codec
        if (self.frames - 1) % codec.temporal:
            expected = f"a number such as {1 + codec.temporal} or {1 + 2 * codec.temporal}"
            raise VidiffError(f"{self.name} makes frames in groups", found=f"{self.frames} frames", expected=expected)
        if self.width % self.multiple or self.height % self.multiple:
            raise VidiffError(
                f"{self.name} cannot make this size",
                found=f"{self.width}x{self.height}",
                expected=f"sides that are multiples of {self.multiple}",
            )
        if self.fixed_size and self._size and self._size != self._native:
            native = f"{self._native[0]}x{self._native[1]}"
            raise VidiffError(f"{self.name} makes one size", found=f"{self.width}x{self.height}", expected=native)


class OffloadedCodec:
    """A codec whose autoencoder is on the device only while it works."""

    is_identity = False

    def __init__(self, codec: Any, model: PublicModel) -> None:
        self._codec, self._model, self.vae = codec, model, codec.vae
        self.channels, self.spatial, self.temporal = codec.channels, codec.spatial, codec.temporal

    def encode(self, frames: Tensor) -> Tensor:
        """z of frames."""
        self._model.on_device("codec")
        return self._codec.encode(frames)

    def decode(self, z: Tensor) -> Tensor:
        """Frames of z."""
        self._model.on_device("codec")
        return self._codec.decode(z)
