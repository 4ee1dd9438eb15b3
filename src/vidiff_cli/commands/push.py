"""`vidiff push`: a run or a cascade to the hub, with a model card."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidiff_cli.checkpoint import read_header
from vidiff_cli.config.hub import PushSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.cascade_folder import find_cascade, read_cascade, stage_file
from vidiff_cli.models.public.hub import CASCADE, CHECKPOINT, STAGES, HubName, is_hub_name, parse_hub_name
from vidiff_cli.models.public.push import push_files
from vidiff_cli.path_kind import path_kind
from vidiff_cli.runs.checkpoint_info import CheckpointInfo, describe_checkpoint
from vidiff_cli.runs.model_card import model_card, read_results
from vidiff_cli.runs.run_info import RunInfo, describe_run

CARD, CONFIG = "README.md", "config.json"
OF_THIS_MACHINE = frozenset(
    {"dataset", "output", "prompts", "resume", "start_from", "clip_model", "flow_weights", "perceptual_weights"}
)  # settings with a path, of which the name alone is sent


@dataclass(frozen=True, kw_only=True, slots=True)
class PushPlan:
    """Files of a run or a cascade for a repository, by their names in it: weights by their paths, others by their
    text."""

    target: str
    licence: str
    private: bool
    weights: Mapping[str, Path]
    texts: Mapping[str, str]
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PushReport:
    """Result: where the run lies and under which commit."""

    target: str
    url: str
    commit: str
    bytes: int
    seconds: float


@task
def plan_push(settings: PushSettings) -> EventStream[PushPlan]:
    """Describes a run for the hub. Sends nothing, and opens no connection.

    Raises VidiffError: not a run, a damaged checkpoint, no licence, not a name on the hub.
    """
    name = _target(settings.target)
    if settings.licence is None:
        raise VidiffError("a run cannot be pushed without a licence", fix="name one: --licence cc-by-4.0")
    model, run = yield from _describe(settings.run)
    weights, folder = {CHECKPOINT: model.path}, find_cascade(settings.run)
    if folder is not None:
        weights |= {STAGES[place]: stage_file(folder, place) for place in range(len(model.stages))}
    for path in sorted({path for file in weights.values() for path in _local_paths(read_header(file))}):
        yield Note(f"The checkpoint names a path of this machine: {path}", "warning")
    card = model_card(str(name), model, run, read_results(settings.run), licence=settings.licence)
    texts = {CARD: card}
    if run is not None:
        texts[CONFIG] = json.dumps(_without_folders(read_run_config(settings.run)), indent=2) + "\n"
    if folder is not None:
        cascade = read_cascade(folder)
        texts[CASCADE] = (folder / CASCADE).read_text(encoding="utf-8")
        for part in (cascade.base, *cascade.stages):
            if part.licence is not None:
                yield Note(f"The weights of {part.name} have the licence {part.licence}.")
    size = sum(file.stat().st_size for file in weights.values()) + sum(len(text.encode()) for text in texts.values())
    return PushPlan(
        target=str(name),
        licence=settings.licence,
        private=settings.private,
        weights=weights,
        texts=texts,
        bytes=size,
    )


@task
def push(plan: PushPlan) -> EventStream[PushReport]:
    """Sends a planned run as one commit; the repository is made where it does not exist.

    Raises VidiffError: no token, no access, the hub cannot be reached, a repository of something else.
    """
    began = time.monotonic()
    yield Note(f"Sending {plan.bytes / 1e6:.1f} MB to {plan.target}.")
    files: dict[str, Path | bytes] = {place: text.encode() for place, text in plan.texts.items()}
    files |= plan.weights
    kind = "cascade" if CASCADE in files else "run"
    sent = push_files(_target(plan.target), files, private=plan.private, message=f"A {kind} of vidiff")
    return PushReport(
        target=plan.target, url=sent.url, commit=sent.commit, bytes=plan.bytes, seconds=time.monotonic() - began
    )


def _target(text: str) -> HubName:
    if not is_hub_name(text):
        raise UsageError("the target is not a name on the hub", found=text, expected="hf:OWNER/NAME")
    return parse_hub_name(text)


def _describe(path: Path) -> EventStream[tuple[CheckpointInfo, RunInfo | None]]:
    """The checkpoint that would be sent, and its run."""
    kind = path_kind(path)
    if kind == "run":
        run = yield from describe_run(path)
        if run.model is None:
            raise VidiffError(f"{path} has no checkpoint to push", fix="train it further")
        return run.model, run
    if kind not in ("checkpoint file", "checkpoint folder"):
        raise VidiffError(f"{path} cannot be pushed", found=f"a {kind}", expected="a run or a checkpoint")
    model = yield from describe_checkpoint(path)
    return model, None


def _without_folders(value: Any, key: str = "") -> Any:
    """Settings in which paths of this machine are reduced to their names."""
    if isinstance(value, dict):
        return {name: _without_folders(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item, key) for item in value]
    if isinstance(value, str) and not is_hub_name(value) and (key in OF_THIS_MACHINE or os.path.isabs(value)):
        return Path(value).name
    return value


def _local_paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _local_paths(item)
    if isinstance(value, str) and os.path.isabs(value):
        yield value
