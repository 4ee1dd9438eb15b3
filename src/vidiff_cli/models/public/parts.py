"""The network of a public model: its configuration, and the network itself without or with its weights."""

from __future__ import annotations

from typing import Any

import torch

from vidiff_cli.models.public.folder import PublicFolder, read_config
from vidiff_cli.models.public.packages import library_class
from vidiff_cli.models.public.prompts import open_part


def network_config(folder: PublicFolder) -> dict[str, Any]:
    """The configuration of a folder's network."""
    config = read_config(folder.path / folder.family.part / "config.json")
    if folder.adapter is None or folder.classes.get(folder.family.part) == folder.family.network:
        return config
    return config | {"_class_name": folder.family.network}


def build_network(folder: PublicFolder) -> Any:
    """The network of a folder with random weights, in the number format and on the device that torch has set."""
    network: Any = library_class("diffusers", folder.family.network)
    return network.from_config(network_config(folder))


def open_network(folder: PublicFolder, dtype: torch.dtype, device: torch.device) -> Any:
    """The frozen network of a folder with its weights."""
    path, family = folder.path / folder.family.part, folder.family
    if folder.adapter is None:
        return open_part(path, "diffusers", family.network, dtype, device)
    image = open_part(path, "diffusers", "UNet2DConditionModel", dtype, torch.device("cpu"))
    adapter = open_part(folder.adapter, "diffusers", "MotionAdapter", dtype, torch.device("cpu"))
    motion: Any = library_class("diffusers", family.network)
    return motion.from_unet2d(image, adapter).to(dtype).requires_grad_(False).eval().to(device)
