"""`vidiff cascade`: a model that makes videos and the stages that follow it, as one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.config.cascade import CascadeSettings
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.cascade import (
    Stage,
    StageOptions,
    check_channels,
    check_one_rate,
    final_size,
    open_stage,
)
from vidiff_cli.generation.cascade_folder import Source, check_cascade_folder, find_cascade, read_cascade, write_cascade
from vidiff_cli.generation.load_model import find_checkpoint, find_finetuned
from vidiff_cli.generation.upscale_budget import check_sides
from vidiff_cli.models.codec import is_gray
from vidiff_cli.models.public.hub import MOST_STAGES, hub_run
from vidiff_cli.models.public.licence import read_licence
from vidiff_cli.models.video_model import open_video_model


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """A stage: what it was called, its scale (1 for the frames between), and the hash of its file."""

    name: str
    scale: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeReport:
    """The cascade written: a `base` and `stages`, which make videos of `width` x `height`."""

    folder: Path
    base: str
    stages: tuple[StageReport, ...]
    width: int
    height: int
    bytes: int


@task
def cascade(settings: CascadeSettings) -> EventStream[CascadeReport]:
    """Write the weights of a model and of its stages to one folder, which appears when it is complete.

    Raises VidiffError for a model that cannot be used, stages that do not fit together, and a folder that is not a
    cascade.
    """
    folder = settings.output if settings.output.name else settings.output.absolute()
    check_cascade_folder(folder, overwrite=settings.overwrite)
    if len(settings.upscalers) > MOST_STAGES:
        raise VidiffError("too many stages", found=len(settings.upscalers), expected=f"at most {MOST_STAGES}")
    path, base = _open_base(settings.base)
    if find_cascade(settings.base) is not None:
        yield Note(f"{settings.base} is a cascade: its base alone is taken.")
    gray = base.autoencoder is None and base.base is None and base.network.channels == 1
    height, width = base.height, base.width
    stages: list[Stage] = []
    for named in settings.upscalers:
        stage = _open_stage(named)
        check_channels(str(settings.base), str(named), gray=gray, then_gray=is_gray(stage.model.codec))
        height, width = final_size([stage], (height, width))
        check_sides(height, width, fix="take fewer stages")
        stages.append(stage)
    check_one_rate([stage.model for stage in stages])
    written = write_cascade(
        folder,
        Source(name=_name(settings.base, path), file=path, licence=_licence(settings.base, base)),
        [
            Source(
                name=_name(named, stage.model.path),
                file=stage.model.path,
                licence=stage.model.licence,
                scale=stage.scale,
            )
            for named, stage in zip(settings.upscalers, stages, strict=True)
        ],
        overwrite=settings.overwrite,
    )
    return CascadeReport(
        folder=folder,
        base=written.base.name,
        stages=tuple(StageReport(name=each.name, scale=each.scale, sha256=each.sha256) for each in written.stages),
        width=width,
        height=height,
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
    )


def _open_base(named: Path) -> tuple[Path, ModelSettings]:
    """The file of a model that makes videos, and its settings. VidiffError for any other, or a damaged one."""
    path = find_checkpoint(named)
    if (tuned := find_finetuned(named)) is not None:
        return path, tuned.settings
    settings = open_video_model(path)[0].settings
    if settings.network.task != "video":
        makes = {"upscale": "videos larger", "frames": "the frames between given ones"}[settings.network.task]
        raise VidiffError(
            f"{named} makes {makes}", expected="a model that makes videos, as BASE", fix="name this one after it"
        )
    return path, settings


def _open_stage(named: Path) -> Stage:
    cpu = StageOptions(model=named, device="cpu", dtype="fp32", compile="off", deterministic=False)
    return open_stage(cpu, fix="name stages after BASE")


def _licence(named: Path, settings: ModelSettings) -> str | None:
    """The licence of a base: that of the public model it was fine-tuned from, of the cascade or of the run on the hub
    that it is from; None where none is known."""
    if settings.base is not None:
        return settings.base.licence
    folder, fetched = find_cascade(named), hub_run(named)
    return (folder and read_cascade(folder).base.licence) or (fetched and read_licence(fetched.path)) or None


def _name(named: Path, file: Path) -> str:
    """The name of a model in a cascade, without its folders."""
    name = named.stem if named == file else named.name
    return (name or file.parent.name)[:200].encode(errors="replace").decode()
