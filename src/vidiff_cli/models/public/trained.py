"""A public model as training sees it: a denoiser of its latents with prompts, all weights frozen but the trained ones.

Those are the only parameters of `PublicNetwork`, so that optimizers, averages and checkpoints hold no others.
Shapes: b clips, m values along time, c channels of z, h w values of a side, l tokens, d the encoder's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.config.model import LongCaptions, ModelSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.models.families import FAMILIES, Family
from vidiff_cli.models.public.adapters import WithWeights, as_tree, prepare_training
from vidiff_cli.models.public.folder import PublicFolder, folder_hash
from vidiff_cli.models.public.networks import PREDICT, Process, recompute_layers
from vidiff_cli.models.public.open import resolve_folder
from vidiff_cli.models.public.parts import open_network
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.text.encoder import CaptionReader, CaptionTensors, EmbedCaption, TextEmbedding, frozen_reader

PREFIX = "denoiser.trained."  # of the weights in a checkpoint, before their names in the network


class PublicDenoiser(Denoiser):
    """A public network with trained weights as a `Denoiser`: its own prediction at a level, in its own coordinates.

    `null` (l d) are the states of no prompt.
    """

    null: Tensor

    def __init__(self, settings: ModelSettings, network: Any, weights: Mapping[str, nn.Parameter]) -> None:
        nn.Module.__init__(self)
        assert settings.base is not None
        self.settings, self.trained = settings, as_tree(weights)
        self._family = find_family(settings.base.family)
        self._process = Process.from_config(settings.base.scheduler)
        self._frozen = (network,)  # in a tuple: no parameters of this module
        self.register_buffer("null", torch.zeros(1, settings.base.text.width), persistent=False)

    @property
    def frozen(self) -> Any:
        """The network itself."""
        return self._frozen[0]

    @property
    def network_with_weights(self) -> WithWeights:
        """The network with the trained weights."""
        return WithWeights(self.frozen, dict(self.trained.named_parameters()))

    def predict(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's prediction, float32."""
        network, states = self.network_with_weights, self._states(conditioning, len(z))

        def call(values: Tensor, timestep: Tensor) -> Tensor:
            dtype = network.dtype
            return PREDICT[self._family.network](network, values.to(dtype), timestep, states.to(dtype)).float()

        return self._process.predict(call, z, level, by_frame=self._family.levels_by_frame)

    def _states(self, conditioning: Conditioning, clips: int) -> Tensor:
        null = self.null.expand(clips, -1, -1)
        if conditioning.tokens is None:
            return null
        if conditioning.dropped is None:
            return conditioning.tokens
        return torch.where(conditioning.dropped[:, None, None], null, conditioning.tokens)


class PromptTensors(nn.Module):
    """States of prompts as a frozen encoder left them, filled up with zeros to the tokens that the network reads."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width

    def forward(self, captions: CaptionTensors) -> TextEmbedding:
        """Captions that `frozen_reader` has read."""
        assert captions.pooled is not None, "captions of a frozen encoder"
        missing = self.tokens - captions.tokens.shape[1]
        return TextEmbedding(
            tokens=functional.pad(captions.tokens, (0, 0, 0, missing)), mask=captions.mask, pooled=captions.pooled
        )

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """None: the encoder has a token for everything."""
        return ()


class PublicNetwork(VideoNetwork):
    """A `VideoNetwork` whose denoiser is a public network."""

    def __init__(self, settings: ModelSettings, network: Any, weights: Mapping[str, nn.Parameter]) -> None:
        nn.Module.__init__(self)
        assert settings.base is not None
        self.settings = settings
        self.denoiser = PublicDenoiser(settings, network, weights)
        self.text = PromptTensors(settings.base.text.context, settings.base.text.width)  # type: ignore[assignment]

    def caption_reader(
        self, embed: EmbedCaption | None = None, *, long_captions: LongCaptions | None = None
    ) -> CaptionReader | None:
        """The reader of captions; the states of no prompt are read at once. `embed` shortens long captions itself."""
        assert embed is not None, "a frozen text encoder needs the embeddings of captions"
        reader, denoiser = frozen_reader(embed), self.denoiser
        assert self.text is not None and isinstance(denoiser, PublicDenoiser)
        denoiser.null = self.text(reader([""])).tokens[0].to(denoiser.null)
        return reader

    def recompute(self) -> None:
        """Gradient checkpointing of every layer of the network."""
        assert isinstance(self.denoiser, PublicDenoiser)
        recompute_layers(self.denoiser.frozen)

    def with_weights(self, weights: Mapping[str, Tensor], device: torch.device) -> PublicNetwork:
        """A frozen model of other trained weights; it shares the network and the text."""
        assert isinstance(self.denoiser, PublicDenoiser)
        parameters = {
            name.removeprefix(PREFIX): nn.Parameter(value.to(device), requires_grad=False)
            for name, value in weights.items()
        }
        other = PublicNetwork(self.settings, self.denoiser.frozen, parameters)
        other.denoiser.null = self.denoiser.null
        return other.eval()


def open_public_network(
    settings: ModelSettings, *, device: torch.device, dtype: torch.dtype, seed: int
) -> PublicNetwork:
    """Opens the public model of `settings` for training. VidiffError: not on this machine, or with other weights."""
    assert settings.base is not None
    folder = open_base_folder(settings)
    network = open_network(folder, dtype, device)
    return PublicNetwork(settings, network, prepare_training(network, settings.base, seed))


def open_base_folder(settings: ModelSettings, of: Path | None = None) -> PublicFolder:
    """The folder of the public model that `settings` fine-tune; `of` is the run that was trained.

    VidiffError: it is not where it was, or has other weights.
    """
    base, subject = settings.base, f"the model that {of or 'the run'} was trained from"
    assert base is not None
    try:
        folder = resolve_folder(Path(base.path))
    except VidiffError as error:
        raise VidiffError(f"{subject} cannot be opened: {error.what}", found=error.found, fix=error.fix) from error
    found, _ = folder_hash(folder)
    if found != base.sha256:
        raise VidiffError(
            f"{subject} has other weights now: {base.path}", found=f"sha256 {found[:12]}", expected=base.sha256[:12]
        )
    return folder


def find_family(name: str) -> Family:
    """A family by its name. VidiffError for an unknown one."""
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise VidiffError("a checkpoint names an unknown family of models", found=name[:40], expected=known)
