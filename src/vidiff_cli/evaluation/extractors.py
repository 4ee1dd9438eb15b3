"""Opens the networks that distances are measured on, by the names of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.errors import VidiffError
from vidiff_cli.metrics.extractors import Extractor, as_pixels, random_extractor, resize, small_extractor
from vidiff_cli.metrics.i3d import i3d
from vidiff_cli.models.feature_networks import DEVIATION, FEATURE_NETS, MEAN, feature_network
from vidiff_cli.models.pretrained import read_weights

SHAPES = ("builtin", "extractor.safetensors")  # in the package
DIMENSIONS = {"r3d_18": 512, "s3d": 1024}


def open_extractors(names: Sequence[str], device: torch.device, *, expect: Sequence[str] = ()) -> Iterator[Extractor]:
    """Opens extractors by NAME or NAME:FILE, one after the other; `expect` has the sha256 of files as NAME:HASH.

    VidiffError for a file that is missing, damaged, or differs from its expected hash.
    """
    expected = dict(text.split(":") for text in expect)
    for text in names:
        name, _, file = text.partition(":")
        extractor = _open(name, Path(file).expanduser(), device)
        if expected.get(name, extractor.sha256) != extractor.sha256:
            raise VidiffError(
                f"these are not the expected weights of {name}",
                found=f"sha256 {extractor.sha256}",
                expected=expected[name],
            )
        yield extractor


def _open(name: str, path: Path, device: torch.device) -> Extractor:
    if name == "random":
        return random_extractor(device)
    if name == "shapes":
        return shapes_extractor(device)
    if not path.is_file():
        raise VidiffError(f"weights of {name} not found at {path}", fix=f"name their file: {name}:FILE")
    if name == "i3d":
        return i3d(path, file_hash(path), device)
    return _torchvision_extractor(name, path, device)


def shapes_extractor(device: torch.device) -> Extractor:
    """Opens the small network that was trained to classify clips of the shapes world; it is part of the package."""
    with resources.as_file(resources.files("vidiff_cli").joinpath(*SHAPES)) as path:
        if not path.is_file():
            raise VidiffError("the shapes extractor is missing", fix="install vidiff anew")
        state = read_weights(path)
    return small_extractor("shapes", state, device, trained_on="clips of the shapes world, to name what they show")


def _torchvision_extractor(name: str, path: Path, device: torch.device) -> Extractor:
    """Opens torchvision's r3d_18 or s3d without its head: features are the mean of the last maps over t h w."""
    spec, state = FEATURE_NETS[name], read_weights(path)
    if spec.key not in state:
        raise VidiffError(f"{path} does not hold the weights of torchvision's {name}", found=f"no {spec.key}")
    head = {"r3d_18": "fc", "s3d": "classifier"}[name]
    network = feature_network(name, state, path, without=(head,))
    parts = {"r3d_18": ("stem", "layer1", "layer2", "layer3", "layer4"), "s3d": ("features",)}[name]
    body = nn.Sequential(*(network.get_submodule(part) for part in parts)).to(device)
    mean, deviation = (torch.tensor(values, device=device).view(1, 3, 1, 1, 1) for values in (MEAN, DEVIATION))

    @torch.no_grad()
    def features(frames: np.ndarray) -> np.ndarray:
        pixels = resize(as_pixels(frames, device) / 255, spec.side)
        return body((pixels - mean) / deviation).mean(dim=(2, 3, 4))[0].float().cpu().numpy()

    return Extractor(
        name=name,
        sha256=file_hash(path),
        dimension=DIMENSIONS[name],
        features=features,
        trained_on="Kinetics-400, if the file is torchvision's",
        side=spec.side,
        is_proxy=False,
    )
