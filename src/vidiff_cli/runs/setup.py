"""Setup of a training: the model for a dataset, its clips, and the state before the first step."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch

from vidiff_cli.config.model import AutoencoderSettings, ClipSettings, ModelSettings, TextSettings
from vidiff_cli.config.train import LevelSettings, TextChoice, TrainSettings
from vidiff_cli.dataset.dataset import Clip, Dataset
from vidiff_cli.dataset.index import SIDES
from vidiff_cli.dataset.world_dataset import is_world, open_clips
from vidiff_cli.device import DTYPES, choose_device
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import Event, Note
from vidiff_cli.models.acceleration import CompileMode, compile_network, recompute_stages
from vidiff_cli.models.public.trained import open_public_network
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.runs.finetune import load_initial_weights
from vidiff_cli.runs.group_latents import GroupLatents
from vidiff_cli.runs.public_finetune import describe_finetuning
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.training.clip_cache import ClipCache
from vidiff_cli.training.cost_estimate import estimate
from vidiff_cli.training.distributed import DistributedContext
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.state import TrainState

ENLARGED, GROWTH = 0.035, 0.7  # about the RMS error of clips enlarged from 1/s of their size: ENLARGED * s^GROWTH
ESTIMATED = 0.15  # twice the RMS error of the estimate by motion: half of the levels and more ask for the mean
FEWEST_BETWEEN = 3  # frames of a clip that has one between two others
LARGEST_PATCH = 4  # of a network of super-resolution that is not told its own
ReadFrames = Callable[[int, range], np.ndarray]
"""(clip of the dataset, frames) -> frames (t h w c) uint8 or latents float32."""


def model_settings(
    settings: TrainSettings,
    dataset: Dataset,
    *,
    clip: ClipSettings | None = None,
    autoencoder: AutoencoderSettings | None = None,
) -> ModelSettings:
    """Derives the model from the settings and the dataset. Without a CLIP encoder, text `auto` is a learned one;
    without an `autoencoder` it works on pixels."""
    settings = consistent(settings)
    channels, index = dataset.spec.channels if autoencoder is None else autoencoder.channels, dataset.index
    upscale = settings.scale if settings.task == "upscale" else 0
    kind = {"motion": settings.motion, "channels": channels, "upscale": upscale, "between": settings.task == "frames"}
    network = settings.network.model_copy(update=kind)
    train = np.flatnonzero(index.side == SIDES.index("train"))
    if not len(train):
        raise VidiffError(f"the dataset {dataset.folder} has no clips to train on", fix="prepare it with more sources")
    width, height = frame_size(
        settings,
        dataset,
        multiple=math.lcm(network.multiple * (autoencoder.spatial if autoencoder else 1), max(1, upscale)),
    )
    lengths = index.frames[train]
    longest = int(lengths.max())
    frames = min(settings.frames, longest)
    if network.between and frames < FEWEST_BETWEEN:
        raise VidiffError(
            "--task frames learns the frames between two others",
            found=f"windows of {frames} frame{'s' * (frames != 1)}",
            expected=f"{FEWEST_BETWEEN} or more",
            fix="give --frames, and prepare longer clips" if longest >= FEWEST_BETWEEN else "prepare longer clips",
        )
    strides = [stride for stride in (1, 2, 4, 8) if (frames - 1) * stride < longest]
    counts = Counter(index.rate[train[lengths > 1]].tolist())
    rates = Counter({Fraction(index.rates[rate]): count for rate, count in counts.items()} or {Fraction(1): 1})
    vocabulary: tuple[int, ...] = ()
    choice = settings.text
    asked = "learned" if choice.kind == "auto" and clip is None else choice.kind
    kind = asked if index.captions[train].any() and network.context_dim else "none"
    if kind == "learned":
        from vidiff_cli.text.learned import collect_vocabulary

        vocabulary = collect_vocabulary(dataset.captions())
    return ModelSettings(
        width=width,
        height=height,
        frames=frames,
        fps=str(max(set(rates), key=rates.__getitem__)),
        frame_strides=tuple(strides if frames > 1 else [1]),
        conditioning=settings.conditioning,
        context_noise=settings.objective.context_noise if settings.conditioning == "mixed" else 0.0,
        augmentation=settings.objective.augmentation if upscale else 0.0,
        frame_levels=frames > 1 and settings.objective.levels.by_frame,
        network=network if kind != "none" else network.model_copy(update={"context_dim": 0}),
        diffusion=settings.diffusion,
        text=TextSettings(
            kind="clip" if kind == "auto" else kind,
            depth=choice.depth,
            max_tokens=choice.max_tokens,
            long_captions=choice.long_captions,
            vocabulary=vocabulary,
            clip=clip,
        ),
        autoencoder=autoencoder,
    )


def frame_size(settings: TrainSettings, dataset: Dataset, *, multiple: int) -> tuple[int, int]:
    """Width and height of the model: the crop's, else those of most clips; clips of other sizes are trained on too.

    VidiffError for a clip size that the network or the crop cannot take.
    """
    crop = settings.loader.crop
    sizes = [tuple(map(int, size.split("x"))) for size in dataset.index.clips_per_size()]
    wrong = [(w, h) for w, h in sizes if (min(w, h) < crop if crop else w % multiple or h % multiple)]
    if crop % multiple:
        raise VidiffError("loader.crop does not fit the network", found=crop, expected=f"a multiple of {multiple}")
    if wrong:
        raise VidiffError(
            f"the clips of {dataset.folder} do not fit the {'crop' if crop else 'network'}",
            found=", ".join(f"{w}x{h}" for w, h in wrong[:3]),
            expected=f"at least {crop}x{crop}" if crop else f"multiples of {multiple}",
            fix="set a smaller loader.crop" if crop else "prepare them at another --size or choose another --preset",
        )
    return (crop, crop) if crop else (dataset.spec.width, dataset.spec.height)


def default_preset(settings: TrainSettings) -> str:
    """Chooses the preset for a dataset and a device: latent with an autoencoder; tiny up to 32 pixels, else small; base
    on a large GPU; upscale and frames for those tasks."""
    if settings.task != "video":
        return settings.task
    if settings.autoencoder is not None:
        return "latent"
    if ProcessInfo.from_environment(os.environ).world > 1:
        with contextlib.suppress(VidiffError):  # which the training reports, once for all processes
            return _default_preset(settings)
        return "tiny"
    return _default_preset(settings)


def _default_preset(settings: TrainSettings) -> str:
    spec = open_clips(settings).spec
    if min(spec.width, spec.height) <= 32:
        return "tiny"
    where = choose_device(settings.device)
    large = where.type == "cuda" and torch.cuda.get_device_properties(where).total_memory > 60 * 2**30
    return "base" if large else "small"


def open_clip_source(
    settings: TrainSettings, dataset: Dataset, *, side: str = "train", latents: ReadFrames | None = None
) -> ClipSource:
    """Opens one split of a dataset, read from its memory-mapped shards, or cached in memory (`loader.cache_bytes`).

    `latents` reads what the model works on in the place of pixels, by the number of a clip in the dataset.
    """
    index, read = dataset.index, latents or dataset.window
    fewest = FEWEST_BETWEEN if settings.task == "frames" else 1
    chosen = np.flatnonzero((index.side == SIDES.index(side)) & (index.frames >= fewest))
    cache = ClipCache(
        lambda number: read(int(chosen[number]), range(int(index.frames[chosen[number]]))), settings.loader.cache_bytes
    )
    source = ClipSource(
        rows=_ClipSubset(dataset.clips, chosen),
        read=cache.read if settings.loader.cache_bytes else lambda number, frames: read(int(chosen[number]), frames),
        shapes=np.stack([index.frames, index.height, index.width], axis=1)[chosen],
    )
    return latents.in_groups(source) if isinstance(latents, GroupLatents) else source


def at_peak_seconds(settings: TrainSettings, model: ModelSettings, device: torch.device, *, world: int = 1) -> float:
    """Times a large matrix product; returns the seconds of a step's operations at that speed on `world` devices.

    That is a lower bound of a step. 0 on devices where no product is timed.
    """
    if device.type not in ("cpu", "cuda"):
        return 0.0
    dtype, side = DTYPES.get(settings.precision, torch.float32), 512 if device.type == "cpu" else 8192
    factor = torch.ones(side, side, dtype=dtype, device=device)
    seconds = []
    for _ in range(4):  # the first one warms up; the best of the others counts
        began = time.perf_counter()
        torch.mm(factor, factor)[0, 0].item()
        seconds.append(time.perf_counter() - began)
    wanted = estimate(settings, model, half=settings.precision != "fp32", world=world)
    return wanted.flops * min(seconds[1:]) / (2 * side**3) / world


class _ClipSubset:
    """Chosen clips of a dataset, parsed on access."""

    def __init__(self, clips: Sequence[Clip], chosen: np.ndarray) -> None:
        self._clips, self._chosen = clips, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, number: int) -> Clip:
        return self._clips[int(self._chosen[number])]


def consistent(settings: TrainSettings) -> TrainSettings:
    """Resolves settings that follow from others.

    Without clips that condition on frames, `conditioning` becomes "none", and the reverse; without observed frames,
    `motion` becomes False: independent levels condition too, but give nothing to estimate motion from. On latents
    there is no estimate by motion, and no clip is mirrored: both are of pixels. Captions of a world are read by a
    learned encoder. UsageError for levels by frame without conditioning.
    """
    if settings.autoencoder is not None:
        loader = settings.loader.model_copy(update={"flip": False})
        settings = settings.model_copy(update={"motion": False, "loader": loader})
    if is_world(settings.dataset) and settings.text.kind == "auto":
        settings = settings.model_copy(update={"text": settings.text.model_copy(update={"kind": "learned"})})
    if settings.task != "video":
        settings = _around_an_estimate(settings)
    levels = settings.objective.levels
    if settings.conditioning == "none" and levels.by_frame:
        raise UsageError(
            "objective.levels has shares that train conditioning on frames",
            found="--conditioning none",
            fix="leave one of them out",
        )
    if settings.conditioning == "none" or not (levels.gives_frames or levels.by_frame):
        settings = with_one_level(settings).model_copy(update={"conditioning": "none"})
    return settings if settings.objective.levels.gives_frames else settings.model_copy(update={"motion": False})


def _around_an_estimate(settings: TrainSettings) -> TrainSettings:
    """Super-resolution predicts v around the enlarged clip, frames between given ones around the estimate by motion:
    without attention, on frames of any size.

    A patch of the stem of super-resolution is a pixel of the small clip, up to 4x4, where no other is asked for. The
    schedule has as much signal as noise where noise is as strong as what the estimate lacks. UsageError with latents,
    and for frames between given ones without those.
    """
    between, objective, diffusion = settings.task == "frames", settings.objective, settings.diffusion
    if settings.autoencoder is not None:
        raise UsageError(f"--task {settings.task} is of pixels", found="--autoencoder", fix="leave one of them out")
    if between and (found := _needless(settings)):
        raise UsageError("--task frames is trained on the frames between given ones", found=found, fix="leave it out")
    local: dict[str, object] = {"temporal": "convolution", "attention_max_size": 0}
    if not between and "patch_size" not in settings.network.model_fields_set:
        local["patch_size"] = min(settings.scale, LARGEST_PATCH)
    spread = ESTIMATED if between else ENLARGED * settings.scale**GROWTH
    chosen: dict[str, object] = {"target": "v", "weighting": "v"}
    if "shift" not in diffusion.model_fields_set:
        chosen["shift"] = round(-2 * math.log(spread), 2)
    if between:
        observed = {"levels": LevelSettings(shared=0.0, observed=1.0), "estimate_dropout": 0.0}
        objective = objective.model_copy(update=observed)
    text: TextChoice = settings.text
    return settings.model_copy(
        update={
            "motion": False,
            "network": settings.network.model_copy(update=local),
            "diffusion": diffusion.model_copy(update=chosen),
            "text": text.model_copy(update={"kind": "none"}) if text.kind == "auto" else text,
            "objective": objective,
        }
    )


def _needless(settings: TrainSettings) -> str | None:
    """An option that --task frames has no use for."""
    asked = {
        "--conditioning none": settings.conditioning == "none",
        "--image-fraction": settings.objective.image_fraction > 0,
        "objective.context_noise": settings.objective.context_noise > 0,
    }
    return next((option for option, is_asked in asked.items() if is_asked), None)


def with_one_level(settings: TrainSettings) -> TrainSettings:
    """The settings with one level for all frames of every clip, and none observed."""
    objective = settings.objective.model_copy(update={"levels": LevelSettings(shared=1.0, observed=0.0)})
    return settings.model_copy(update={"objective": objective})


def describe_training(
    settings: TrainSettings, model: ModelSettings, dataset: Dataset, device: torch.device, parameters: int
) -> Iterator[Event]:
    """Notes the device, the model and the clips of a training."""
    if device.type == "cpu":
        yield Note(f"No GPU: training on the CPU with {torch.get_num_threads()} threads in {settings.precision}.")
    if model.base is not None:
        yield from describe_finetuning(settings, model, dataset, parameters)
        return
    clips, patch = len(dataset.split("train")), model.network.patch_size
    steps = " or ".join(map(str, model.frame_strides))
    yield Note(
        f"{settings.preset or 'custom'}: {parameters / 1e6:.2f} M parameters, predicts {model.diffusion.target} in "
        f"patches of {patch}x{patch}; {clips} clips, "
        f"{'with' if model.text.kind != 'none' else 'without'} captions; windows of {model.frames} frames of "
        f"{model.width}x{model.height} at {model.fps} fps, every {steps} frames; {settings.steps} steps of "
        f"{settings.batch_size} clips."
    )
    if (latent := model.autoencoder) is not None:
        height, width = model.z_size
        yield Note(
            f"Frames are latents of {latent.source}: {latent.channels} channels of {width}x{height}. The estimate by "
            "motion and mirrored clips are of pixels, and off."
        )
    sizes = dataset.index.clips_per_size()
    if len(sizes) > 1 and not settings.loader.crop:
        listed = ", ".join(f"{size} ({count})" for size, count in list(sizes.items())[:6])
        yield Note(f"Clips of {len(sizes)} frame sizes, one of them in each batch: {listed}.")


def initial_state(
    settings: TrainSettings,
    model: ModelSettings,
    device: torch.device,
    parallel: DistributedContext,
    *,
    resumed: bool = False,
    compiled: CompileMode | None = None,
) -> TrainState:
    """Builds the state before the first step, compiled and sharded.

    Args:
        settings: Settings of the training.
        model: The model.
        device: Device of the weights.
        parallel: The processes that train together.
        resumed: A checkpoint will be loaded into it: the weights to start from are not read.
        compiled: How the network is compiled; None: not at all.

    Returns:
        The state.
    """
    if model.base is not None:
        network = open_public_network(model, device=device, dtype=DTYPES[settings.precision], seed=settings.seed)
        if settings.gradient_checkpointing == "on":
            network.recompute()
        parallel.prepare(network, DTYPES[settings.precision])
        return TrainState(network, settings.optimizer)
    video_model = new_video_model(model, settings.seed)
    if settings.start_from is not None and not resumed:
        load_initial_weights(video_model, settings.start_from)
    video_model.to(device)
    if settings.gradient_checkpointing == "on":
        recompute_stages(video_model.denoiser.network)
    if compiled is not None:
        compile_network(video_model.denoiser.network, mode=compiled)
    parallel.prepare(video_model, DTYPES.get(settings.precision, torch.float32))
    return TrainState(video_model, settings.optimizer)
