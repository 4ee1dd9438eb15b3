"""Folders in the diffusers format: their parts, and all that makes one unusable, found without opening weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.families import FAMILIES, Family
from vidiff_cli.models.public.checks import (
    check_inputs,
    check_parts,
    check_process,
    check_shards,
    check_tokenizer,
    read_config,
    read_part_config,
)
from vidiff_cli.models.public.hub import INDEX
from vidiff_cli.models.public.known import find_known
from vidiff_cli.models.public.licence import read_licence
from vidiff_cli.system.atomic_files import write_text

PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5"})
SCHEDULERS_OF_FLOW = frozenset({"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"})
TOKENIZERS = re.compile(r"(CLIP|T5)Tokenizer(Fast)?|AutoTokenizer|PreTrainedTokenizerFast|TokenizersBackend")


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicFolder:
    """A usable folder: its family, the classes of its parts, and the scheduler's configuration.

    `adapter`: a folder with an AnimateDiff motion adapter, where `path` holds an image model. `source` is the name that
    --model gave it; `repository` and `commit`, and those of the adapter, are known of what was fetched from the hub.
    """

    path: Path
    family: Family
    classes: Mapping[str, str]
    scheduler: Mapping[str, Any]
    adapter: Path | None = None
    source: str | None = None
    repository: str | None = None
    commit: str | None = None
    adapter_repository: str | None = None
    adapter_commit: str | None = None

    @property
    def name(self) -> str:
        """Its name for --model."""
        return self.source or str(self.path)

    @property
    def licence(self) -> str | None:
        """The licence that its model card states, else that of a known model; of a motion adapter too."""
        known = find_known(self.repository)
        base = read_licence(self.path) or (known and known.licence)
        adapter = self.adapter and read_licence(self.adapter)
        return " and ".join(dict.fromkeys(filter(None, (base, adapter)))) or None

    def weight_files(self) -> list[Path]:
        """All files with weights that loading reads, in order."""
        parts = [self.path / part for part in ("text_encoder", self.family.part, "vae")]
        folders = [*parts, *([self.adapter] if self.adapter else [])]
        return [file for folder in folders for file in sorted(weight_files(folder))]


def read_folder(path: Path, adapter: Path | None = None) -> PublicFolder:
    """Read and check a folder; `adapter` is that of a motion adapter for an image model.

    VidiffError: not in the diffusers format, an unknown or unsafe class, weights missing or in a pickle, a noise
    schedule that the network cannot be sampled with.
    """
    index = read_config(path / INDEX)
    family, classes = read_index(str(path), index, with_adapter=adapter is not None)
    check_parts(path, index)
    check_tokenizer(path / "tokenizer")
    for part in ("text_encoder", family.part, "vae"):
        check_weights(path / part)
        config = read_part_config(path / part, None if part == "text_encoder" else classes[part])
        if part == family.part:
            check_inputs(path / part, config)
    if adapter is not None:
        check_weights(adapter)
        read_part_config(adapter, "MotionAdapter")
    scheduler = read_config(path / "scheduler" / "scheduler_config.json")
    if adapter is not None:  # the adapter was trained with linear betas, whatever the image model says
        scheduler = {**scheduler, "beta_schedule": "linear", "trained_betas": None}
    folder = PublicFolder(path=path, family=family, classes=classes, scheduler=scheduler, adapter=adapter)
    check_schedule(folder)
    return folder


def read_index(name: str, index: Mapping[str, Any], *, with_adapter: bool) -> tuple[Family, dict[str, str]]:
    """The family that a model_index.json names, and the classes of its parts.

    VidiffError, which begins with `name`: not a video model, an unknown or unsafe class.
    """
    classes = {part: value[1] for part, value in index.items() if _is_part(value)}
    family = _family(name, classes, with_adapter=with_adapter)
    for part, allowed in (("vae", family.codecs), ("text_encoder", family.encoders)):
        if classes.get(part) not in allowed:
            subject = f"{name}/{part} is not of a class that {family.name} models have"
            raise VidiffError(subject, found=classes.get(part, "none"), expected=" or ".join(allowed))
    if not TOKENIZERS.fullmatch(classes.get("tokenizer", "")):
        raise VidiffError(f"{name}/tokenizer is not of a known class", found=classes.get("tokenizer", "none"))
    return family, classes


def is_public_folder(path: Path) -> bool:
    """True for a folder in the diffusers format."""
    return (path / INDEX).is_file()


def is_flow(scheduler: Mapping[str, Any]) -> bool:
    """True if the configuration of a scheduler is of flow matching."""
    return (
        scheduler.get("_class_name") in SCHEDULERS_OF_FLOW
        or bool(scheduler.get("use_flow_sigmas"))
        or scheduler.get("prediction_type") == "flow_prediction"
    )


def check_schedule(folder: PublicFolder) -> None:
    """VidiffError for eps with zero terminal SNR: x_hat would be divided by zero."""
    scheduler = folder.scheduler
    kind = scheduler.get("prediction_type", "epsilon")
    path = folder.path / "scheduler" / "scheduler_config.json"
    check_process(path, scheduler, flow=is_flow(scheduler))
    if is_flow(scheduler):
        return
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise VidiffError(f"{folder.path} predicts something unknown", found=str(kind))
    if kind == "epsilon" and scheduler.get("rescale_betas_zero_snr"):
        found = "prediction_type epsilon with rescale_betas_zero_snr"
        raise VidiffError(f"{folder.path / 'scheduler'} cannot be sampled", found=found, expected="v_prediction")


def check_weights(folder: Path) -> None:
    """VidiffError unless a part's weights lie there as safetensors."""
    if not folder.is_dir():
        raise VidiffError(f"{folder} does not exist", expected="the weights of a part of the model")
    check_shards(folder)
    if files := weight_files(folder):
        for file in files:
            if not file.is_file():
                found = "a link to nothing" if file.is_symlink() and not file.exists() else "not a file"
                raise VidiffError(f"{file} cannot be read", found=found)
        return
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        fix = "look for a revision with .safetensors: a pickle can run any code"
        raise VidiffError(f"{folder} has weights as a pickle only", found=pickles[0], expected=".safetensors", fix=fix)
    raise VidiffError(f"{folder} has no weights", expected="a .safetensors file")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a part that are read: those of one variant, full precision where it is there."""
    files = [file for file in folder.iterdir() if file.suffix == ".safetensors"] if folder.is_dir() else []
    variant = weight_variant(folder)
    return [file for file in files if variant_of(file.name) == variant]


def weight_variant(folder: Path) -> str | None:
    """The variant ("fp16") to read: None where files without one are there."""
    found = {variant_of(file.name) for file in folder.glob("*.safetensors")}
    return None if None in found or not found else sorted(name for name in found if name)[0]


def variant_of(name: str) -> str | None:
    """The variant of a weights file: model.fp16.safetensors -> fp16; model-00001-of-00002.safetensors -> None."""
    match = re.fullmatch(r"[\w-]+?\.(?P<variant>[A-Za-z]\w*)(-\d+-of-\d+)?\.safetensors", name)
    return match["variant"] if match else None


def folder_hash(folder: PublicFolder) -> tuple[str, dict[str, str]]:
    """sha256 over all weights of a folder, and of each file; computed once for a file of one size and time.

    Raises VidiffError for a file that cannot be read.
    """
    files = {}
    for file in folder.weight_files():
        base = folder.path if file.is_relative_to(folder.path) else file.parents[1]
        files[str(file.relative_to(base))] = file
    return hash_files(files)


def hash_files(files: Mapping[str, Path]) -> tuple[str, dict[str, str]]:
    """sha256 over files by name, and of each one; computed once for a file of one size and time.

    Raises VidiffError for a file that cannot be read.
    """
    hashes = {name: file_sha256(file) for name, file in files.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(), hashes


def file_sha256(file: Path) -> str:
    """sha256 of a file, computed once for a file of one size and time. VidiffError where it cannot be read."""
    try:
        known = _read_cache(_hash_cache())
        if (found := known.get(_hash_key(file))) is not None:
            return found
        with file.open("rb") as stream:
            computed = hashlib.file_digest(stream, "sha256").hexdigest()
        remember_sha256(file, computed)
    except OSError as error:
        raise VidiffError(f"{file} cannot be read", found=(error.strerror or str(error)).lower()) from error
    return computed


def remember_sha256(file: Path, sha256: str) -> None:
    """Record the sha256 of a file as it is now, so that it need not be read again."""
    cache = _hash_cache()
    _write_cache(cache, _read_cache(cache) | {_hash_key(file): sha256})


def _hash_key(file: Path) -> str:
    stat = file.stat()
    return f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}"


def _family(name: str, classes: Mapping[str, str], *, with_adapter: bool) -> Family:
    networks = {part: classes[part] for part in ("unet", "transformer") if part in classes}
    if with_adapter and networks.get("unet") == "UNet2DConditionModel":
        networks = {"unet": "UNetMotionModel"}
    for family in FAMILIES:
        if networks.get(family.part) == family.network:
            return family
    found = ", ".join(networks.values()) or "no network"
    known = ", ".join(family.network for family in FAMILIES)
    fix = None
    if networks.get("unet") == "UNet2DConditionModel":
        fix = "it makes pictures: add a motion adapter, MODEL+ADAPTER"
    raise VidiffError(f"{name} is not a video model that vidiff knows", found=found, expected=known, fix=fix)


def _is_part(value: object) -> bool:
    """True for an entry [library, class] of the index that names a class of the two libraries."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and value[0] in ("diffusers", "transformers")
        and isinstance(value[1], str)
    )


def _hash_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vidiff" / "hashes.json"


def _read_cache(cache: Path) -> dict[str, str]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        return {key: value for key, value in content.items() if isinstance(value, str) and len(value) == 64}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_cache(cache: Path, known: Mapping[str, str]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(known))
    except (OSError, VidiffError):  # a cache that cannot be written costs time alone
        return
