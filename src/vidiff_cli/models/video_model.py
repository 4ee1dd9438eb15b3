"""A video model: the denoiser and its text encoder, built from settings or opened from a checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from vidiff_cli.checkpoint import read_checkpoint
from vidiff_cli.config.model import LongCaptions, ModelSettings
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.acceleration import compile_network, is_compiled
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.models.meta import meta_device
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.text.encoder import CaptionReader, EmbedCaption, frozen_reader
from vidiff_cli.text.learned import LearnedText
from vidiff_cli.text.long_captions import caption_limit


class VideoNetwork(nn.Module):
    """The denoiser and the trained part of its text encoder: all of a learned one, the adapter of a frozen one."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.denoiser = Denoiser(settings)
        self.text = _text_encoder(settings)

    def caption_reader(
        self, embed: EmbedCaption | None = None, *, long_captions: LongCaptions | None = None
    ) -> CaptionReader | None:
        """The reader of captions for the text encoder; None for a model without one.

        `embed` gives the embeddings of the model's frozen encoder; a learned encoder does without. `long_captions` is
        what becomes of those that are too long, by default as the settings say.
        """
        if self.text is None:
            return None
        if isinstance(self.text, LearnedText):
            reader = self.text.read
        else:
            assert embed is not None, "a frozen text encoder needs the embeddings of captions"
            reader = frozen_reader(embed)
        limit = caption_limit(self.settings.text, long_captions)
        return reader if limit is None else limit.shortens(reader)

    def with_weights(self, weights: Mapping[str, Tensor], device: torch.device) -> VideoNetwork:
        """A frozen model of other weights, which shares their memory where they are on `device`; compiled if this one
        is."""
        with meta_device():
            other = VideoNetwork(self.settings)
        other.load_state_dict({name: value.to(device) for name, value in weights.items()}, assign=True)
        other.requires_grad_(False).eval()
        if is_compiled(self):
            compile_network(other.denoiser.network)
        return other


def _text_encoder(settings: ModelSettings) -> LearnedText | AdaptedText | None:
    text, width = settings.text, settings.network.context_dim
    if not width:
        return None
    if text.clip is not None:
        return AdaptedText(text.clip, width)
    if text.kind == "learned":
        return LearnedText(text.vocabulary, width=width, depth=text.depth, max_tokens=text.max_tokens)
    return None


def new_video_model(settings: ModelSettings, seed: int) -> VideoNetwork:
    """A model whose first weights follow from the seed alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(seed).initial_seed())
        return VideoNetwork(settings)


def open_video_model(path: Path) -> tuple[VideoNetwork, dict[str, object]]:
    """The model of a checkpoint file, with its weights on the CPU, and the header of the file.

    The network is built without memory and takes over the tensors of the file. VidiffError: missing, damaged, not
    written by vidiff, unknown settings, weights that do not fit the settings.
    """
    checkpoint = read_checkpoint(path)
    settings = read_model_settings(checkpoint.header, path)
    with meta_device():
        video_model = VideoNetwork(settings)
    expected = video_model.state_dict()
    check_model_weights(checkpoint.tensors, expected, path)
    weights = {name: value.to(expected[name].dtype, copy=True) for name, value in checkpoint.tensors.items()}
    video_model.load_state_dict(weights, assign=True)
    return video_model, checkpoint.header


def read_model_settings(header: Mapping[str, object], path: Path) -> ModelSettings:
    """The model's settings in the header of the checkpoint `path`. VidiffError: missing or not valid."""
    try:
        return ModelSettings.model_validate(header["model"])
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise VidiffError(f"{path} holds settings that this vidiff does not know", found=found) from error
    except KeyError as error:
        raise VidiffError(f"{path} holds no settings of a model") from error


def check_model_weights(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """VidiffError unless the tensors of the file `path` are finite and have the names and shapes of `expected`."""
    found, wanted = ({name: value.shape for name, value in each.items()} for each in (tensors, expected))
    if found != wanted:
        wrong = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
        raise VidiffError(f"the weights in {path} do not fit their own settings", found=f"{len(wrong)} that differ")
    if bad := [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]:
        raise VidiffError(f"the weights in {path} are not finite", found=bad[0], fix="use an earlier checkpoint")
