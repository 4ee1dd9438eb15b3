"""What a model is: the shape of its network, what it predicts and the levels it is trained on. Stored in every
checkpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class NetworkSettings(BaseModel):
    """The factorised space-time U-Net (`models/unet3d.py`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int = Field(default=3, ge=1, description="colour channels of a frame")
    base: int = Field(default=48, ge=8, multiple_of=8, description="channels at the highest resolution")
    multipliers: tuple[int, ...] = Field(
        default=(1, 2), min_length=1, description="channel multiplier of each resolution"
    )
    blocks: int = Field(default=1, ge=1, description="residual blocks per resolution, down and up")
    patch: int = Field(default=2, ge=1, description="side of the patch stem (space to depth); 1 is no patching")
    head_width: int = Field(default=24, ge=4, description="channels of an attention head")
    attention_side: int = Field(
        default=16, ge=0, description="attention where a feature map is at most this many cells wide"
    )
    embedding: int = Field(default=192, ge=16, description="width of the embedding of level, time and text")
    temporal: Literal["attention", "convolution", "both"] = Field(
        default="both", description="how frames see one another"
    )
    positions: Literal["relative", "sinusoidal"] = Field(
        default="relative", description="how temporal attention sees time"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout inside residual blocks")
    text_width: int = Field(default=64, ge=0, description="width of a text token; 0 is a model without text")

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class DiffusionSettings(BaseModel):
    """What the network predicts, and at which levels (log-SNR) it is trained and sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Literal["v", "eps", "x"] = Field(default="v", description="what the network predicts")
    weighting: Literal["v", "eps", "x", "min-snr", "truncated"] = Field(
        default="v", description="weight on the squared error of x_hat over the levels; 'v' is plain v-MSE"
    )
    low: float = Field(default=-20.0, description="level (log-SNR) of pure noise")
    high: float = Field(default=20.0, description="level (log-SNR) of a clean frame")
    shift: float = Field(default=0.0, description="shift of the cosine schedule; negative trains more on noisy levels")

    @model_validator(mode="after")
    def _ordered(self) -> DiffusionSettings:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must lie below high ({self.high})")
        return self


class TextSettings(BaseModel):
    """The text encoder of a model: `learned` is trained with it, `none` is a model without text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["learned", "none"] = Field(default="learned", description="text encoder")
    depth: int = Field(default=1, ge=0, description="transformer layers of the learned encoder")
    max_tokens: int = Field(default=32, ge=4, description="tokens of a caption that are read")
    vocabulary: tuple[int, ...] = Field(default=(), description="token ids that the dataset uses (learned encoder)")


class ModelSettings(BaseModel):
    """All of a model: with the weights, everything that sampling needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=16, ge=1, description="pixels")
    height: int = Field(default=16, ge=1, description="pixels")
    frames: int = Field(default=8, ge=1, description="frames of a window")
    fps: str = Field(default="8", description="base rate of the training clips, as an exact fraction")
    frame_steps: tuple[int, ...] = Field(default=(1,), description="steps between the frames of a window in training")
    conditioning: Literal["mixed", "none"] = Field(default="mixed", description="trained on random observed frames too")
    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    text: TextSettings = TextSettings()
