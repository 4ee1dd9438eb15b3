"""What follows from the device: sizes, and the settings of CUDA, which a machine without it can be told of."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vidiff_cli import device
from vidiff_cli.device import CLIPS_ON_CPU, MOST_CLIPS, choose_device, clips_at_once, send, synchronize
from vidiff_cli.errors import error_sentence

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_a_gpu_takes_as_many_clips_as_fit_in_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda chosen: card)
    assert clips_at_once(CUDA, clip_bytes=2**30) == 20
    assert clips_at_once(CUDA, clip_bytes=2**50) == 1
    assert clips_at_once(CUDA) == MOST_CLIPS
    assert clips_at_once(CPU, clip_bytes=2**50) == CLIPS_ON_CPU and clips_at_once(CPU, on_cpu=3) == 3


def test_cuda_is_there_before_anyone_asks_for_its_memory_and_multiplies_in_tf32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[Any] = []
    for name, answer in (("is_available", True), ("device_count", 1), ("init", None)):
        monkeypatch.setattr(torch.cuda, name, lambda name=name, answer=answer: called.append(name) or answer)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", called.append)
    assert choose_device("cuda") == torch.device("cuda")
    assert called[-2:] == ["init", "high"]
    called.clear()
    choose_device("cpu")
    assert "init" not in called and "high" not in called, "a CPU keeps the digits of its products"


def test_a_clock_on_a_gpu_waits_for_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronize(CUDA)
    synchronize(CPU)
    assert waited == [CUDA]


def test_on_a_cpu_nothing_is_sent_or_copied() -> None:
    value = torch.ones(3)
    assert send(value, CPU) is value and send(None, CPU) is None
    assert device.send(value, torch.device("meta")).is_meta


def test_deterministic_is_asked_of_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    for name, answer in (("is_available", True), ("device_count", 1), ("init", None)):
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    for owner, names in (
        (torch.backends.cudnn, ("deterministic", "benchmark")),
        (torch.utils.deterministic, ("fill_uninitialized_memory",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))  # put back at the end
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    choose_device("cpu", deterministic=True)
    choose_device("cuda")
    assert not asked
    choose_device("cuda", deterministic=True)
    assert asked == [True] and torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_an_operation_without_a_deterministic_algorithm_is_one_sentence() -> None:
    raised = RuntimeError(
        "kthvalue CUDA does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation"
    )
    assert error_sentence(raised) == (
        "--deterministic: CUDA has no such algorithm for kthvalue; leave it out, or use --device cpu."
    )
