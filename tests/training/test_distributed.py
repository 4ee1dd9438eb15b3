"""Two processes train as one does: the same batches, losses, weights and checkpoints; and none waits for the dead."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vidiff_cli.checkpoint import read_tensors
from vidiff_cli.errors import VidiffError
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.training.distributed import ALONE, gathers_half, init_distributed
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.objective import training_loss

SCRIPT = Path(__file__).with_name("ranks.py")
RANKS = runpy.run_path(str(SCRIPT))
FILES = ("model.safetensors", "ema.safetensors", "ema-0.05.safetensors", "ema-0.1.safetensors", "optimizer.safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one process (`alone`) and of two: `ddp`, `fsdp`, ...-later from a checkpoint of the one process
    and with accumulation, ddp-of-fsdp from a checkpoint of FSDP."""
    folder = tmp_path_factory.mktemp("ranks")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    RANKS["trained"](folder / "alone")
    torch.set_num_threads(before)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, str(SCRIPT), str(folder)], env=environment, check=True, timeout=500)
    assert json.loads((folder / "codes.json").read_text()) == [0, 0], "both ranks end well"
    return folder


def reports(folder: Path) -> torch.Tensor:
    return torch.tensor(json.loads((folder / "reports.json").read_text()), dtype=torch.float64)


def same(one: Path, other: Path) -> None:
    """All tensors of two checkpoints, but for what rounding makes of them."""
    for name in FILES:
        first, second = read_tensors(one / name), read_tensors(other / name)
        assert first.keys() == second.keys() and len(first) > 50
        for key in first:
            torch.testing.assert_close(first[key], second[key], rtol=1e-4, atol=2e-5, msg=f"{name} {key}")
    steps = [json.loads((folder / "state.json").read_text())["step"] for folder in (one, other)]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks_are_one(runs: Path, kind: str) -> None:
    """Losses, gradient norms, the losses of all clips and their numbers in every step; weights, averages and optimizers
    after the first and the last, where the ranks have two and three clips of each batch."""
    torch.testing.assert_close(reports(runs / kind), reports(runs / "alone"), rtol=1e-4, atol=0)
    for step in (1, 3):
        same(runs / kind / f"step-{step}", runs / "alone" / f"step-{step}")


@pytest.mark.parametrize("kind", ["ddp-later", "fsdp-later", "ddp-of-fsdp"])
def test_two_ranks_go_on_from_any_checkpoint(runs: Path, kind: str) -> None:
    torch.testing.assert_close(reports(runs / kind), reports(runs / "alone")[1:], rtol=1e-4, atol=0)
    same(runs / kind / "step-3", runs / "alone" / "step-3")


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_one_process_goes_on_from_two(runs: Path, kind: str, tmp_path: Path) -> None:
    RANKS["trained"](tmp_path, start=runs / kind / "step-1")
    torch.testing.assert_close(reports(tmp_path), reports(runs / "alone")[1:], rtol=1e-4, atol=0)
    same(tmp_path / "step-3", runs / "alone" / "step-3")


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_averages_of_ranks_are_put_together_whole(runs: Path, kind: str, tmp_path: Path) -> None:
    """Snapshots and another length, of the same checkpoint: the same bytes, whatever the ranks hold of a weight."""
    RANKS["averaged"](tmp_path, runs / "alone" / "step-1")
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.safetensors"))
    assert [path.name for path in files] == ["step-000001.safetensors", "chosen.safetensors"]
    assert all((tmp_path / path).read_bytes() == (runs / f"{kind}-average" / path).read_bytes() for path in files)


def test_shards_are_half(runs: Path) -> None:
    whole = sum(value.numel() for value in RANKS["state"]().ema.shadow.values())
    held = [json.loads((runs / f"held-{rank}.json").read_text()) for rank in range(2)]
    assert sum(held) == whole and max(held) < 0.6 * whole


@pytest.mark.parametrize("how", RANKS["ENDS"])
def test_the_end_of_one_rank_ends_all_and_is_told_once(runs: Path, how: str) -> None:
    told, text = json.loads((runs / f"{how}-0.json").read_text())
    if how == "error":
        assert not told and json.loads((runs / "error-1.json").read_text()) == [True, "rank 1 has read rubbish."]
    else:
        ending = {"killed": "ended", "silent": "not answered for 10 seconds"}[how]
        assert told and text == (
            f"one of the 2 processes of this training has {ending}; "
            "the same command continues from the last checkpoint."
        )


def launch(**more: str) -> ProcessInfo:
    return ProcessInfo.from_environment(
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "1"} | more
    )


def test_one_process_is_alone_and_does_nothing() -> None:
    for environment in ({}, {"RANK": "3"}, {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}):
        assert ProcessInfo.from_environment(environment) == ProcessInfo(rank=0, world=1, local=0)
    one = ProcessInfo.from_environment({})
    with init_distributed(one, torch.device("cpu"), kind="fsdp", timeout_seconds=1) as parallel:
        assert parallel is ALONE and parallel.is_main and parallel.weight(4, 4) == 1.0


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch().device("cpu") == "cpu" and launch().device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert launch().device("auto") == launch().device("cuda") == "cuda:1"
    assert ProcessInfo(rank=0, world=1, local=0).device("cuda:1") == "cuda:1"
    with pytest.raises(VidiffError, match="more processes on this machine than GPUs: found process 3 and 2 GPUs"):
        launch(LOCAL_RANK="2").device("auto")
    with pytest.raises(VidiffError, match="cannot share one GPU"):
        launch().device("cuda:0")


@pytest.mark.parametrize("wrong", [{"RANK": "2"}, {"RANK": "x"}, {"WORLD_SIZE": ""}, {"LOCAL_RANK": "-1"}])
def test_a_broken_environment_is_one_sentence(wrong: dict[str, str]) -> None:
    with pytest.raises(VidiffError, match="RANK, WORLD_SIZE or LOCAL_RANK is not valid: found RANK="):
        launch(**wrong)


@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"dropped": torch.ones(2, dtype=torch.bool)},
        {"captions": ("", "")},
        {"frames": 1},
        {"observed": True},
        {"observed": True, "estimated_from": torch.zeros(2, 4, dtype=torch.bool)},
    ],
    ids=["plain", "no captions", "empty captions", "images", "given", "no estimate"],
)
def test_every_weight_has_a_gradient_in_every_step(batch: dict[str, Any]) -> None:
    """DDP and FSDP wait for all of them: a weight that some batch does not use would need a search in every step."""
    frames = batch.pop("frames", 4)
    given = torch.zeros(2, frames, dtype=torch.bool)
    given[:, 0] = batch.pop("observed", False)
    video = torch.zeros(2, 3, frames, 4, 4)
    whole = {
        "video": video,
        "noise": torch.ones_like(video),
        "u": torch.tensor([0.3, 0.6])[:, None].expand(2, frames),
        "times": torch.arange(frames).expand(2, frames) / 8,
        "observed": given,
        "dropped": torch.zeros(2, dtype=torch.bool),
        "captions": ("a red square", "a blue circle"),
        "rows": (0, 1),
        "seeds": torch.tensor([1, 2]),
        "estimate": video,
        "uncertainty": video[:, :1],
        "estimated_from": given,
    }
    video_model = RANKS["state"]().video_model
    whole |= batch
    read = Batch(**whole, text=video_model.caption_reader()(whole["captions"]))
    ALONE.loss(video_model, read, training_loss).total.backward()
    assert [name for name, value in video_model.named_parameters() if value.grad is None] == []


def test_weights_are_gathered_in_bf16_on_cuda_alone() -> None:
    cuda, cpu = torch.device("cuda", 1), torch.device("cpu")
    assert gathers_half(cuda, torch.bfloat16)
    assert not any(gathers_half(cuda, dtype) for dtype in (torch.float32, torch.float16))
    assert not gathers_half(cpu, torch.bfloat16)


def test_ranks_tell_each_other_no_pickles() -> None:
    """The object collectives of torch pickle."""
    package = Path(__file__).parents[2] / "src" / "vidiff_cli"
    pickling = re.compile(r"dist\.\w*_object|_object_list|torch\.save\(|distributed\.checkpoint")
    assert [path for path in package.rglob("*.py") if pickling.search(path.read_text(encoding="utf-8"))] == []
