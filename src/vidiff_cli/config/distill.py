"""Settings of `vidiff distill`, and what a run of it records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidiff_cli.config.options import GENERAL, OUTPUT, REPRODUCE, Argument, Compile, Deterministic, Device, Option

DISTILLATION, RUN, WATCH = "Distillation", "Running", "Watching"


class DistillationSettings(BaseModel):
    """The lessons of a student: steps and guidance of its teacher, the model that its training starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(ge=1, le=4096, description="Sampling steps of the student")
    teacher_steps: int = Field(ge=1, le=4096, description="Sampling steps of the teacher, a multiple of them")
    guidance_scale: float = Field(ge=0, description="Guidance of the teacher")
    guidance_in_weights: bool = Field(default=False, description="The teacher is distilled itself: no second pass")
    clips_seen: int = Field(default=0, ge=0, description="Clips that the teacher was trained on")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the teacher's checkpoint")

    @property
    def substeps(self) -> int:
        """Steps of the teacher for one of the student."""
        return self.teacher_steps // self.steps


class DistillSettings(BaseModel):
    """Settings of `vidiff distill`. The rest of a training is as the teacher's was."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    teacher: Annotated[Path, Argument("RUN")] = Field(
        description="Run to distill, checkpoint file or builtin; it is left as it is"
    )
    steps: Annotated[int, Option(DISTILLATION, unit="steps")] = Field(
        default=4, ge=1, le=4096, description="Sampling steps of the new model, each of one pass"
    )
    teacher_steps: Annotated[int | None, Option(DISTILLATION, unit="steps")] = Field(
        default=None,
        ge=1,
        le=4096,
        description="Sampling steps of RUN that they replace, a multiple of --steps; if not given, twice as many, or "
        "those of a distilled RUN; as many: the guidance alone is distilled",
    )
    guidance_scale: Annotated[float | None, Option(DISTILLATION, "--guidance-scale", "-g")] = Field(
        default=None, ge=0, description="Classifier-free guidance to distill; if not given, RUN's default"
    )
    dataset: Annotated[Path | None, Option(DISTILLATION)] = Field(
        default=None, description="Clips to distill on; if not given, those that RUN was trained on"
    )
    train_steps: Annotated[int, Option(RUN, unit="steps")] = Field(default=400, ge=1, description="Optimizer steps")
    batch_size: Annotated[int, Option(RUN, unit="clips")] = Field(default=8, ge=1, description="Clips per step")
    lr: Annotated[float, Option(RUN)] = Field(default=3e-4, gt=0, description="Learning rate (AdamW)")
    precision: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Option(RUN)] = Field(
        default="auto", description="Number format of the networks; auto: bf16 where the device computes in it"
    )
    resume: Annotated[str, Option(RUN, values="auto|never|PATH")] = Field(
        default="auto", description="auto: continue an unfinished run; never: refuse one; or a checkpoint folder"
    )
    checkpoint_every: Annotated[int, Option(WATCH, unit="steps")] = Field(
        default=50, ge=1, description="Steps between checkpoints"
    )
    sample_every: Annotated[int, Option(WATCH, unit="steps")] = Field(
        default=200, ge=0, description="Steps between sample sheets; 0: none"
    )
    validate_every: Annotated[int, Option(WATCH, unit="steps")] = Field(
        default=100, ge=0, description="Steps between measurements of the loss of held-out clips; 0: none"
    )
    output: Annotated[Path | None, Option(GENERAL, "--output", "-o")] = Field(
        default=None, description="Run folder; if not given, runs/RUN-STEPS-steps"
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Replace a run that has other settings"
    )
    seed: Annotated[int, Option(REPRODUCE)] = Field(default=0, ge=0, description="Seed of every random draw")
    device: Device = "auto"
    compile: Compile = "auto"
    deterministic: Deterministic = False

    @model_validator(mode="after")
    def _steps_divide(self) -> DistillSettings:
        if self.teacher_steps is not None and self.teacher_steps % self.steps:
            raise ValueError(f"--teacher-steps {self.teacher_steps} is not a multiple of --steps {self.steps}")
        return self
