"""Report of an evaluation: numbers with the protocol that they were measured by, as JSON, as a table and as a plot."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidiff_cli.errors import VidiffError
from vidiff_cli.metrics.bootstrap import ConfidenceInterval
from vidiff_cli.system.atomic_files import atomic_path
from vidiff_cli.viz.evaluation_plot import plot_evaluation

JSON, TABLE, PLOT = "evaluation.json", "evaluation.md", "evaluation.png"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One measure of the generated videos, and the same of the real ones (a distance: of two random halves of them).

    `kind`: "distance", "fidelity", "time" or "text"; `better`: "lower", "higher", "as real" or "1".
    """

    name: str
    kind: str
    unit: str
    better: str
    generated: ConfidenceInterval
    real: ConfidenceInterval | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateReport:
    """Results, protocol and files. `by_frame`: mean PSNR, SSIM and MS-SSIM of every frame, None for given ones."""

    folder: Path
    json: Path
    table: Path
    plot: Path
    protocol: Mapping[str, Any]
    results: tuple[Result, ...]
    by_frame: Mapping[str, tuple[float | None, ...]]
    warnings: tuple[str, ...]
    seconds: float


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Raises VidiffError where the files cannot be written, before anything is measured."""
    if folder.exists() and not folder.is_dir():
        raise VidiffError(f"{folder} is not a folder", fix="give another one with -o")
    for name in (JSON, TABLE, PLOT):
        if (folder / name).is_dir():
            raise VidiffError(f"{folder / name} is a folder", fix="give another one with -o")
        if (folder / name).exists() and not overwrite:
            raise VidiffError(f"{folder / name} exists", fix="give another folder with -o, or pass --overwrite")


def write_report(report: EvaluateReport) -> None:
    """Writes the three files of a report. VidiffError where they cannot be written."""
    content = {
        "protocol": report.protocol,
        "results": report.results,
        "by_frame": report.by_frame,
        "warnings": report.warnings,
        "seconds": round(report.seconds, 3),
    }
    text = json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    table = "\n".join(_page(report)) + "\n"
    for path, content in ((report.json, text), (report.table, table)):
        with atomic_path(path, parents=True) as partial:
            partial.write_bytes(content.encode("utf-8", "backslashreplace"))
    rows = [(each.kind, each.name, each.unit, each.generated, each.real) for each in report.results]
    plot_evaluation(rows, report.by_frame, report.plot, title=_title(report))


def table_rows(report: EvaluateReport) -> list[tuple[str, ...]]:
    """Formats the table: a heading, then a row for each result."""
    heading = ("measure", "generated", "95 % interval", "real", "better", "unit")
    return [heading, *(_row(each) for each in report.results)]


def _row(result: Result) -> tuple[str, ...]:
    real = "-" if result.real is None else _number(result.real.value)
    if result.kind == "distance" and result.real is not None:
        real += " (halves)"
    return result.name, _number(result.generated.value), _interval(result.generated), real, result.better, result.unit


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if math.isfinite(value) else "infinite"


def _interval(estimate: ConfidenceInterval) -> str:
    return "-" if estimate.low is None else f"{_number(estimate.low)} to {_number(estimate.high)}"


def _title(report: EvaluateReport) -> str:
    sides = report.protocol["real"], report.protocol["generated"]
    view = f"{report.protocol['frames']} frames of {report.protocol['width']}x{report.protocol['height']}"
    return f"{sides[1]['title']} ({sides[1]['videos']}) against {sides[0]['title']} ({sides[0]['videos']}): {view}"


def _page(report: EvaluateReport) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in table_rows(report)]
    lines = ["# Evaluation", "", _title(report) + ".", ""]
    lines += ["| " + " | ".join(cells[0]) + " |", "|" + "---|" * len(cells[0])]
    lines += ["| " + " | ".join(row) + " |" for row in cells[1:]]
    if report.warnings:
        lines += ["", "## Warnings", "", *(f"- {text}" for text in report.warnings)]
    lines += ["", "## Protocol", "", "```json"]
    lines += [json.dumps(plain(report.protocol), indent=2, ensure_ascii=False), "```"]
    return lines


def plain(value: Any) -> Any:
    """Converts to JSON data: numbers that are not finite become null, paths and fractions become text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    if isinstance(value, Path | Fraction):
        return str(value)
    return value if not isinstance(value, float) or math.isfinite(value) else None
