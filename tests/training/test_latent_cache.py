"""The latents of clips: as the autoencoder makes them, whatever else is cached, killed or damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import write_dataset
from torch import Tensor

from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.system import atomic_files
from vidiff_cli.training import latent_cache
from vidiff_cli.training.latent_cache import LatentCache

CPU, SHA = torch.device("cpu"), "ab" * 32


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Halves each side; four channels of very different sizes and means. With `temporal` 4, of groups of frames."""

    channels: int = 4
    spatial: int = 2
    temporal: int = 1
    is_identity: bool = False
    loud: float = 3e5

    def encode(self, frames: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool3d(frames, (1, 2, 2))
        small = torch.cat([small[:, :, :1], small[:, :, 1 :: self.temporal]], dim=2) if self.temporal > 1 else small
        scales = torch.tensor([1e-6, 1.0, 40.0]).view(1, 3, 1, 1, 1)
        return torch.cat([small * scales + 7.0, small[:, :1] * self.loud], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError


SIZES = [(5, 8, 8), (1, 8, 8), (7, 8, 12), (4, 4, 4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", ({"frames": t, "height": h, "width": w} for t, h, w in SIZES))


def cache_of(folder: Path, codec: Halves | None = None, sha: str = SHA) -> LatentCache:
    return LatentCache(open_dataset(folder), sha256=sha, codec=codec or Halves())


def fill(cache: LatentCache, numbers: range, codec: Halves | None = None) -> list[int]:
    return list(cache.fill(numbers, codec or Halves(), CPU))


def expected(folder: Path, number: int, frames: range, codec: Halves | None = None) -> np.ndarray:
    view = open_dataset(folder).window(number, frames)
    return (codec or Halves()).encode(clip_from_uint8(view.copy()))[0].permute(1, 2, 3, 0).numpy()


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal up to float16 of standardized values, channel by channel."""
    assert found.dtype == np.float32 and found.shape == wanted.shape
    off = np.abs(found - wanted).reshape(-1, wanted.shape[-1]).max(axis=0)
    assert (
        off <= 4e-3 * np.array([6e-7, 0.6, 24.0, 2e5]) + 1e-6  # 7 + 1e-6 has a float32's digits
    ).all(), off


def test_what_is_read_is_what_the_autoencoder_makes(folder: Path) -> None:
    cache = cache_of(folder)
    assert cache.missing(range(4)) == [0, 1, 2, 3]
    assert fill(cache, range(4)) == [1, 2, 3, 4]
    for again in (cache, cache_of(folder)):
        assert again.missing(range(4)) == [] and again.damaged == 0
        for number, (t, _, _) in enumerate(SIZES):
            for frames in (range(t), range(0, t, 2), range(t - 1, t)):
                assert_close(again.read(number, frames), expected(folder, number, frames))
    assert fill(cache, range(4)) == []
    with pytest.raises(KeyError):
        cache_of(folder, sha="cd" * 32).read(0, range(1))


def test_an_autoencoder_reads_gray_clips_as_rgb(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "gray", [{"frames": 5, "height": 8, "width": 8}], channels=1)
    cache = cache_of(folder)
    fill(cache, range(1))
    shown = open_dataset(folder).rgb(0)
    assert_close(cache.read(0, range(5)), Halves().encode(clip_from_uint8(shown))[0].permute(1, 2, 3, 0).numpy())


def test_a_clip_has_the_same_values_whatever_is_encoded_with_it(folder: Path, monkeypatch) -> None:
    """One shard per clip or one for all, in any order: bit for bit."""
    together = cache_of(folder)
    fill(together, range(4))
    wanted = [together.read(number, range(SIZES[number][0])) for number in range(4)]
    for path in together.folder.iterdir():
        path.unlink()
    monkeypatch.setattr(latent_cache, "SHARD_PIXELS", 1)
    alone = cache_of(folder)
    fill(alone, range(4)[::-1])
    assert len(list(alone.folder.glob("shard-*"))) == 4
    assert all((alone.read(number, range(SIZES[number][0])) == wanted[number]).all() for number in range(4))


def test_groups_are_those_of_the_first_frames(folder: Path) -> None:
    codec = Halves(temporal=4)
    cache = cache_of(folder, codec)
    fill(cache, range(4), codec)
    assert_close(cache.read(2, range(5)), expected(folder, 2, range(5), codec))
    assert cache.read(2, range(1)).shape == (1, 4, 6, 4)
    for frames in (range(1, 6), range(0, 5, 2), range(4)):
        with pytest.raises(ValueError):
            cache.read(2, frames)


def test_clips_of_other_pixels_are_others(folder: Path, tmp_path: Path) -> None:
    fill(cache_of(folder), range(4))
    other = write_dataset(tmp_path / "other", ({"frames": t, "height": h, "width": w} for t, h, w in SIZES[::-1]))
    (other / "latents").symlink_to(folder / "latents")
    assert cache_of(other).missing(range(4)) == [0, 1, 2, 3]


def test_damage_is_seen_and_encoded_again(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(latent_cache, "SHARD_PIXELS", 1)
    fill(cache_of(folder), range(4))
    flipped, cut, empty, whole = sorted((folder / "latents").rglob("shard-*"))
    data = bytearray(flipped.read_bytes())
    data[-3] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-10])
    empty.write_bytes(b"")
    cache = cache_of(folder)
    assert cache.damaged == 3 and len(cache.missing(range(4))) == 3
    before = whole.read_bytes()
    fill(cache, range(4))
    assert cache.damaged == 0 and cache_of(folder).missing(range(4)) == [] and whole.read_bytes() == before
    for number, (t, _, _) in enumerate(SIZES):
        assert_close(cache.read(number, range(t)), expected(folder, number, range(t)))


def test_an_end_in_the_middle_keeps_what_is_done(folder: Path) -> None:
    filling = cache_of(folder).fill(range(4), Halves(), CPU)
    assert [next(filling), next(filling)] == [1, 2]
    filling.close()
    cache = cache_of(folder)
    assert cache.missing(range(4)) == [2, 3] and fill(cache, range(4)) == [1, 2]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from vidiff_cli.training import latent_cache
from test_latent_cache import CPU, Halves, cache_of
latent_cache.SHARD_PIXELS = 100
written = latent_cache.write_tensors
def kill(path, *more):
    if len(list(path.parent.glob("shard-*"))) == 1:
        path.with_name("." + path.name + ".tmp-1").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    written(path, *more)
latent_cache.write_tensors = kill
list(cache_of(Path(sys.argv[1])).fill(range(4), Halves(), CPU))
"""


def test_a_killed_encoding_goes_on_after_its_last_file(folder: Path) -> None:
    tests = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(folder), str(tests), str(tests.parent / "support")]
    assert subprocess.run(command, env=os.environ, timeout=120).returncode == -signal.SIGKILL
    cache = cache_of(folder)
    assert cache.damaged == 0 and cache.missing(range(4)) == [1, 2, 3]  # 320 pixels in the first file
    fill(cache, range(4))
    for number, (t, _, _) in enumerate(SIZES):
        assert_close(cache_of(folder).read(number, range(t)), expected(folder, number, range(t)))


def test_a_full_disk_is_one_sentence_and_what_is_whole_stays(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(latent_cache, "SHARD_PIXELS", 100)
    real, count = os.replace, [0]

    def full(source: Path, target: Path) -> None:
        count[0] += 1
        if count[0] > 1:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(atomic_files.os, "replace", full)
    with pytest.raises(VidiffError, match=r"latents/.*could not be written: .*no space left.*make room"):
        fill(cache_of(folder), range(4))
    monkeypatch.undo()
    cache = cache_of(folder)
    assert cache.damaged == 0 and cache.missing(range(4)) == [1, 2, 3]
    assert not list(cache.folder.glob(".*"))


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    with pytest.raises(VidiffError, match=r"not finite: found the clip of 0\.mp4 at 0 s"):
        fill(cache_of(folder), range(4), Halves(loud=float("inf")))
    assert not list((folder / "latents").rglob("shard-*"))


def test_a_size_that_the_autoencoder_cannot_halve_is_refused(tmp_path: Path) -> None:
    odd = write_dataset(tmp_path / "odd", [{"frames": 2, "height": 8, "width": 9}])
    with pytest.raises(VidiffError, match=r"9x8.*multiples of 2"):
        fill(cache_of(odd), range(1))
