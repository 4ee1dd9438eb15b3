"""`--track`: sends numbers and pictures of a training to a tracker that is installed beside vidiff.

Trackers are not dependencies. The run folder is the record; a tracker shows it elsewhere.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import Note


class Tracker(Protocol):
    """Receiver of a training's numbers. `start` is called first, `end` last, however the training ends."""

    def start(self, config: Mapping[str, Any]) -> None:
        """Receives the settings of the run."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Receives numbers after `step` steps."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """Receives a PNG file made after `step` steps."""
        ...

    def end(self) -> None: ...


class TensorBoard:
    """Event files in the run folder, by torch's own writer: `tensorboard --logdir runs`."""

    def __init__(self, run: Path) -> None:
        self._module = _import("torch.utils.tensorboard", package="tensorboard")
        self._folder = run / "tensorboard"

    def start(self, config: Mapping[str, Any]) -> None:
        self._writer = self._module.SummaryWriter(log_dir=str(self._folder))
        self._writer.add_text("settings", "\n".join(f"    {name} = {value}" for name, value in config.items()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        self._writer.add_image(path.parent.name, _pixels(path), step, dataformats="HWC")

    def end(self) -> None:
        self._writer.close()


class _Service:
    """Common part of wandb and trackio, which have the same functions."""

    def __init__(self, run: Path, package: str) -> None:
        self._module = _import(package, package=package)
        self._run = run

    def _begin(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"project": "vidiff", "name": self._run.name, "config": dict(config)}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._module.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        self._module.log({path.parent.name: self._module.Image(str(path))}, step=step)

    def end(self) -> None:
        self._module.finish()


class Trackio(_Service):
    """Trackio, local first: `trackio show`. A run of the same name is continued."""

    def __init__(self, run: Path) -> None:
        super().__init__(run, "trackio")

    def start(self, config: Mapping[str, Any]) -> None:
        self._module.init(**self._begin(config), resume="allow")


class Wandb(_Service):
    """Weights & Biases. Its id follows from the run folder, so that a continued run stays one run."""

    def __init__(self, run: Path) -> None:
        super().__init__(run, "wandb")

    def start(self, config: Mapping[str, Any]) -> None:
        identity = hashlib.sha256(str(self._run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._run.mkdir(parents=True, exist_ok=True)
        self._module.init(**self._begin(config), id=identity, resume="allow", dir=str(self._run))


class SafeTracker:
    """Tracker whose failures do not stop a training: after the first one it is not called again."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker, self._name = tracker, name
        self.failed: str | None = None
        self._warned = False

    def warn_failure(self) -> Iterator[Note]:
        """Warns once that the tracker failed and is no longer used."""
        if self.failed is not None and not self._warned:
            self._warned = True
            yield Note(f"--track {self._name} failed and is no longer used: {self.failed.rstrip('.')}.", "warning")

    def start(self, config: Mapping[str, Any]) -> None:
        self._call(lambda: self._tracker.start(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._call(lambda: self._tracker.log(step, values))

    def picture(self, step: int, path: Path) -> None:
        self._call(lambda: self._tracker.picture(step, path))

    def end(self) -> None:
        self._call(self._tracker.end)

    def _call(self, act: Callable[[], None]) -> None:
        if self.failed is None:
            try:
                with redirect_stdout(sys.stderr):  # stdout is for the paths that vidiff writes
                    act()
            except Exception as error:  # of foreign code: a server that is down, a full disk
                self.failed = f"{type(error).__name__}: {error}".splitlines()[0]


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb}
FILES = {"tensorboard", "wandb"}  # of trackers in a run folder


def open_tracker(name: str, run: Path) -> SafeTracker:
    """Opens a tracker by name for a run folder, without starting it. VidiffError where it is not installed."""
    if name not in TRACKERS:
        raise UsageError("unknown --track", found=repr(name), expected=", ".join(TRACKERS))
    return SafeTracker(TRACKERS[name](run), name)


@contextmanager
def tracking(tracker: SafeTracker | None, settings: BaseModel) -> Iterator[None]:
    """Starts a tracker with the settings of a run, and ends it however the block ends."""
    if tracker is None:
        yield
        return
    tracker.start(flatten(settings.model_dump(mode="json")))
    try:
        yield
    finally:
        tracker.end()


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flattens nested values: {"a": {"b": 1}} -> {"a.b": 1}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flatten(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return found


def _import(module: str, *, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise VidiffError(
            f"--track {package} needs {package}, which is not installed here", fix=f"pip install {package}"
        ) from error


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
