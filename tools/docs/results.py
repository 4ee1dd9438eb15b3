"""docs/results.md, from the figures in benchmarks/results/paper-*.json."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
WORDS = ("all", "color", "shape", "size", "motion")
VDM = {  # Video Diffusion Models, tables 4, 5 (frame skip 1) and 6: FVD
    "J = 0": 202.28,
    "J = 4": 68.11,
    "J = 8": 57.84,
    "1": 41.65,
    "2": 50.19,
    "5": 163.74,
    "reconstruction": 136.22,
    "replacement": 451.45,
}


def page() -> str:
    return "\n".join((opening(), extension(), guidance(), samplers(), images(), targets()))


def found(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"paper-{name}.json").read_text(encoding="utf-8"))


def prose(text: str) -> str:
    """Paragraphs, filled."""
    paragraphs = (" ".join(part.split()) for part in text.strip().split("\n\n"))
    return "\n\n".join(textwrap.fill(part, 118, break_long_words=False, break_on_hyphens=False) for part in paragraphs)


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def ranged(values: list[float], *, digits: int = 2, percent: bool = False) -> str:
    scale, digits = (100, 0) if percent else (1, digits)
    value, low, high = (f"{scale * number:.{digits}f}" for number in values)
    return f"{value} ({low} to {high})"


def frechet(row: dict[str, Any], *, key: str = "distance", extractor: str = "random") -> str:
    """In thousandths, but for the `shapes` extractor, whose features are large."""
    found = row[key][extractor]["frechet"]
    return ranged(found, digits=0) if extractor == "shapes" else ranged([1000 * value for value in found])


def kernel(row: dict[str, Any]) -> str:
    value, low, high = (f"{1000 * number:.2f}" for number in row["distance"]["changes"]["kernel"])
    return f"{value} ({low} to {high})"


def distance(row: dict[str, Any], *, key: str = "distance", extractor: str = "changes") -> float:
    return row[key][extractor]["frechet"][0]


def share(row: dict[str, Any], name: str) -> str:
    return f"{100 * row['right'][name][0]:.0f} %"


def window_head(first: str) -> list[str]:
    return [first, "changes", "videos", "frames", "`shapes`", "all words, %", *WORDS[1:]]


def window_row(name: str, row: dict[str, Any]) -> list[str]:
    return [
        name,
        frechet(row, extractor="changes"),
        frechet(row),
        frechet(row, key="images"),
        frechet(row, extractor="shapes"),
        f"{ranged(row['right']['all'], percent=True)}",
        *(share(row, word) for word in WORDS[1:]),
    ]


def opening() -> str:
    data = found("extension")
    machine, model, yardstick = data["machine"], data["model"], data["distances"]
    random, shapes = (yardstick["extractors"][name][:12] for name in ("random", "shapes"))
    minutes = model["training_cpu_seconds"] / 60
    text = f"""
What *Video Diffusion Models* (Ho et al. 2022) reports, tried again in a world whose truth is known: one small colored
thing on black that bounces, circles or stands still for ever, 16x16 pixels, 8 frames a second, windows of 8 frames
(`world.part=lasting`). The models are the preset `tiny` made narrower, with convolutions over time alone, predicting x,
trained by `vidiff train`'s own task from seed 0 on 16 clips a step: {model["steps"]:,} steps and {minutes:.0f}
minutes of process time at most, far from converged. **What can agree are directions and orders, not numbers**: the
paper's models are far larger and see real videos of 64x64 pixels.

Chosen after first results had been seen: the model's recipe (twice, each time because it had learnt too little),
captions in the extension (without them hardly any way kept the thing), and the distance of changes (an
earlier extractor saw no
motion).

Measured on one thread of {machine["processor"]} with {machine["cores"]} cores that others used at the same time, so
that times are process times, not wall times, and larger than on a quiet machine. Sampling is dpmpp-2m
with {data["sampling"]["steps"]} steps and no guidance where nothing else is said; video i has seed i.

Distances are taken to {yardstick["reference_videos"]} true videos of another seed, on the features of vidiff's own
`random` extractor (sha256 `{random}`) unless the column says `shapes` (`{shapes}`); "changes" are the same of how much
each frame differs from the one before, which shows how things move; "videos" of the videos and "frames" of single
frames, which show how they look. Frechet distances where nothing else is said, in thousandths (`shapes`: as they are).
All are proxies, **not FVD**, and grow as videos become fewer: compare within a table,
with the row of true videos as the floor. Brackets are 95 % intervals by drawing videos again
({yardstick["bootstrap_replicates"]} times); no interval covers another training seed, of which there is one.
"""
    return f"""# The paper's claims, in small

{prose(text)}

<!-- made by `make docs` from benchmarks/results/paper-*.json: run the benchmarks, not an editor -->
"""


def extension() -> str:
    data = found("extension")
    rows = data["rows"]
    ways = {name: rows[name] for name in ("truth", "replacement", "reconstruction", "learned")}
    looks = [
        [
            name,
            frechet(row, extractor="changes"),
            kernel(row),
            frechet(row),
            frechet(row, key="images"),
            frechet(row, key="first_image"),
            ranged(row["seam_jump"]),
            ranged(row["inside"]),
        ]
        for name, row in ways.items()
    ]
    head = [
        "",
        "Frechet, changes",
        "kernel, changes",
        "Frechet, videos",
        "frames",
        "first frame",
        "seam jump",
        "inside windows",
    ]
    follows = [
        [
            name,
            ranged(row["center_px_first_window"]),
            ranged(row["center_px"]),
            ranged(row["kept"], percent=True),
            ranged(row["motion_kept"], percent=True),
            f"{row['cpu_seconds']:.0f}",
        ]
        for name, row in ways.items()
    ]
    head2 = ["", "center off by, px: first window", "all 60 frames", "thing kept, %", "motion kept, %", "CPU s"]
    paper = VDM["replacement"] / VDM["reconstruction"]
    text = f"""
`python -m benchmarks paper.extension`: {data["given"]} true frames are given, 60 are made with the caption in 15
windows, each shown the 4 frames before it; {data["videos"]} videos, the same model, seeds and given frames for every
way. The paper (table 6) has an FVD of {VDM["replacement"]} with replacement and {VDM["reconstruction"]} with
reconstruction guidance, a ratio of {paper:.1f}, and equal first frames, as these are made before anything is extended.
"""
    meaning = """
"Seam jump" is the squared change across the joins of windows over that of the true videos, "inside windows" the same
between other frames: 1 is right, more is a jump, less is motion that freezes.
"""
    meaning2 = """
Where the thing is against the true continuation (pixels; half the canvas, 8, where nothing is seen), and the share of
videos whose last 16 frames still show its color, shape and size, and its motion.
"""
    return f"""## 1. 64 frames: replacement against reconstruction guidance

{prose(text)}

{table(head, looks)}

{prose(meaning)}

{table(head2, follows)}

{prose(meaning2)}

{prose(verdict_extension(rows))}

![](results/extension.png)

![](results/extension-sheet.png)

{by_weight(data)}"""


def by_weight(data: dict[str, Any]) -> str:
    scanned: dict[str, dict[str, str]] = {}
    for name, row in data["rows"].items():
        if name.startswith("scan, "):
            _, sampler, weight = name.split(", ")
            scanned.setdefault(sampler, {})[weight] = f"{row['seam_jump'][0]:.2f}, {row['center_px'][0]:.2f} px"
    if not scanned:
        return ""
    weights = list(next(iter(scanned.values())))
    lines = [[sampler, *(cells.get(weight, "") for weight in weights)] for sampler, cells in scanned.items()]
    text = f"""
Seam jump and center, {data["scan"]["videos"]} of the videos, {data["scan"]["frames"]} frames (three windows). Weight 0
is replacement; the Langevin correction is the paper's 0.1 and takes twice the calls of the network.
"""
    return f"""### By weight and sampler

{prose(text)}

{table(["sampler", *(f"weight {weight}" for weight in weights)], lines)}

{prose(verdict_weights(data["rows"]))}
"""


def guidance() -> str:
    data = found("guidance")
    rows = data["rows"]
    lines = [window_row(name if name == "truth" else f"scale {name}", row) for name, row in rows.items()]
    text = f"""
`python -m benchmarks paper.guidance`: {data["videos"]} captions, one window each, the model of section 1. The oracle
reads the words back from the frames; "all" is every word of a caption at once. The paper (table 5) has an FVD of
{VDM["1"]}, {VDM["2"]} and {VDM["5"]} at the scales 1, 2 and 5 (at frame skip 4 the least is at 2), while the
inception score, which is to accuracy what FVD is to the distance here, rises.
"""
    return f"""## 2. The guidance scale

{prose(text)}

{table(window_head(""), lines)}

{prose(verdict_guidance(rows))}

![](results/guidance.png)
"""


def samplers() -> str:
    data = found("samplers")
    rows = data["rows"]
    lines = [
        [*window_row(name, row), f"{row['off_limit'][0]:.3f}" if row.get("off_limit") else "", seconds(row)]
        for name, row in rows.items()
    ]
    text = f"""
`python -m benchmarks paper.samplers`: {data["videos"]} captions, no guidance, one call per step, the model of section
1. The paper samples with 256 to 512 ancestral steps (ddpm). dpmpp-2m and ddim solve one equation from the same noise:
"off the limit" is how far a video is from the same one made by dpmpp-2m with 128 calls (root mean square, pixels in
[-1, 1]).
"""
    return f"""## 3. Samplers by calls of the network

{prose(text)}

{table([*window_head(""), "off the limit", "CPU s"], lines)}

{prose(verdict_samplers(rows))}

![](results/samplers.png)
"""


def seconds(row: dict[str, Any]) -> str:
    return f"{row['cpu_seconds']:.0f}" if row.get("cpu_seconds") else ""


def trained(row: dict[str, Any]) -> list[str]:
    return [f"{row['model']['steps']}", f"{row['model']['training_cpu_seconds']:.0f}"] if "model" in row else ["", ""]


def images() -> str:
    data = found("images")
    rows = data["rows"]
    lines = [[*window_row(name, row), *trained(row)] for name, row in rows.items()]
    text = f"""
`python -m benchmarks paper.images`: J images beside each clip in training, {data["videos"]} captions, no guidance. The
paper (table 4) has an FVD of {VDM["J = 0"]}, {VDM["J = 4"]} and {VDM["J = 8"]} for J = 0, 4 and 8 in equal steps, of
which those with images cost more. The last row spends on clips alone what J = 8 costs: twice the steps are as many
frames.
"""
    return f"""## 4. Images beside clips

{prose(text)}

{table([*window_head(""), "steps", "training CPU s"], lines)}

{prose(verdict_images(rows))}

![](results/images.png)
"""


def targets() -> str:
    data = found("targets")
    rows = data["rows"]
    lines = [[*window_row(name, row), ranged(row["color_drift"]), *trained(row)] for name, row in rows.items()]
    text = f"""
`python -m benchmarks paper.targets`: v and eps with plain MSE of what is predicted, x with the truncated weight of the
other sections; the same seed and steps, {data["videos"]} captions, no guidance. The paper uses eps and v and compares
them nowhere; Imagen Video (section 2.4, figures 12 and 13) finds that v converges sooner and that eps lets colors
wander. "Wandering" is the standard deviation of a frame's mean color over a clip, in levels of 255.
"""
    return f"""## 5. What the network predicts

{prose(text)}

{table([*window_head(""), "wandering", "steps", "training CPU s"], lines)}

{prose(verdict_targets(rows))}

![](results/targets.png)

![](results/targets-sheet.png)
"""


def agrees(does: bool) -> str:
    return "**Agrees**" if does else "**Does not agree**"


def verdict_extension(rows: dict[str, Any]) -> str:
    old, new, learned, floor = (rows[name] for name in ("replacement", "reconstruction", "learned", "truth"))
    kernels = old["distance"]["changes"]["kernel"][0] / new["distance"]["changes"]["kernel"][0]
    firsts = [distance(row, key="first_image", extractor="random") for row in (old, new, learned)]
    worse = distance(old, key="images", extractor="random") / distance(new, key="images", extractor="random")
    kept = [100 * row["kept"][0] for row in (old, new, learned)]
    moves = [100 * row["motion_kept"][0] for row in (old, new, learned, floor)]
    px = [row["center_px_first_window"][0] for row in (old, new, learned)]
    told = {view: rows["ratio"][view]["frechet"] for view in ("changes", "random", "shapes")}
    texts = {view: f"{value:.1f} ({low:.1f} to {high:.1f})" for view, (value, low, high) in told.items()}
    sure = all(low > 1 for _, low, _ in told.values())
    return f"""
{agrees(old["seam_jump"][1] > new["seam_jump"][2] and px[0] > px[1])} in what is seen: replacement jumps at the joins
({old["seam_jump"][0]:.1f} times the true change), guidance does not ({new["seam_jump"][0]:.2f}); right after the given
frames the thing is {px[0]:.1f} px off with replacement, {px[1]:.1f} with guidance and {px[2]:.1f} with the learned
condition, and its motion survives to the end in {moves[0]:.0f}, {moves[1]:.0f} and {moves[2]:.0f} % of the videos (true
ones, as read: {moves[3]:.0f} %). First frames are {"equal, as they must be" if len(set(firsts)) == 1 else "NOT equal"}:
they are given.

{agrees(sure)} by the distance, of which the paper has 3.3 times as much with replacement as with reconstruction
guidance: here it is {texts["changes"]} times by the changes, {texts["random"]} by the videos, {texts["shapes"]} by the
`shapes` extractor, and {kernels:.1f} by the kernel distance of changes. So few videos on a proxy hardly tell the ways
apart.

{agrees(worse > 1.2)} in single frames: the paper's are worse with replacement (FID 25.95 against 13.77), here they
are {worse:.2f} times as far, because most frames by themselves show a whole thing whether or not it jumps. The thing's
words are kept alike ({kept[0]:.0f}, {kept[1]:.0f} and {kept[2]:.0f} %), for the caption says them in every window.

The learned condition, which the paper does not have, comes nearest to the true path at half of what guidance costs,
though it moves a little too little ({learned["seam_jump"][0]:.2f} of the true change at the joins,
{learned["inside"][0]:.2f} elsewhere). After a second or two no way knows any longer where the thing should be: the
error over 60 frames is that of a model that has not learnt its world, not of a way to condition.
"""


def verdict_weights(rows: dict[str, Any]) -> str:
    def of(sampler: str, weight: str, name: str = "seam_jump") -> float:
        return rows[f"scan, {sampler}, {weight}"][name][0]

    plain, langevin = "ddpm", "ddpm + Langevin"
    weights = ("5", "10", "20")
    without, with_it = ([of(sampler, weight) for weight in weights] for sampler in (plain, langevin))
    closer = [abs(two - 1) < abs(one - 1) for one, two in zip(without, with_it, strict=True)]
    better = [of(langevin, weight, "center_px") < of(plain, weight, "center_px") for weight in weights]
    return f"""
Any weight removes the jump of replacement ({of("dpmpp-2m", "0"):.1f} with dpmpp-2m). The Langevin correction, which the
paper uses, takes replacement's jump from {of(plain, "0"):.2f} to {of(langevin, "0"):.2f}; with guidance it brings the
seam nearer to 1 at {sum(closer)} of {len(closer)} weights and the thing nearer to its path at {sum(better)} of
{len(better)}. A weight of 20 is too much for these frames of 16 pixels ({of("dpmpp-2m", "20"):.2f}). With so few videos
(the bars of the plot are intervals) only the step from replacement to any weight is sure, and the paper's finding that
Langevin steps help at equal calls was not tried: here they take twice the calls.
"""


def verdict_guidance(rows: dict[str, Any]) -> str:
    scales = [name for name in rows if name != "truth"]
    best = min(scales, key=lambda scale: distance(rows[scale]))
    best_shapes = min(scales, key=lambda scale: distance(rows[scale], extractor="shapes"))
    right = {scale: 100 * rows[scale]["right"]["all"][0] for scale in scales}
    rightest = max(right, key=right.__getitem__)
    rise = distance(rows["5"]) / distance(rows["1"])
    apart = rows["5"]["distance"]["changes"]["frechet"][1] > rows["1"]["distance"]["changes"]["frechet"][2]
    return f"""
{agrees(best not in ("1", "8"))} in the U shape: the least distance of changes is at {best} (the paper's at 1 with frame
skip 1, at 2 with frame skip 4), by the `shapes` extractor at {best_shapes}. {agrees(rise > 2)} in how steep it is:
from 1 to 5 the distance of changes rises {rise:.1f} times (paper: {VDM["5"] / VDM["1"]:.1f} times), while
the words that are right rise from {right["1"]:.0f} % to {right[rightest]:.0f} % at {rightest}.
Beyond {rightest} the words get worse, too
({right["8"]:.0f} % at 8): such saturated videos are no longer read as what they should be. The intervals of
neighboring scales overlap; those of 1 and 5 {"do not" if apart else "do, too"}.
"""


def verdict_samplers(rows: dict[str, Any]) -> str:
    def away(name: str) -> float:
        return rows[name]["off_limit"][0]

    def words(name: str) -> float:
        return 100 * rows[name]["right"]["all"][0]

    made = [name for name in rows if name != "truth"]
    low, high = (1000 * pick(distance(rows[name]) for name in made) for pick in (min, max))
    cheap = next(steps for steps in (8, 16, 32, 64) if away(f"dpmpp-2m {steps}") <= away("ddim 64"))
    return f"""
{agrees(away("dpmpp-2m 16") < away("ddim 16"))} with what the solvers promise: dpmpp-2m is nearer to the limit than ddim
at each number of calls, and with {cheap} as near as ddim with 64 ({away(f"dpmpp-2m {cheap}"):.3f} against
{away("ddim 64"):.3f}). The distances say nothing: from {low:.1f} to {high:.1f} thousandths, where true
videos have {1000 * distance(rows["truth"]):.1f}, all within one another's intervals, so that 8 calls are enough for
this measure and this world. The words tell more:
{words("dpmpp-2m 8"):.0f} % are right with 8 calls of dpmpp-2m, {words("dpmpp-2m 64"):.0f} %
with 64, {words("ddpm 64"):.0f} % with 64 of ddpm and {words("ddpm 256"):.0f} % with 256, in favour of the noise that
ancestral sampling adds, as the paper has it.
"""


def verdict_images(rows: dict[str, Any]) -> str:
    none, eight, twice = (rows[name] for name in ("J = 0", "J = 8", "J = 0, twice the steps"))

    def words(row: dict[str, Any]) -> float:
        return 100 * row["right"]["all"][0]

    def less(row: dict[str, Any], key: str = "distance", extractor: str = "changes") -> float:
        return distance(none, key=key, extractor=extractor) / distance(row, key=key, extractor=extractor)

    def word(row: dict[str, Any], name: str) -> float:
        return 100 * row["right"][name][0]

    better = less(eight, "images", "random") > 1 and word(eight, "shape") > word(none, "shape")
    cost, cost_twice = (
        row["model"]["training_cpu_seconds"] / none["model"]["training_cpu_seconds"] for row in (eight, twice)
    )
    return f"""
{agrees(better)} in how frames look: at equal steps J = 8 brings the distance of single frames down
{less(eight, "images", "random"):.2f} times, and the shape is right in {word(eight, "shape"):.0f} % instead of
{word(none, "shape"):.0f} % of the videos. {agrees(less(eight) > 1)} by the distance of changes: where the
paper's FVD falls {VDM["J = 0"] / VDM["J = 8"]:.1f} times, the distance of changes is {1 / less(eight):.2f} times that
of J = 0; but the motion is right in {word(eight, "motion"):.0f} % instead of {word(none, "motion"):.0f} %,
and every word in {words(eight):.0f} % instead of {words(none):.0f} %.

Images do not pay off: J = 8 costs {cost:.2f} times the process time of J = 0, and as many frames spent on clips
alone, {cost_twice:.2f} times (among other neighbors), bring the frames {less(twice, "images", "random"):.2f} and the
changes {less(twice):.2f} times nearer and get every word right in {words(twice):.0f} %: at equal compute images beside
clips are {_than(words(eight), words(twice))} by the words and {_than(less(eight), less(twice))} by the changes. The
paper has no such control.
"""


def _than(one: float, other: float) -> str:
    return "better" if one > 1.1 * other else "worse" if other > 1.1 * one else "as good"


def verdict_targets(rows: dict[str, Any]) -> str:
    v, eps, x, floor = (rows[name] for name in ("v", "eps", "x", "truth"))
    drift = [row["color_drift"][0] for row in (v, eps, x, floor)]
    moves, looks = (distance(eps, extractor=name) / distance(v, extractor=name) for name in ("changes", "random"))
    return f"""
{agrees(min(moves, looks) > 1 and drift[0] < drift[1])}: after equal steps eps is {moves:.0f} times as far from true
videos as v by the changes and {looks:.0f} times by the videos, and its colors wander {drift[1] / drift[0]:.1f} times
as much (true clips: {drift[3]:.2f} levels).
That is an early point of training, at which eps has not learnt to make a clean frame at all; it says that v learns
sooner, not where eps would end. Part of the wandering of both is grain. Predicting x, which the paper does not try, is
far ahead of both here, with a weight that asks for no clean detail and a network whose patch stem has little room to
hand noise through: this is why the other sections use it.
"""
