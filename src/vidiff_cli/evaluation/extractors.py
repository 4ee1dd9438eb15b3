"""Opens the networks that distances are measured on, by the names of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.metrics.extractors import Extractor, as_pixels, random_extractor, resized, small_extractor
from vidiff_cli.metrics.i3d import i3d
from vidiff_cli.models.feature_networks import DEVIATION, FEATURE_NETS, MEAN, feature_network
from vidiff_cli.models.pretrained import read_weights

SHAPES = ("builtin", "extractor.safetensors")  # in the package
DIMENSIONS = {"r3d_18": 512, "s3d": 1024}


def open_extractors(settings: EvaluateSettings, device: torch.device) -> Iterator[Extractor]:
    """The extractors of the settings, one after the other. VidiffError for files that are not what they are to be."""
    expected = dict(text.split(":") for text in settings.expect)
    for text in settings.extractors:
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
        raise VidiffError(f"there are no weights of {name} at {path}", fix=f"name their file: {name}:FILE")
    if name == "i3d":
        return i3d(path, file_hash(path), device)
    return _of_torchvision(name, path, device)


def shapes_extractor(device: torch.device) -> Extractor:
    """The small network that was trained to name what the clips of the shapes world show; it comes with vidiff."""
    with resources.as_file(resources.files("vidiff_cli").joinpath(*SHAPES)) as path:
        if not path.is_file():
            raise VidiffError("the shapes extractor is missing", fix="install vidiff anew")
        state = read_weights(path)
    return small_extractor("shapes", state, device, trained_on="clips of the shapes world, to name what they show")


def _of_torchvision(name: str, path: Path, device: torch.device) -> Extractor:
    """torchvision's r3d_18 or s3d without its last layer: the means of its last features over all places."""
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
        pixels = resized(as_pixels(frames, device) / 255, spec.side)
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
