"""Locks: one process at a time, whatever becomes of it; and what the dead left is removed, not what the living have."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.system import locks
from vidiff_cli.system.locks import folder_alone, hidden_folder

fcntl = pytest.importorskip("fcntl")

HOLD = """
import sys, time
from pathlib import Path
from vidiff_cli.system.locks import folder_alone, hidden_folder
folder = Path(sys.argv[1])
with folder_alone(folder, fix=""), hidden_folder(folder, ".part-") as place:
    (place / "half").write_text("half")
    print(place.name, flush=True)
    time.sleep(60)
"""


def enter(folder: Path) -> bool:
    with folder_alone(folder, fix="wait") as locked:
        return locked


def test_one_at_a_time_until_it_is_killed(tmp_path):
    """Another process has a lock on the folder, and a hidden folder in it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    name = process.stdout.readline().strip()
    with pytest.raises(VidiffError) as error:
        enter(tmp_path)
    said = f"{tmp_path} is in use: found another vidiff at work on it (process {process.pid}); wait."
    assert str(error.value) == said
    with hidden_folder(tmp_path, ".part-"):
        assert (tmp_path / name / "half").exists(), "the folder of a living process stays"
    process.kill()
    process.communicate()
    assert enter(tmp_path)
    locks._clear_abandoned.cache_clear()
    with hidden_folder(tmp_path, ".part-"):
        assert not (tmp_path / name).exists()
    assert list(tmp_path.iterdir()) == []


def test_twice_in_one_process(tmp_path):
    with folder_alone(tmp_path, fix=""):
        for _ in range(2):
            with pytest.raises(VidiffError, match="is in use"):
                enter(tmp_path)
    assert enter(tmp_path) and list(tmp_path.iterdir()) == []


def test_only_what_was_made_and_stayed_empty_is_removed(tmp_path):
    with folder_alone(tmp_path / "a" / "b", fix=""):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    assert enter(tmp_path / "a" / "b") and (tmp_path / "a").is_dir()
    with folder_alone(tmp_path / "a" / "b", fix=""):
        (tmp_path / "a" / "b" / "file").touch()
    assert (tmp_path / "a" / "b" / "file").exists()


@pytest.mark.parametrize("kind", ["no locks", "a file", "a link"])
def test_where_there_can_be_no_lock_work_goes_on(tmp_path, monkeypatch, kind):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    folder = tmp_path / "folder"
    if kind == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
    if kind == "no locks":
        monkeypatch.setattr(fcntl, "flock", refuse)
    if kind == "a link":
        (tmp_path / "elsewhere").write_text("mine")
        (folder / ".lock").symlink_to(tmp_path / "elsewhere")
    assert not enter(folder)
    assert kind != "a file" or folder.read_text() == "mine"
    assert kind != "a link" or (tmp_path / "elsewhere").read_text() == "mine"


def test_a_lock_that_its_last_holder_removed_is_taken_anew(tmp_path, monkeypatch):
    """Between opening the file and locking it, it may have gone: the lock on it would keep nobody out."""
    flock, calls = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not calls:
            os.unlink(tmp_path / ".lock")
        calls.append(operation)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with folder_alone(tmp_path, fix="") as locked:
        assert locked and len(calls) == 2
        with pytest.raises(VidiffError):
            enter(tmp_path)


def test_a_name_whose_lock_another_took_first_is_given_up(tmp_path, monkeypatch):
    """Who clears abandoned folders may take the lock of a new one between its creation and its locking."""
    names = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(locks.secrets, "token_hex", lambda _: next(names))
    with locks.alone(tmp_path / f".part-{'0' * 16}.lock", tmp_path), hidden_folder(tmp_path, ".part-") as folder:
        assert folder == tmp_path / f".part-{'1' * 16}" and folder.is_dir()


def test_only_folders_with_such_names_are_taken_for_abandoned(tmp_path):
    for name in (".part-", ".part-mine", ".part-0123456789abcde", ".part-0123456789abcdefg", ".part-0123456789abcdef"):
        (tmp_path / name).mkdir()
    with hidden_folder(tmp_path, ".part-"):
        pass
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".part-", ".part-0123456789abcde", ".part-0123456789abcdefg", ".part-mine"]
