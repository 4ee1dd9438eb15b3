"""Motion between frames, and frames predicted from it, without learning and without state.

This room makes the estimate to which every model adds. Legend of the room: b pairs of frames, c channels (1 to 4), t
frames, h w pixels, h' w' pixels at the size at which motion is estimated; pixels are in [-1, 1]. A flow F (b 2 h' w')
is in pixels of its own size, x before y: the content at p in the first frame is at p + F(p) in the second.
"""

from vidiff_cli.motion.changes import is_cut, is_flash, repeated_frames
from vidiff_cli.motion.clip import estimate_around, estimate_clip
from vidiff_cli.motion.extrapolation import extrapolate
from vidiff_cli.motion.flow import full_size_flow, optical_flow
from vidiff_cli.motion.interpolation import interpolate
from vidiff_cli.motion.warping import consistency, forward_backward_mask, warp

__all__ = [
    "consistency",
    "estimate_around",
    "estimate_clip",
    "extrapolate",
    "forward_backward_mask",
    "full_size_flow",
    "interpolate",
    "is_cut",
    "is_flash",
    "optical_flow",
    "repeated_frames",
    "warp",
]
