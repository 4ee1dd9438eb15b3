"""The smallest networks and models that train; parts of a fresh network start at zero, where noise makes paths live."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidiff_cli.checkpoint import write_tensors
from vidiff_cli.config.model import DiffusionSettings, ModelSettings, NetworkSettings, TextSettings
from vidiff_cli.models.video_model import VideoNetwork, new_video_model
from vidiff_cli.text.learned import collect_vocabulary

CAPTIONS = ("a red square moving left", "a blue circle", "green", "two words", "")


def tiny_network(**more: Any) -> NetworkSettings:
    """Without text where `context_dim` is not given."""
    chosen = {"base_channels": 8, "channel_mult": (1, 2), "patch_size": 1, "head_dim": 8, "embedding": 16}
    return NetworkSettings.model_validate(chosen | {"context_dim": 0} | more)


def tiny_settings(network: NetworkSettings, side: int = 4, **more: Any) -> ModelSettings:
    """Of clips of four square frames, without text."""
    chosen = {"width": side, "height": side, "frames": 4, "network": network, "text": TextSettings(kind="none")}
    return ModelSettings.model_validate(chosen | more)


def add_noise_to_weights(module: nn.Module, size: float, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def write_model(path: Path, settings: ModelSettings, *, noise: float = 0.05, seed: int = 0) -> Path:
    """A checkpoint file of a network that was not trained, with weights that do something."""
    model = new_video_model(settings, seed)
    add_noise_to_weights(model, noise, seed)
    header = {"model": settings.model_dump(mode="json"), "step": 1, "phase": "stable", "clips_seen": 10_000}
    write_tensors(path, model.state_dict(), header | {"weights": "ema"})
    return path


def tiny_video_model(
    *, noise: float = 0.0, seed: int = 0, diffusion: DiffusionSettings | None = None, **network: Any
) -> VideoNetwork:
    """A model of 4x4 clips with a learned text tower."""
    text = TextSettings(vocabulary=collect_vocabulary(CAPTIONS))
    settings = tiny_settings(
        tiny_network(context_dim=8, **network), diffusion=diffusion or DiffusionSettings(), text=text
    )
    video_model = new_video_model(settings, seed)
    add_noise_to_weights(video_model, noise, seed)
    return video_model
