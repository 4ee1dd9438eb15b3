"""Clips of a dataset as an autoencoder encodes them, made once and read by every training in its latent space.

    DATASET/latents/1f2e3d4c5b6a/shard-*.safetensors    the hash of the autoencoder

A shard holds one float16 tensor (m h w c) per clip. Its values are standardized: each channel of a clip has mean 0 and
variance 1, and the header has the means and deviations that were taken out, besides the sha256 of the bytes. So the
values of a clip are always the same, whatever else is in its shard. A clip is found by what it shows: its name, its
shape, and bytes of three of its frames. A shard's name follows from its clips, so that two writers at a time do no
harm; run, batch and number of processes have no part in it.

Shapes: b clips, t frames, m values along time, c channels, h w values of a side, H W pixels of a side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.shards import Shard, ShardMaps, map_bytes, write_tensors
from vidiff_cli.errors import VidiffError
from vidiff_cli.luma import to_rgb
from vidiff_cli.models.codec import Codec, floor_length, z_length
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.system.shortage import raise_shortage

SHARD_PIXELS = 2**23  # of the frames of a shard: what a kill can cost, a minute or two on a CPU
AT_ONCE = 4  # frames that a codec without groups encodes together
SAMPLE_BYTES = 4096  # of each of three frames, to know a clip by


class CodecShape(Protocol):
    """The part of a `Codec` that is known without its weights."""

    @property
    def channels(self) -> int: ...
    @property
    def spatial(self) -> int: ...
    @property
    def temporal(self) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A shard that was found whole: where its bytes lie, and means and deviations (2 c) that each clip is without."""

    path: Path
    shard: Shard
    statistics: Mapping[str, np.ndarray]


class LatentCache:
    """The values of the clips of a dataset by one autoencoder, whose weights have the hash `sha256`.

    `damaged` counts files that were dropped because they cannot be read or are not what they were written as; their
    clips are missing.
    """

    def __init__(self, dataset: Dataset, *, sha256: str, codec: CodecShape) -> None:
        self.folder = dataset.folder / "latents" / sha256[:12]
        self._dataset, self._sha256, self._codec = dataset, sha256, codec
        self._parts: list[_Part] = []
        self._places: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._maps = ShardMaps()
        self._damaged: list[Path] = []
        for path in sorted(self.folder.glob("shard-*.safetensors")):
            self._open(path)

    @property
    def damaged(self) -> int:
        return len(self._damaged)

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """The clips that are not encoded yet, by their numbers in the dataset, each once."""
        return [number for number in dict.fromkeys(numbers) if self._key(number) not in self._places]

    def fill(self, numbers: Iterable[int], codec: Codec, device: torch.device) -> Generator[int, None, None]:
        """Encode the clips that are missing and yield how many are done; what is done stays, however this ends but by a
        kill, and then all but the last shard.

        Args:
            numbers: Clips by their numbers in the dataset.
            codec: The autoencoder, on `device`.
            device: Device that encodes.

        Yields:
            The number of clips encoded by this call.

        Raises:
            VidiffError: The folder cannot be written, or the autoencoder makes values that are not finite.
        """
        for path in self._damaged:
            with contextlib.suppress(OSError):
                path.unlink()
        self._damaged.clear()
        pending: dict[str, np.ndarray] = {}
        pixels = 0
        try:
            for done, number in enumerate(self.missing(numbers), start=1):
                frames = to_rgb(self._dataset.view(number))
                pending[self._key(number)] = self._encode(number, frames, codec, device)
                pixels += frames.size // 3
                if pixels >= SHARD_PIXELS:
                    self._keep(pending)
                    pending, pixels = {}, 0
                yield done
        finally:
            if pending:
                self._keep(pending)

    def read(self, number: int, frames: range) -> np.ndarray:
        """Values (m h w c) float32 of frames of a clip, as the codec's `encode` gives them up to float16.

        A codec without groups takes any frames; of one with groups they are the first 1 + temporal k of the clip.
        KeyError for a clip that is missing, ValueError for other frames of groups.
        """
        key = self._key(number)
        part = self._places[key]
        values = self._values(part, key)
        if self._codec.temporal > 1:
            if frames != range(len(frames)):
                raise ValueError(f"frames {frames} are not the first ones of a clip")
            chosen = values[: z_length(self._codec, len(frames))]  # type: ignore[arg-type]
        else:
            chosen = values[frames.start : frames.stop : frames.step]
        mean, deviation = self._parts[part].statistics[key]
        return chosen.astype(np.float32) * deviation + mean

    def _encode(self, number: int, frames: np.ndarray, codec: Codec, device: torch.device) -> np.ndarray:
        """Values (m h w c) of a clip. It is encoded alone: in a batch its last bits would depend on its neighbors."""
        side, (height, width) = codec.spatial, frames.shape[1:3]
        if height % side or width % side:
            raise VidiffError(
                f"{self._name(number)} cannot be encoded",
                found=f"{width}x{height}",
                expected=f"multiples of {side} pixels",
                fix="prepare the dataset at another --size",
            )
        video = clip_from_uint8(frames[: floor_length(codec, len(frames))].copy())
        parts = video.split(AT_ONCE, dim=2) if codec.temporal == 1 else [video]
        z = torch.cat([_encode_part(codec, part.to(device)) for part in parts], dim=2)
        if not bool(torch.isfinite(z).all()):
            raise VidiffError("the autoencoder makes values that are not finite", found=self._name(number))
        return z[0].permute(1, 2, 3, 0).contiguous().numpy()

    def _keep(self, made: Mapping[str, np.ndarray]) -> None:
        """Write the values of some clips as a shard, and read them from there."""
        tensors: dict[str, np.ndarray] = {}
        statistics: dict[str, list[list[float]]] = {}
        whole = hashlib.sha256()
        for key in sorted(made):
            values = made[key].astype(np.float64)
            mean, deviation = values.mean(axis=(0, 1, 2)), values.std(axis=(0, 1, 2))
            deviation[deviation == 0] = 1.0
            tensors[key] = ((values - mean) / deviation).astype("<f2")
            statistics[key] = [mean.tolist(), deviation.tolist()]
            whole.update(tensors[key].data)
        header = {"autoencoder": self._sha256, "sha256": whole.hexdigest(), "statistics": statistics}
        name = hashlib.sha256("".join(sorted(made)).encode()).hexdigest()[:16]
        path = self.folder / f"shard-{name}.safetensors"
        write_tensors(path, tensors, {"latents": json.dumps(header)})
        if not self._open(path):
            raise VidiffError(f"{path} is not what was written", fix="check the disk")

    def _open(self, path: Path) -> bool:
        """Take over a shard that is whole and of this very autoencoder; drop any other: its clips are missing then."""
        try:
            shard = Shard(path, "F16")
            header = json.loads(shard.metadata["latents"])
            statistics = {key: np.array(header["statistics"][key], dtype=np.float32) for key in shard.names}
            if any(each.shape != (2, self._codec.channels) for each in statistics.values()):
                raise ValueError("other channels")
            data = map_bytes(path, shard.data_start, shard.size)
            if header["autoencoder"] != self._sha256 or header["sha256"] != hashlib.sha256(data.data).hexdigest():
                raise ValueError("another autoencoder, or another content than was written")
        except (VidiffError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise_shortage(path, error)
            self._damaged.append(path)
            return False
        self._parts.append(_Part(path=path, shard=shard, statistics=statistics))
        self._places |= dict.fromkeys(statistics, len(self._parts) - 1)
        return True

    def _values(self, number: int, key: str) -> np.ndarray:
        """The standardized values (m h w c) of a clip, float16."""
        part = self._parts[number]
        data = self._maps.get(number, lambda: map_bytes(part.path, part.shard.data_start, part.shard.size))
        return part.shard.tensor(key, data)

    def _key(self, number: int) -> str:
        """The hash by which a clip is known: of a page of three frames, as a dataset may be larger than memory."""
        if number not in self._keys:
            clip, frames = self._dataset.clips[number], self._dataset.view(number)
            facts = [clip.id, clip.source, clip.start_seconds, clip.fps, *frames.shape]
            digest = hashlib.sha256(json.dumps(facts).encode())
            for place in dict.fromkeys((0, len(frames) // 2, len(frames) - 1)):
                frame = frames[place].reshape(-1)
                middle = max(0, frame.size // 2 - SAMPLE_BYTES // 2)
                digest.update(frame[middle : middle + SAMPLE_BYTES].data)
            self._keys[number] = digest.hexdigest()[:32]
        return self._keys[number]

    def _name(self, number: int) -> str:
        clip = self._dataset.clips[number]
        return f"the clip of {clip.source} at {clip.start_seconds:g} s"


def _encode_part(codec: Codec, frames: Tensor) -> Tensor:
    with torch.no_grad():
        return codec.encode(frames).float().cpu()
