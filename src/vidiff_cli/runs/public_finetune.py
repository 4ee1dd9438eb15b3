"""`vidiff train --from` a public model: what is refused, the model for a dataset, and its text encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidiff_cli.config.model import BaseModelSettings, ClipSettings, DiffusionSettings, ModelSettings, TextSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.index import SIDES
from vidiff_cli.device import DTYPES
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import Event, Note
from vidiff_cli.models.codec import Codec, floor_length, z_shape
from vidiff_cli.models.public.autoencoder import autoencoder_hash
from vidiff_cli.models.public.folder import PublicFolder, folder_hash, hash_files, weight_files
from vidiff_cli.models.public.hub import JOINED
from vidiff_cli.models.public.model import PublicModel
from vidiff_cli.models.public.networks import Process
from vidiff_cli.models.public.open import is_public, resolve_folder
from vidiff_cli.models.public.parts import network_config
from vidiff_cli.models.public.prompts import PromptStates
from vidiff_cli.runs.group_latents import latent_reader
from vidiff_cli.runs.trackers import flatten
from vidiff_cli.text.encoder import CaptionEmbedding
from vidiff_cli.text.long_captions import CaptionLimit, caption_limit
from vidiff_cli.training.frame_levels import trained_kinds
from vidiff_cli.training.latent_cache import LatentCache

# Settings of vidiff's own network, by the beginnings of their names.
OWN_NETWORK = ("network.", "diffusion.", "motion", "conditioning", "compile", "world.", "films.")
OWN_NETWORK += ("text.kind", "text.clip_model", "text.depth", "text.max_tokens", "text.vocabulary")
OWN_NETWORK += (
    "objective.context_noise",
    "objective.estimate_dropout",
    "objective.image_fraction",
)
OWN_NETWORK += ("objective.flow_", "objective.perceptual_", "objective.caption_dropout_observed", "loader.crop")
OWN_NETWORK += ("loader.flip", "autoencoder")
FLAGS = {"text.kind": "--text", "text.clip_model": "--clip-model", "diffusion.target": "--target"}
FLAGS |= {"diffusion.weighting": "--weighting", "diffusion.noise": "--noise"}
FLAGS |= {
    f"objective.{name}": f"--{name.replace('_', '-')}" for name in ("image_fraction", "flow_loss", "perceptual_loss")
}
CLOSE_RATE = 0.1  # of the rate that a model was trained at, which is no other motion


def finetunes_public(settings: TrainSettings) -> bool:
    """True where --from names a public model. UsageError for options that do not go with what it names."""
    start = settings.start_from
    public = start is not None and is_public(start)
    asked = f"--lora {settings.lora.rank}" if settings.lora.rank else "--train temporal"
    if not public:
        if settings.lora.rank or settings.layers != "all":
            found = "no --from" if start is None else f"--from {start}"
            raise UsageError(f"{asked} is for public models", found=found, fix="--from FOLDER or --from hf:OWNER/NAME")
        return False
    if not settings.lora.rank and settings.layers == "all":
        raise UsageError(
            f"--from {start} is a public model, which is not trained whole", fix="--lora 16, or --train temporal"
        )
    names = finetuning_preset(settings)
    if settings.preset not in (None, names):
        raise UsageError(
            f"--preset {settings.preset} describes a network of vidiff's own",
            found=f"--from {start}",
            fix=f"leave it out: {names} is taken",
        )
    usual = flatten(TrainSettings.model_validate(preset(names)).model_dump(mode="json"))
    for name, value in flatten(settings.model_dump(mode="json", exclude_unset=True)).items():
        if name.startswith(OWN_NETWORK) and value != usual.get(name):
            option = FLAGS.get(name, f"--set {name}" if "." in name else f"--{name}")
            raise UsageError(f"{option} is for networks of vidiff's own", found=f"--from {start}", fix="leave it out")
    if settings.parallel == "fsdp":
        raise UsageError("--parallel fsdp is for networks of vidiff's own", found=f"--from {start}", fix="take ddp")
    return True


def finetuning_preset(settings: TrainSettings) -> str:
    """The preset of a fine-tuning: lora, or temporal where layers are trained whole."""
    return "lora" if settings.lora.rank else "temporal"


class StateEncoder:
    """A public model's text encoder for the cache of embeddings: opened for the first caption, freed at the end."""

    def __init__(self, folder: PublicFolder, settings: ModelSettings, device: torch.device, dtype: torch.dtype) -> None:
        assert settings.base is not None
        self.settings = settings.base.text
        self._prompts = PromptStates(folder, device, dtype, settings.text.long_captions)
        self._opened: Any = None

    @property
    def limit(self) -> CaptionLimit:
        """The longest caption that it reads."""
        return self._prompts.limit

    def to(self, device: torch.device) -> StateEncoder:
        """Itself: it has its device."""
        return self

    def encode(self, caption: str) -> CaptionEmbedding:
        """The states of one caption in half precision, without the zeros after its end."""
        if self._opened is None:
            self._opened = self._prompts.open_encoder()
        states = self._prompts.encode(self._opened, caption)
        used = states.abs().amax(dim=1).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        return CaptionEmbedding(tokens=states[:length].to(torch.float16), pooled=torch.zeros(1, dtype=torch.float16))

    def close(self) -> None:
        """Free the encoder."""
        self._opened = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def public_settings(
    settings: TrainSettings, dataset: Dataset, device: torch.device
) -> tuple[TrainSettings, ModelSettings, PublicModel]:
    """The settings with the public model's own, the model to train, and the public model, of which nothing but the
    autoencoder is opened. VidiffError: not on this machine, unusable, or the clips do not fit it."""
    assert settings.start_from is not None
    _check_dataset(dataset)
    folder = resolve_folder(settings.start_from)
    dtype = DTYPES[settings.precision]
    model = PublicModel(folder, device=device, dtype=dtype, check_shape=False)
    index = dataset.index
    train = np.flatnonzero(index.side == SIDES.index("train"))
    if not len(train):
        raise VidiffError(f"the dataset {dataset.folder} has no clips to train on", fix="prepare it with more sources")
    width, height = _frame_size(model, dataset)
    fps = _common_rate(dataset, train)
    stride = 1 if model.codec.temporal > 1 or not fps else max(1, round(fps / model.fps))
    longest = (int(index.frames[train].max()) - 1) // stride + 1
    frames = floor_length(model.codec, min(_window(settings, model), longest))
    PublicModel(folder, device=device, dtype=dtype, size=(width, height), frames=frames)  # refuses what it cannot hold
    levels = settings.objective.levels
    if not model.family.levels_by_frame and levels.shared < 1:
        asked = ", ".join(each for each in trained_kinds(levels) if each != "shared")
        raise UsageError(
            f"{model.name} takes one noise level for all frames of a clip",
            found=f"objective.levels of {asked}",
            fix="leave objective.levels out",
        )
    base = _base(settings, folder, model)
    kind = Process.from_config(folder.scheduler).kind
    described = ModelSettings(
        width=width,
        height=height,
        frames=frames,
        fps=str(fps),
        frame_strides=(stride,),
        conditioning="none",
        frame_levels=frames > 1 and levels.by_frame,
        network=settings.network.model_copy(update={"patch_size": 1, "channel_mult": (1,), "context_dim": 0}),
        diffusion=DiffusionSettings(target=kind, weighting=kind),
        text=TextSettings(kind="none", long_captions=settings.text.long_captions),
        base=base,
    )
    changes = {"start_from": Path(base.path), "frames": frames, "conditioning": "none", "motion": False}
    return settings.model_copy(update=changes), described, model


def _check_dataset(dataset: Dataset) -> None:
    if not dataset.folder.is_dir():
        raise VidiffError(
            f"the clips of {dataset.folder} are drawn anew and have no folder for their latents",
            fix="make a dataset of them with vidiff world and vidiff prep, and train on that",
        )
    if dataset.spec.channels != 3:
        found = f"clips of {dataset.spec.channels} channel"
        raise VidiffError(f"public models work on colors, and {dataset.folder} has none", found=found, expected="RGB")


def _base(settings: TrainSettings, folder: PublicFolder, model: PublicModel) -> BaseModelSettings:
    chosen, encoder = settings.lora, folder.path / "text_encoder"
    files = {file.name: file for file in sorted(weight_files(encoder))}
    prompts = PromptStates(folder, torch.device("cpu"), torch.float32)
    return BaseModelSettings(
        path=_pinned_name(folder),
        family=folder.family.name,
        sha256=folder_hash(folder)[0],
        licence=folder.licence,
        text=ClipSettings(
            encoder=folder.classes["text_encoder"],
            weights="",
            sha256=hash_files(files)[0],
            width=model.state_width,
            pooled=1,
            context=prompts.limit.limit,
        ),
        latents=autoencoder_hash(folder.path / "vae"),
        scheduler=dict(folder.scheduler),
        rank=chosen.rank,
        alpha=(chosen.alpha or chosen.rank) / chosen.rank if chosen.rank else 1.0,
        layers=settings.layers,
        targets=chosen.targets if chosen.rank else (),
    )


def _pinned_name(folder: PublicFolder) -> str:
    """The model for --from and for ever: a commit, or a whole path."""
    name = f"hf:{folder.repository}@{folder.commit}" if folder.repository else str(folder.path.resolve())
    if folder.adapter is None:
        return name
    adapter = f"hf:{folder.adapter_repository}@{folder.adapter_commit}" if folder.adapter_repository else ""
    return f"{name}{JOINED}{adapter or folder.adapter.resolve()}"


def _window(settings: TrainSettings, model: PublicModel) -> int:
    """The frames asked for, else those of the model. VidiffError for a window that it cannot hold."""
    asked = settings.frames if "frames" in settings.model_fields_set else model.frames
    group, most = model.codec.temporal, network_config(model.folder).get("motion_max_seq_length")
    if (asked - 1) % group:
        raise VidiffError(
            f"{model.name} works on groups of frames",
            found=f"--frames {asked}",
            expected=f"a number such as {1 + group} or {1 + 2 * group}",
        )
    if isinstance(most, int) and asked > most:
        raise VidiffError(f"{model.name} has a longest window", found=f"--frames {asked}", expected=f"at most {most}")
    return asked


def _frame_size(model: PublicModel, dataset: Dataset) -> tuple[int, int]:
    """Width and height of most clips. VidiffError where the model cannot take a size, with the command that helps."""
    multiple, native = model.multiple, (model.width, model.height)
    sizes = [(int(width), int(height)) for width, height in (s.split("x") for s in dataset.index.clips_per_size())]
    wrong = [
        f"{width}x{height}"
        for width, height in sizes
        if width % multiple or height % multiple or (model.fixed_size and (width, height) != native)
    ]
    if wrong:
        raise VidiffError(
            f"the clips of {dataset.folder} do not fit {model.name}",
            found=", ".join(wrong[:3]),
            expected=f"{native[0]}x{native[1]}" if model.fixed_size else f"sides that are multiples of {multiple}",
            fix=f"vidiff prep SOURCES -o OTHER {_prep_options(model)}",
        )
    return dataset.spec.width, dataset.spec.height


def _prep_options(model: PublicModel) -> str:
    """Options of prep that make clips of a model's own size, rate and length."""
    width, height = model.width, model.height
    aspect = "square" if width == height else f"{width}:{height}"
    return f"--size {min(width, height)} --aspect {aspect} --fps {model.fps} --frames {model.frames}"


def _common_rate(dataset: Dataset, train: np.ndarray) -> Fraction:
    """The rate of most clips of more than one frame."""
    index = dataset.index
    counts = Counter(index.rate[train[index.frames[train] > 1]].tolist())
    return Fraction(index.rates[max(counts, key=counts.__getitem__)]) if counts else Fraction(1)


def describe_clips(settings: ModelSettings, model: PublicModel) -> Iterator[Event]:
    """Notes where the clips are not what the public model was trained on, and the licence of its weights."""
    if model.licence is not None:
        yield Note(f"The weights of {model.name} have the licence {model.licence}, which goes on to what is trained.")
    seen, native = Fraction(settings.fps) / settings.frame_strides[0], model.fps
    differs = []
    if (settings.width, settings.height) != (model.width, model.height):
        differs.append(f"{settings.width}x{settings.height} and not {model.width}x{model.height}")
    if abs(seen / native - 1) > CLOSE_RATE:
        differs.append(f"{float(seen):g} frames per second and not {native}")
    if settings.frames < model.frames:
        differs.append(f"windows of {settings.frames} frames and not {model.frames}")
    if differs:
        yield Note(
            f"The clips are not what {model.name} was trained on: {', '.join(differs)}. To have its own: vidiff prep "
            f"with {_prep_options(model)}."
        )


def describe_finetuning(
    settings: TrainSettings, model: ModelSettings, dataset: Dataset, parameters: int
) -> Iterator[Event]:
    """Notes the base, what of it is trained, and the clips."""
    base = model.base
    assert base is not None
    what = f"adapters of rank {base.rank} of" if base.rank else ""
    layers = {"all": "the attention layers", "temporal": "the temporal layers"}[base.layers]
    clips, captioned = len(dataset.split("train")), len(dataset.captions()) > 0
    every = f", every {model.frame_strides[0]} frames" if model.frame_strides[0] > 1 else ""
    yield Note(
        f"{settings.preset or 'custom'}: {base.family} from {base.path}, {' '.join(filter(None, (what, layers)))} "
        f"({parameters / 1e6:.2f} M parameters); {clips} clips, {'with' if captioned else 'without'} captions; windows "
        f"of {model.frames} frames of {model.width}x{model.height} at {model.fps} fps{every}; {settings.steps} steps "
        f"of {settings.batch_size} clips."
    )


def frozen_text(model: ModelSettings) -> tuple[ClipSettings | None, CaptionLimit | None]:
    """The frozen text encoder of a model and the longest caption that it reads; None for a model without one."""
    if model.base is None:
        return model.text.clip, caption_limit(model.text)
    folder = resolve_folder(Path(model.base.path))
    return model.base.text, StateEncoder(folder, model, torch.device("cpu"), torch.float32).limit


def check_base_latents(cache: LatentCache, numbers: Sequence[int]) -> None:
    """VidiffError where a clip is missing that rank 0 has encoded."""
    if missing := cache.missing(numbers):
        raise VidiffError(
            "a process cannot see the latents of the clips",
            found=f"{len(missing)} that are not in {cache.folder}",
            fix="make the dataset's folder the same on all machines",
        )


def open_base_latents(
    model: ModelSettings, dataset: Dataset, device: torch.device, dtype: torch.dtype
) -> tuple[Codec, LatentCache]:
    """The autoencoder of a model's base, and the latents that it has made of a dataset."""
    assert model.base is not None
    folder = resolve_folder(Path(model.base.path))
    codec = PublicModel(folder, device=device, dtype=dtype, check_shape=False).codec
    return codec, LatentCache(dataset, sha256=model.base.latents, codec=codec)


class _BlankLatents:
    """Latents of zeros, of the shape that an autoencoder makes of the clips of a dataset."""

    def __init__(self, dataset: Dataset, codec: Codec) -> None:
        self._index, self._codec = dataset.index, codec

    def read(self, number: int, frames: range) -> np.ndarray:
        """Zeros (m h w c)."""
        height, width = int(self._index.height[number]), int(self._index.width[number])
        shape = z_shape(self._codec, 1, len(frames), height, width)
        return np.zeros((*shape[2:], shape[1]), np.float32)


def blank_base_latents(model: ModelSettings, dataset: Dataset) -> Callable[[int, range], np.ndarray]:
    """Reads zeros in the place of the latents of a dataset: a measurement does not encode it."""
    assert model.base is not None
    folder = resolve_folder(Path(model.base.path))
    codec = PublicModel(folder, device=torch.device("cpu"), dtype=torch.float32, check_shape=False).codec
    return latent_reader(_BlankLatents(dataset, codec), codec, model.frames)


def closing_encoder(encoder: object) -> ExitStack:
    """A context that frees a text encoder at its end, where it can be freed."""
    stack = ExitStack()
    if isinstance(encoder, StateEncoder):
        stack.callback(encoder.close)
    return stack
