"""Extractors by name: torchvision's networks, and the one of the shapes world that is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vidiff_cli.evaluation.extractors import open_extractors, shapes_extractor

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["r3d_18", "s3d"])
def test_features_of_torchvisions_networks_are_theirs(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from vidiff_cli.text.patch_torchvision import patch_torchvision_nms

    patch_torchvision_nms()
    from torchvision.models import video as networks

    torch.manual_seed(0)
    network = {"r3d_18": networks.r3d_18, "s3d": networks.s3d}[name](weights=None).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    if name == "s3d":
        network.avgpool = torch.nn.Identity()  # which needs 16 frames, and is no part of the features
    side, frames = {"r3d_18": (112, 2), "s3d": (224, 8)}[name]
    clip = np.random.default_rng(0).integers(0, 256, (frames, side, side, 3), np.uint8)
    (extractor,) = open_extractors([f"{name}:{tmp_path / 'w.safetensors'}"], CPU)
    mean, deviation = torch.tensor([0.43216, 0.394666, 0.37645]), torch.tensor([0.22803, 0.22145, 0.216989])
    pixels = ((torch.from_numpy(clip) / 255 - mean) / deviation).permute(3, 0, 1, 2)[None]
    seen: list[torch.Tensor] = []
    network.avgpool.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    with torch.no_grad():
        network(pixels)
    found = extractor(clip)
    assert found.shape == (extractor.dimension,)
    assert found == pytest.approx(seen[0].mean(dim=(2, 3, 4))[0].numpy(), rel=1e-3, abs=1e-4)
    assert "FVD" in extractor.frechet_name and extractor.frechet_name == f"Frechet distance ({name}, no FVD)"


def test_the_shapes_extractor_tells_what_moves_how() -> None:
    """Shipped weights: clips of one shape lie nearer to one another than to those of another, wherever they begin."""
    extractor = shapes_extractor(CPU)

    def square(color: Sequence[int], step: Sequence[int], start: Sequence[int]) -> np.ndarray:
        clip = np.zeros((8, 32, 32, 3), np.uint8)
        for number in range(8):
            y, x = start[0] + number * step[0], start[1] + number * step[1]
            clip[number, y : y + 8, x : x + 8] = color
        return extractor(clip)

    red, blue = (255, 50, 40), (60, 90, 255)
    right, elsewhere = square(red, (0, 2), (4, 2)), square(red, (0, 2), (19, 7))
    assert np.linalg.norm(right - elsewhere) < np.linalg.norm(right - square(blue, (0, 2), (4, 2)))
    assert np.linalg.norm(right - elsewhere) < np.linalg.norm(right - square(red, (2, 0), (2, 4)))
    assert extractor.is_proxy and len(extractor.sha256) == 64
