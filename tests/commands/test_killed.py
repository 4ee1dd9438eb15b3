"""What a kill at one certain moment leaves, and what the same command makes of it. tests/fire kills at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidiff_cli.commands import sample as sample_command
from vidiff_cli.commands import train as train_command
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.train import train
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import generate, output, output_files
from vidiff_cli.generation.resume_journal import WindowJournal, journal_path
from vidiff_cli.preparation.extract_cache import ExtractCache
from vidiff_cli.runs import metrics_log
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.system.locks import folder_alone


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log.TrainingLog, "plot", lambda self, **_: None)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """killed(module, name, call): the call ends where it would have called module.name (for the n-th time)."""

    def run(module: Any, name: str, call: Callable[[], Any], *, at: int = 1) -> None:
        calls = []

        def end(*arguments: Any, **more: Any) -> Any:
            calls.append(name)
            if len(calls) == at:
                raise KeyboardInterrupt
            return original(*arguments, **more)

        original = getattr(module, name)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, end)
            with pytest.raises(KeyboardInterrupt):
                call()

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    """All files but the rows with wall times."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "metrics.jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# --- train -------------------------------------------------------------------------------------------------------


def test_killed_after_the_last_checkpoint(dataset, run, training, killed, monkeypatch, tmp_path: Path) -> None:
    """`latest` is behind and the last sheet is missing: the same command, which has no step to make, repairs both."""
    asked = training(dataset, tmp_path / "run", sample_every=3)
    killed(train_command, "sample_sheet", lambda: train(asked), at=3)
    latest = tmp_path / "run" / "checkpoints" / "latest"
    latest.write_text("step-000004\n")
    report = train(asked)
    assert latest.read_text().strip() == report.checkpoint.name == "step-000006-of-000006"
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == [
        "progress.png",
        "step-000000.png",
        "step-000003.png",
        "step-000006.png",
    ]
    latest.unlink()
    assert train(asked).checkpoint == report.checkpoint


def test_what_a_killed_training_was_writing_is_removed(dataset, run, training, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("checkpoints/.step-000004.tmp-1", "checkpoints/.step-000002.tmp-2", "samples/.x.png.tmp-ab"):
        (tmp_path / "run" / name).mkdir(parents=True)
    os.replace(tmp_path / "run/checkpoints/step-000004", tmp_path / "run/checkpoints/.step-000004.old-1")
    (tmp_path / "run" / "checkpoints" / "mine").mkdir()
    (tmp_path / "run" / ".lock").write_text("1\n")
    train(training(dataset, tmp_path / "run"))
    left = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*")}
    before = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert left == before | {"samples", "checkpoints/mine"}


def test_nothing_of_others_is_taken_for_a_leftover(dataset, training, tmp_path: Path) -> None:
    names = [".thesis.tmp-1", ".thesis.old-1", "thesis"]
    for folder in ("run", "data"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text("years of work")
    with pytest.raises(VidiffError, match="does not contain a vidiff run"):
        train(training(dataset, tmp_path / "run"))
    with pytest.raises(VidiffError, match="is not empty and does not contain a dataset"):
        prep(PrepSettings(sources=(str(dataset.parent / "clips"),), output=tmp_path / "data", size=16))
    for folder in ("run", "data"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == sorted(names)


@pytest.mark.parametrize("left", [".config.json.tmp-1", ".lock"])
def test_killed_before_there_was_a_run(dataset, run, training, tmp_path: Path, left: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / left).write_text("{")
    report = train(training(dataset, tmp_path / "run"))
    assert files_of(report.checkpoint) == files_of(run / "checkpoints" / report.checkpoint.name)


def test_killed_while_a_run_was_removed(dataset, run, training, monkeypatch, tmp_path: Path) -> None:
    """--overwrite, killed in the middle of removing the old run: what is left is still known as a run."""
    from vidiff_cli.runs import run_dir

    def one_only(path: Path) -> None:
        remove(path)
        raise KeyboardInterrupt

    shutil.copytree(run, tmp_path / "run")
    asked = training(dataset, tmp_path / "run", overwrite=True, batch_size=5)
    with monkeypatch.context() as patch:
        patch.setattr(run_dir, "remove", one_only)
        with pytest.raises(KeyboardInterrupt):
            train(asked)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert "config.json" in left and len(left) == len(list(run.iterdir())) - 1
    assert train(asked).steps == 6


@pytest.mark.parametrize("torn", [b'{"step": 5, "lo', b"\x00" * 50, b"[]\n", b'"\xff', b'{"loss": 1}\n'])
def test_a_torn_row(dataset, run, training, tmp_path: Path, torn: bytes) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000006-of-000006")
    rows = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.jsonl").write_bytes(rows[0] + torn)
    train(training(dataset, tmp_path / "run"))
    again = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row, line in zip(again, rows, strict=True):
        measured = dict.fromkeys(metrics_log.MEASURED)
        assert row | measured == json.loads(line) | measured


def test_another_dataset_under_a_run(dataset, run, training, tmp_path: Path) -> None:
    """Prepared anew with other captions: the path is the same and so are all settings."""
    shutil.copytree(dataset, tmp_path / "data")
    train(training(tmp_path / "data", tmp_path / "run"))
    path = tmp_path / "data" / "clips.jsonl"
    path.write_text(path.read_text().replace("red", "blue"))
    for steps in (6, 10):
        with pytest.raises(VidiffError) as error:
            train(training(tmp_path / "data", tmp_path / "run", steps=steps))
        assert str(error.value) == (
            f"the dataset {tmp_path / 'data'} has changed since {tmp_path / 'run'} was trained on it: found other "
            "clips; give another folder with -o, or --overwrite."
        )
    assert train(training(tmp_path / "data", tmp_path / "run", overwrite=True)).steps == 6


def test_a_run_that_does_not_know_its_dataset_goes_on(dataset, run, training, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    del config["dataset"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert train(training(dataset, tmp_path / "run", steps=7)).steps == 7
    assert "dataset" in json.loads((tmp_path / "run" / "config.json").read_text())


def test_two_at_once(dataset, run, training, settings, clip, tmp_path: Path) -> None:
    """The second one is refused in a sentence; a sample with a random seed has files of its own."""
    with folder_alone(tmp_path / "run", fix=""), pytest.raises(VidiffError) as error:
        train(training(dataset, tmp_path / "run"))
    assert str(error.value) == (
        f"{tmp_path / 'run'} is in use: found another vidiff at work on it (process {os.getpid()}); "
        "wait for it to end, or give another folder with -o."
    )
    with folder_alone(tmp_path / "data", fix=""), pytest.raises(VidiffError, match=r"data is in use: found another"):
        prep(PrepSettings(sources=(str(dataset.parent / "clips"),), output=tmp_path / "data", size=16))
    asked = settings("extend", input=clip(4), num_frames=2, output="out.mkv", lossless=True)
    first = extend.events(asked)
    next(first)
    with pytest.raises(VidiffError, match=r"out\.mkv is in use"):
        extend(asked)
    first.close()
    assert extend(asked).made == 2
    one = sample.events(settings("sample", prompts=("a red wall",), seed=None))
    next(one)
    assert sample(settings("sample", prompts=("a red wall",), seed=None)).paths[0].is_file()
    one.close()
    assert not [path for path in tmp_path.rglob(".*")]


# --- prep --------------------------------------------------------------------------------------------------------


def test_killed_after_the_last_file_of_a_dataset(dataset, killed, tmp_path: Path) -> None:
    asked = PrepSettings(sources=(str(dataset.parent / "clips"),), output=tmp_path / "data", size=16, frames=8)
    killed(ExtractCache, "remove", lambda: prep(asked))
    (tmp_path / "data" / ".preview.png.tmp-abc").touch()
    assert (tmp_path / "data" / ".journal").is_dir()
    assert prep(asked).already_complete
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"dataset.json", "clips.jsonl", "ledger.jsonl", "data", "preview.png"}


def test_an_old_preview_goes_with_its_dataset(dataset, tmp_path: Path) -> None:
    asked = PrepSettings(sources=(str(dataset.parent / "clips"),), output=tmp_path / "data", size=16, frames=8)
    prep(asked)
    before = (tmp_path / "data" / "preview.png").read_bytes()
    prep(asked.model_copy(update={"size": 32, "overwrite": True}))
    assert (tmp_path / "data" / "preview.png").read_bytes() != before


# --- generating --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "moment"), [("out.mp4", "compare_sheet"), ("frames", "write_sidecar")])
def test_killed_between_the_files_of_a_result(settings, clip, killed, name: str, moment: str) -> None:
    """The video is there, what belongs beside it is not: the same command makes the rest, and the very same files."""
    source = clip(4)
    asked = settings("extend", input=source, num_frames=5, output=Path("one") / name, compare=True)
    other = asked.model_copy(update={"output": Path("other") / name})
    module = output_files if moment == "write_sidecar" else output
    killed(module, moment, lambda: extend(asked))
    with pytest.raises(VidiffError, match="exists"):
        extend(asked.model_copy(update={"steps": 3}))  # not the command that made it
    killed(module, moment, lambda: extend(asked))
    extend(asked)
    extend(other)
    assert files_of(Path("one")) == files_of(Path("other"))
    with pytest.raises(VidiffError, match="exists"):
        extend(asked)


def test_a_file_that_came_meanwhile_is_left_alone(settings, clip, killed) -> None:
    asked = settings("extend", input=clip(4), num_frames=5, output="out.mp4")
    killed(output, "encode", lambda: extend(asked))
    Path("out.mp4").write_bytes(b"years of work")
    with pytest.raises(VidiffError, match=r"out\.mp4 exists"):
        extend(asked)
    assert Path("out.mp4").read_bytes() == b"years of work" and journal_path(Path("out.mp4")).is_file()


def test_another_rate_begins_anew(settings, clip, killed, told) -> None:
    """The same frames at other times are another video."""
    asked = settings("extend", input=clip(4), num_frames=8, output="out.mkv", lossless=True)
    killed(generate, "to_uint8", lambda: extend(asked), at=3)
    Path("clip.mkv").unlink()
    clip(4, fps="4")
    report, notes = told(extend.events(asked))
    assert any("of other settings or another input" in note.text for note in notes)
    whole = extend(asked.model_copy(update={"output": Path("whole.mkv")}))
    assert report.path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize(
    ("seed", "stop"), [(3, ("write_sidecar", 1)), (None, ("write_sidecar", 4)), (None, ("to_uint8", 5))]
)
def test_samples_go_on_where_they_were(settings, killed, told, stop: tuple[str, int], seed: int | None) -> None:
    """Two batches of two videos of three windows, and a sheet of all: in the first batch, in the second."""
    more = {"prompts": ("a red wall", "blue"), "count": 2, "batch_size": 2, "num_frames": 8, "compare": True}
    asked = settings("sample", seed=seed, **more)
    killed(generate if stop[0] == "to_uint8" else sample_command, stop[0], lambda: sample(asked), at=stop[1])
    report, notes = told(sample.events(asked))
    assert any("Continuing" in note.text for note in notes) or stop == ("write_sidecar", 4)
    whole = sample(settings("sample", seed=report.seeds[0], output="whole", **more))
    assert [path.name for path in report.paths] == [path.name for path in whole.paths]
    for ours, theirs in zip(report.paths, whole.paths, strict=True):
        assert ours.read_bytes() == theirs.read_bytes() and ours.with_suffix(".json").is_file()
    assert report.sheet and whole.sheet and np.array_equal(_picture(report.sheet), _picture(whole.sheet))
    assert not list(Path().rglob(".*"))


def _picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_as_the_journal_goes_comes_too_late(settings, clip, monkeypatch, number: int) -> None:
    """Later the same command would find its own result in the way."""

    def remove(self: WindowJournal) -> None:
        original(self)
        os.kill(os.getpid(), number)

    original = WindowJournal.remove
    monkeypatch.setattr(WindowJournal, "remove", remove)
    report = extend(settings("extend", input=clip(4), output="out.mkv", num_frames=2, lossless=True))
    assert report.path.is_file() and not journal_path(report.path).exists()
