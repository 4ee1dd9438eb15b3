"""Settings of a model, stored in every checkpoint: its network, prediction target, noise levels and text encoder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vidiff_cli.config.fields import recorded_rate
from vidiff_cli.config.options import Option

Task = Literal["video", "upscale", "frames"]
"""What a model makes: videos, larger videos, or the frames between given ones."""


class NetworkSettings(BaseModel):
    """The factorized space-time U-Net (`models/unet3d.py`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    channels: int = Field(default=3, ge=1, le=64, description="Channels of a frame; those of the dataset")
    base_channels: int = Field(
        default=48, ge=8, le=8192, multiple_of=8, description="Channels at the highest resolution"
    )
    channel_mult: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        default=(1, 2), min_length=1, max_length=8, description="Channel multiplier of each resolution"
    )
    num_res_blocks: int = Field(default=1, ge=1, le=32, description="Residual blocks per resolution, down and up")
    patch_size: int = Field(
        default=2, ge=1, le=64, description="Side of the patch stem (space to depth); 1: no patches"
    )
    head_dim: int = Field(default=24, ge=4, le=4096, description="Channels of an attention head")
    attention_max_size: int = Field(
        default=16, ge=0, le=4096, description="Largest width of a feature map that has attention"
    )
    embedding: int = Field(default=192, ge=16, le=65_536, description="Width of the embedding of level, time and text")
    temporal: Literal["attention", "convolution", "both"] = Field(
        default="both", description="Temporal layers in each block"
    )
    positions: Literal["relative", "sinusoidal"] = Field(
        default="relative", description="Position encoding of temporal attention"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout inside residual blocks")
    context_dim: int = Field(default=64, ge=0, le=16_384, description="Width of a text token; 0: a model without text")
    motion: bool = Field(
        default=False,
        description="Show the network the motion-compensated estimate of the frames between or beyond observed ones; "
        "set by --motion of a training",
    )
    upscale: int = Field(
        default=0,
        ge=0,
        le=8,
        description="Scale of super-resolution: the network is shown the low-resolution clip, enlarged; 0: none; set "
        "by --task upscale of a training",
    )
    between: bool = Field(
        default=False,
        description="Network of frames between given ones, which predicts around the estimate by motion; set by "
        "--task frames of a training",
    )

    @model_validator(mode="after")
    def _channels_divide_into_heads(self) -> NetworkSettings:
        for width in (self.base_channels * multiplier for multiplier in self.channel_mult):
            if width % max(1, width // self.head_dim):
                raise ValueError(f"{width} channels cannot be divided into heads of about head_dim {self.head_dim}")
        return self

    @model_validator(mode="after")
    def _takes_any_size(self) -> NetworkSettings:
        if self.upscale == 1:
            raise ValueError("upscale is a scale from 2 to 8, or 0 for none")
        if self.upscale and (self.motion or self.between):
            raise ValueError("a network of super-resolution is shown the enlarged clip, not an estimate by motion")
        if self.between and self.motion:
            raise ValueError("a network of frames between given ones predicts around the estimate: motion is false")
        if self.any_size and (self.attention_max_size or self.temporal != "convolution"):
            raise ValueError("a network that predicts around an estimate has no attention: it takes frames of any size")
        return self

    @property
    def any_size(self) -> bool:
        """True for a network that predicts around an estimate, of frames of any size: convolutions alone, and norms of
        each cell."""
        return self.upscale > 0 or self.between

    @property
    def task(self) -> Task:
        """Task of the training that it belongs to."""
        if self.upscale:
            return "upscale"
        return "frames" if self.between else "video"

    @property
    def multiple(self) -> int:
        """The factor that height and width of a frame must have."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)


def suits(weighting: str, target: str) -> bool:
    """True if the weight on the squared error of the prediction stays moderate over all levels.

    This weight is the weighting times the squared ratio of the errors of x_hat and of the prediction: sigma^2 / alpha^2
    for eps, which grows without bound at noisy levels, 1 for x, whose weights grow at clean levels, sigma^2 for v, and
    s^2, about as much, for flow.
    """
    return (
        target in ("v", "flow") or weighting in {"eps": ("eps", "min-snr"), "x": ("x", "min-snr", "truncated")}[target]
    )


def choose_target(patch: int) -> Literal["v", "x"]:
    """Choose the target for a patch stem of this side in pixels: x above 2, else v (docs/decisions/0005).

    A network that predicts v passes noise through its patches; large patches leave grain in every frame.
    """
    return "x" if patch > 2 else "v"


# PYoCo's, for its two priors: a = 1 (mixed) and a = 2 (progressive).
NOISE_STRENGTHS = {"independent": 0.0, "mixed": 0.5, "progressive": 0.894, "lowpass": 0.5, "shared": 0.9}


class DiffusionSettings(BaseModel):
    """Prediction target, weighting, noise levels (log-SNR) and noise prior."""

    # a `DiffusionChoice` of a training becomes a plain model of this class, whose target is not auto
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="subclass-instances"
    )

    target: Literal["v", "eps", "x", "flow"] = Field(
        default="v", description="Prediction target of the network; flow: of a public model alone"
    )
    weighting: Annotated[Literal["v", "eps", "x", "flow", "min-snr", "truncated"], Option("Model")] = Field(
        default="v",
        description="Weight of the squared error of x_hat over the levels; v: plain MSE of v. The weighting of a "
        "preset is replaced by plain MSE of the --target where it does not suit it",
    )
    low: float = Field(default=-20.0, ge=-100, le=100, description="Level (log-SNR) of pure noise")
    high: float = Field(default=20.0, ge=-100, le=100, description="Level (log-SNR) of a clean frame")
    shift: float = Field(
        default=0.0,
        ge=-100,
        le=100,
        description="Shift of the cosine schedule; negative trains more on noisy levels, which larger frames need; "
        "2 log(64 / side) equals the schedule of 64 pixels",
    )
    noise: Annotated[Literal["independent", "mixed", "progressive", "lowpass", "shared"], Option("Model")] = Field(
        default="independent",
        description="Correlation of the noise of different frames; independent: none; mixed: half is shared; shared: "
        "nearly all; progressive, lowpass: more the nearer they are",
    )
    noise_strength: float = Field(
        default=0.0,
        ge=0,
        le=0.99,
        description="Correlation of the noise of neighboring frames; 0: the default of the prior, 0.5 (mixed, "
        "lowpass), 0.894 (progressive) or 0.9 (shared)",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_strength(cls, given: Any) -> Any:
        """Fill in the default strength: a checkpoint holds the number, whatever the default is later."""
        if not isinstance(given, dict) or given.get("noise_strength"):
            return given
        return given | {"noise_strength": NOISE_STRENGTHS.get(str(given.get("noise")), 0.0)}

    @model_validator(mode="after")
    def _ordered(self) -> DiffusionSettings:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must lie below high ({self.high})")
        if self.noise == "independent" and self.noise_strength:
            raise ValueError("noise_strength goes with a noise other than independent")
        return self


class ClipSettings(BaseModel):
    """A frozen CLIP text encoder. Its weights are identified by their hash, and not by their place on a disk."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    encoder: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the model in open_clip")
    weights: str = Field(max_length=255, description="Tag of the weights in open_clip, or the name of their file")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the text tower's weights")
    width: int = Field(ge=1, le=65_536, description="Width of a token")
    pooled: int = Field(ge=1, le=65_536, description="Width of the pooled vector")
    context: int = Field(ge=1, le=65_536, description="Tokens read of a caption, with start and end")


class AutoencoderSettings(BaseModel):
    """A frozen autoencoder of frames, in whose latent space a model works. Its weights are identified by their hash.

    z of the network is (z of the autoencoder - mean) / deviation, channel by channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(min_length=1, max_length=4096, description="Name on the hub, or folder")
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$", description="Commit on the hub")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the weights and of the scaling of values")
    spatial: int = Field(ge=1, le=256, description="Pixels of a side that one value stands for")
    channels: int = Field(ge=1, le=64, description="Channels of a frame's values")
    mean: tuple[float, ...] = Field(description="Mean of each channel over clips of the dataset")
    deviation: tuple[Annotated[float, Field(gt=0)], ...] = Field(description="Standard deviation of each channel")

    @model_validator(mode="after")
    def _has_statistics_of_each_channel(self) -> AutoencoderSettings:
        if not len(self.mean) == len(self.deviation) == self.channels:
            raise ValueError(f"{len(self.mean)} means and {len(self.deviation)} deviations of {self.channels} channels")
        return self

    @property
    def temporal(self) -> int:
        """Frames that one value stands for."""
        return 1


LongCaptions = Literal["cut", "middle", "refuse"]
LONG_CAPTIONS = (
    "Captions and prompts longer than the text encoder reads; cut: leave out the end; middle: keep both ends; refuse: "
    "an error"
)


class LearnedTextSettings(BaseModel):
    """A text encoder that is trained with the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    depth: int = Field(default=1, ge=0, le=64, description="Transformer layers of the learned encoder")
    max_tokens: int = Field(default=32, ge=4, le=4096, description="Tokens of a caption that the learned encoder reads")
    long_captions: LongCaptions = Field(default="cut", description=LONG_CAPTIONS)
    vocabulary: tuple[int, ...] = Field(default=(), description="Token ids that the dataset uses (learned encoder)")


class TextSettings(LearnedTextSettings):
    """The text encoder of a model: `learned` is trained with it, `clip` is frozen, `none` is a model without text."""

    kind: Literal["clip", "learned", "none"] = Field(default="learned", description="Text encoder")
    clip: ClipSettings | None = Field(default=None, description="The CLIP encoder")

    @model_validator(mode="after")
    def _clip_is_complete(self) -> TextSettings:
        if (self.kind == "clip") != (self.clip is not None):
            raise ValueError("text.clip goes with the kind clip, and only with it")
        return self


class BaseModelSettings(BaseModel):
    """The public model that a run fine-tunes, and what of it is trained. Its weights are identified by their hash."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: str = Field(max_length=4096, description="Where it is: a folder, or hf:OWNER/NAME@COMMIT")
    family: str = Field(max_length=255, description="Family of public models")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash over all its weights")
    licence: str | None = Field(default=None, max_length=255, description="Licence of its weights")
    text: ClipSettings = Field(description="Its text encoder")
    latents: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the weights of its autoencoder")
    scheduler: dict[str, Any] = Field(description="The configuration of its noise schedule")
    rank: int = Field(default=0, ge=0, le=4096, description="Rank of the adapter (LoRA); 0: layers are trained whole")
    alpha: float = Field(default=1.0, gt=0, description="Scale of the adapter, times its rank")
    layers: Literal["all", "temporal"] = Field(default="all", description="Layers that are trained or have an adapter")
    targets: tuple[str, ...] = Field(default=(), description="Linear maps that have an adapter, by the ends of names")


class DistilledSettings(BaseModel):
    """The sampling that a model was distilled for: it takes one pass a step, and its scale of guidance is fixed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(ge=1, le=4096, description="Sampling steps")
    guidance_scale: float = Field(ge=0, description="Scale of the classifier-free guidance in the weights")


class ModelSettings(BaseModel):
    """All settings of a model; with the weights, everything that sampling needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width: int = Field(default=16, ge=1, le=16_384, description="Width of a frame in pixels")
    height: int = Field(default=16, ge=1, le=16_384, description="Height of a frame in pixels")
    frames: int = Field(default=8, ge=1, le=4096, description="Frames of a window")
    fps: str = Field(default="8", description="Base rate of the training clips, as an exact fraction")
    frame_strides: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(1,), min_length=1, description="Steps between the frames of a window in training"
    )
    conditioning: Literal["mixed", "none"] = Field(
        default="mixed", description="Conditioning on observed frames in training"
    )
    context_noise: float = Field(
        default=0.0, ge=0, le=1, description="Largest noise on observed frames in training, from 0 to 1"
    )
    augmentation: float = Field(
        default=0.0, ge=0, lt=1, description="Largest noise on the low-resolution clip in training, from 0 to 1"
    )
    frame_levels: bool = Field(
        default=False, description="Trained on clips whose frames have noise levels of their own, not all the same"
    )
    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    text: TextSettings = TextSettings()
    base: BaseModelSettings | None = Field(
        default=None, description="The public model that is fine-tuned; `network` and `text` then have no part in it"
    )
    autoencoder: AutoencoderSettings | None = Field(
        default=None, description="The autoencoder in whose latent space the network works; none: on pixels"
    )
    distilled: DistilledSettings | None = Field(
        default=None, description="The sampling that it was distilled for (vidiff distill); none: not distilled"
    )

    @property
    def spatial(self) -> int:
        """Pixels of a side for each value that the network works on."""
        return self.autoencoder.spatial if self.autoencoder is not None else 1

    @property
    def multiple(self) -> int:
        """The factor in pixels that height and width of a frame must have."""
        return self.network.multiple * self.spatial

    @property
    def z_size(self) -> tuple[int, int]:
        """Height and width of the values that the network works on."""
        return self.height // self.spatial, self.width // self.spatial

    @field_validator("fps")
    @classmethod
    def _is_rate(cls, fps: str) -> str:
        recorded_rate(fps)
        return fps

    @model_validator(mode="after")
    def _size_fits_network(self) -> ModelSettings:
        if self.width % self.multiple or self.height % self.multiple:
            raise ValueError(f"{self.width}x{self.height} is not a multiple of {self.multiple} pixels")
        return self

    @model_validator(mode="after")
    def _estimate_is_of_pixels(self) -> ModelSettings:
        if not self.network.any_size:
            return self
        if self.autoencoder is not None:
            raise ValueError("a network that predicts around an estimate is of pixels, and this one works on latents")
        if self.diffusion.target != "v":
            raise ValueError(f"a network that predicts around an estimate predicts v, not {self.diffusion.target}")
        return self

    @model_validator(mode="after")
    def _network_works_on_latents(self) -> ModelSettings:
        if self.autoencoder is None:
            return self
        if self.network.channels != self.autoencoder.channels:
            raise ValueError(f"{self.network.channels} channels, where the autoencoder has {self.autoencoder.channels}")
        if self.network.motion:
            raise ValueError("the estimate by motion is of pixels, and the network works on latents")
        return self
