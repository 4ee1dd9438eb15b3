"""The check of GPUs, judged from facts: none is needed here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vidiff_cli.commands.doctor import gpu
from vidiff_cli.commands.doctor.check import Finding
from vidiff_cli.commands.doctor.gpu import Card, judge, peak_tflops, runs_on

CARD = Card(
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    built_for=((8, 0), (9, 0)),
    free_bytes=int(79e9),
    total_bytes=int(80e9),
    bf16=True,
    product_tflops=700.0,
    attention_tflops=400.0,
)
FACTS = {"cuda": "12.8", "driver": "570.1", "nccl": "2.27.3", "compile_problem": None}


def test_what_is_right_is_told():
    finding = judge([CARD, CARD], **FACTS)
    assert finding.status == "ok" and finding.fix is None
    for part in (
        "CUDA 12.8",
        "driver 570.1",
        "NCCL 2.27.3",
        "compute 9.0",
        "79.0 of 80.0 GB",
        "bf16",
        "700 TFLOP/s of 989",
    ):
        assert part in finding.found


@pytest.mark.parametrize(
    ("cards", "facts", "status", "words"),
    [
        ([replace(CARD, capability=(12, 0))], {}, "fault", "install a build of torch for compute 12.0"),
        ([CARD], {"compile_problem": "no C compiler"}, "warning", "--compile off"),
        ([replace(CARD, product_tflops=100.0)], {}, "warning", "nvidia-smi"),
        ([CARD, CARD], {"nccl": None}, "warning", "NCCL"),
        ([CARD], {"nccl": None, "driver": None}, "ok", ""),
        ([replace(CARD, name="NVIDIA Future", product_tflops=1.0)], {}, "ok", ""),
        ([replace(CARD, bf16=False, product_tflops=None, attention_tflops=None)], {}, "ok", ""),
    ],
)
def test_the_worst_comes_with_its_fix(cards, facts, status, words):
    finding = judge(cards, **FACTS | facts)
    assert finding.status == status and words in (finding.fix or "")


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA L4", 121),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", None),  # another card than the A10
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 D", 165),
        ("Tesla T4", None),
    ],
)
def test_cards_of_the_table(name, peak):
    assert peak_tflops(name) == peak


def test_code_runs_on_cards_of_its_major_version_that_are_not_older():
    for built, runs in ((((8, 0),), False), (((9, 0),), True), (((9, 5),), False), (((10, 0), (9, 0)), True)):
        assert runs_on(replace(CARD, built_for=built)) is runs


def test_speeds_count_operations(monkeypatch):
    """At most 2 n^3 operations a product: with a clock that moves by one second a look, four products a look."""
    looks = iter(range(100))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: float(next(looks)))
    device = torch.device("cpu")
    assert gpu.product_speed(device, torch.float32, side=16, seconds=2) == pytest.approx(4 * 2 * 16**3 / 1e12)
    speed = gpu.attention_speed(device, torch.float32, clips=1, tokens=8, seconds=1)
    assert speed == pytest.approx(4 * 4 * gpu.HEADS * 8**2 * gpu.HEAD_DIM / 1e12)


def test_none_is_needed():
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    assert gpu.check_gpus() == Finding("ok", "no NVIDIA GPU that torch can use, and none is needed")
