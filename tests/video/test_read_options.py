"""HDR, wide colors, transparency and fields become 8-bit RGB as the options say, in every reader."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from vidiff_cli.config.read_options import ReadOptions
from vidiff_cli.errors import VidiffError
from vidiff_cli.video import encode, ffmpeg, probe, stream_frames
from vidiff_cli.video.filters import describe_conversion

COLORS = np.array(
    [[255] * 3, [200, 30, 20], [30, 160, 40], [20, 40, 200], [128] * 3, [200, 170, 40], [60] * 3, [0] * 3]
)
TAGGED = (
    "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p12le,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
)
LINEAR = "zscale=t=linear:npl=203,format=gbrpf32le"
X265 = ["-c:v", "libx265", "-x265-params", "log-level=none:lossless=1"]
FFV1 = ["-c:v", "ffv1", "-level", "3"]
PROFILES = {  # name: the filters from linear light (HDR), or from BT.709, to the file's own colors; the codec
    "pq.mp4": (f"{LINEAR},zscale=p=bt2020:t=smpte2084:m=bt2020nc:r=tv:npl=203,format=yuv444p10le", X265),
    "pq full range.mkv": (f"{LINEAR},zscale=p=bt2020:t=smpte2084:m=bt2020nc:r=pc:npl=203,format=yuv444p10le", FFV1),
    "pq of p3.mp4": (f"{LINEAR},zscale=p=smpte432:t=smpte2084:m=bt2020nc:r=tv:npl=203,format=yuv444p10le", X265),
    "pq rgb.mkv": (f"{LINEAR},zscale=p=bt2020:t=smpte2084:m=gbr:r=pc:npl=203,format=gbrp10le", FFV1),
    "hlg.mp4": (f"{LINEAR},zscale=p=bt2020:t=arib-std-b67:m=bt2020nc:r=tv:npl=203,format=yuv444p10le", X265),
    "hlg.mkv": (f"{LINEAR},zscale=p=bt2020:t=arib-std-b67:m=bt2020nc:r=tv:npl=203,format=yuv444p10le", FFV1),
    "bt2020.mp4": ("zscale=p=bt2020:t=bt709:m=bt2020nc:r=tv,format=yuv444p10le", X265),
    "p3.mkv": ("zscale=p=smpte432:t=bt709:m=bt709:r=tv,format=yuv444p10le", FFV1),
}


def run(*arguments: str) -> None:
    code, log, _ = ffmpeg.run(list(arguments))
    assert code == 0, log


def read(path: Path, *, size: tuple[int, int] | None = None, **options: str) -> np.ndarray:
    for reading in stream_frames(probe(path, ReadOptions.model_validate(options)), size=size):
        blocks = [frames for _, frames in reading.blocks]
    return np.concatenate(blocks)


def patches(frame: np.ndarray) -> np.ndarray:
    """The middle of each of eight columns (8 c)."""
    width = frame.shape[1] // 8
    return frame[frame.shape[0] // 2, width // 2 :: width].astype(int)


@pytest.fixture(scope="module")
def colors(tmp_path_factory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("colors")
    frame = np.repeat(COLORS.astype(np.uint8)[None], 32, axis=0).repeat(16, axis=1)
    encode(folder / "sdr.mkv", [frame] * 2, Fraction(10), lossless=True)

    def make(name: str) -> Path:
        filters, codec = PROFILES[name]
        run("-i", str(folder / "sdr.mkv"), "-vf", f"{TAGGED},{filters}", *codec, str(folder / name))
        return folder / name

    return make


@pytest.mark.parametrize("name", PROFILES)
def test_colors_and_white_are_those_of_the_picture_in_standard_range(colors, name):
    path = colors(name)
    info = probe(path)
    kind = name[: name.index("q") + 1].upper() if name.startswith("pq") else "HLG" if name.startswith("hlg") else None
    assert info.hdr == kind
    assert [kind in text for text in describe_conversion(info)] == [True] if kind else info.wide_gamut
    for hdr, white in (("tonemap", 244 if kind else 255), ("clip", 255)):
        for size in (None, (32, 8)):
            got = patches(read(path, hdr=hdr, size=size)[0])
            assert np.abs(got[1:] - COLORS[1:]).max() <= 8, got
            assert np.abs(got[0] - white).max() <= 2, got
    if kind:
        with pytest.raises(VidiffError, match=rf"is HDR: found {kind}.*--hdr tonemap"):
            probe(path, ReadOptions(hdr="refuse"))
        with pytest.raises(VidiffError, match="decord"):
            for reading in stream_frames(path, decoder="decord"):
                list(reading.blocks)
    else:
        probe(path, ReadOptions(hdr="refuse"))


def test_what_is_brighter_than_white_is_told_apart_unless_it_is_clipped(tmp_path):
    """Steps of 203, 400 and 1000 nits."""
    codes = "geq=lum='if(lt(X,32),573,if(lt(X,64),636,723))':cb=512:cr=512"  # of SMPTE ST 2084, 10 bits
    tags = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc:range=tv"
    bright = f"color=black:s=96x32:r=10:d=0.2,format=yuv444p10le,{codes},{tags}"
    run("-f", "lavfi", "-i", bright, *X265, str(tmp_path / "a.mp4"))
    toned, clipped = (read(tmp_path / "a.mp4", hdr=hdr)[0, 16, 16::32, 1].astype(int) for hdr in ("tonemap", "clip"))
    assert 240 <= toned[0] < toned[1] < toned[2] <= 255
    assert (clipped >= 254).all()


ALPHA_FILES = {
    "a.png": [],
    "a.tiff": [],
    "palette.png": [],
    "still.webp": [],
    "gray.png": [],
    "a.apng": [],
    "a.gif": [],
    "a.webp": ["-c:v", "libwebp_anim", "-lossless", "1", "-loop", "0"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-crf", "4", "-b:v", "0", "-deadline", "realtime"],
    "vp8.webm": ["-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-crf", "4", "-b:v", "4M"],
    "prores.mov": ["-c:v", "prores_ks", "-profile:v", "4", "-pix_fmt", "yuva444p10le"],
    "png.mov": ["-c:v", "png", "-pix_fmt", "rgba"],
    "ffv1.mkv": ["-c:v", "ffv1", "-pix_fmt", "bgra"],
}


def transparent(path: Path, arguments: list[str]) -> Path:
    """Opaque green at the left; at the right transparent pixels whose hidden color is magenta."""
    pixels = np.zeros((32, 64, 4), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (0, 200, 0, 255), (255, 0, 255, 0)
    image = Image.fromarray(pixels)
    if path.name == "gray.png":
        image = image.convert("LA")
    elif path.name == "palette.png":
        image = image.convert("RGB").quantize(4)
        image.info["transparency"] = image.getpixel((60, 10))
    elif path.suffix == ".gif":
        image.save(path, save_all=True, append_images=[image, image], duration=100, disposal=2)
        return path
    if path.suffix in (".png", ".tiff") or path.name == "still.webp":
        image.save(path, lossless=True, exact=True)  # which WebP alone knows
        return path
    (path.parent / "frames").mkdir()
    for number in range(3):
        image.save(path.parent / "frames" / f"{number}.png")
    run("-framerate", "10", "-i", str(path.parent / "frames" / "%d.png"), *arguments, str(path))
    return path


@pytest.mark.parametrize("name", ALPHA_FILES)
def test_one_background_for_all_that_is_transparent(tmp_path, name):
    path = transparent(tmp_path / name, ALPHA_FILES[name])
    info = probe(path)
    assert info.alpha and describe_conversion(info) == ["alpha channel, shown in front of black"]
    for options, color in (
        ({}, (0, 0, 0)),
        ({"background": "white"}, (255,) * 3),
        ({"background": "#3264c8"}, (50, 100, 200)),
    ):
        for size in (None, (16, 8)):
            frames = read(path, size=size, **options).astype(int)
            width = frames.shape[2]
            assert np.abs(frames[:, 2:-2, width // 2 + 2 :] - color).max() <= 6
            green = 117 if name == "gray.png" else (0, 200, 0)
            assert np.abs(frames[:, 2:-2, : width // 2 - 2] - green).max() <= 12
            edge = frames[:, 2:-2, width // 2 - 1 : width // 2 + 1]
            assert (edge[..., 0] - edge[..., 1]).max() <= max(color[0] - color[1], 6), "the hidden color shines through"


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.fromarray(np.full((16, 16, 4), (200, 100, 0, 128), np.uint8)).save(tmp_path / "0.png")
    run("-i", str(tmp_path / "0.png"), "-c:v", "ffv1", "-pix_fmt", "bgra", str(tmp_path / "a.mkv"))
    for name in ("0.png", "a.mkv"):
        for background, expected in (("black", (100, 50, 0)), ("white", (227, 177, 127))):
            assert np.abs(read(tmp_path / name, background=background)[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("color", ["blak", "#12", "#11223344", ""])
def test_a_background_is_a_color(color):
    with pytest.raises(ValidationError, match="is not a color"):
        ReadOptions(background=color)


BARS = "color=black:s=64x48:r=50:d=0.6,geq=lum='if(lt(mod(X+N*6,32),12),220,20)':cb=128:cr=128"
FIELDS = BARS + ",tinterlace=interleave_{}"
INTERLACED = {
    "top.mp4": ("top", "tff", ["-c:v", "libx264", "-flags", "+ilme+ildct", "-x264-params", "tff=1"]),
    "bottom.mkv": ("bottom", "bff", ["-c:v", "libx264", "-flags", "+ilme+ildct", "-x264-params", "bff=1"]),
    "top.ts": ("top", "tff", ["-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct"]),
    "top.mov": ("top", "tff", ["-c:v", "prores_ks", "-flags", "+ilme"]),
    "top.avi": ("top", "tff", ["-c:v", "ffv1", "-flags", "+ilme", "-field_order", "tt"]),
}


def combs(frames: np.ndarray) -> float:
    """How much more neighboring lines differ than lines of one field do."""
    rows = frames[..., 1].astype(int)
    return np.abs(np.diff(rows, axis=1)).mean() / (np.abs(rows[:, 2:] - rows[:, :-2]).mean() + 1)


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_frames_are_deinterlaced(tmp_path, name):
    first, parity, codec = INTERLACED[name]
    fields = f"{FIELDS.format(first)},setfield={parity}"
    run(
        "-f",
        "lavfi",
        "-i",
        fields,
        "-pix_fmt",
        "yuv422p10le" if name.endswith("mov") else "yuv420p",
        *codec,
        str(tmp_path / name),
    )
    info = probe(tmp_path / name)
    assert info.interlaced and describe_conversion(info) == ["interlaced frames, deinterlaced"]
    whole, torn = read(tmp_path / name), read(tmp_path / name, deinterlace="off")
    assert len(whole) == len(torn) == 15
    assert combs(torn) > 1.5 and combs(whole) < 0.8
    left = probe(tmp_path / name, ReadOptions(deinterlace="off"))
    assert describe_conversion(left) == ["interlaced frames, left as they are"]


def test_progressive_frames_stay(tmp_path, indexed):
    encode(tmp_path / "a.mp4", indexed(4), Fraction(10))
    info = probe(tmp_path / "a.mp4")
    assert not info.interlaced and not info.alpha and describe_conversion(info) == []


def test_floating_point_images_are_not_black(tmp_path):
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(16, axis=0)
    expected = np.round(ramp * 255)
    deep = {"one": ramp, "bytes": ramp * 255, "words": ramp * 65535, "int": (ramp * 255).round().astype(np.int32)}
    for name, values in deep.items():
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
        got = read(tmp_path / f"{name}.tif")[0, :, :, 0]
        assert np.abs(got.astype(int) - expected).max() <= 1, name
    broken = ramp.copy()
    broken[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(broken).save(tmp_path / "broken.tif")
    assert read(tmp_path / "broken.tif")[0, 0, :3, 0].tolist() == [0, 255, 0]
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "dark.png")
    assert read(tmp_path / "dark.png").max() <= 1
