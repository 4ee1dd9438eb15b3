"""`--track`: the numbers and pictures of a training, handed to a tracker that is installed beside vidiff.

None of them is a dependency. What the run folder holds is the record; a tracker shows it elsewhere.
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
    """Whoever wants to know of a training. `start` once, `end` at last, however the training ended."""

    def start(self, config: Mapping[str, Any]) -> None:
        """The settings of the run."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after so many steps."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """A PNG file that was made after so many steps."""
        ...

    def end(self) -> None: ...


class TensorBoard:
    """Event files in the run folder, by torch's own writer: `tensorboard --logdir runs`."""

    def __init__(self, run: Path) -> None:
        self._module = _imported("torch.utils.tensorboard", package="tensorboard")
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
    """wandb, or trackio, which has the same functions."""

    def __init__(self, run: Path, package: str) -> None:
        self._module = _imported(package, package=package)
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
    """Local first: `trackio show`. A run of the same name is gone on with."""

    def __init__(self, run: Path) -> None:
        super().__init__(run, "trackio")

    def start(self, config: Mapping[str, Any]) -> None:
        self._module.init(**self._begin(config), resume="allow")


class Wandb(_Service):
    """Weights & Biases. Its id follows from the run folder, so that a run that is gone on with stays one run."""

    def __init__(self, run: Path) -> None:
        super().__init__(run, "wandb")

    def start(self, config: Mapping[str, Any]) -> None:
        identity = hashlib.sha256(str(self._run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._run.mkdir(parents=True, exist_ok=True)
        self._module.init(**self._begin(config), id=identity, resume="allow", dir=str(self._run))


class Careful:
    """A tracker whose failures stop no training: after the first one it is left alone, and `complaint` says so once."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker, self._name = tracker, name
        self.failed: str | None = None
        self._said = False

    def complaint(self) -> Iterator[Note]:
        """Why nothing more is told to it, the first time that this is asked for."""
        if self.failed is not None and not self._said:
            self._said = True
            yield Note(f"--track {self._name} failed and is told nothing more: {self.failed.rstrip('.')}.", "warning")

    def start(self, config: Mapping[str, Any]) -> None:
        self._try(lambda: self._tracker.start(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda: self._tracker.log(step, values))

    def picture(self, step: int, path: Path) -> None:
        self._try(lambda: self._tracker.picture(step, path))

    def end(self) -> None:
        self._try(self._tracker.end)

    def _try(self, act: Callable[[], None]) -> None:
        if self.failed is None:
            try:
                with redirect_stdout(sys.stderr):  # stdout is for the paths that vidiff writes
                    act()
            except Exception as error:  # whatever a program of others raises: a server that is down, a full disk
                self.failed = f"{type(error).__name__}: {error}".splitlines()[0]


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb}
FILES = {"tensorboard", "wandb"}  # that they make in a run folder


def open_tracker(name: str, run: Path) -> Careful:
    """The tracker of that name for a run folder, not yet started. VidiffError where it is not installed."""
    if name not in TRACKERS:
        raise UsageError("unknown --track", found=repr(name), expected=", ".join(TRACKERS))
    return Careful(TRACKERS[name](run), name)


@contextmanager
def tracking(tracker: Careful | None, settings: BaseModel) -> Iterator[None]:
    """Starts a tracker with the settings of a run, and ends it however the work ends."""
    if tracker is None:
        yield
        return
    tracker.start(flat(settings.model_dump(mode="json")))
    try:
        yield
    finally:
        tracker.end()


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return found


def _imported(module: str, *, package: str) -> Any:
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
