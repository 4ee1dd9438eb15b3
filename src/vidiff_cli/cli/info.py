"""`vidiff info`: a description of a path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidiff_cli.cli.console import byte_text, print_json, print_rows
from vidiff_cli.cli.options import Invocation, options

if TYPE_CHECKING:
    from vidiff_cli.commands.info.dataset import DatasetInfo
    from vidiff_cli.commands.info.media import FolderInfo, MediaInfo
    from vidiff_cli.commands.info.public import PublicInfo
    from vidiff_cli.generation.sidecar import MadeBy
    from vidiff_cli.runs.checkpoint_info import CheckpointInfo
    from vidiff_cli.runs.run_info import RunInfo
    from vidiff_cli.viz.histograms import Histogram

Rows = Iterator[tuple[str, str]]
ROUNDING_SECONDS = 0.02  # of a duration as ffmpeg prints it


@options()
def info(
    call: Invocation,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A checkpoint, run, public model, dataset, video, photo, or folder of them.",
            readable=False,
        ),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="<FILE.png>", help="Write the histograms of a dataset as an image.", readable=False
        ),
    ] = None,
) -> None:
    """Describe a file or folder: its kind, how it was made, and what it can do.

    Example: vidiff info runs/dataset-tiny
    """
    from vidiff_cli.commands.info import info as task

    report = call.follow(task.events(path, plot=plot))
    print_json(report) if call.as_json else print_rows(list(ROWS[report.kind](report)))


def _checkpoint(about: CheckpointInfo) -> Rows:
    kind = {"ema": "averaged weights, for sampling", "raw": "raw weights"}.get(about.weights or "", "weights")
    kind += f" (length {about.ema_length:g})" if about.ema_length is not None else ""
    yield "checkpoint", str(about.path)
    yield "size", f"{byte_text(about.bytes)}, {about.parameters / 1e6:.2f} M parameters; {kind}"
    yield "trained", f"{_count(about.step)} steps ({about.phase or 'phase unknown'}), {about.clips_seen:,} clips seen"
    rates = ", ".join(f"{float(rate):g}" for rate in about.rates)
    if scale := about.network.get("upscale"):
        noisy = f", made small with noise up to {about.augmentation:g} of the schedule" if about.augmentation else ""
        yield "makes", f"videos {scale} times as large (vidiff upscale)"
        yield "trained on", f"windows of {about.frames} frames of {about.width}x{about.height} at {rates} fps{noisy}"
    elif about.network.get("between"):
        yield "makes", "the frames between given ones, of any size (vidiff interpolate)"
        yield "trained on", f"windows of {about.frames} frames of {about.width}x{about.height} at {rates} fps"
    else:
        yield "makes", f"windows of {about.frames} frames of {about.width}x{about.height} at {rates} fps"
    width, height = about.width, about.height
    for stage in about.stages:
        width, height = width * stage.scale, height * stage.scale
        makes = f"{stage.scale} times larger" if stage.scale > 1 else "frames between"
        yield "then", f"{makes} by {stage.name}, to {width}x{height}; sha256 {stage.sha256}"
    if about.network["channels"] == 1 and about.autoencoder is None:
        yield "channels", "one: what it makes is gray"
    yield "frame steps", f"{', '.join(map(str, about.frame_strides))} at {about.fps} fps"
    noise = f" of strength {about.noise_strength:g}" if about.noise_strength else ""
    yield "predicts", f"{about.target}, weighted {about.weighting}, from {about.noise} noise{noise}"
    noisy = f"; --context-noise up to {about.context_noise:g}" if about.context_noise else ""
    noisy += "; noise levels by frame" if about.frame_levels else ""
    motion = "; shown their motion" if about.network["motion"] else ""
    yield "given frames", ", ".join(about.conditioning) + noisy + motion
    if (distilled := about.distilled) is not None:
        yield "distilled", f"for {distilled['steps']} steps of one pass, guidance {distilled['guidance_scale']:g} in it"
    yield from _errors(about)
    if about.base is None:
        yield "text", _text(about)
    else:
        yield from _base(about.base)
    if about.autoencoder is not None:
        latent = about.autoencoder
        yield "works on", f"latents of {latent['source']}, {latent['channels']} channels, {latent['spatial']}x smaller"
        yield "", f"sha256 {latent['sha256']}" + (f", commit {latent['commit']}" if latent["commit"] else "")
    yield "made by", f"vidiff {about.vidiff or '(version not recorded)'}"
    yield "sha256", about.sha256


def _base(base: dict[str, Any]) -> Rows:
    """The public model that was fine-tuned, and what of it was trained."""
    yield "base", f"{base['family']}, {base['path']}, sha256 {base['sha256']}"
    scale = f", scale {base['alpha']:g}" if base["alpha"] != 1 else ""
    layers = {"all": "the attention layers", "temporal": "the temporal layers"}[base["layers"]]
    what = f"adapters of rank {base['rank']}{scale} of {layers}" if base["rank"] else f"{layers}, whole"
    yield "fine-tuned", what + (f": {', '.join(base['targets'])}" if base["rank"] else "")
    yield "licence", f"{base['licence'] or 'not known'}, of the base"
    yield "text", f"{base['text']['encoder']} of the base, {base['text']['context']} tokens"


def _errors(about: CheckpointInfo) -> Rows:
    """Accuracy of the frames that the model predicts in one pass, beside those of motion alone."""
    if about.errors is None:
        return
    kinds = (("{} missing between two", about.errors.between), ("{} after the last", about.errors.beyond))
    for kind, errors in kinds:
        for gap, (model, estimate) in sorted(errors.items()):
            yield kind.format(gap), f"PSNR {_psnr(model)} in one pass, {_psnr(estimate)} by motion alone"
    held = "held-out" if about.errors.split == "val" else "training"
    yield "measured on", f"{about.errors.clips} {held} clips"


def _psnr(error: float) -> str:
    """PSNR for a root mean square error in pixels of [-1, 1]."""
    return f"{20 * math.log10(2 / error):.1f} dB" if error else "infinite"


def _text(about: CheckpointInfo) -> str:
    if about.text.kind == "learned":
        return f"its own encoder, {about.text.tokens} tokens known"
    return f"CLIP {about.text.clip}, sha256 {about.text.sha256}" if about.text.clip else "none: prompts have no effect"


def _run(about: RunInfo) -> Rows:
    yield "run", f"{about.path}, {byte_text(about.bytes)}"
    yield (
        "trains",
        f"{about.preset or 'no preset'} on {about.dataset}, {about.batch_size} clips a step, {about.precision}",
    )
    unsaved = f", {about.steps_logged} logged" if about.steps_logged != about.steps else ""
    yield "state", f"{about.state}: {about.steps} of {about.steps_asked} steps saved{unsaved}"
    if about.loss is not None and about.loss_mean is not None:
        yield "loss", f"{about.loss:.4f}, mean of the last rows {about.loss_mean:.4f}"
    if about.validation_loss is not None:
        yield "held-out loss", f"{about.validation_loss:.4f}"
    if about.seconds_per_step is not None:
        left = f", {_clock(about.seconds_left)} to go" if about.seconds_left else ""
        yield "speed", f"{about.seconds_per_step:.2f} s a step{left}"
    if about.go_on:
        yield "go on with", about.go_on
    for saved in about.checkpoints:
        yield "checkpoint", f"{saved.name}, {byte_text(saved.bytes)}"
    for label, path in (("plot", about.plot), ("metrics", about.metrics)):
        if path:
            yield label, str(path)
    if about.samples:
        yield "samples", f"{len(about.samples)} sheets, the last {about.samples[-1]}"
    if about.model:
        yield "", ""
        yield from _checkpoint(about.model)


def _dataset(about: DatasetInfo) -> Rows:
    yield "dataset", f"{about.path}, {byte_text(about.bytes)} in {about.shards} shards, all whole"
    rates = {"0": "images"}
    found = ", ".join(f"{count} {rates.get(rate, f'at {rate} fps')}" for rate, count in about.clips_of_rate.items())
    yield "clips", f"{about.clips} of up to {about.frames} frames of {about.width}x{about.height}: {found}"
    if about.channels == 1:
        yield "channels", "one: luma, of gray frames"
    yield "split", ", ".join(f"{count} {side}" for side, count in about.splits.items())
    yield "sources", f"{about.kept} of {about.sources} kept, {about.seconds_of_video:.1f} s of video"
    for kind, count in about.rejected.items():
        yield "rejected", f"{count} {kind}"
    missing = f", {about.sources_without_caption} sources without" if about.sources_without_caption else ""
    yield "captions", f"{about.captions} different, for {about.sources_captioned} sources{missing}"
    for text in about.examples:
        yield "such as", text
    yield "made by", f"vidiff {about.vidiff}"
    yield "settings", _settings(about.settings)
    if about.preview:
        yield "preview", str(about.preview)
    for histogram in about.histograms:
        yield "", ""
        yield from _histogram(histogram)


def _histogram(histogram: Histogram) -> Rows:
    from vidiff_cli.viz.histograms import histogram_lines, histogram_summary

    yield histogram.name, histogram_summary(histogram)
    for line in histogram_lines(histogram):
        yield "", line


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value not in (None, [], ""))


def _video(about: MediaInfo) -> Rows:
    yield about.kind, f"{about.path}, {byte_text(about.bytes)}"
    coded = f"coded {about.coded_width}x{about.coded_height}"
    coded += f", turned by {about.rotation} degrees clockwise" if about.rotation else ""
    coded += "" if about.square_pixels else ", pixels not square"
    plain = (about.width, about.height) == (about.coded_width, about.coded_height) and not about.rotation
    yield "size", f"{about.width}x{about.height}" + ("" if plain else f" ({coded})")
    streams = f", {about.video_streams} video streams" if about.video_streams > 1 else ""
    yield "format", f"{about.codec} in {about.container}{streams}"
    alpha = ", transparency (shown in front of --background)" if about.alpha else ""
    fields = ", interlaced" if about.interlaced else ""
    yield "pixels", f"{about.pixel_format}, {about.bit_depth} bits{alpha}{fields}"
    if about.kind == "video":
        known = [name for name in (about.transfer, about.primaries) if name != "unknown"]
        hdr = f"HDR, {about.hdr}: " if about.hdr else ""
        yield "colors", hdr + (f"transfer {about.transfer}, primaries {about.primaries}" if known else "without a tag")
    if about.kind == "video":
        yield from _times(about)
        yield "audio", "yes" if about.audio else "no"
        if about.others:
            yield "also", ", ".join(about.others)
    if about.made_by:
        yield from _made_by(about.made_by)


def _times(about: MediaInfo) -> Rows:
    announced = f"; the header says {about.fps_announced}" if about.fps != about.fps_announced else ""
    gaps = ""
    if about.rate == "variable" and about.shortest_gap_seconds is not None and about.longest_gap_seconds is not None:
        gaps = f", {about.shortest_gap_seconds * 1000:.1f} to {about.longest_gap_seconds * 1000:.1f} ms between frames"
    exact = "" if about.fps is None or about.fps.denominator == 1 else f" ({float(about.fps):.3f})"
    yield "rate", f"{about.fps}{exact} fps{', ' + about.rate if about.rate else ''}{gaps}{announced}"
    counted = f"{about.frames} counted" if about.counted_all else f"more than {about.frames}"
    yield "frames", counted + (f", {about.frames_announced} announced" if _fewer_or_more(about) else "")
    header = "not announced" if about.seconds_announced is None else f"{about.seconds_announced:.2f} s announced"
    yield "duration", f"{about.seconds or 0:.3f} s, {header}"
    if about.start_seconds:
        yield "start", f"{about.start_seconds:.3f} s"


def _fewer_or_more(about: MediaInfo) -> bool:
    """True if the header announces another number of frames; not for a variable rate or a last frame that stays,
    and audio may last longer."""
    if about.frames_announced is None or (about.rate == "variable" and not about.damage):
        return False
    stays = about.seconds is not None and abs(about.seconds - (about.seconds_announced or 0)) < ROUNDING_SECONDS
    if stays and not about.damage:
        return False
    return abs(about.frames_announced - about.frames) > max(1, about.frames // 50)


def _folder(about: FolderInfo) -> Rows:
    yield "folder", f"{about.path}, {byte_text(about.bytes)}"
    yield "holds", f"{about.videos} videos, {about.images} images, {about.other_files} other files"
    if about.sizes:
        sizes = [f"{count} of {size}" for size, count in list(about.sizes.items())[:5]]
        more = f" and {len(about.sizes) - 5} other sizes" if len(about.sizes) > 5 else ""
        yield "images", ", ".join(sizes) + more + (", numbered frames" if about.numbered else "")
    if about.unreadable:
        yield "unreadable", f"{about.unreadable} images"
    yield "captions", f"for {about.captioned} of {about.videos + about.images}"
    if about.made_by:
        yield from _made_by(about.made_by)


def _made_by(made: MadeBy) -> Rows:
    yield "made by", f"vidiff {made.command} (version {made.vidiff or 'unknown'}), seed {made.seed}"
    yield (
        "model",
        f"{made.model}, sha256 {made.model_sha256 or 'unknown'}" if made.model else "none: estimated by motion",
    )
    yield "repeat with", made.repeat


def _public(about: PublicInfo) -> Rows:
    yield "public model", f"{about.family}, {about.path}"
    if about.repository:
        yield "from", f"hf:{about.repository}" + (f"@{about.commit}" if about.commit else "")
    yield "licence", about.licence or "not stated in the folder"
    yield "size", f"{byte_text(about.bytes)}, {_millions(about.parameters)}"
    for part in about.parts:
        yield part.name, f"{part.kind}, {_millions(part.parameters)}, {byte_text(part.bytes)}"
    yield "makes", f"windows of {about.frames} frames of {about.width}x{about.height} at {about.fps} fps"
    yield "predicts", about.predicts
    yield "works with", ", ".join(about.works)
    yield "given frames", ", ".join(about.conditioning)


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:,.2f} M parameters"


ROWS: dict[str, Any] = {
    "checkpoint": _checkpoint,
    "public model": _public,
    "run": _run,
    "dataset": _dataset,
    "video": _video,
    "photo": _video,
    "folder": _folder,
}


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
