"""CLIP score: the similarity of frames and a prompt, where CLIP weights are on this machine.

Shapes: t frames, d features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.errors import VidiffError
from vidiff_cli.text.clip_names import (
    DEFAULT_CLIP,
    find_weights,
    import_open_clip,
    quiet,
    read_name,
    settle_name,
    weights_at_hand,
)

BATCH = 32  # frames


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipScorer:
    """`measure(frames, prompt)`: the mean over the frames of 100 cos(image, text); `name` and `sha256` of its CLIP."""

    name: str
    sha256: str
    measure: Callable[[np.ndarray, str], float]


def open_clip_scorer(asked: str | None, device: torch.device) -> ClipScorer | None:
    """Opens the CLIP `asked` for, or the default one where its weights are on this machine; else None.

    Nothing is downloaded. VidiffError where the one asked for is missing or damaged.
    """
    if asked is None and weights_at_hand() is None:
        return None
    name = settle_name(read_name(asked or DEFAULT_CLIP))
    file = find_weights(name)
    if file is None:
        raise VidiffError(f"the CLIP weights {name} are not on this machine", fix="name their file with --clip-model")
    import_open_clip()
    import open_clip

    try:
        with torch.random.fork_rng(devices=[]), quiet():
            model, _, prepare = open_clip.create_model_and_transforms(
                str(name.model), pretrained=str(file), precision="fp32", weights_only=True
            )
            tokenize = open_clip.get_tokenizer(str(name.model))
            tokenize([""])
    except Exception as error:  # whatever a foreign file provokes
        found = " ".join(str(error).split()).partition(". ")[0][:120]
        raise VidiffError(f"{file} does not hold the weights of {name.model}", found=found or None) from error
    clip: Any = model.eval().requires_grad_(False).to(device)
    transform: Any = prepare
    embedded: dict[bytes, torch.Tensor] = {}

    @torch.no_grad()
    def measure(frames: np.ndarray, prompt: str) -> float:
        key = hashlib.sha256(prompt.encode(errors="replace")).digest()
        if key not in embedded:
            embedded.clear()  # the frames of a video share a prompt: one is kept
            embedded[key] = _unit(clip.encode_text(tokenize([prompt]).to(device)))
        cosines = []
        for first in range(0, len(frames), BATCH):
            pictures = [transform(Image.fromarray(frame)) for frame in frames[first : first + BATCH]]
            cosines.append(_unit(clip.encode_image(torch.stack(pictures).to(device))) @ embedded[key][0])
        return 100 * float(torch.cat(cosines).mean())

    return ClipScorer(name=str(name), sha256=file_hash(file), measure=measure)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)
