"""The network of a public model: its configuration, and the network itself without or with its weights."""

from __future__ import annotations

from typing import Any

import torch

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.folder import PublicFolder, read_config
from vidiff_cli.models.public.loading import one_sentence, open_part
from vidiff_cli.models.public.packages import library_class


def network_config(folder: PublicFolder) -> dict[str, Any]:
    """The configuration of a folder's network."""
    config = read_config(folder.path / folder.family.part / "config.json")
    if folder.adapter is None or folder.classes.get(folder.family.part) == folder.family.network:
        return config
    return config | {"_class_name": folder.family.network}


def build_network(folder: PublicFolder) -> Any:
    """The network of a folder without its weights, on the device that torch has set. VidiffError where it cannot be
    built."""
    network: Any = library_class("diffusers", folder.family.network)
    path = folder.path / folder.family.part
    if folder.adapter is None:
        with one_sentence(path, folder.family.network):
            return network.from_config(network_config(folder))
    image: Any = library_class("diffusers", "UNet2DConditionModel")
    adapter: Any = library_class("diffusers", "MotionAdapter")
    image = image.from_config(read_config(path / "config.json"))
    adapter = adapter.from_config(read_config(folder.adapter / "config.json"))
    return _join(folder, image, adapter, load_weights=False)


def open_network(folder: PublicFolder, dtype: torch.dtype, device: torch.device) -> Any:
    """The frozen network of a folder with its weights. VidiffError: damaged, or its parts do not fit each other."""
    path, family = folder.path / folder.family.part, folder.family
    if folder.adapter is None:
        return open_part(path, "diffusers", family.network, dtype, device)
    image = open_part(path, "diffusers", "UNet2DConditionModel", dtype, torch.device("cpu"))
    adapter = open_part(folder.adapter, "diffusers", "MotionAdapter", dtype, torch.device("cpu"))
    network = _join(folder, image, adapter, load_weights=True)
    return network.to(dtype).requires_grad_(False).eval().to(device)


def _join(folder: PublicFolder, image: Any, adapter: Any, *, load_weights: bool) -> Any:
    """An image network with a motion adapter. VidiffError where they do not fit each other."""
    network: Any = library_class("diffusers", folder.family.network)
    try:
        return network.from_unet2d(image, adapter, load_weights=load_weights)
    except (ValueError, RuntimeError) as error:
        found = " ".join(str(error).split())[:120]
        raise VidiffError(f"{folder.name}: the motion adapter does not fit the model", found=found) from error
