"""Names of CLIP text encoders and the local files of their weights. Does not import torch at module level.

An encoder is named as open_clip names it: `ViT-B-32:laion2b_s34b_b79k` (a tag, whose weights open_clip fetches), or
`ViT-B-32:/path/weights.safetensors` (a file).
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidiff_cli.errors import UsageError, VidiffError

DEFAULT_CLIP = "ViT-B-32:laion2b_s34b_b79k"
DEFAULT_REPOSITORY = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # as open_clip's table has it, without importing open_clip
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # of a repository, the better one first
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".npz")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipName:
    """An encoder as a person names it: `model` is open_clip's name, `weights` a tag or a file; either may be left
    out."""

    model: str | None
    weights: str | None

    @property
    def file(self) -> Path | None:
        """The weights as a file, where they are named by one."""
        return Path(self.weights).expanduser() if self.weights is not None and _looks_like_file(self.weights) else None

    def __str__(self) -> str:
        return ":".join(part for part in (self.model, self.weights) if part)


def read_name(asked: str) -> ClipName:
    """ "NAME:TAG", "NAME:FILE", "NAME" or "FILE". UsageError for anything else."""
    if _looks_like_file(asked.partition(":")[0]):
        return ClipName(model=None, weights=asked)
    model, colon, weights = asked.partition(":")
    if not model or (colon and not weights):
        raise UsageError("--clip-model", found=repr(asked), expected="NAME:TAG or NAME:FILE, such as " + DEFAULT_CLIP)
    return ClipName(model=model.replace("/", "-"), weights=weights or None)  # ViT-B/32 is the same name


def complete_name(name: ClipName) -> ClipName:
    """The name with what was left out: the default model, and its tag. UsageError where a tag cannot be guessed."""
    default, tag = DEFAULT_CLIP.split(":")
    model = name.model or default
    if name.weights is not None:
        return ClipName(model=model, weights=name.weights)
    if model != default:
        raise UsageError(f"--clip-model {model} does not say which weights", expected=_tags(model))
    return ClipName(model=model, weights=tag)


def weights_at_hand(model: str | None = None) -> Path | None:
    """The local file with the weights of an encoder (None: the default one), or None. Never uses the network, and
    imports open_clip only for a tag other than the default one."""
    try:
        return find_weights(complete_name(read_name(model or DEFAULT_CLIP)))
    except VidiffError:
        return None


def find_weights(name: ClipName) -> Path | None:
    """The file of a complete name: the one it names, or that of its tag in the caches of earlier downloads."""
    if name.file is not None:
        return name.file if name.file.is_file() else None
    if str(name) == DEFAULT_CLIP:
        return _in_hub_cache(DEFAULT_REPOSITORY, WEIGHT_FILES)
    source = _source(name)
    repository, _, file = source.get("hf_hub", "").rpartition("/")
    if repository:
        safe = file[:-4] + ".safetensors" if file.endswith((".bin", ".pth")) else file
        return _in_hub_cache(repository, (safe, file) if file else WEIGHT_FILES)
    downloaded = Path("~/.cache/clip").expanduser() / Path(source.get("url", "")).name
    return downloaded if source.get("url") and downloaded.is_file() else None


def fetch_weights(name: ClipName, *, otherwise: str) -> Path:
    """The file of a complete name, downloaded by open_clip if it has to be.

    VidiffError where that fails, with both ways out: the file by hand, or `otherwise`.
    """
    found = find_weights(name)
    if found is not None:
        return found
    fix = f"give them as a file with --clip-model {name.model}:FILE, or {otherwise}"
    if name.file is not None:
        raise VidiffError(f"CLIP weights {name.file} do not exist", fix=fix)
    source = _source(name)
    if not source:
        raise VidiffError(f"open_clip knows no weights {name}", expected=_tags(str(name.model)), fix=fix)
    try:
        with quiet():
            from open_clip.pretrained import download_pretrained

            _reach_hub(source)
            return Path(download_pretrained(source))
    except Exception as error:  # no network, a full disk, a proxy's page: every library's own error
        raise VidiffError(
            f"the CLIP weights {name} are not on this machine and cannot be downloaded", fix=fix
        ) from error


def settle_name(name: ClipName) -> ClipName:
    """The complete name of an encoder that open_clip can build.

    Weights that were trained with the "quick" GELU get the model that computes it: open_clip only warns. VidiffError
    for an unknown model, or one whose text tower is of another library.
    """
    import_open_clip()
    import open_clip

    model, known = name.model or DEFAULT_CLIP.split(":")[0], open_clip.list_models()
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3) or [DEFAULT_CLIP.split(":")[0]]
        raise VidiffError(f"open_clip has no model {model!r}", fix=f"did you mean {' or '.join(near)}")
    config = open_clip.get_model_config(model) or {}
    if "hf_model_name" in config.get("text_cfg", {}):
        fix = f"use another model, such as {DEFAULT_CLIP}"
        raise VidiffError(f"the text tower of {model} is not one of open_clip's own", fix=fix)
    name = complete_name(name)
    quick = name.file is None and _source(name).get("quick_gelu") and not config.get("quick_gelu")
    return ClipName(model=f"{model}-quickgelu" if quick else model, weights=name.weights)


def is_tag(model: str, weights: str) -> bool:
    """True where open_clip has weights of that name for a model, downloaded or not."""
    return bool(_source(ClipName(model=model, weights=weights)))


def import_open_clip() -> None:
    """Imports open_clip, also beside a torchvision that was built for another torch."""
    from vidiff_cli.text.patch_torchvision import patch_torchvision_nms

    patch_torchvision_nms()
    with quiet():
        import open_clip  # noqa: F401


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what libraries log, warn and draw off stderr; errors still come as exceptions."""
    handlers, disabled = logging.root.handlers[:], logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers  # logging.info() of a library adds one of its own


def _looks_like_file(text: str) -> bool:
    return text.startswith(("/", ".", "~")) or text.lower().endswith(SUFFIXES)


def _source(name: ClipName) -> dict[str, Any]:
    """open_clip's download entry for the weights of a tag; empty for an unknown one."""
    import_open_clip()
    from open_clip.pretrained import get_pretrained_cfg

    return dict(get_pretrained_cfg(str(name.model), str(name.weights)))


def _tags(model: str) -> str:
    import_open_clip()
    import open_clip

    tags = [f"{model}:{tag}" for tag in open_clip.list_pretrained_tags_by_model(model)]
    return ", ".join([*tags[:5], *(["and so on"] if tags[5:] else []), f"or {model}:FILE" if tags else f"{model}:FILE"])


def _reach_hub(source: Mapping[str, str]) -> None:
    """Fails at once where the hub cannot be reached: its own download tries for most of a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import HfHubHTTPError

    repository, _, file = source.get("hf_hub", "").rpartition("/")
    if repository:
        with contextlib.suppress(HfHubHTTPError):  # it answers: what is wrong will show
            get_hf_file_metadata(hf_hub_url(repository, file or WEIGHT_FILES[0]), timeout=10)


def _in_hub_cache(repository: str, names: tuple[str, ...]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name) for name in names)
    return next((Path(path) for path in found if isinstance(path, str)), None)
