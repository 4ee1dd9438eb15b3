"""Networks of torchvision that were trained to recognize actions, with weights from a file: frozen, for features."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from vidiff_cli.models.pretrained import with_weights
from vidiff_cli.text.patch_torchvision import patch_torchvision_nms

# of Kinetics-400, for pixels in [0, 1], as torchvision's weights were trained
MEAN, DEVIATION = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureNetSpec:
    """A network by the layers that a loss reads: `stages` run one after another, and the features after each of `taps`
    are compared; the layers `head` come after them. `side` is the shorter side in pixels that it was trained with;
    `key` is a tensor that only this network has."""

    key: str
    side: int
    head: tuple[str, ...]
    stages: Callable[[nn.Module], list[nn.Module]]
    taps: tuple[int, ...]


FEATURE_NETS = {
    "r3d_18": FeatureNetSpec(
        key="stem.0.weight",
        side=112,
        head=("layer3", "layer4", "fc"),
        stages=lambda network: [network.get_submodule(name) for name in ("stem", "layer1", "layer2")],
        taps=(0, 1, 2),
    ),
    "s3d": FeatureNetSpec(
        key="features.0.0.0.weight",
        side=224,
        head=("classifier",),
        stages=lambda network: list(network.get_submodule("features").children())[:7],
        taps=(0, 3, 6),  # 64, 192 and 480 channels
    ),
}


def feature_network(name: str, state: dict[str, Tensor], path: Path, *, without: Collection[str]) -> nn.Module:
    """The network `name` of FEATURE_NETS with the weights `state` of the file `path`, without some of its parts; on the
    CPU. VidiffError where they do not fit."""
    patch_torchvision_nms()
    from torchvision.models import video

    build = {"r3d_18": video.r3d_18, "s3d": video.s3d}[name]
    return with_weights(lambda: build(weights=None), state, path, what=f"torchvision's {name}", without=without)
