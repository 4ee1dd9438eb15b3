"""ffmpeg's filters between its decoder and 8-bit RGB frames of one size.

Frames arrive upright: ffmpeg turns and mirrors them itself. In order: fields are interpolated, transparent pixels
become black (the background is added to the finished frames), frames are scaled, HDR and wide colors become BT.709.
"""

from __future__ import annotations

import numpy as np

from vidiff_cli.video import ffmpeg
from vidiff_cli.video.probe import VideoInfo

BY_TRIANGLE = "bilinear"
BY_AREA = "area+full_chroma_int+accurate_rnd"  # every pixel is the mean of those that it covers, with its own color
WHITE_NITS = 203  # of SDR white in an HDR picture (ITU-R BT.2408)
PEAK_NITS = {"PQ": 10_000, "HLG": 1_000}
KNEE = 0.8  # of white, linear: what is darker keeps its color, what is brighter is compressed; white becomes 244
UNTAGGED = frozenset({"unknown", "unspecified", "reserved"})


def filter_chain(info: VideoInfo, size: tuple[int, int], scaling: str) -> tuple[str, str]:
    """The filters for frames of `size` (w, h), and the pixel format in which they arrive: rgb24, or rgba with color
    multiplied by alpha."""
    chain = [ffmpeg.SHOWINFO]
    if deinterlaces(info):
        chain.append(
            "bwdif=mode=send_frame:" + ("deint=interlaced" if info.fields == "marked" else f"parity={info.fields}")
        )
    if info.alpha:
        chain += ["format=gbrap16le", "premultiply=inplace=1", *_scaled(info, size, scaling, "rgba")]
        return ",".join(chain), "rgba"
    if not (info.hdr or info.wide_gamut):
        return ",".join([*chain, *_scaled(info, size, scaling, "rgb24")]), "rgb24"
    chain += _scaled(info, size, scaling, "gbrp16le" if info.matrix == "gbr" else "yuv444p16le")
    matrix = "bt2020nc" if info.matrix in UNTAGGED else info.matrix
    primaries = "bt2020" if info.primaries in UNTAGGED else info.primaries
    transfer = "bt709" if info.transfer in UNTAGGED else info.transfer
    chain.append(f"zscale=tin={transfer}:pin={primaries}:min={matrix}:t=linear:npl={WHITE_NITS}")
    chain += ["format=gbrpf32le", "zscale=p=bt709"]
    if info.hdr and info.options.hdr == "tonemap":
        chain.append(f"tonemap=mobius:param={KNEE}:peak={PEAK_NITS[info.hdr] / WHITE_NITS:.3f}:desat=0")
    return ",".join([*chain, "zscale=t=bt709:m=gbr:r=pc", "format=gbrp", "format=rgb24"]), "rgb24"


def deinterlaces(info: VideoInfo) -> bool:
    """True if fields are interpolated to whole frames; turned by a quarter, their lines stand upright and stay."""
    return info.interlaced and info.options.deinterlace == "auto" and info.rotation in (0, 180)


def describe_conversion(info: VideoInfo) -> list[str]:
    """Phrases for a person about all that is changed on the way to 8-bit RGB."""
    found = list[str]()
    if info.hdr:
        found.append(f"HDR ({info.hdr}), {'tone-mapped' if info.options.hdr == 'tonemap' else 'clipped'} to SDR")
    elif info.wide_gamut and not info.alpha:
        found.append(f"{info.wide_gamut} colors, converted to BT.709")
    if info.alpha:
        found.append(f"alpha channel, shown in front of {info.options.background}")
    if info.interlaced:
        found.append("interlaced frames, deinterlaced" if deinterlaces(info) else "interlaced frames, left as they are")
    return found


def add_background(frame: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """RGB (h w 3) of a frame (h w 4) whose color is multiplied by alpha, in front of a color."""
    if not any(color):
        return frame[..., :3]
    behind = np.array(color, np.uint16) * (255 - frame[..., 3:].astype(np.uint16))
    return np.minimum(frame[..., :3] + (behind + 127) // 255, 255).astype(np.uint8)


def _scaled(info: VideoInfo, size: tuple[int, int], scaling: str, pixel_format: str) -> list[str]:
    """Filters that scale to `size`; frames of another size or shape than the first are fitted into it with bars.

    ffmpeg configures its filters anew where the size changes.
    """
    (width, height), (first_width, first_height) = size, info.frame_size
    same = f"eq(iw,{first_width})*eq(ih,{first_height})"
    fit = f"min({info.width}/(iw*sar),{info.height}/ih)"
    across = f"if({same},{width},max(1,round(iw*sar*{fit}*{width}/{info.width})))"
    down = f"if({same},{height},max(1,round(ih*{fit}*{height}/{info.height})))"
    scale = f"scale=w='{across}':h='{down}':flags={scaling}"
    return [scale, f"format={pixel_format}", f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2:black"]
