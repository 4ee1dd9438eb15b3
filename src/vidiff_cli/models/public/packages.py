"""Import the optional packages, or say how to install them."""

from __future__ import annotations

import importlib
import logging
import warnings
from types import ModuleType

import torch

from vidiff_cli.errors import VidiffError
from vidiff_cli.text.patch_torchvision import patch_torchvision_nms

EXTRA = "pip install 'vidiff-cli[public]'"


def import_package(name: str) -> ModuleType:
    """A package of the extra [public]. VidiffError where it is not installed."""
    patch_torchvision_nms()
    with torch.device("meta"):  # torch lists its constructors once: before transformers exchanges one for a while
        torch.empty(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise VidiffError(
            "public models need more packages", found=f"{error.name} is not installed", fix=EXTRA
        ) from error
    for logger in ("diffusers", "transformers"):  # their remarks are for programmers
        logging.getLogger(logger).setLevel(logging.ERROR)
    if name in ("diffusers", "transformers"):
        module.utils.logging.disable_progress_bar()
    return module


def library_class(library: str, name: str) -> type:
    """A class of diffusers or transformers. VidiffError where this version of the library does not have it."""
    module = import_package(library)
    try:
        return getattr(module, name)
    except (AttributeError, ImportError, RuntimeError) as error:
        version = getattr(module, "__version__", "of unknown version")
        raise VidiffError(f"{library} {version} does not have {name}", fix=f"{EXTRA} --upgrade") from error
