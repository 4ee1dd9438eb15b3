"""Every check finds the fault that is put in its way, says the fix, and never raises."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vidiff_cli.commands import doctor
from vidiff_cli.commands.doctor import machine, video
from vidiff_cli.commands.doctor.check_list import FIRST, THEN, Check, Finding
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Progress

DECODE = importlib.import_module("vidiff_cli.video.decode")  # the package has a function of that name
ENCODE = importlib.import_module("vidiff_cli.video.encode")
CHECKS = {check.name: check for check in (*FIRST, *THEN)}
NAMES = [
    "vidiff",
    "libraries",
    "torch",
    "device",
    "precision",
    "torchvision",
    "captions",
    "clip",
    "ffmpeg",
    "codecs",
    "writing",
    "reading-ffmpeg",
    "reading-decord",
    "memory",
    "working-folder",
    "temporary-folder",
]


def found(name: str) -> Finding:
    finding = CHECKS[name].run()
    assert finding.found and (finding.status == "ok") == (finding.fix is None)
    return finding


@pytest.fixture(scope="module")
def report() -> doctor.DoctorReport:
    return doctor.doctor()


def test_every_check_answers_in_its_place(report: doctor.DoctorReport) -> None:
    assert [row.name for row in report.checks] == NAMES
    assert all(row.found and (row.status == "ok") == (row.fix is None) for row in report.checks)
    assert report.ok and report.faults == 0, report
    assert report.warnings == sum(row.status == "warning" for row in report.checks)
    read = {row.name: row.found for row in report.checks if row.name.startswith("reading-")}
    assert all(text.endswith("25 of 25 numbered frames right, at exact times") for text in read.values())


def broken() -> Finding:
    raise ZeroDivisionError("division\n by zero")


def test_a_check_that_breaks_is_a_fault_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is."""
    fine = Check(name="fine", look=lambda: Finding("ok", "well"), fix="-")
    for check in (*FIRST, *THEN):
        assert replace(check, look=broken).run() == Finding(
            "fault", "ZeroDivisionError: division by zero", CHECKS[check.name].fix
        )
    monkeypatch.setattr(doctor, "FIRST", (replace(fine, look=broken), fine))
    monkeypatch.setattr(doctor, "THEN", (fine, replace(fine, look=broken), fine))
    events = []
    steps = doctor.doctor.events()
    with pytest.raises(StopIteration) as done:
        while True:
            events.append(next(steps))
    report = done.value.value
    assert [row.status for row in report.checks] == ["fault", "ok", "ok", "fault", "ok"]
    assert (report.ok, report.faults, report.warnings) == (False, 2, 0)
    assert events == [Progress(what="checks", done=n, total=5, detail="fine") for n in range(1, 6)]


def test_an_interrupt_is_no_finding() -> None:
    def interrupted() -> Finding:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Check(name="fine", look=interrupted, fix="-").run()


# --- libraries and the machine -----------------------------------------------------------------------------------


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=1.26", "nonesuch-vidiff[fast]>=2", 'other-vidiff>=1; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    finding = found("libraries")
    assert finding == Finding("fault", "not installed: nonesuch-vidiff", "pip install nonesuch-vidiff")


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("torch", "device", "precision", "torchvision"):
        finding = found(name)
        assert finding.status == "fault" and "torch" in finding.found


def test_a_torchvision_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "libc10_cuda.so: cannot open shared object file"
    monkeypatch.setattr("vidiff_cli.text.tokenizer.patch_torchvision_nms", lambda: reason)
    monkeypatch.setattr(machine, "_torchvision_version", lambda: "0.28.0+cu130")
    finding = found("torchvision")
    assert finding.status == "warning" and finding.fix and torch.__version__ in finding.fix
    assert all(part in finding.found for part in (reason, "0.28.0+cu130", torch.__version__))


def test_a_torchvision_that_was_mended_earlier_is_still_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process the mending tells its reason once; its operators stay off."""
    monkeypatch.setattr("vidiff_cli.text.tokenizer.patch_torchvision_nms", lambda: None)
    monkeypatch.setattr(machine, "_nms_works", lambda: False)
    assert found("torchvision").status == "warning"
    monkeypatch.setattr(machine, "_nms_works", lambda: True)
    assert found("torchvision").status == "ok"


def test_no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert found("torchvision") == Finding(
        "fault", "not installed; open_clip, which reads captions, needs it", "pip install torchvision"
    )


def test_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidiff_cli.device.choose_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    finding = found("device")
    assert finding.status == "warning" and "NVIDIA GPU that this torch cannot use" in finding.found


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="NVIDIA H200", total_memory=150e9, major=9, minor=0)
    monkeypatch.setattr("vidiff_cli.device.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    one = "cuda: NVIDIA H200, 150.0 GB, compute 9.0"
    assert found("device") == Finding("ok", f"{one}; {one}")


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidiff_cli.device.choose_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    if not Path("/dev/nvidiactl").exists():
        finding = found("device")
        assert (finding.status, finding.fix) == ("warning", "set OMP_NUM_THREADS=2")


@pytest.mark.parametrize(
    ("used", "gain", "status", "flag"),
    [
        (torch.bfloat16, 5.0, "ok", ""),
        (torch.bfloat16, 0.5, "warning", "--dtype fp32"),
        (torch.float32, 0.1, "ok", ""),
        (torch.float32, 3.0, "warning", "--dtype bf16"),
    ],
)
def test_bf16_is_measured(
    monkeypatch: pytest.MonkeyPatch, used: torch.dtype, gain: float, status: str, flag: str
) -> None:
    monkeypatch.setattr("vidiff_cli.device.choose_dtype", lambda name, where: used)
    seconds = {torch.float32: gain, torch.bfloat16: 1.0}
    monkeypatch.setattr(machine, "_seconds_of_a_product", lambda dtype, where: seconds[dtype])
    finding = found("precision")
    assert finding.status == status and f"{gain:.1f} times" in finding.found and flag in (finding.fix or "")


def test_a_device_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(dtype: torch.dtype, where: torch.device) -> float:
        if dtype == torch.bfloat16:
            raise RuntimeError("bf16 is not implemented")
        return 1.0

    monkeypatch.setattr(machine, "_seconds_of_a_product", product)
    for used, status in ((torch.float32, "ok"), (torch.bfloat16, "fault")):
        monkeypatch.setattr("vidiff_cli.device.choose_dtype", lambda name, where, used=used: used)
        assert found("precision").status == status


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory, status in (((8e9, 1e9), "warning"), ((1e9, None), "warning"), ((8e9, None), "ok"), ((8e9, 4e9), "ok")):
        monkeypatch.setattr(machine, "memory_bytes", lambda memory=memory: memory)
        assert found("memory").status == status


@pytest.mark.parametrize(("free", "status"), [(1e7, "fault"), (1e9, "warning"), (1e10, "ok")])
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert found("working-folder").status == status
    assert found("temporary-folder").status == {"warning": "ok"}.get(status, status)


def test_folders_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**where: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    for name, fix in (("working-folder", "-o"), ("temporary-folder", "TMPDIR")):
        finding = found(name)
        assert finding.status == "fault" and "permission denied" in finding.found and fix in (finding.fix or "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a folder in use stays")
def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        assert found("working-folder").status == "fault"
    finally:
        os.chdir(tmp_path)


# --- text --------------------------------------------------------------------------------------------------------


def test_captions_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One library is missing, one is broken, open_clip itself is gone."""
    with monkeypatch.context() as patch:
        patch.setattr(machine, "installed", lambda name: None if name == "timm" else "1.0")
        finding = found("captions")
        assert (finding.status, finding.found) == ("fault", "open_clip cannot be imported without timm")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ftfy", None)
        finding = found("captions")
        assert finding.status == "fault" and "ftfy" in finding.found and "open-clip-torch" in (finding.fix or "")
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert found("captions").found == "open_clip is not installed"


@pytest.mark.parametrize("offline", ["", "1", "true"])
def test_clip_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    for path, status in ((tmp_path / "weights.safetensors", "ok"), (None, "warning")):
        monkeypatch.setattr("vidiff_cli.text.clip_names.weights_at_hand", lambda path=path: path)
        finding = found("clip")
        assert finding.status == status and ("HF_HUB_OFFLINE is set" in finding.found) == bool(offline)
        assert str(path) in finding.found or "unset HF_HUB_OFFLINE" in (finding.fix or "") or not offline


# --- video -------------------------------------------------------------------------------------------------------


def test_a_frame_carries_its_number() -> None:
    """Also after some noise, and no two are alike."""
    frames = [video.numbered(index) for index in range(2**video.BITS)]
    rng = np.random.default_rng(0)
    for index, frame in enumerate(frames):
        noisy = np.clip(frame.astype(int) + rng.integers(-60, 60, frame.shape), 0, 255).astype(np.uint8)
        assert video.read_frame_number(frame) == video.read_frame_number(noisy) == index


def deceive(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """Every decoder's result goes through `change`."""
    honest = DECODE.decode
    monkeypatch.setattr(DECODE, "decode", lambda path, **more: change(honest(path, **more)))


@pytest.mark.parametrize(
    "change",
    [
        lambda decoded: replace(decoded, frames=np.roll(decoded.frames, 1, axis=0)),
        lambda decoded: replace(decoded, frames=decoded.frames[:-1], times=decoded.times[:-1]),
        lambda decoded: replace(decoded, frames=decoded.frames[[0, *range(len(decoded.frames) - 1)]]),
        lambda decoded: replace(decoded, frames=decoded.frames[[0, 2, 1, *range(3, len(decoded.frames))]]),
        lambda decoded: replace(decoded, times=tuple(time + Fraction(1, 25) for time in decoded.times)),
    ],
    ids=["starts late", "drops the last", "repeats the first", "swaps two", "a frame late"],
)
def test_a_decoder_that_shows_wrong_frames(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    deceive(monkeypatch, change)
    assert found("reading-ffmpeg").status == "fault"
    finding = found("reading-decord")
    assert finding.status == "fault" and "--decoder ffmpeg" in (finding.fix or "")


def test_files_that_come_back_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    deceive(monkeypatch, lambda decoded: replace(decoded, frames=decoded.frames[::-1]))
    finding = found("writing")
    assert finding.status == "fault" and ".webm: shows the frames 7, 6, 5" in finding.found


def test_lossless_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    deceive(monkeypatch, lambda decoded: replace(decoded, frames=decoded.frames ^ 1))
    finding = found("writing")
    assert finding.status == "warning" and finding.found == ".mkv: lossless frames come back changed"


def test_a_decord_that_fails_is_replaced_by_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    finding = found("reading-decord")
    assert finding.status == "warning" and "ffmpeg reads instead" in finding.found
    assert "not installed here" in finding.found and finding.fix


def test_no_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vidiff_cli.video.ffmpeg.executable", lambda: str(tmp_path / "none"))
    for name in ("ffmpeg", "codecs", "reading-ffmpeg", "writing"):
        finding = found(name)
        assert finding.status == "fault" and "imageio-ffmpeg" in (finding.fix or "")


def test_missing_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    for lacking, unread, status in (
        ({"libvpx-vp9": ".webm"}, (), "warning"),
        ({}, ("AV1",), "warning"),
        ({"libx264": ".mp4 and .mkv"}, (), "fault"),
    ):
        monkeypatch.setattr("vidiff_cli.video.ffmpeg_features.missing_encoders", lambda lacking=lacking: lacking)
        monkeypatch.setattr("vidiff_cli.video.ffmpeg_features.missing_decoders", lambda unread=unread: unread)
        finding = found("codecs")
        assert finding.status == status and all(word in finding.found for word in (*lacking, *unread))


def test_a_kind_of_file_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ENCODE.encode
    for refused, status in ((".webp", "warning"), (".mp4", "fault")):

        def encode(path: Path, *rest: Any, refused: str = refused, **more: Any) -> int:
            if path.suffix == refused:
                raise VidiffError(f"{path.name} could not be written")
            return honest(path, *rest, **more)

        monkeypatch.setattr(ENCODE, "encode", encode)
        finding = found("writing")
        assert finding.status == status and finding.found == f"{refused}: numbered{refused} could not be written"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("writing", "reading-ffmpeg", "reading-decord", "working-folder", "temporary-folder"):
        found(name)
    assert list(tmp_path.iterdir()) == []
