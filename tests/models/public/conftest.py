"""Tiny random models of every family, saved once for all tests, and the means to look at one without a command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra [public] is not installed")

from public_models import FAMILIES, save_model

from vidiff_cli.models.public.model import PublicModel
from vidiff_cli.models.public.open import open_public

CPU = torch.device("cpu")
SIZES = {"modelscope": (16, 16), "animatediff": (16, 16), "wan": (32, 32), "skyreels": (32, 32)}  # of their frames
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True, scope="session")
def kept_bytes_once() -> Iterator[None]:
    """What guidance keeps is measured once for each network and shape, not by every command."""
    measured, original = dict[str, int](), PublicModel.kept_bytes

    def kept_bytes(self: PublicModel, shape: Sequence[int]) -> int:
        key = f"{self.folder.path} {self.dtype} {tuple(shape)}"
        if key not in measured:
            measured[key] = original(self, shape)
        return measured[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PublicModel, "kept_bytes", kept_bytes)
        yield


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """folder_of(family, **scheduler): a saved tiny model, with settings of its scheduler changed. Not to be changed."""
    root, saved = tmp_path_factory.mktemp("public"), dict[str, Path]()

    def folder(family: str, **scheduler: Any) -> Path:
        key = json.dumps([family, scheduler])
        if family not in saved:
            saved[family] = save_model(family, root / family)
        if scheduler and key not in saved:
            saved[key] = shutil.copytree(saved[family], root / f"{family}-{len(saved)}")
            path = saved[key] / "scheduler" / "scheduler_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | scheduler))
        return saved[key if scheduler else family]

    return folder


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[..., Path]) -> Callable[..., PublicModel]:
    """model_of(family, dtype, **scheduler): the open model."""
    opened = dict[str, PublicModel]()

    def model(family: str, dtype: torch.dtype = torch.float32, **scheduler: Any) -> PublicModel:
        key = json.dumps([family, str(dtype), scheduler])
        if key not in opened:
            opened[key] = open_public(folder_of(family, **scheduler), CPU, dtype, size=SIZES.get(family), frames=5)
        return opened[key]

    return model
