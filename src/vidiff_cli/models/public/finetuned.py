"""A fine-tuned public model as generation sees it: its base with the trained weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidiff_cli.config.model import LongCaptions, ModelSettings
from vidiff_cli.models.public.adapters import WithWeights, prepare_training
from vidiff_cli.models.public.folder import PublicFolder
from vidiff_cli.models.public.model import PublicModel
from vidiff_cli.models.public.parts import open_network
from vidiff_cli.models.public.trained import PREFIX, PublicDenoiser, PublicNetwork, open_base_folder
from vidiff_cli.models.video_model import check_model_weights
from vidiff_cli.text.encoder import CaptionReader


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedWeights:
    """Weights of a checkpoint file at `path` with its `hash`, and the settings and `clips_seen` in its header."""

    settings: ModelSettings
    tensors: Mapping[str, Tensor]
    path: Path
    hash: str
    clips_seen: int


class FinetunedModel(PublicModel):
    """A `PublicModel` with trained weights; its window, its size and its rate are those of the training."""

    def __init__(
        self,
        folder: PublicFolder,
        weights: TrainedWeights,
        *,
        device: torch.device,
        dtype: torch.dtype,
        size: tuple[int, int] | None = None,
        frames: int | None = None,
        offload: bool = False,
        long_captions: LongCaptions = "cut",
    ) -> None:
        self.weights, known = weights, weights.settings
        super().__init__(
            folder,
            device=device,
            dtype=dtype,
            size=size or (known.width, known.height),
            frames=frames or known.frames,
            offload=offload,
            long_captions=long_captions,
        )

    @property
    def name(self) -> str:
        """Its name for --model."""
        return str(self.weights.path)

    @property
    def hash(self) -> str:
        """sha256 of its checkpoint file."""
        return self.weights.hash

    @property
    def licence(self) -> str | None:
        """The licence of its base, which goes on to what is trained from it."""
        base = self.weights.settings.base
        return base and base.licence

    @property
    def fps(self) -> Fraction:
        """The rate of the clips that it was trained on, as the network saw them."""
        settings = self.weights.settings
        return Fraction(settings.fps) / settings.frame_strides[0]

    def record(self) -> Mapping[str, object]:
        """The model in a sidecar: its checkpoint, and its base."""
        return {
            "path": self.name,
            "sha256": self.hash,
            "clips_seen": self.weights.clips_seen,
            "base": {**super().record(), "path": self.folder.name, "sha256": self.hashes[0]},
        }

    @cached_property
    def _network(self) -> Any:
        settings = self.weights.settings
        assert settings.base is not None
        network = open_network(self.folder, self.dtype, self.device)
        fill_network(network, settings, self.weights, self.dtype)
        return network


class ModelInTraining(FinetunedModel):
    """The model of a `PublicNetwork`, for samples during its training; its prompts have been read before."""

    def __init__(
        self,
        network: PublicNetwork,
        prompts: Sequence[str],
        reader: CaptionReader | None,
        path: Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        weights = TrainedWeights(settings=network.settings, tensors={}, path=path, hash="", clips_seen=0)
        super().__init__(open_base_folder(network.settings), weights, device=device, dtype=dtype)
        denoiser, text = network.denoiser, network.text
        assert isinstance(denoiser, PublicDenoiser) and text is not None and reader is not None
        self._view = denoiser.network_with_weights
        if not network.settings.base or not network.settings.base.rank:
            self._view = denoiser.network_with_weights.to(dtype)
        for prompt in ("", *prompts):
            self.prompts.keep(prompt, text(reader([prompt])).tokens[0])

    @cached_property
    def _network(self) -> WithWeights:
        return self._view


def open_finetuned(
    weights: TrainedWeights,
    *,
    device: torch.device,
    dtype: torch.dtype,
    size: tuple[int, int] | None,
    frames: int | None,
    offload: bool,
    long_captions: LongCaptions | None,
) -> FinetunedModel:
    """Opens a fine-tuned model.

    Args:
        weights: The trained weights.
        device: Device of its parts.
        dtype: Number format of the frozen weights.
        size: Width and height that it works at; None is that of the training.
        frames: Frames of its window; None is that of the training.
        offload: Keep one large part on the device at a time.
        long_captions: What becomes of prompts that its text encoder cannot read whole; None is as in training.

    Returns:
        The model; the weights of its base are read when they are first needed.

    Raises:
        VidiffError: The base is not where it was, or has other weights; packages are missing.
    """
    return FinetunedModel(
        open_base_folder(weights.settings, weights.path),
        weights,
        device=device,
        dtype=dtype,
        size=size,
        frames=frames,
        offload=offload,
        long_captions=long_captions or weights.settings.text.long_captions,
    )


def fill_network(network: nn.Module, settings: ModelSettings, weights: TrainedWeights, dtype: torch.dtype) -> None:
    """Puts trained weights into a network of a number format; adapters stay in float32. VidiffError where they do not
    fit it."""
    assert settings.base is not None
    found = prepare_training(network, settings.base, seed=0)
    check_model_weights(weights.tensors, {PREFIX + name: value for name, value in found.items()}, weights.path)
    for name, value in found.items():
        value.data = weights.tensors[PREFIX + name].to(
            value.device, value.dtype if settings.base.rank else dtype, copy=True
        )
    network.requires_grad_(False)
