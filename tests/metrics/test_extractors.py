"""Extractors: the same weights everywhere, any size and length, and names that do not say FVD of anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidiff_cli.errors import VidiffError
from vidiff_cli.metrics.extractors import SmallNetwork, hash_state, random_extractor, small_extractor
from vidiff_cli.metrics.features import Features
from vidiff_cli.metrics.i3d import i3d

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of making files for the tests
RANDOM_HASH = "6ddf7b896c9104c490c82d0424a3d0c3586951d1f8950412630751c0b5efd101"


class FakeI3D(nn.Module):
    """Answers as the usual TorchScript file does: 400 numbers, of pixels in 0..255."""

    def __init__(self, logits: int = 400) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, video: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale and resize and return_features
        return video.mean(dim=[1, 2, 3, 4])[:, None] * torch.ones(1, self.logits)


def saved(folder: Path, logits: int = 400) -> Path:
    path = folder / "i3d.pt"
    torch.jit.script(FakeI3D(logits)).save(str(path))
    return path


def video(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_the_random_extractor_is_the_same_on_every_machine_and_not_called_fvd() -> None:
    """Its hash is written down here: a change of it makes all earlier numbers incomparable."""
    extractor = random_extractor(CPU)
    assert extractor.sha256 == RANDOM_HASH
    assert extractor.frechet_name == "Frechet distance (random extractor, proxy)"
    assert extractor.is_proxy and not extractor.is_fvd and "FVD" not in extractor.kernel_name


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 17, 31), (16, 64, 48)])
def test_it_takes_any_size_and_length_and_sees_the_order_of_frames(shape: tuple[int, int, int]) -> None:
    extractor, clip = random_extractor(CPU), video(*shape)
    found = extractor(clip)
    assert found.shape == (extractor.dimension,) == (128,) and found.dtype == np.float32 and np.isfinite(found).all()
    assert np.array_equal(found, extractor(clip))
    assert len(clip) == 1 or np.abs(found - extractor(clip[::-1])).max() > 0.01


def test_only_the_i3d_is_called_fvd(tmp_path: Path) -> None:
    extractor = i3d(saved(tmp_path), "ab", CPU)
    assert (extractor.frechet_name, extractor.kernel_name, extractor.sha256) == ("FVD", "KVD", "ab")
    clip = video(12, 8, 8)
    assert extractor(clip) == pytest.approx(np.full(400, clip.mean()), rel=1e-5)
    with pytest.raises(VidiffError, match="needs more frames: found 9, expected 10"):
        extractor(clip[:9])


def test_another_file_is_no_i3d(tmp_path: Path) -> None:
    with pytest.raises(VidiffError, match="not the I3D of FVD: found \\(1, 512\\), expected 400 logits"):
        i3d(saved(tmp_path, 512), "", CPU)(video(12, 8, 8))
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(VidiffError, match="cannot be opened"):
        i3d(tmp_path / "text.pt", "", CPU)
    path = tmp_path / "linear.pt"
    torch.jit.script(nn.Linear(3, 3)).save(str(path))
    with pytest.raises(VidiffError, match="does not run as an I3D"):
        i3d(path, "", CPU)(video(12, 8, 8))


def test_a_hash_is_of_the_numbers_not_of_their_storage() -> None:
    state = {name: value.half() for name, value in SmallNetwork().state_dict().items()}
    again = {name: value.float() for name, value in reversed(state.items())}
    assert hash_state(state) == hash_state(again)
    again["layers.0.bias"] = again["layers.0.bias"] + 1
    assert hash_state(state) != hash_state(again)
    with pytest.raises(VidiffError, match="not the weights of the small extractor"):
        small_extractor("small", {"layers.0.bias": torch.zeros(3)}, CPU, trained_on="")


def test_features_come_back_in_order_whatever_their_number() -> None:
    rows = np.random.default_rng(0).normal(size=(700, 2000)).astype(np.float32)  # two blocks of 8 MB
    kept = Features()
    for row in rows:
        kept.append(row)
    blocks = list(kept.blocks())
    assert len(kept) == 700 and len(blocks) == 2 and blocks[0].dtype == np.float64
    assert np.array_equal(np.concatenate(blocks), rows)
    wanted = np.arange(700) % 3 == 0
    assert np.array_equal(np.concatenate(list(kept.subset(wanted)())), rows[wanted])
    with pytest.raises(ValueError, match="expected 2000"):
        kept.append(rows[0, :5])
    with pytest.raises(ValueError, match="not finite"):
        kept.append(np.full(2000, np.nan))
    kept.close()
