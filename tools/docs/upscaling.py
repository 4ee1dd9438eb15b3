"""docs/upscaling.md: super-resolution, and how it compares with filters, from benchmarks/results/upscale-*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.docs import between
from tools.docs.conditioning import table

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
VIEWS = {"random": 4, "shapes": 1}  # of a cascade's videos, and the digits of their distances
VERDICT = """Frames that are nearly right are worth an upscaler, most of all beyond the given ones. The errors of a
model are made sharper too: noisy frames alone (`--detail model`) lose on most films, and of a model that has learned
little there is nothing to gain. So it is not the default."""
FRAMES = """## In extend and interpolate

`vidiff extend` and `vidiff interpolate` take the frames that a model makes through the upscalers of `--then`, or of a
cascade named by `-m`, before they are enlarged to the film's size. An upscaler is shown the small frames in their
order and, if it was trained on known frames, the given ones at its own size: their detail reaches the made frames. Only
frames near made ones are upscaled, and only by the stages that the size of the result needs; given frames are never
touched.

With `--detail model` the upscaled frames take the place of enlarged ones. With `--detail both` the model's small frame
corrects the estimate by motion first, as without upscalers; beyond the given frames the upscaled frame then corrects
the result at its size:

$$y = h + E(w_1 (m - h_s)), \\qquad x = y + E(w_2 (U(m) - y_U)),$$

where $h$ is the estimate, $m$ the model's frame, $h_s$ the estimate that it was shown, $U$ the upscalers, $y_U$ the
frame $y$ at their size and $E$ a cubic. Both weights are fitted to frames of the input that are held back, by distance
and by classes of the estimate's uncertainty; where $w_2$ would be below 5 % everywhere, the upscalers are not taken.
Between given frames they are not: the estimate has the detail of both, and what is held back there is further from
given frames than what is to be made, so that the weight is too large.

"""
TEXT = """# Upscaling

<!-- made by `make docs` from benchmarks/results and tools/docs/upscaling.py: change them, not this page -->

```bash
vidiff upscale clip.mp4 --scale 2 -o large.mp4                     # the upscaler in the box
vidiff prep videos/ --size 256 --frames 12                         # large frames, stored once
vidiff train dataset --task upscale --scale 4 -o runs/upscale      # one of your own
vidiff upscale clip.mp4 -m runs/upscale -o large.mp4
vidiff upscale photo.jpg -o large.png                              # a picture: .png, .jpg or .webp
```

## How it works

**The estimate and its uncertainty.** The small frames are enlarged by a cubic. What an enlarged picture lacks is about
as strong as the finest detail that the small one has at that place: that is its uncertainty $S$, pixel by pixel, with
two constants that were fitted to real clips. The network is shown the enlarged frames, their finest detail over $S$,
$\\log S$, and what the noisy frames $z$ add to the enlarged ones. It predicts v around them: with $d = \\sigma^2 +
\\alpha^2 S^2$,

$$v = \\frac{{\\alpha \\sigma (1 - S^2)}}{{d}} z - \\frac{{\\sigma}}{{d}} h + \\frac{{S}}{{\\sqrt d}} F,$$

so that what the network itself gives, $F$, has unit variance at every noise level and in every pixel; $F = 0$ is the
best linear mixture of $z$ and the enlarged frames $h$. (Karras et al. 2022, section 5, with $N(h, S^2)$ for $N(0,
S^2)$.) Flat sky and grass are then equally hard, and a network that has learned little adds little.

**Conditioning augmentation** (Ho et al. 2022, *Cascaded diffusion models*): half of the small clips have noise in
training, each at a level of its own that the network is told by an embedding of its own. `--augmentation` adds some
when sampling.

**Any size.** The network has convolutions in space and in time, no attention, and norms of each cell: it is trained on
crops, one of each clip, and sees large frames tile by tile. A tile has a border as wide as the receptive field, so that
it is equal to the whole frame, with any sampler and any number of steps; there is nothing to blend.

**Photos.** A photo is a film of one frame, and becomes a picture file (by default a .png, upright, without EXIF data)
or, where `-o` names one, a video. Transparent pixels are put before `--background`, black unless another color is
named: the result is opaque.

**The weight.** Before a film is upscaled, some of its frames are made small, upscaled and compared with what they were:
the share of the model's corrections that was right is the share that counts (`--detail model`: all of it).

**Steps.** One step from noise gives the mean of what the frames can be: the nearest to the truth, and the default.
`--steps 8` samples one possibility, which is sharper and further away.

## Measured

{films}

![Small, cubic, Lanczos, the mean, the truth](results/upscale.jpg)

{augmentation}{distilled}{cost}{cascade}{frames}{between}## The uncertainty

RMS error of enlarged pixels as the network is told, and as found on clips that it was not fitted to, by tenths of what
is told (`python -m benchmarks upscale uncertainty`), in pixels of [-1, 1].

{uncertainty}
"""


def page() -> str:
    """The page; a table whose benchmark was not run is left out."""
    return TEXT.format(
        films=_films(),
        augmentation=_augmentation(),
        distilled=_distilled(),
        cost=_cost(),
        cascade=_cascade(),
        frames=_frames(),
        between=between.section(),
        uncertainty=_uncertainty(),
    )


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"upscale-{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _films() -> str:
    found = _read("films")
    if found is None:
        return ""
    count, frames = len(found["clips"]), found["frames"]
    text = f"""Real clips at their own size that nothing was tuned on ({count} clips, {frames} frames around the
middle of each; `python -m benchmarks upscale films`), made small by an antialiased cubic and rounded to 8 bits, and
made large again. The model in the box is trained on generated films alone, and taken twice for x4. PSNR is capped at 50
dB. *Sharpness* is the energy of the finest detail over the truth's, *flicker* the warping error along the true motion
over the truth's (1 is right). Means over clips, losses first; CPU time is that of the whole command.
"""
    parts = [text]
    for scale, ways in found["summary"].items():
        rows = [
            [
                name,
                f"{row['psnr']:.2f}",
                f"{row['gain']:+.2f}",
                f"{row['worst']:+.2f} ({row['worst_clip']})",
                str(row["lost"]),
                f"{row['ssim']:.4f}",
                f"{row['sharpness']:.2f}",
                f"{row['flicker']:.2f}",
                f"{row['cpu_ms']:.0f}",
            ]
            for name, row in sorted(ways.items(), key=lambda item: item[1]["psnr"])
        ]
        head = [
            scale,
            "PSNR",
            "over Lanczos",
            "worst clip",
            "clips lost",
            "SSIM",
            "sharpness",
            "flicker",
            "CPU ms a frame",
        ]
        parts.append(table(head, rows) + "\n")
    clips = [
        [
            row["clip"],
            row["size"],
            *(
                f"{row[scale]['posterior mean']['psnr'] - row[scale]['lanczos']['psnr']:+.2f}"
                for scale in found["summary"]
            ),
        ]
        for row in found["clips"]
    ]
    parts.append(table(["clip", "size", *(f"{scale}: mean over Lanczos" for scale in found["summary"])], clips))
    return "\n".join(parts)


def _augmentation() -> str:
    found = _read("augmentation")
    if found is None:
        return ""
    rows = [
        [
            *key.split(" | "),
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.4f}",
            f"{row['sharpness']:.2f}",
            f"{row['flicker']:.2f}",
        ]
        for key, row in found["rows"].items()
    ]
    return f"""## Noise on the input

x{found["scale"]}, {found["half"]} half, the middle 160x160 of the frames, the model without the weight
(`python -m benchmarks upscale augmentation`). The model passes the noise on in part, and none is best: the default.

{table(["", "augmentation", "PSNR", "SSIM", "sharpness", "flicker"], rows)}

"""


def _distilled() -> str:
    found = _read("distilled")
    if found is None:
        return ""
    rows = [
        [
            name,
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.4f}",
            f"{row['sharpness']:.2f}",
            f"{row['flicker']:.2f}",
            f"{row['cpu_ms']:.0f}",
        ]
        for name, row in sorted(found["rows"].items(), key=lambda item: item[1]["psnr"])
    ]
    return f"""## Fewer steps for one sample

The upscaler in the box and a model that was distilled from it in 150 steps (`vidiff distill`), x{found["scale"]},
{found["half"]} half, the middle {found["side"]}x{found["side"]} of the frames
(`python -m benchmarks upscale distilled`).

{table(["", "PSNR", "SSIM", "sharpness", "flicker", "CPU ms a frame"], rows)}

"""


def _cost() -> str:
    found, memory = _read("cost"), _read("memory")
    if found is None or memory is None:
        return ""
    rows = [
        [
            row["input"],
            str(row["frames"]),
            f"{row['cpu_seconds']:.1f}",
            f"{row['cpu_seconds_per_megapixel']:.2f}",
        ]
        for row in found["rows"]
    ]
    peaks = [[row["input"], str(row["frames"]), f"{row['peak_mb']:.0f}"] for row in memory["rows"]]
    one, several = (f"{memory['tensors'][steps]:.1f}" for steps in ("1", "3"))
    return f"""## Cost

x{found["scale"]} by the upscaler in the box on a CPU (`python -m benchmarks upscale cost`): processor time of the whole
command, per megapixel of the result. Where it will take more than a minute, the command says so first.

{table(["input", "frames", "CPU s", "CPU s a megapixel"], rows)}

The largest memory of the process (`python -m benchmarks upscale memory`): most of it is that of a tile (`--tile`), and
does not grow with the frame once that is larger. Of a window's large frames in float32 there are about {one} at the
same time in one step, and {several} in several: a single step is taken in each tile by itself.

{table(["input", "frames", "peak MB"], peaks)}

"""


def _cascade() -> str:
    path = RESULTS / "cascade.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text("utf-8"))
    spent, steps = found["training_cpu_seconds"], found["steps"]
    rows = []
    for name, row in sorted(found["rows"].items(), key=lambda item: item[1]["right"]["all"][0]):
        right, low, high = (100 * value for value in row["right"]["all"])
        distances = [f"{row['distance'][view]['frechet'][0]:.{digits}f}" for view, digits in VIEWS.items()]
        seconds = "" if name == "truth" else f"{row['sampling_cpu_seconds']:.2f}"
        rows.append([name, f"{right:.0f} % ({low:.0f} to {high:.0f})", *distances, seconds])
    head = ["", "all words right", "distance, random features", "distance, shapes", "CPU s a video"]
    return f"""## A cascade

`vidiff sample PROMPT -m BASE --then UPSCALER`, or one model of both by `vidiff cascade BASE UPSCALER -o RUN`. Shapes of
64x64 from a base of 16x16 ({steps["base"]} steps, {spent["base"]:.0f} CPU s) and an upscaler ({steps["upscaler"]}
steps, {spent["upscaler"]:.0f} CPU s), and from one stage of 64x64 ({steps["one stage"]} steps,
{spent["one stage"]:.0f} CPU s); {found["captions"]} captions, one seed of training (`python -m benchmarks cascade`).
The cascade shows more of its captions, by what its base has learned at a quarter of the size; one stage has sharper
edges, and is nearer to true videos. Finished windows of every stage are kept beside the result until it is written: the
same command goes on after them. `vidiff push RUN hf:OWNER/NAME` sends a cascade with all its stages.

{table(head, rows)}

![The three by caption](results/cascade.png)

"""


def _frames() -> str:
    found = _read("frames")
    if found is None:
        return FRAMES
    parts = [
        FRAMES,
        f"""The first real films of the half that nothing was tuned on (*clips lost* tells of how many), of a short
side of at most {found["side"]} pixels, models of 64 pixels, and the upscaler in the box (`python -m benchmarks
upscale frames`). *True frames* stand in for a model: the film's own, made small, with noise of 2 levels; *noisy* ones
have 8, as frames of a model that was trained for an hour; *trained for a minute* is a real one (38 steps).
*Over none*: PSNR against the same without `--then`. Flicker is that of given and made frames together. Losses first.
""",
    ]
    for task, ways in found["summary"].items():
        rows = [
            [
                way.replace(" | ", ", "),
                f"{row['psnr']:.2f}",
                f"{row['gain']:+.2f}" if way.endswith("--then") else "",
                f"{row['worst']:+.2f} ({row['worst_clip']})" if way.endswith("--then") else "",
                f"{row['lost']} of {row['clips']}" if way.endswith("--then") else "",
                f"{row['ssim']:.4f}",
                f"{row['sharpness']:.2f}",
                f"{row['flicker']:.2f}",
                f"{row['cpu_ms']:.0f}",
            ]
            for way, row in sorted(ways.items(), key=lambda item: item[1]["psnr"])
        ]
        head = [task, "PSNR", "over none", "worst clip", "clips lost", "SSIM", "sharpness", "flicker", "CPU ms a frame"]
        parts.append(table(head, rows) + "\n")
    return "\n".join(parts) + f"\n{VERDICT}\n\n"


def _uncertainty() -> str:
    found = _read("uncertainty")
    if found is None:
        return ""
    rows = [
        [scale, *(f"{row['told']:.3f} / {row['found']:.3f}" for row in parts)] for scale, parts in found["rows"].items()
    ]
    return table(["told / found", *(str(number) for number in range(1, 11))], rows)
