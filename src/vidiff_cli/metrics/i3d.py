"""The I3D network of FVD, as a TorchScript file named by its path."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from vidiff_cli.errors import VidiffError
from vidiff_cli.metrics.extractors import Extractor, as_pixels

LOGITS = 400  # of Kinetics-400
MIN_FRAMES = 10  # with fewer, pooling over time leaves no output


def i3d(path: Path, sha256: str, device: torch.device) -> Extractor:
    """Opens the `i3d_torchscript.pt` of StyleGAN-V's FVD; the features are its 400 logits.

    It resizes to 224x224 and scales the pixels itself. A TorchScript file holds a program, which runs here: it is
    opened only where a person has named it. VidiffError for a file that is not TorchScript, or has other features.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have another kind of file
            network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, OSError, ValueError) as error:
        found = " ".join(str(error).split()).partition(". ")[0][:120]
        expected = "an I3D saved as TorchScript (i3d_torchscript.pt)"
        raise VidiffError(f"{path} cannot be opened", found=found, expected=expected) from error

    @torch.no_grad()
    def features(frames: np.ndarray) -> np.ndarray:
        try:
            found = network(as_pixels(frames, device), rescale=True, resize=True, return_features=True)
        except Exception as error:  # whatever a foreign program provokes
            expected = "network(video, rescale=True, resize=True, return_features=True)"
            raise VidiffError(f"{path} does not run as an I3D", expected=expected) from error
        if not isinstance(found, torch.Tensor) or found.shape != (1, LOGITS):
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise VidiffError(f"{path} is not the I3D of FVD", found=shape, expected=f"{LOGITS} logits")
        return found[0].float().cpu().numpy()

    return Extractor(
        name="i3d",
        sha256=sha256,
        dimension=LOGITS,
        features=features,
        trained_on="Kinetics-400, as its file says",
        side=224,
        least_frames=MIN_FRAMES,
        is_fvd=True,
        is_proxy=False,
    )
