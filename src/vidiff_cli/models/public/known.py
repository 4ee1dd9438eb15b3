"""Public models that are known by name: licence, size, and the shape that they were trained at.

Licences and sizes are those of the hub's pages. `commit` is given where several independent projects record the same
one with the files of the model (Wan 2.1, CogVideoX, Stable Diffusion 1.5); of the other models no commit could be
verified, so their newest version is fetched and its commit recorded. None of the models was run where vidiff is
developed: see docs/public-models.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from vidiff_cli.models.families import Family

Work = Literal["sample", "extend", "extend forwards", "interpolate"]
ALL: tuple[Work, ...] = ("sample", "extend", "interpolate")
FORWARDS: tuple[Work, ...] = ("sample", "extend forwards")


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownModel:
    """A public model.

    `name` is for --model. `gigabytes` is the size of the download, None where it is not known. `works` lists the
    commands that take it. `commit` is fetched where a name has no revision. `width`, `height`, `frames` and `fps` are
    its native shape, which wins over that of its family.
    """

    name: str
    family: str
    licence: str
    gigabytes: float | None
    width: int
    height: int
    frames: int
    fps: int
    works: tuple[Work, ...]
    note: str = ""
    commit: str | None = None
    recommended: bool = False

    @property
    def repositories(self) -> tuple[str, ...]:
        """OWNER/NAME of its repositories: the model, and the motion adapter where it has one."""
        return repositories(self.name)


KNOWN = (
    KnownModel(
        name="hf:Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        family="Wan 2.1",
        licence="apache-2.0",
        gigabytes=28.9,
        width=832,
        height=480,
        frames=81,
        fps=16,
        works=FORWARDS,
        note="most of the download is its text encoder",
        commit="0fad780a534b6463e45facd96134c9f345acfa5b",
        recommended=True,
    ),
    KnownModel(
        name="hf:ali-vilab/text-to-video-ms-1.7b",
        family="ModelScope",
        licence="cc-by-nc-4.0",
        gigabytes=3.7,
        width=256,
        height=256,
        frames=16,
        fps=8,
        works=ALL,
        note="no commercial use; its card also says no derivatives",
    ),
    KnownModel(
        name="hf:cerspense/zeroscope_v2_576w@refs/pr/46",
        family="ModelScope",
        licence="cc-by-nc-4.0",
        gigabytes=None,
        width=576,
        height=320,
        frames=24,
        fps=8,
        works=ALL,
        note="no commercial use; the main branch has pickles only, this pull request has safetensors",
    ),
    KnownModel(
        name="hf:stable-diffusion-v1-5/stable-diffusion-v1-5+hf:guoyww/animatediff-motion-adapter-v1-5-2",
        family="AnimateDiff",
        licence="creativeml-openrail-m",
        gigabytes=3.9,
        width=512,
        height=512,
        frames=16,
        fps=8,
        works=ALL,
        note="the page of the motion adapter states no licence",
        commit="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
    KnownModel(
        name="hf:zai-org/CogVideoX-2b",
        family="CogVideoX",
        licence="apache-2.0",
        gigabytes=13.8,
        width=720,
        height=480,
        frames=49,
        fps=8,
        works=FORWARDS,
        note="one size of frames only",
        commit="1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01",
    ),
    KnownModel(
        name="hf:Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers",
        family="SkyReels V2 DF",
        licence="skywork-license",
        gigabytes=None,
        width=960,
        height=544,
        frames=97,
        fps=24,
        works=FORWARDS,
        note="a licence of its own; a noise level for every frame, so it can condition as vidiff's own models do",
    ),
)


def repositories(model: str) -> tuple[str, ...]:
    """OWNER/NAME of the repositories in what --model says."""
    return tuple(part.removeprefix("hf:").partition("@")[0] for part in model.split("+"))


def named_model(model: str) -> KnownModel | None:
    """The known model that --model names; the hub takes capitals for small letters."""
    wanted = tuple(map(str.lower, repositories(model)))
    return next((known for known in KNOWN if tuple(map(str.lower, known.repositories)) == wanted), None)


def find_known(repository: str | None) -> KnownModel | None:
    """The known model whose first repository this is."""
    wanted = (repository or "").lower()
    return next((model for model in KNOWN if model.repositories[0].lower() == wanted), None)


def native_shape(family: Family, repository: str | None) -> KnownModel | Family:
    """The width, height, frames and fps that a model was trained at: those of a known name, else of its family."""
    known = find_known(repository)
    return known if known is not None and known.family == family.name else family
