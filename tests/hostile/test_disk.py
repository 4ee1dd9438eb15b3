"""A disk that is full, a folder that vanishes, a place that may not be read or written: one sentence, nothing half."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli.checkpoint import write_tensors
from vidiff_cli.dataset import dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import write_folder, write_text
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

PREP = ("--size", "16", "--frames", "4", "--quiet")


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory):
    """small_disk(bytes): an empty disk of that size; the superuser alone can make one."""
    place = tmp_path_factory.mktemp("disk")
    mounted: list[Path] = []

    def make(size: int) -> Path:
        folder = place / str(len(mounted))
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
        if done is None or done.returncode != 0:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip() if done else 'no mount command'}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Fills a disk but for some bytes."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(bytes(max(0, free - leave)))
    return disk


def there(disk: Path, files: Callable[[Path], dict[str, bytes]]) -> dict[str, bytes]:
    return {name: content for name, content in files(disk).items() if name != "ballast"}


TARGETS = [("new.mkv", ["--lossless"]), ("good.mkv", ["--lossless", "--overwrite"]), ("frames", ["--compare"])]


def test_a_full_disk_during_generation(small_disk, vidiff, sentence, clip, model, quick, files, hidden, tmp_path):
    """Before the video, within it, and after it; what stood there stays as it was."""
    command = ("extend", clip(), "-m", model, *quick, "--num-frames", "14", "-o")
    assert vidiff(*command, tmp_path / "good.mkv", "--lossless").code == 0
    before, failed = files(tmp_path), 0
    for leave, (target, more) in product((0, 8192), TARGETS):
        disk = fill(Path(shutil.copytree(tmp_path, small_disk(2**20), dirs_exist_ok=True)), leave=leave)
        result = vidiff(*command, disk / target, *more)
        if result.code == 0:  # there was room enough
            continue
        failed += 1
        assert sentence(result) and "space" in result.err, (leave, target, result)
        left = there(disk, files)
        assert before.items() <= left.items(), (leave, target)
        assert set(hidden(disk)) <= {f".{target}.partial", f".{target}.partial.frames"}, (leave, target)
        new = {name for name in left.keys() - before.keys() if not name.startswith((".", "frames/"))}
        assert new <= {target, "frames_sheet.png"}, (leave, target)
    assert failed >= 3


def test_a_full_disk_during_prep(small_disk, made, vidiff, sentence, files, hidden):
    """The journal, the shards or the preview do not fit; an earlier dataset stays, and a second call goes on."""
    disk = small_disk(2**20)
    shutil.copytree(made / "dataset", disk / "old")
    before = files(disk / "old")
    for leave in (0, 20_480):
        fill(disk, leave=leave)
        result = vidiff("prep", made / "clips", "-o", disk / "new", *PREP)
        assert result.code == 0 or (sentence(result) and "space" in result.err), (leave, result)
        assert files(disk / "old") == before
        assert not [name for name in hidden(disk) if ".part" in name or ".tmp" in name], hidden(disk)
        (disk / "ballast").unlink()
        assert vidiff("prep", made / "clips", "-o", disk / "new", *PREP).code == 0
        assert (disk / "new" / "clips.jsonl").read_bytes() == (made / "dataset" / "clips.jsonl").read_bytes()
        assert hidden(disk / "new") == []
        shutil.rmtree(disk / "new")


def test_a_full_disk_during_training(small_disk, made, vidiff, sentence, training, files, hidden):
    """An earlier checkpoint stays whole, and with room the same command goes on from it."""
    disk = small_disk(8 * 2**20)
    command = ("train", made / "dataset", "-o", disk / "run", *training, "--quiet", "--checkpoint-every", "1")
    assert vidiff(*command, "--steps", "2").code == 0
    before = files(disk / "run" / "checkpoints")
    for leave in (0, 400_000):
        fill(disk, leave=leave)
        result = vidiff(*command, "--steps", "4")
        assert sentence(result) and "space" in result.err, (leave, result)
        now = files(disk / "run" / "checkpoints")
        assert before.items() <= now.items() and not [name for name in hidden(disk) if "tmp" in name], hidden(disk)
        (disk / "ballast").unlink()
    result = vidiff(*command, "--steps", "4")
    assert result.code == 0, result


def test_every_writer_on_a_full_disk(small_disk, files, hidden):
    """Each function that writes a file: a sentence, the old file as it was, and nothing beside it."""
    import torch

    disk = small_disk(2**18)
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    large = {"a": torch.zeros(100_000)}
    writers: dict[str, Callable[[Path], object]] = {
        "a.safetensors": lambda path: write_tensors(path, large, {}),
        "a.txt": lambda path: write_text(path, "x" * 300_000),
        "folder": lambda path: write_folder(path, lambda place: write_tensors(place / "a", large, {})),
        "rows.jsonl": lambda path: dataset.write_rows(path, [{"a": "x" * 300_000}]),
        "shard.safetensors": lambda path: dataset.write_tensors(path, {"a": np.zeros(400_000, np.uint8)}),
        "sheet.png": lambda path: contact_sheet([SheetRow(label="a", frames=frames)] * 8, path),
    }
    for name in writers:
        target = disk / name
        target.mkdir() if name == "folder" else target.write_bytes(b"old")
    before = files(disk)
    fill(disk, leave=4096)
    for name, write in writers.items():
        with pytest.raises(VidiffError, match="space"):
            write(disk / name)
        assert there(disk, files) == before and hidden(disk) == [], name


@pytest.fixture
def small_files():
    """No file may grow beyond 9,000 bytes: the second way in which a disk ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_on_the_size_of_files(made, clip, model, small_files, refused, training, quick, tmp_path, hidden):
    for command in (
        ("extend", clip(), "-m", model, *quick, "--num-frames", "40", "-o", "out.mkv", "--lossless"),
        ("prep", made / "clips", "-o", "dataset", *PREP),
        ("train", made / "dataset", "-o", "run", "--steps", "1", *training, "--quiet"),
    ):
        assert "large" in refused(*command)
    assert not Path("out.mkv").exists() and not Path("dataset/dataset.json").exists()
    unfinished = {".out.mkv.partial", ".out.mkv.partial.frames"}  # the windows that were made
    assert {name for name in hidden(tmp_path) if not name.endswith(".journal")} <= unfinished


# --- folders that vanish, and permissions ------------------------------------------------------------------------


def test_the_folder_of_the_output_vanishes(refused, clip, model, quick, tmp_path, monkeypatch):
    """During the sampling: a sentence, and the folder does not come back."""
    module = import_module("vidiff_cli.generation.generate")
    making = module.sample_windows

    def vanish(*arguments, **more):
        shutil.rmtree("out")
        yield from making(*arguments, **more)

    monkeypatch.setattr(module, "sample_windows", vanish)
    for command in (("extend", clip(), "--num-frames", "2"), ("interpolate", clip()), ("sample",)):
        error = refused(*command, "-m", model, *quick, "-o", "out/a.mp4")
        assert "no such file or directory" in error.lower()
        assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["out"])
        shutil.rmtree("out", ignore_errors=True)


def test_the_dataset_folder_vanishes(made, refused, tmp_path, monkeypatch):
    module = import_module("vidiff_cli.preparation.write_dataset")
    write = module.write_shards

    def vanish(folder, clips):
        shutil.rmtree(folder)
        return write(folder, clips)

    monkeypatch.setattr(module, "write_shards", vanish)
    refused("prep", made / "clips", "-o", "dataset", *PREP)
    assert not Path("dataset/dataset.json").exists()


def test_the_run_folder_vanishes(made, vidiff, training, quick, monkeypatch):
    """What was learned is worth more than the order of folders: the checkpoint is written, and can be used."""
    module = import_module("vidiff_cli.runs.train_run")
    save = module.save_checkpoint

    def vanish(*arguments, **more):
        shutil.rmtree("run")
        save(*arguments, **more)

    monkeypatch.setattr(module, "save_checkpoint", vanish)
    assert vidiff("train", made / "dataset", "-o", "run", "--steps", "1", *training, "--quiet").code == 0
    assert vidiff("sample", "-m", "run", *quick, "-o", "out.mp4").code == 0


@pytest.fixture
def bound():
    """The modes of files bind this process: the superuser gives up the right to ignore them for as long."""
    if os.getuid() != 0:
        yield
        return

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    libc, header, rights = ctypes.CDLL(None), Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(ctypes.byref(header), rights) != 0:
        pytest.skip("this system has no capabilities to give up")
    before, override = rights[0], 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    rights[0] = before & ~override
    assert libc.capset(ctypes.byref(header), rights) == 0
    yield
    rights[0] = before
    assert libc.capset(ctypes.byref(header), rights) == 0


def test_without_permission(bound, refused, made, clip, model, quick, training, tmp_path, files, monkeypatch):
    """To read a source, a model, a dataset; to write a video, a dataset, a run: named, and nothing is left."""
    home = Path(shutil.copytree(made, tmp_path / "home"))
    for name in ("clip.mp4", "locked.mp4"):
        shutil.copyfile(clip(), home / name)
    shutil.copyfile(model, home / "model.safetensors")
    (home / "locked").mkdir()
    shutil.copyfile(model, home / "locked.safetensors")
    before = files(home)
    for name in ("locked.mp4", "locked", "locked.safetensors"):
        (home / name).chmod(0)
    home.chmod(0o555)
    monkeypatch.chdir(home)
    extend = ("extend", "-m", "model.safetensors", *quick, "--num-frames", "2")
    for command in (
        (*extend, "locked.mp4", "-o", "/tmp/none.mp4"),
        (*extend, "clip.mp4", "-o", "out.mp4"),
        (*extend, "clip.mp4", "-o", "new/out.mp4"),
        (*extend, "clip.mp4", "-o", "locked/out.mp4"),
        ("sample", "-m", "locked.safetensors", *quick, "-o", "/tmp/none.mp4"),
        ("prep", "clips", "-o", "new", *PREP),
        ("prep", "locked", "-o", "new", *PREP),
        ("train", "dataset", "-o", "new", "--steps", "1", *training, "--quiet"),
    ):
        error = refused(*command).lower()
        assert "permission denied" in error or "no permission" in error or "nothing" in error, error
    home.chmod(0o755)
    for name in ("locked.mp4", "locked", "locked.safetensors"):
        (home / name).chmod(0o755)
    assert files(home) == before
    assert not Path("/tmp/none.mp4").exists()
