"""Every check finds the fault that is put in its way, names the fix, and never raises."""

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
from vidiff_cli.commands.doctor import CHECKS, machine, video
from vidiff_cli.commands.doctor.check import Check, Finding
from vidiff_cli.events import Progress

DECODE = importlib.import_module("vidiff_cli.video.decode")  # the package has a function of that name
BY_NAME = {check.name: check for check in CHECKS}


def found(name: str) -> Finding:
    finding = BY_NAME[name].run()
    assert finding.found and (finding.status == "ok") == (finding.fix is None)
    return finding


def test_every_check_answers_in_its_place() -> None:
    report = doctor.doctor()
    assert [row.name for row in report.checks] == list(BY_NAME)
    assert all(row.found and (row.status == "ok") == (row.fix is None) for row in report.checks)
    assert report.ok and report.faults == 0, report
    assert report.warnings == sum(row.status == "warning" for row in report.checks)
    read = [row.found for row in report.checks if row.name.startswith("reading-")]
    assert all(text.endswith("25 of 25 numbered frames right, at exact times") for text in read)


def broken() -> Finding:
    raise ZeroDivisionError("division\n by zero")


def test_a_check_that_breaks_is_a_fault_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = Check(name="fine", probe=lambda: Finding("ok", "well"), fix="-")
    bad = replace(fine, probe=broken)
    assert bad.run() == Finding("fault", "ZeroDivisionError: division by zero", "-")
    monkeypatch.setattr(doctor, "CHECKS", (bad, fine, bad, fine))
    events = []
    steps = doctor.doctor.events()
    with pytest.raises(StopIteration) as done:
        while True:
            events.append(next(steps))
    report = done.value.value
    assert [row.status for row in report.checks] == ["fault", "ok", "fault", "ok"]
    assert (report.ok, report.faults, report.warnings) == (False, 2, 0)
    assert events == [Progress(what="checks", done=n, total=4, detail="fine") for n in range(1, 5)]


def test_an_interrupt_is_not_a_finding() -> None:
    def interrupted() -> Finding:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Check(name="fine", probe=interrupted, fix="-").run()


# --- versions and device -----------------------------------------------------------------------------------------


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=1.26", "nonesuch-vidiff[fast]>=2", 'other-vidiff>=1; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    finding = found("libraries")
    assert finding == Finding("fault", "not installed: nonesuch-vidiff", "pip install nonesuch-vidiff")


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    finding = found("device")
    assert finding.status == "fault" and "torch" in finding.found


def test_a_gpu_and_one_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="NVIDIA H200", total_memory=150e9, major=9, minor=0)
    monkeypatch.setattr("vidiff_cli.device.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    one = "cuda: NVIDIA H200, 150.0 GB, compute 9.0"
    assert found("device") == Finding("ok", f"{one}; {one}")
    monkeypatch.setattr("vidiff_cli.device.choose_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    finding = found("device")
    assert finding.status == "warning" and "NVIDIA GPU that this torch cannot use" in finding.found


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="its GPU is named instead")
def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidiff_cli.device.choose_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 100_000)
    finding = found("device")
    assert finding.status == "warning" and (finding.fix or "").startswith("set OMP_NUM_THREADS=")


# --- disk --------------------------------------------------------------------------------------------------------


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


# --- video -------------------------------------------------------------------------------------------------------


def test_a_frame_shows_its_number() -> None:
    """Also under noise."""
    rng = np.random.default_rng(0)
    for index in range(2**video.BITS):
        frame = video.numbered_frame(index)
        noisy = np.clip(frame.astype(int) + rng.integers(-60, 60, frame.shape), 0, 255).astype(np.uint8)
        assert video.read_frame_number(frame) == video.read_frame_number(noisy) == index


@pytest.mark.parametrize(
    "change",
    [
        lambda decoded: replace(decoded, frames=np.roll(decoded.frames, 1, axis=0)),
        lambda decoded: replace(decoded, frames=decoded.frames[:-1], times=decoded.times[:-1]),
        lambda decoded: replace(decoded, frames=decoded.frames[[0, 2, 1, *range(3, len(decoded.frames))]]),
        lambda decoded: replace(decoded, times=tuple(time + Fraction(1, 25) for time in decoded.times)),
    ],
    ids=["starts late", "drops the last", "swaps two", "a frame late"],
)
def test_a_decoder_that_shows_wrong_frames(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    decode = DECODE.decode
    monkeypatch.setattr(DECODE, "decode", lambda path, **more: change(decode(path, **more)))
    assert found("reading-ffmpeg").status == "fault"
    finding = found("reading-decord")
    assert finding.status == "fault" and "--decoder ffmpeg" in (finding.fix or "")


def test_a_decord_that_fails_is_replaced_by_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    finding = found("reading-decord")
    assert finding.status == "warning" and "ffmpeg reads instead" in finding.found
    assert "not installed here" in finding.found and finding.fix


def test_no_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vidiff_cli.video.ffmpeg.executable", lambda: str(tmp_path / "none"))
    for name in ("ffmpeg", "reading-ffmpeg"):
        finding = found(name)
        assert finding.status == "fault" and "imageio-ffmpeg" in (finding.fix or "")


def test_missing_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoders, decoders, status in (
        ({"libvpx-vp9": ".webm"}, (), "warning"),
        ({}, ("AV1",), "warning"),
        ({"libx264": ".mp4 and .mkv"}, (), "fault"),
    ):
        monkeypatch.setattr("vidiff_cli.video.ffmpeg_features.missing_encoders", lambda value=encoders: value)
        monkeypatch.setattr("vidiff_cli.video.ffmpeg_features.missing_decoders", lambda value=decoders: value)
        finding = found("ffmpeg")
        assert finding.status == status and all(word in finding.found for word in (*encoders, *decoders))
