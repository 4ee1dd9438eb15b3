"""A call of `vidiff sample`: all that decides its videos, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidiff_cli.frames import Window
from vidiff_cli.generation.cascade import Stage, final_size, rate_factor
from vidiff_cli.generation.output_files import OutputOptions, slug, target_path
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.sidecar import write_sidecar
from vidiff_cli.generation.source_clip import Size
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCall:
    """All that decides the videos of a call but their seed: `total` frames of each at `fps`. The model makes the first
    `base_total` frames at `times`, and a few more where it makes groups; `stages` follow. `key` is that of the
    journal."""

    model: VideoModel
    setup: SamplingSetup
    stages: Sequence[Stage]
    options: OutputOptions
    prompts: Sequence[str]
    windows: Sequence[Window]
    rolling: RollingPlan | None
    times: Sequence[Fraction]
    base_total: int
    total: int
    fps: Fraction
    batch_size: int
    key: str

    @property
    def base_fps(self) -> Fraction:
        """Frames per second that the model makes."""
        return self.fps / rate_factor(self.stages)

    @property
    def size(self) -> Size:
        """Height and width of the videos."""
        return final_size(self.stages, (self.model.height, self.model.width))

    @property
    def details(self) -> str:
        """End of a file's name: number and size of frames."""
        return f"{self.total}f_{self.size[1]}x{self.size[0]}"

    @property
    def target(self) -> Path:
        """The result that the journal is named after."""
        details = f"{len(self.times)}f_{self.size[1]}x{self.size[0]}"
        return target_path(self.options, slug(self.prompts[0]), details, self.options.seed)


def output_paths(options: OutputOptions, prompts: Sequence[str], seed: int, details: str) -> list[Path]:
    """One file per video: -o for a single one; for several -o is their folder, or a name that gets the seed added."""
    path = options.path
    if path is not None and len(prompts) == 1:
        return [path]
    if path is not None and path.suffix:
        return [path.with_name(f"{path.stem}_s{seed + number}{path.suffix}") for number in range(len(prompts))]
    names = [f"{slug(prompt)}_s{seed + number}_{details}{options.suffix}" for number, prompt in enumerate(prompts)]
    return [Path(name) if path is None else path / name for name in names]


def write_sample_sidecar(call: SampleCall, path: Path, prompt: str, seed: int) -> None:
    """Write the sidecar of one video, which repeats that one alone."""
    record = {**call.options.record, "prompts": [prompt], "count": 1, "prompts_file": None}
    facts: dict[str, object] = {
        "prompt": prompt,
        "frames": call.total,
        "fps": str(call.fps),
        "condition": call.setup.condition,
    }
    if call.stages:
        record["then"] = [stage.model.name for stage in call.stages]
        facts["stages"] = [stage.model.record() for stage in call.stages]
    if len(call.windows) > 1:
        facts["history_guidance"] = call.setup.history_guidance
    write_sidecar(path, "sample", record, call.model, seed, facts)
