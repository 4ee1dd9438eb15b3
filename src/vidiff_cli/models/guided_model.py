"""A model that is guided away from a worse one of the same clips (autoguidance)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from vidiff_cli.diffusion.guidance import classifier_free
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event
from vidiff_cli.models.codec import z_shape
from vidiff_cli.models.families import VideoModel


def guide_model(model: VideoModel, guide: VideoModel) -> VideoModel:
    """`model`, guided away from `guide`: in everything but its denoiser, its hash and its record it is `model`.

    VidiffError for a model whose guidance is in its weights, and for a guide of other values or another noise.
    """
    if model.is_distilled or guide.is_distilled:
        name = model.name if model.is_distilled else guide.name
        fix = "leave out --guide, or use the model that it was distilled from"
        raise VidiffError(f"the guidance of {name} is in its weights", found=f"--guide {guide.name}", fix=fix)
    ours, theirs = (_facts(each) for each in (model, guide))
    for what, value in ours.items():
        if theirs[what] != value:
            raise VidiffError(
                f"{guide.name} cannot guide {model.name}: it has another {what}",
                found=str(theirs[what]),
                expected=str(value),
                fix="name an earlier checkpoint or a smaller model of the same clips",
            )
    return cast("VideoModel", GuidedModel(model=model, guide=guide))


def _facts(model: VideoModel) -> dict[str, object]:
    shape = z_shape(model.codec, 1, model.frames, model.height, model.width)
    codec = model.record().get("autoencoder") if not model.codec.is_identity else None
    return {"window (b c m h w)": tuple(shape), "noise": model.prior, "codec": codec}


@dataclass(frozen=True, kw_only=True)
class GuidedModel:
    """A `VideoModel` that goes past `model`, away from `guide`, which is asked the same with the same prompts.

    x_hat = g + scale (x - g), in the place of the model without a prompt; with scale 1 it is `model`. It needs no
    captions. Source: Karras et al. 2024 (Guiding a diffusion model with a bad version of itself).
    """

    model: VideoModel
    guide: VideoModel

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @property
    def hash(self) -> str:
        """A hash of both models, so that a video begun with another guide is not continued."""
        return hashlib.sha256(f"{self.model.hash} {self.guide.hash}".encode()).hexdigest()

    @property
    def history_guidance(self) -> float:
        return 1.0

    def describe_prompts(self, prompts: Sequence[str]) -> Iterator[Event]:
        """Notes on prompts, of both text encoders."""
        yield from self.model.describe_prompts(prompts)
        yield from self.guide.describe_prompts(prompts)

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """Read prompts for both."""
        self.model.embed_prompts(prompts)
        self.guide.embed_prompts(prompts)

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
        """As `VideoModel.denoiser`, with guidance by the guide."""
        assert negative is None, "a guide takes the place of a negative prompt"
        better, worse = (
            each.denoiser(times, given, prompts, scale=1.0, known=known, observed=observed)
            for each in (self.model, self.guide)
        )
        return classifier_free(better, worse, scale)

    def record(self) -> Mapping[str, object]:
        """Both models in a sidecar."""
        return {**self.model.record(), "guide": dict(self.guide.record())}
