"""One thread, for bit-equality; and the smallest source and model that train."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vidiff_cli.config.model import DiffusionSettings, ModelSettings, NetworkSettings, TextSettings
from vidiff_cli.models.video_model import VideoNetwork, new_video_model
from vidiff_cli.text.learned import collect_vocabulary
from vidiff_cli.training.loader import ClipSource

CAPTIONS = ["a red square moving left", "a blue circle", "green", "two words"]


@dataclass(frozen=True)
class StubRow:
    frames: int
    fps: str = "8"
    captions: Sequence[str] = ("a caption",)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def row() -> type[StubRow]:
    return StubRow


@pytest.fixture
def make_source() -> Callable[[Sequence[StubRow]], ClipSource]:
    """A source of 4x4 clips: pixel values are (row, frame, 0), so that a frame says where it is from."""

    def make(rows: Sequence[StubRow]) -> ClipSource:
        def read(number: int, frames: Sequence[int]) -> np.ndarray:
            assert all(0 <= frame < rows[number].frames for frame in frames)
            video = np.zeros((len(frames), 4, 4, 3), dtype=np.uint8)
            video[..., 0], video[..., 1] = number, np.array(frames)[:, None, None]
            return video

        return ClipSource(rows=rows, read=read)

    return make


@pytest.fixture
def make_video_model() -> Callable[..., VideoNetwork]:
    """A tiny model of 4x4 clips with a learned text tower; `noise` on every weight makes all paths live."""

    def make(
        *,
        noise: float = 0.0,
        seed: int = 0,
        diffusion: DiffusionSettings | None = None,
        dropout: float = 0.0,
        motion: bool = False,
    ) -> VideoNetwork:
        settings = ModelSettings(
            width=4,
            height=4,
            frames=4,
            network=NetworkSettings(
                base_channels=8,
                channel_mult=(1, 2),
                patch_size=1,
                head_dim=8,
                embedding=16,
                context_dim=8,
                dropout=dropout,
                motion=motion,
            ),
            diffusion=diffusion or DiffusionSettings(),
            text=TextSettings(vocabulary=collect_vocabulary(CAPTIONS)),
        )
        video_model = new_video_model(settings, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in video_model.parameters():
                parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
        return video_model

    return make
