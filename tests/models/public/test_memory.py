"""What guidance keeps of real networks, measured on torch's meta device: without weights, without memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vidiff_cli.models.public.networks import PREDICT, recompute_layers
from vidiff_cli.models.public.packages import import_package
from vidiff_cli.models.step_cost import measure_kept

NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int, float]] = {
    # class, what differs from its defaults, z, tokens, GiB kept in bf16 at least
    "ModelScope, 16 x 256x256": ("UNet3DConditionModel", {"attention_head_dim": 64}, (1, 4, 16, 32, 32), 77, 4.0),
    "Wan 2.1 1.3B, 33 x 832x480": (
        "WanTransformer3DModel",
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        (1, 16, 9, 60, 104),
        512,
        20.0,
    ),
}
WIDTH = {"UNet3DConditionModel": 1024, "WanTransformer3DModel": 4096}


@pytest.mark.parametrize(("name", "changes", "shape", "tokens", "least"), NETWORKS.values(), ids=NETWORKS)
def test_recomputed_guidance_keeps_a_third_or_less(
    name: str, changes: dict[str, Any], shape: tuple[int, ...], tokens: int, least: float
) -> None:
    with torch.device("meta"):
        network = getattr(import_package("diffusers"), name)(**changes).to(torch.bfloat16).requires_grad_(False)
        parameters = sum(each.numel() for each in network.parameters())
        assert 1.3e9 < parameters < 1.5e9
        z = torch.empty(*shape, dtype=torch.bfloat16, requires_grad=True)
        states, timestep = torch.empty(1, tokens, WIDTH[name], dtype=torch.bfloat16), torch.empty(1)
        kept, _ = measure_kept(lambda: PREDICT[name](network, z, timestep, states), network)
        recompute_layers(network)
        less, _ = measure_kept(lambda: PREDICT[name](network, z, timestep, states), network)
    assert kept > least * 2**30 and less * 3 <= kept
