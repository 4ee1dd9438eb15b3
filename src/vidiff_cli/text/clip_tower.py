"""A CLIP text tower of open_clip, frozen: the states of a caption's tokens and its pooled vector.

Shapes: l tokens of a caption, start and end included; d the tower's width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from vidiff_cli.config.model import ClipSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.text.clip_names import ClipName, fetch_weights, import_open_clip, is_tag, quiet, settle_name
from vidiff_cli.text.encoder import CaptionEmbedding
from vidiff_cli.text.tokenizer import token_ids


class ClipTower:
    """`encode(caption)`: what open_clip's text transformer makes of one caption.

    The tokens are its states after the last norm, up to the end-of-text mark; the pooled vector is open_clip's
    `encode_text`, projected and not normalised. Both are rounded to half precision, so that a stored embedding is equal
    to a fresh one. A caption goes through the tower alone: a batch would make its last bits depend on its neighbors,
    and is hardly faster on a CPU.
    """

    def __init__(self, model: nn.Module, tokenize: Callable[[list[str]], Tensor], name: ClipName) -> None:
        self._model = _text_only(model).eval().requires_grad_(False)
        self._tower: Any = getattr(model, "text", model)  # a CustomTextCLIP has a text tower; a CLIP is its own
        self._tokenize = tokenize
        empty = self.encode("")
        self.settings = ClipSettings(
            encoder=str(name.model),
            weights=name.file.name[-255:] if name.file is not None else str(name.weights),
            sha256=_hash_of(self._model),
            width=empty.tokens.shape[1],
            pooled=empty.pooled.shape[0],
            context=self._tokenize([""]).shape[1],
        )

    def to(self, device: torch.device) -> ClipTower:
        """Moves the tower; its embeddings still come to the CPU."""
        self._model.to(device)
        return self

    @property
    def parameters(self) -> int:
        return sum(value.numel() for value in self._model.parameters())

    @torch.no_grad()
    def encode(self, caption: str) -> CaptionEmbedding:
        """The embedding of one caption; longer ones are cut as the tokenizer does. VidiffError if it is not finite."""
        ids = self._tokenize([caption])  # 1 context
        states: list[Tensor] = []
        hook = self._tower.transformer.register_forward_hook(lambda module, args, out: states.append(out))
        try:
            device = next(self._model.parameters()).device
            pooled = self._model.encode_text(ids.to(device), normalize=False)[0]  # type: ignore[operator]
        finally:
            hook.remove()
        tokens = self._tower.ln_final(states[0][0, : self._length(ids[0])])
        embedding = CaptionEmbedding(tokens=tokens.half().cpu().contiguous(), pooled=pooled.half().cpu().contiguous())
        if not bool(embedding.tokens.isfinite().all() and embedding.pooled.isfinite().all()):
            raise VidiffError(f"the CLIP encoder makes no finite numbers of the caption {caption[:60]!r}")
        return embedding

    def _length(self, ids: Tensor) -> int:
        """The real tokens: up to the one that open_clip pools at, or else to the first of the padding."""
        pool = getattr(self._tower, "pool_type", None) or getattr(self._tower, "text_pool_type", "argmax")
        if pool == "argmax":
            return int(ids.argmax()) + 1
        if pool == "eos":
            mark = getattr(self._tower, "eos_id", None) or getattr(self._tower, "text_eos_id", None)
            return int((ids == mark).int().argmax()) + 1
        padding = ids.flip(0).ne(ids[-1]).int()  # 0 for the run at the end; its first may itself mark the end
        return len(ids) - (int(padding.argmax()) if bool(padding.any()) else len(ids)) + 1


def open_tower(name: ClipName, *, otherwise: str) -> ClipTower:
    """The text tower that a name stands for, on the CPU. VidiffError where it cannot be had; `otherwise` is the way
    without it."""
    name = settle_name(name)
    file = fetch_weights(name, otherwise=otherwise)
    import_open_clip()
    import open_clip

    try:
        with quiet():
            tokenize = open_clip.get_tokenizer(str(name.model))
            tokenize([""])
    except Exception as error:  # of other libraries, which may have to download it
        missing = error.name if isinstance(error, ImportError) else None
        fix = f"pip install {missing}" if missing else "connect to the network once"
        raise VidiffError(f"the tokenizer of {name.model} cannot be loaded", fix=f"{fix}, or {otherwise}") from error
    try:
        with torch.random.fork_rng(devices=[]), quiet():
            model = open_clip.create_model(str(name.model), pretrained=str(file), precision="fp32", weights_only=True)
    except Exception as error:  # whatever a foreign file provokes
        found = " ".join(str(error).split()).partition(". ")[0][:120]
        raise VidiffError(f"{file} does not hold the weights of {name.model}", found=found or None) from error
    return ClipTower(model, tokenize, name)


@cache
def token_counter(encoder: str) -> tuple[Callable[[str], int], int]:
    """(tokens of a caption without marks of start and end, number of these marks) by the tokenizer of an encoder; where
    that cannot be had, by the one that most encoders have."""
    import_open_clip()
    import open_clip

    try:
        with quiet():
            tokenizer: Any = open_clip.get_tokenizer(encoder)
            inner: Any = getattr(tokenizer, "tokenizer", None)  # of a tokenizer from Hugging Face
            if inner is None:
                return lambda caption: len(tokenizer.encode(caption)), 2
            marks = len(inner.encode("", add_special_tokens=True))
            return lambda caption: len(inner.encode(caption, add_special_tokens=False)), marks
    except Exception:  # of other libraries, which may have to download it
        return lambda caption: len(token_ids(caption)), 2


def open_same_tower(settings: ClipSettings, where: ClipName, *, otherwise: str) -> ClipTower:
    """The tower that a model was trained with, from the weights of `where` or of its tag.

    VidiffError where they cannot be found, or are others: a model knows its weights by their hash alone.
    """
    # The name of a file is no way to it: only a tag that open_clip knows leads from a checkpoint to weights.
    tag = settings.weights if is_tag(settings.encoder, settings.weights) else None
    name = ClipName(model=where.model or settings.encoder, weights=where.weights or tag)
    if name.weights is None or (name.file is not None and not name.file.is_file()):
        found = "nothing that says where they lie" if name.weights is None else f"no file {name.file}"
        fix = f"name their file with --clip-model {settings.encoder}:FILE, or {otherwise}"
        raise VidiffError(f"the model needs the CLIP weights {settings.weights}", found=found, fix=fix)
    tower = open_tower(name, otherwise=otherwise)
    found = tower.settings
    if found.encoder != settings.encoder:
        raise VidiffError("the model was trained with another CLIP", found=found.encoder, expected=settings.encoder)
    if found.model_copy(update={"weights": settings.weights}) != settings:
        raise VidiffError(
            "these are not the CLIP weights that the model was trained with",
            found=f"hash {found.sha256[:12]} in {name}",
            expected=f"{settings.sha256[:12]} as in {settings.weights}",
            fix=f"name the right file with --clip-model {settings.encoder}:FILE, or {otherwise}",
        )
    tower.settings = settings  # by its own name for the weights, wherever they lie today
    return tower


def _text_only(model: nn.Module) -> nn.Module:
    """The model without what only pictures need: most of its weights."""
    for part in ("visual", "text_decoder"):
        if hasattr(model, part):
            delattr(model, part)
    return model


def _hash_of(model: nn.Module) -> str:
    """sha256 of the text tower's weights by name, whatever file they came in."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name not in ("logit_scale", "logit_bias"):
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(value.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
