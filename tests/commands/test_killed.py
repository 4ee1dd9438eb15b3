"""What a kill at one certain moment leaves, and what the same command makes of it. tests/fire kills at any moment."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import newest

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.train import train
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import made_frames, output, output_files, sample_call
from vidiff_cli.generation.resume_journal import WindowJournal, journal_path
from vidiff_cli.preparation.extract_cache import ExtractCache
from vidiff_cli.runs import run_dir
from vidiff_cli.runs import train_run as train_command
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.system.locks import folder_alone


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_below(folder) if (folder / name).is_file()}


def test_killed_after_the_last_checkpoint(dataset, training, killed, tmp_path: Path) -> None:
    """`latest` is behind and the last sheet is missing: the same command, which has no step to make, repairs both."""
    asked = training(dataset, tmp_path / "run", sample_every=3)
    killed(train_command, "sample_sheet", lambda: train(asked), at=3)
    latest = tmp_path / "run" / "checkpoints" / "latest"
    latest.write_text("step-000004\n")
    report = train(asked)
    assert newest(tmp_path / "run") == report.checkpoint and report.checkpoint.name == "step-000006-of-000006"
    sheets = {"progress.png", "step-000000.png", "step-000003.png", "step-000006.png"}
    assert names_below(tmp_path / "run" / "samples") == sheets
    latest.unlink()
    assert train(asked).checkpoint == report.checkpoint


def test_what_a_killed_training_was_writing_is_removed(dataset, run, training, tmp_path: Path) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    for name in ("checkpoints/.step-000004.tmp-1", "checkpoints/.step-000002.tmp-2", "samples/.x.png.tmp-ab"):
        (own / name).mkdir(parents=True)
    os.replace(own / "checkpoints/step-000004", own / "checkpoints/.step-000004.old-1")
    (own / "checkpoints" / "mine").mkdir()
    (own / ".lock").write_text("1\n")
    train(training(dataset, own))
    assert names_below(own) == names_below(run) | {"samples", "checkpoints/mine"}


def test_killed_before_there_was_a_run(dataset, training, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for left in (".config.json.tmp-1", ".lock"):
        (tmp_path / "run" / left).write_text("{")
    assert train(training(dataset, tmp_path / "run", steps=1)).steps == 1


def test_killed_while_a_run_was_removed(dataset, run, training, monkeypatch, tmp_path: Path) -> None:
    """--overwrite, killed in the middle of removing the old run: what is left is still known as a run."""

    def one_only(path: Path) -> None:
        remove(path)
        raise KeyboardInterrupt

    shutil.copytree(run, tmp_path / "run")
    asked = training(dataset, tmp_path / "run", overwrite=True, batch_size=5, steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(run_dir, "remove", one_only)
        with pytest.raises(KeyboardInterrupt):
            train(asked)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert "config.json" in left and len(left) == len(list(run.iterdir())) - 1
    assert train(asked).steps == 1


def test_another_dataset_under_a_run(dataset, run, training, tmp_path: Path) -> None:
    """Moved it is the same; prepared anew with other captions, path and settings are the same and it is another."""
    data, own = tmp_path / "data", tmp_path / "run"
    shutil.copytree(dataset, data)
    shutil.copytree(run, own)
    assert train(training(data, own)).steps == 6
    path = data / "clips.jsonl"
    path.write_text(path.read_text().replace("red", "blue"))
    for steps in (6, 10):
        with pytest.raises(VidiffError) as error:
            train(training(data, own, steps=steps))
        assert str(error.value) == (
            f"the dataset {data} has changed since {own} was trained on it: found other clips; "
            "give another folder with -o, or --overwrite."
        )
    assert train(training(data, own, overwrite=True, steps=1)).steps == 1


def test_two_at_once(dataset, training, settings, clip, tmp_path: Path) -> None:
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
    one = sample.events(settings("sample", seed=None))
    next(one)
    assert sample(settings("sample", seed=None)).paths[0].is_file()
    one.close()
    assert not list(tmp_path.rglob(".*"))


def test_killed_after_the_last_file_of_a_dataset(dataset, killed, tmp_path: Path) -> None:
    """And a preview goes with its dataset when that is replaced."""
    data = tmp_path / "data"
    asked = PrepSettings(sources=(str(dataset.parent / "clips"),), output=data, size=16, frames=8, workers=1)
    killed(ExtractCache, "remove", lambda: prep(asked))
    (data / ".preview.png.tmp-abc").touch()
    assert (data / ".journal").is_dir()
    assert prep(asked).already_complete
    names = {path.name for path in data.iterdir()}
    assert names == {"dataset.json", "clips.jsonl", "ledger.jsonl", "data", "preview.png"}
    before = (data / "preview.png").read_bytes()
    prep(asked.model_copy(update={"size": 32, "overwrite": True}))
    assert (data / "preview.png").read_bytes() != before


@pytest.mark.parametrize(("name", "moment"), [("out.mp4", "compare_sheet"), ("frames", "write_sidecar")])
def test_killed_between_the_files_of_a_result(settings, clip, killed, name: str, moment: str) -> None:
    """The video is there, what belongs beside it is not: the same command makes the rest, and the very same files."""
    asked = settings("extend", input=clip(4), num_frames=5, output=Path("one") / name, compare=True)
    module = output_files if moment == "write_sidecar" else output
    killed(module, moment, lambda: extend(asked))
    with pytest.raises(VidiffError, match="exists"):
        extend(asked.model_copy(update={"steps": 3}))  # not the command that made it
    killed(module, moment, lambda: extend(asked))
    extend(asked)
    extend(asked.model_copy(update={"output": Path("other") / name}))
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


@pytest.mark.parametrize(("seed", "name", "at"), [(3, "write_sidecar", 1), (None, "to_uint8", 5)])
def test_samples_go_on_where_they_were(settings, killed, told, name: str, at: int, seed: int | None) -> None:
    """Two batches of two videos of three windows, and a sheet of all: in the first batch, in the second."""
    more = {"prompts": ("a red wall", "blue"), "count": 2, "batch_size": 2, "num_frames": 8, "compare": True}
    asked = settings("sample", seed=seed, **more)
    killed(made_frames if name == "to_uint8" else sample_call, name, lambda: sample(asked), at=at)
    report, notes = told(sample.events(asked))
    assert any("Continuing" in note.text for note in notes)
    whole = sample(settings("sample", seed=report.seeds[0], output="whole", **more))
    assert [path.name for path in report.paths] == [path.name for path in whole.paths]
    for ours, theirs in zip(report.paths, whole.paths, strict=True):
        assert ours.read_bytes() == theirs.read_bytes() and ours.with_suffix(".json").is_file()
    assert np.array_equal(*(np.asarray(Image.open(each.sheet)) for each in (report, whole)))
    assert not list(Path().rglob(".*"))


def test_a_signal_as_the_journal_goes_comes_too_late(settings, clip, monkeypatch) -> None:
    """Later the same command would find its own result in the way."""

    def remove_and_signal(self: WindowJournal) -> None:
        original(self)
        os.kill(os.getpid(), signal.SIGTERM)

    original = WindowJournal.remove
    monkeypatch.setattr(WindowJournal, "remove", remove_and_signal)
    report = extend(settings("extend", input=clip(4), output="out.mkv", num_frames=2, lossless=True))
    assert report.path.is_file() and not journal_path(report.path).exists()
