"""Checks of the parts of a folder in the diffusers format, made before anything is opened or any package imported."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidiff_cli.diffusion.discrete import read_discrete
from vidiff_cli.errors import VidiffError

LARGEST_CONFIG = 16 * 2**20
LARGEST_INDEX = 64 * 2**20  # of weights in shards
MOST_TIMESTEPS = 100_000
WEIGHTS_INDEX = "*.safetensors.index.json"
INPUTS = (  # of networks that are given more than z, a timestep and a prompt: vidiff has nothing to give them
    "use_rotary_positional_embeddings",
    "use_learned_positional_embeddings",
    "patch_size_t",
    "ofs_embed_dim",
    "image_dim",
    "added_kv_proj_dim",
    "pos_embed_seq_len",
    "addition_embed_type",
    "class_embed_type",
    "time_cond_proj_dim",
    "encoder_hid_dim_type",
)


def read_config(path: Path, most: int = LARGEST_CONFIG) -> dict[str, Any]:
    """A JSON object of a folder. VidiffError: missing, not a file, too large, not JSON."""
    try:
        if path.exists() and not path.is_file():
            raise VidiffError(f"{path} is not a file", expected="a configuration")
        if path.stat().st_size > most:
            raise VidiffError(f"{path} is too large for a configuration", found=f"{path.stat().st_size:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VidiffError(f"{path} does not exist", expected="a folder in the diffusers format") from error
    except OSError as error:
        raise VidiffError(f"{path} cannot be read", found=(error.strerror or str(error)).lower()) from error
    except (ValueError, RecursionError) as error:
        raise VidiffError(f"{path} is not valid JSON", found=str(error)[:80]) from error
    if not isinstance(content, dict):
        raise VidiffError(f"{path} does not hold an object", found=type(content).__name__)
    return content


def read_part_config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """The config.json of a part. VidiffError as `read_config`, for code of its own, and for another class."""
    path = folder / "config.json"
    config = read_config(path)
    _refuse_code(path, config)
    found = config.get("_class_name", kind)
    if kind is not None and found != kind:
        raise VidiffError(f"{path} is of another class than model_index.json says", found=str(found), expected=kind)
    return config


def check_tokenizer(folder: Path) -> None:
    """VidiffError unless a tokenizer's files lie there, without code of its own."""
    if not folder.is_dir():
        raise VidiffError(f"{folder} does not exist", expected="the tokenizer of the model")
    for name in ("tokenizer_config.json", "config.json"):
        if (folder / name).exists():
            _refuse_code(folder / name, read_config(folder / name))


def check_parts(path: Path, index: Mapping[str, Any]) -> None:
    """VidiffError for a second network or text encoder, without which the model is another one."""
    second = [name for name, part in index.items() if name.endswith(("_2", "_3")) and part not in (None, [None, None])]
    if second:
        raise VidiffError(f"{path} has parts that vidiff does not use", found=", ".join(sorted(second))[:80])


def check_inputs(path: Path, config: Mapping[str, Any]) -> None:
    """VidiffError for a network that needs other inputs than z, a timestep and a prompt."""
    more = [name for name in INPUTS if config.get(name)]
    if more:
        raise VidiffError(
            f"{path / 'config.json'} is of a network with inputs that vidiff lacks", found=", ".join(more)
        )


def check_shards(folder: Path) -> None:
    """VidiffError for an index of weights that names files which are absent or outside the folder."""
    for path in sorted(folder.glob(WEIGHTS_INDEX)):
        shards = read_config(path, LARGEST_INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise VidiffError(f"{path} has no weight_map of tensors and files")
        for name in sorted(set(shards.values())):
            if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
                raise VidiffError(f"{path} names a file outside the folder", found=name[:80])
            if not (folder / name).is_file():
                raise VidiffError(f"{folder / name} does not exist", expected=f"weights that {path.name} names")


def check_process(path: Path, scheduler: Mapping[str, Any], *, flow: bool) -> None:
    """VidiffError for the configuration `path` of a scheduler whose noise process is not known or not one."""
    try:
        count = scheduler.get("num_train_timesteps", 1000)
        if type(count) is not int or not 2 <= count <= MOST_TIMESTEPS:
            raise ValueError(f"num_train_timesteps = {str(count)[:20]}")
        for name in ("shift", "flow_shift"):
            shift = float(scheduler.get(name) or 1.0)
            if not (shift > 0 and math.isfinite(shift)):
                raise ValueError(f"{name} = {shift:g}")
        if not flow:
            read_discrete(scheduler).grid(2)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise VidiffError(f"{path} does not describe a noise process that vidiff knows", found=str(error)) from error


def _refuse_code(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("auto_map"):
        raise VidiffError(f"{path} asks for code of its own", found="auto_map", expected="classes of the libraries")
