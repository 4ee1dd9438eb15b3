"""Checks of NVIDIA GPUs: driver, number formats, compiler, NCCL, memory, and the speed of products and of attention."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidiff_cli.commands.doctor.check import Finding

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Dense bf16 products with float32 sums, TFLOP/s, of NVIDIA's data sheets; longer names first. Cards before Ampere have
# no bf16.
PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "GH200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A40": 150,
    "A10": 125,
    "RTX 6000 Ada": 364,
    "RTX A6000": 155,
    "RTX 5090": 209,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
SLOW = 0.4  # of the data sheet: products reach 0.6 to 0.8 of it on a card that nothing else uses
SECONDS = 2.5  # of either measurement
SIDE, CLIPS, HEADS, TOKENS, HEAD_DIM = 8192, 8, 8, 4096, 64  # of the matrices, and of attention


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A GPU: `capability` and the architectures that torch was built for as (major, minor); speeds in TFLOP/s, None
    where they were not measured."""

    name: str
    capability: tuple[int, int]
    built_for: tuple[tuple[int, int], ...]
    free_bytes: int
    total_bytes: int
    bf16: bool
    product_tflops: float | None = None
    attention_tflops: float | None = None


def check_gpus() -> Finding:
    """All NVIDIA GPUs and what training on them needs; "none" where torch has none."""
    import torch
    import torch.cuda.nccl

    from vidiff_cli.models.acceleration import compile_problem

    if not torch.cuda.is_available():
        return Finding("ok", "no NVIDIA GPU that torch can use, and none is needed")
    cards = [_card(torch.device("cuda", number)) for number in range(torch.cuda.device_count())]
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else None
    problem = compile_problem(torch.device("cuda", 0))
    return judge(cards, cuda=torch.version.cuda, driver=_driver(), nccl=nccl, compile_problem=problem)


def judge(
    cards: list[Card], *, cuda: str | None, driver: str | None, nccl: str | None, compile_problem: str | None
) -> Finding:
    """The finding about cards: the worst of what is wrong, and its fix."""
    found = f"CUDA {cuda}, driver {driver or 'unknown'}, NCCL {nccl or 'missing'}; " + "; ".join(map(_describe, cards))
    for card in cards:
        if card.built_for and not runs_on(card):
            fix = f"install a build of torch for compute {card.capability[0]}.{card.capability[1]}"
            return Finding("fault", f"{found}: this torch was not built for {card.name}", fix)
    if compile_problem is not None:
        fix = "install gcc (and pip install triton), or pass --compile off"
        return Finding(
            "warning", f"{found}; torch.compile does not work, so training is slower: {compile_problem}", fix
        )
    for card in cards:
        peak = peak_tflops(card.name)
        if peak and card.product_tflops is not None and card.product_tflops < SLOW * peak:
            fix = "see nvidia-smi: another process, a power limit, heat"
            return Finding("warning", f"{found}: slower than {SLOW:.0%} of the {peak} TFLOP/s of its data sheet", fix)
    if nccl is None and len(cards) > 1:
        return Finding("warning", f"{found}: several GPUs cannot train together", "install torch for Linux with NCCL")
    return Finding("ok", found)


def peak_tflops(name: str) -> int | None:
    """The product speed of a card's data sheet, TFLOP/s in bf16; None for a card that is not in the table."""
    words = name.replace("-", " ")
    for card in sorted(PEAK_TFLOPS, key=len, reverse=True):
        if re.search(rf"\b{re.escape(card)}\b", words):
            return PEAK_TFLOPS[card]
    return None


def runs_on(card: Card) -> bool:
    """True if torch has code for the card: of the same major version, and of no later minor one."""
    major, minor = card.capability
    return any(built == major and least <= minor for built, least in card.built_for)


def product_speed(device: torch.device, dtype: torch.dtype, *, side: int = SIDE, seconds: float = SECONDS) -> float:
    """TFLOP/s of a product of two square matrices."""
    import torch

    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return _speed(lambda: left @ right, 2 * side**3, device, seconds)


def attention_speed(
    device: torch.device, dtype: torch.dtype, *, clips: int = CLIPS, tokens: int = TOKENS, seconds: float = SECONDS
) -> float:
    """TFLOP/s of scaled dot product attention of 8 heads, without a mask."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (torch.randn(clips, HEADS, tokens, HEAD_DIM, device=device).to(dtype) for _ in range(3))
    operations = 4 * clips * HEADS * tokens**2 * HEAD_DIM
    return _speed(lambda: scaled_dot_product_attention(q, k, v), operations, device, seconds)


def _speed(work: Callable[[], Tensor], operations: int, device: torch.device, seconds: float) -> float:
    """TFLOP/s of `work`, repeated for so long after a first time that is not counted."""
    from vidiff_cli.device import synchronize

    work()
    synchronize(device)
    started, rounds, spent = time.perf_counter(), 0, 0.0
    while spent < seconds:
        for _ in range(4):
            work()
        synchronize(device)
        rounds, spent = rounds + 4, time.perf_counter() - started
    return rounds * operations / spent / 1e12


def _card(device: torch.device) -> Card:
    import torch

    facts = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    found = [re.fullmatch(r"(?:sm|compute)_(\d+)(\d)[af]?", name) for name in torch.cuda.get_arch_list()]
    card = Card(
        name=facts.name,
        capability=(facts.major, facts.minor),
        built_for=tuple((int(each[1]), int(each[2])) for each in found if each),
        free_bytes=free,
        total_bytes=total,
        bf16=facts.major >= 8,
    )
    if not runs_on(card) or free < 2e9:
        return card
    dtype = torch.bfloat16 if card.bf16 else torch.float16
    speeds = product_speed(device, dtype), attention_speed(device, dtype)
    return replace(card, product_tflops=speeds[0], attention_tflops=speeds[1])


def _describe(card: Card) -> str:
    parts = [
        f"{card.name}, compute {card.capability[0]}.{card.capability[1]}",
        f"{card.free_bytes / 1e9:.1f} of {card.total_bytes / 1e9:.1f} GB free",
        "bf16" if card.bf16 else "no bf16 (fp16 and fp32)",
    ]
    if card.product_tflops is not None:
        peak = peak_tflops(card.name)
        parts.append(f"products {card.product_tflops:.0f} TFLOP/s" + (f" of {peak} at most" if peak else ""))
    if card.attention_tflops is not None:
        parts.append(f"attention {card.attention_tflops:.0f} TFLOP/s")
    return ", ".join(parts)


def _driver() -> str | None:
    """The version of the driver, of nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return out.split("\n")[0].strip() or None
