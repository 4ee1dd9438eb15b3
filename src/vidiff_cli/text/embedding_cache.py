"""Embeddings of captions that were made before: files that know for which encoder and which captions.

    FOLDER/ViT-B-32-1f2e3d4c5b6a/shard-*.safetensors    the encoder's name and the hash of its weights

A shard holds `captions` (n, 32: the sha256 of each), `stops` (n: where each one's tokens end), `tokens` (sum of l, d)
and `pooled` (n, d). Its name follows from its captions, so that two writers at a time do no harm; run, batch and number
of processes have no part in it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vidiff_cli.checkpoint import read_header, read_tensors, write_tensors
from vidiff_cli.config.model import ClipSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.system.shortage import raise_shortage
from vidiff_cli.text.encoder import CaptionEmbedding

SHARD_CAPTIONS = 512  # what a kill can cost: under a minute on a CPU


class EmbeddingCache:
    """The embeddings of one encoder below a folder. `cache(caption)` is one of them; KeyError if it is not there.

    `damaged` counts files that were dropped because they cannot be read or are not what they were written as;
    `unwritable` says why new embeddings are kept in memory alone, or is None.
    """

    def __init__(self, folder: Path, settings: ClipSettings) -> None:
        self.folder = folder / f"{settings.encoder}-{settings.sha256[:12]}"
        self._damaged: list[Path] = []
        self.unwritable: str | None = None
        # Width and context follow from name and hash; the name of the weights' file has no part in what they make.
        self._encoder = settings.model_dump(mode="json", exclude={"weights"})
        self._widths = settings.width, settings.pooled
        self._places: dict[bytes, tuple[Mapping[str, Tensor], int]] = {}
        for path in sorted(self.folder.glob("shard-*.safetensors")):
            self._open(path)

    @property
    def damaged(self) -> int:
        return len(self._damaged)

    def __call__(self, caption: str) -> CaptionEmbedding:
        shard, row = self._places[_key(caption)]
        stops = shard["stops"]
        tokens = shard["tokens"][int(stops[row - 1]) if row else 0 : int(stops[row])]
        return CaptionEmbedding(tokens=tokens, pooled=shard["pooled"][row])

    def missing(self, captions: Iterable[str]) -> list[str]:
        """The captions that have no embedding yet, each once, in their order."""
        return [caption for caption in dict.fromkeys(captions) if _key(caption) not in self._places]

    def fill(self, captions: Iterable[str], encode: Callable[[str], CaptionEmbedding]) -> Generator[int, None, None]:
        """Encodes what is missing and yields how many are done. What is done stays, however this ends but by a kill,
        and then all but the last shard."""
        pending: dict[bytes, CaptionEmbedding] = {}
        try:
            for done, caption in enumerate(self.missing(captions), start=1):
                pending[_key(caption)] = encode(caption)
                if len(pending) == SHARD_CAPTIONS:
                    self._keep(pending)
                    pending = {}
                yield done
        finally:
            if pending:
                self._keep(pending)

    def _keep(self, made: Mapping[bytes, CaptionEmbedding]) -> None:
        keys = sorted(made)
        shard = {
            "captions": torch.tensor([list(key) for key in keys], dtype=torch.uint8),
            "stops": torch.tensor([len(made[key].tokens) for key in keys]).cumsum(0),
            "tokens": torch.cat([made[key].tokens for key in keys]),
            "pooled": torch.stack([made[key].pooled for key in keys]),
        }
        if self.unwritable is None:
            path = self.folder / f"shard-{hashlib.sha256(b''.join(keys)).hexdigest()[:16]}.safetensors"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_tensors(path, shard, {"encoder": self._encoder, "sum": _sum(shard)})
                self._remove_damaged(path)
                shard = read_tensors(path)  # from here on by memory map
            except (OSError, VidiffError) as error:
                self.unwritable = getattr(error, "strerror", None) or str(error)
        self._add(shard)

    def _remove_damaged(self, but: Path) -> None:
        """Their captions are being made again, not always into files of the same names."""
        for path in self._damaged:
            if path != but:
                path.unlink(missing_ok=True)
        self._damaged.clear()

    def _open(self, path: Path) -> None:
        """Takes over a shard that is whole and of this very encoder; drops any other, whose captions are then
        missing."""
        try:
            header, shard = read_header(path), read_tensors(path)
            self._check(header, shard)
            self._add(shard)
        except (VidiffError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise_shortage(path, error)
            self._damaged.append(path)

    def _check(self, header: Mapping[str, object], shard: Mapping[str, Tensor]) -> None:
        count, total = len(shard["captions"]), int(shard["stops"][-1])
        width, pooled = self._widths
        shapes = {"captions": (count, 32), "stops": (count,), "tokens": (total, width), "pooled": (count, pooled)}
        if {name: tuple(value.shape) for name, value in shard.items()} != shapes:
            raise ValueError("other shapes")
        if header.get("encoder") != self._encoder or header.get("sum") != _sum(shard):
            raise ValueError("another encoder, or another content than was written")

    def _add(self, shard: Mapping[str, Tensor]) -> None:
        for row, key in enumerate(shard["captions"].numpy()):
            self._places[key.tobytes()] = shard, row


def _key(caption: str) -> bytes:
    return hashlib.sha256(caption.encode("utf-8", "surrogatepass")).digest()


def _sum(shard: Mapping[str, Tensor]) -> int:
    """A checksum of all tensors: a flipped bit in an embedding would otherwise go unseen into the training."""
    total = 0
    for name in sorted(shard):
        total = zlib.crc32(shard[name].contiguous().numpy().data, total)
    return total
