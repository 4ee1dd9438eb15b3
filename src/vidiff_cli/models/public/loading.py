"""Open the parts of a folder: from files on this machine alone, never from a pickle, never by code of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.folder import weight_variant
from vidiff_cli.models.public.packages import EXTRA, library_class
from vidiff_cli.system.shortage import raise_shortage

LONGEST_REASON = 160  # characters of a library's own words


def open_part(path: Path, library: str, name: str, dtype: torch.dtype, device: torch.device) -> Any:
    """A frozen part of a model with its weights. VidiffError: damaged, or not all of its weights are there."""
    keyword = "dtype" if library == "transformers" else "torch_dtype"
    opened: Any = library_class(library, name)
    with one_sentence(path, name):
        part, loaded = opened.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            variant=weight_variant(path),
            output_loading_info=True,
            **{keyword: dtype},
        )
    if absent := sorted(loaded["missing_keys"]):  # the libraries would go on with random numbers
        found = f"no {absent[0]}" + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
        raise VidiffError(f"{path} lacks weights of its {name}", found=found, fix="fetch it again")
    return part.requires_grad_(False).eval().to(device)


def open_tokenizer(path: Path, name: str) -> Any:
    """A tokenizer. VidiffError where it is damaged."""
    opened: Any = library_class("transformers", name)
    more = {"trust_remote_code": False} if name == "AutoTokenizer" else {}
    with one_sentence(path, name):
        return opened.from_pretrained(path, local_files_only=True, **more)


@contextmanager
def one_sentence(path: Path, name: str) -> Iterator[None]:
    """A library's error as a VidiffError. A shortage of the system is not called damage."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, VidiffError):
        raise
    except ImportError as error:
        found = _reason(error)
        raise VidiffError(f"{path} needs a package that is not installed", found=found, fix=EXTRA) from error
    except Exception as error:
        raise_shortage(path, error)
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise
        found = _reason(error)
        raise VidiffError(f"{path} cannot be opened as {name}", found=found, fix="fetch it again") from error


def _reason(error: Exception) -> str:
    """The first sentence of a library's words."""
    words = re.split(r"[.!?] (?=[A-Z])", " ".join(str(error).split()))[0]
    return words[:LONGEST_REASON].rstrip(" .") or type(error).__name__
