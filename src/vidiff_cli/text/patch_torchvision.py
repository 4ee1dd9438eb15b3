"""torchvision beside a torch that it was not built for."""

import importlib.util
import sys
from pathlib import Path

import torch

# A torch Library takes its definitions back when it is collected, so the one that mends torchvision lives here.
_mended: torch.library.Library | None = None


def patch_torchvision_nms() -> str | None:
    """Let torchvision be imported although its compiled operators do not load; call before importing open_clip.

    torchvision describes two operators to torch while it is imported, and torch refuses to describe an operator that
    does not exist: a torchvision built for another torch cannot be imported at all. Declaring the two names is enough.
    They stay without an implementation: `torchvision.ops.nms` still raises torchvision's own error.
    Returns why the operators are off, or None when nothing had to be done: a healthy torchvision, none at all, or one
    that is imported already.
    """
    global _mended
    spec = importlib.util.find_spec("torchvision") if "torchvision" not in sys.modules else None
    if spec is None or not spec.submodule_search_locations or _mended is not None:
        return None
    folder = Path(spec.submodule_search_locations[0])
    reason = f"{folder} holds no compiled operators"
    for binary in sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")]):
        try:
            torch.ops.load_library(str(binary))
        except OSError as error:
            reason = str(error.__cause__ or error)
    # Only after the probe: a second declaration beside a working library would be the error that this prevents.
    missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
    if "nms" not in missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _mended = library
    return reason
