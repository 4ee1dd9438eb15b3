"""Frame autoencoders for training in their latent space: found by name, hashed, opened as codecs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidiff_cli.config.model import AutoencoderSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.checks import check_shards, read_part_config
from vidiff_cli.models.public.codecs import FrameCodec, save_decoder_memory
from vidiff_cli.models.public.folder import INDEX, check_weights, hash_files, weight_files
from vidiff_cli.models.public.hub import is_hub_name, parse_hub_name, require_snapshot
from vidiff_cli.models.public.loading import open_part
from vidiff_cli.models.public.packages import import_package
from vidiff_cli.system.shortage import ShortageError

KIND = "AutoencoderKL"
SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")  # of its configuration: they change z
UNKNOWN = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderFolder:
    """A folder with an AutoencoderKL: `source` names it for --autoencoder, `commit` where it is from the hub.

    `sha256` is of its weights and of the scaling of its values; `channels` and `spatial` as in `Codec`.
    """

    path: Path
    source: str
    commit: str | None
    sha256: str
    channels: int
    spatial: int
    temporal: int = 1


def resolve_autoencoder(source: str) -> AutoencoderFolder:
    """Find and hash the autoencoder that a name on the hub, a model's folder or its own folder means.

    VidiffError: not on this machine, not a frame autoencoder, weights missing or in a pickle.
    """
    commit, path = None, Path(source)
    if is_hub_name(source):
        snapshot = require_snapshot(parse_hub_name(source))
        commit, path = snapshot.commit, snapshot.path
    else:
        source = str(path.resolve())
    if (path / INDEX).is_file() or (path / "vae").is_dir():
        path = path / "vae"
    if not (path / "config.json").is_file():
        found = "no config.json" if path.is_dir() else "no such folder"
        expected = "a folder in the diffusers format with a frame autoencoder, or a model with one in vae"
        raise VidiffError(f"{source} is not an autoencoder", found=found, expected=expected)
    config = read_part_config(path)
    _check_kind(source, config)
    check_weights(path)
    check_shards(path)
    try:
        channels, depth = int(config["latent_channels"]), len(config["block_out_channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise VidiffError(f"{path / 'config.json'} does not describe an {KIND}", found=str(error)) from error
    return AutoencoderFolder(
        path=path,
        source=source,
        commit=commit,
        sha256=autoencoder_hash(path, config),
        channels=channels,
        spatial=2 ** (depth - 1),
    )


def autoencoder_hash(path: Path, config: Mapping[str, Any] | None = None) -> str:
    """sha256 of an autoencoder's weights and of the scaling of its values: equal for all models that have it."""
    config = read_part_config(path) if config is None else config
    weights, _ = hash_files({file.name: file for file in sorted(weight_files(path))})
    scaling = {name: config.get(name) for name in SCALING}
    return hashlib.sha256(json.dumps([weights, scaling]).encode()).hexdigest()


def open_frame_codec(folder: AutoencoderFolder, device: torch.device) -> FrameCodec:
    """The codec of an autoencoder in float32, on a device. VidiffError where packages are missing or it is damaged."""
    vae = open_part(folder.path, "diffusers", KIND, torch.float32, device)
    if device.type == "cuda":
        save_decoder_memory(vae)
    return FrameCodec(vae)


class LatentCodec:
    """The codec of a model that works on standardized latents of an autoencoder, which is opened when it is first
    needed."""

    temporal = 1
    is_identity = False

    def __init__(self, folder: AutoencoderFolder, settings: AutoencoderSettings, device: torch.device) -> None:
        self.channels, self.spatial = settings.channels, settings.spatial
        self._folder, self._device = folder, device
        self._mean, self._deviation = (
            torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1, 1)
            for values in (settings.mean, settings.deviation)
        )

    def encode(self, frames: Tensor) -> Tensor:
        """z of frames."""
        return (self._codec.encode(frames) - self._mean) / self._deviation

    def decode(self, z: Tensor) -> Tensor:
        """Frames of z."""
        return self._codec.decode(z.float() * self._deviation + self._mean)

    @cached_property
    def _codec(self) -> FrameCodec:
        return open_frame_codec(self._folder, self._device)


def open_latent_codec(
    settings: AutoencoderSettings, device: torch.device, *, model: Path, source: str | None = None
) -> LatentCodec:
    """The codec of a model that was trained on the latents of an autoencoder.

    Args:
        settings: The autoencoder of the model.
        device: Device that encodes and decodes.
        model: The checkpoint, for messages.
        source: Folder or name of the autoencoder; None is where it was in training.

    Returns:
        The codec; the weights are hashed now, and read when they are first needed.

    Raises:
        VidiffError: The autoencoder is not on this machine, or has other weights.
    """
    pinned = f"{settings.source.partition('@')[0]}@{settings.commit}" if settings.commit else settings.source
    try:
        folder = resolve_autoencoder(source or pinned)
    except ShortageError:
        raise
    except VidiffError as error:
        fix = error.fix or "--autoencoder says where it is"
        found = error.what if error.found is None else f"{error.what} ({error.found})"
        raise VidiffError(f"{model} works on latents and needs its autoencoder", found=found, fix=fix) from error
    import_package("diffusers")
    if folder.sha256 != settings.sha256:
        raise VidiffError(
            f"{model} was trained on the latents of another autoencoder than {folder.source}",
            found=f"sha256 {folder.sha256[:12]}",
            expected=settings.sha256[:12],
            fix="--autoencoder says where the one of its training is",
        )
    return LatentCodec(folder, settings, device)


def _check_kind(source: str, config: Mapping[str, Any]) -> None:
    kind = str(config.get("_class_name", UNKNOWN))
    if kind == KIND:
        return
    if kind.startswith(KIND):
        raise VidiffError(
            f"{source} compresses time: its values are of groups of frames, not of one frame",
            found=kind,
            expected=f"{KIND}, which encodes every frame alone",
        )
    raise VidiffError(f"{source} is not a frame autoencoder", found=kind, expected=KIND)
