"""Weights of pretrained networks from safetensors files. Pickles are refused."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from torch import Tensor, nn

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.meta import meta_device

CONVERT = (
    'convert it once: python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{old}', weights_only=True), '{new}')\""
)
PICKLES = (b"PK", b"\x80")  # how torch.save's files begin: a zip archive of pickles, or a pickle


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU, floats as float32. VidiffError: missing, damaged, a pickle."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = path.expanduser()
    if path.exists() and not path.is_file():  # /dev/zero has no end
        raise VidiffError(f"the weights {path} are not a file", expected="a safetensors file")
    try:
        with path.open("rb") as file:
            if file.read(2).startswith(PICKLES):
                fix = CONVERT.format(old=path.name, new=path.with_suffix(".safetensors").name)
                raise VidiffError(f"{path} may run code when it is read", expected="a safetensors file", fix=fix)
        state = load(path.read_bytes())
    except OSError as error:
        raise VidiffError(f"the weights {path} cannot be read", found=(error.strerror or str(error)).lower()) from error
    except (SafetensorError, ValueError) as error:
        found = " ".join(str(error).split())[:120]
        raise VidiffError(f"the weights {path} are damaged", found=found, expected="a safetensors file") from error
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise VidiffError(f"the weights {path} are not all finite numbers", fix="take another file")
    return state


def with_weights(
    build: Callable[[], nn.Module],
    state: dict[str, Tensor],
    path: Path,
    *,
    what: str,
    without: Collection[str] = (),
) -> nn.Module:
    """The network that `build` makes, with the weights `state` of `path`: frozen, in evaluation mode, on the CPU.

    The parts named in `without` are left out of the network and of the weights. VidiffError where they do not fit.
    """
    with meta_device():
        network = build()
    for name in without:
        setattr(network, name, nn.Identity())
    kept = {name: value for name, value in state.items() if name.partition(".")[0] not in without}
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in kept.items()}
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if different:
        where = (
            f"{different[0]} of shape {tuple(found[different[0]])}" if different[0] in found else f"no {different[0]}"
        )
        raise VidiffError(f"{path} does not hold the weights of {what}", found=where)
    network.load_state_dict(kept, assign=True)
    return network.eval().requires_grad_(False)
