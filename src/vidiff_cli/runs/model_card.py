"""Model card of a run: README.md with front matter, from what `vidiff info` knows and what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidiff_cli.runs.checkpoint_info import CheckpointInfo
from vidiff_cli.runs.run_info import RunInfo

RESULTS = ("evaluation.json", "evaluation/evaluation.json")  # places of results in a run folder
Rows = Sequence[Sequence[str]]


def model_card(
    name: str, model: CheckpointInfo, run: RunInfo | None, results: Sequence[Mapping[str, Any]], *, licence: str
) -> str:
    """The text of a model card.

    Args:
        name: hf:OWNER/NAME.
        model: Description of the checkpoint.
        run: Description of its run, where there is one.
        results: Measures of an evaluation.
        licence: As the hub spells it.

    Returns:
        Markdown that begins with the front matter.
    """
    reads_text = model.text.kind != "none"
    front = ["---", f"license: {licence}", "library_name: vidiff", "tags:", "- video", "- diffusion", "- vidiff"]
    front += ["pipeline_tag: text-to-video"] if reads_text else []
    title = name.rpartition("/")[2]
    made = f"windows of {model.frames} frames of {model.width}x{model.height} pixels"
    lines = [*front, "---", "", f"# {title}", "", f"A video diffusion model trained with vidiff: it makes {made}."]
    lines += ["", "## Use", "", "```sh", f"vidiff fetch {name}"]
    prompt = '"a prompt" ' if reads_text else ""
    lines += [f"vidiff sample {prompt}-m {name}", f"vidiff extend clip.mp4 -m {name}"]
    lines += [f"vidiff interpolate clip.mp4 -m {name}", "```", "", "## Model", ""]
    lines += _table([("", ""), *_model_rows(model)])
    if model.stages:
        lines += ["", "## Stages", "", *_table(_stage_rows(model))]
    if run is not None:
        lines += ["", "## Training", "", *_table([("", ""), *_training_rows(run)])]
    if model.errors is not None:
        lines += ["", "## Frames predicted in one pass", "", *_table(_error_rows(model))]
        lines += ["", f"Measured on {model.errors.clips} {_held_out(model.errors.split)} clips."]
    if results:
        lines += ["", "## Evaluation", "", *_table(_result_rows(results))]
    if model.warnings:
        lines += ["", "## Limits", "", *(f"- {_cell(text)}" for text in model.warnings)]
    return "\n".join(lines) + "\n"


def read_results(run: Path) -> list[dict[str, Any]]:
    """Measures of the evaluation that lies in a run folder; empty without one that can be read."""
    for place in RESULTS:
        try:
            results = json.loads((run / place).read_text(encoding="utf-8"))["results"]
            return [result for result in results if isinstance(result, dict) and isinstance(result["generated"], dict)]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return []


def _model_rows(model: CheckpointInfo) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{model.parameters / 1e6:.2f} M"
    yield "frame rates", ", ".join(f"{float(rate):g} fps" for rate in model.rates)
    yield "predicts", f"{model.target}, weighted {model.weighting}, from {model.noise} noise"
    yield "given frames", ", ".join(model.conditioning)
    text = {"learned": f"its own encoder, {model.text.tokens} tokens known", "none": "none"}
    yield "text", text.get(model.text.kind, f"CLIP {Path(model.text.clip or '').name}")
    yield "trained", f"{model.step or 0:,} steps, {model.clips_seen:,} clips seen"
    yield "vidiff", model.vidiff or "unknown"
    yield "sha256", f"`{model.sha256}`"


def _stage_rows(model: CheckpointInfo) -> Rows:
    """The stages of a cascade, with the size that each reaches."""
    rows, width, height = [("stage", "times larger", "to", "licence", "sha256")], model.width, model.height
    for stage in model.stages:
        width, height = width * stage.scale, height * stage.scale
        makes = str(stage.scale) if stage.scale > 1 else "frames between"
        rows.append((stage.name, makes, f"{width}x{height}", stage.licence or "as above", f"`{stage.sha256}`"))
    return rows


def _training_rows(run: RunInfo) -> Iterator[tuple[str, str]]:
    yield "dataset", Path(run.dataset).name
    yield "preset", run.preset or "none"
    yield "clips a step", str(run.batch_size)
    yield "number format", run.precision
    if run.validation_loss is not None:
        yield "held-out loss", f"{run.validation_loss:.4f}"


def _error_rows(model: CheckpointInfo) -> Rows:
    assert model.errors is not None
    rows = [("frames", "model", "motion alone")]
    for words, errors in (
        ("{} missing between two", model.errors.between),
        ("{} after the last", model.errors.beyond),
    ):
        rows += [(words.format(gap), _psnr(own), _psnr(motion)) for gap, (own, motion) in sorted(errors.items())]
    return rows


def _result_rows(results: Sequence[Mapping[str, Any]]) -> Rows:
    rows = [("measure", "generated", "real", "better", "unit")]
    for result in results:
        generated, real = (_number((result.get(side) or {}).get("value")) for side in ("generated", "real"))
        rows.append((str(result.get("name")), generated, real, str(result.get("better")), str(result.get("unit"))))
    return rows


def _table(rows: Rows) -> list[str]:
    heading, *others = [[_cell(cell) for cell in row] for row in rows]
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    return lines + ["| " + " | ".join(row) + " |" for row in others]


def _cell(text: str) -> str:
    """Text of one line that cannot end a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def _psnr(error: float) -> str:
    return f"PSNR {20 * math.log10(2 / error):.1f} dB" if error else "equal"


def _held_out(split: str) -> str:
    return "held-out" if split == "val" else "training"
