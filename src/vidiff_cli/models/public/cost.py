"""Cost of a training step of a public network, computed without memory for it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.models.codec import z_shape
from vidiff_cli.models.meta import meta_device
from vidiff_cli.models.public.adapters import prepare_training
from vidiff_cli.models.public.model import PublicModel
from vidiff_cli.models.public.networks import PREDICT, recompute_layers
from vidiff_cli.models.public.open import resolve_folder
from vidiff_cli.models.public.parts import build_network
from vidiff_cli.models.public.trained import find_family
from vidiff_cli.models.step_cost import ClipCost, measure_kept


def public_clip_cost(model: ModelSettings, *, half: bool, recompute: bool) -> ClipCost:
    """The cost of one clip in half or in single precision, with gradient checkpointing of the layers where
    `recompute`. Bytes are those of the precision."""
    return _clip_cost(model.model_dump_json(), half, recompute)


@lru_cache(maxsize=32)
def _clip_cost(model_json: str, half: bool, recompute: bool) -> ClipCost:
    model = ModelSettings.model_validate_json(model_json)
    base = model.base
    assert base is not None
    folder, family = resolve_folder(Path(base.path)), find_family(base.family)
    public = PublicModel(folder, device=torch.device("cpu"), dtype=torch.float32, check_shape=False)
    shape = z_shape(public.codec, 1, model.frames, model.height, model.width)
    dtype = torch.bfloat16 if half else torch.float32
    with meta_device():
        network = build_network(folder).to(dtype)
        frozen = sum(value.numel() * value.element_size() for value in network.parameters())
        trained = prepare_training(network, base, seed=0)
        for value in trained.values():
            value.data = value.data.to(dtype)  # as autocast has them, which the meta device does not know
        if not base.rank:
            frozen -= sum(value.numel() for value in trained.values()) * (2 if half else 4)
        z = torch.empty(*shape, dtype=dtype)
        states = torch.empty(1, base.text.context, base.text.width, dtype=dtype)
        timestep = torch.empty(1, shape[2]) if family.levels_by_frame else torch.empty(1)

        def forward() -> Tensor:
            return PREDICT[family.network](network, z, timestep, states)

        kept, flops = measure_kept(forward, network)
        recomputed, passes = 0, 2 if base.rank else 3  # of frozen weights there is no gradient
        if recompute:
            layers = recompute_layers(network)
            whole, (kept, _) = kept, measure_kept(forward, network)
            recomputed, passes = 2 * whole // layers, passes + 1
    return ClipCost(
        parameters=sum(value.numel() for value in trained.values()),
        flops=passes * flops,
        kept_bytes=kept,
        recomputed_bytes=recomputed,
        frozen_bytes=frozen,
    )
