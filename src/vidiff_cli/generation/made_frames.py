"""Made frames into a store: rounded to 8 bits, and refused where a network's numbers have overflowed.

Shapes: b clips, m frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.pixels import to_uint8


def write_made(store: FrameStore, ranks: Sequence[int], frames: Tensor, where: str) -> None:
    """Put made frames (b 3 m h w) in their places. `where` they are from is named in the error.

    Raises VidiffError for NaN, which a number format too narrow for a network makes and which would be written as
    black, and where the store cannot be written.
    """
    if not bool(frames.isfinite().all()):
        fix = "use --dtype fp32, or an earlier checkpoint"
        raise VidiffError("the network's numbers are not finite", found=f"NaN in {where}", fix=fix)
    store.write(ranks, to_uint8(frames).cpu().permute(2, 0, 3, 4, 1).contiguous().numpy())
