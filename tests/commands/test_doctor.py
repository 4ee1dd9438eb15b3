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


def raising(error: BaseException) -> Callable[..., Any]:
    def probe(*_: Any, **__: Any) -> Any:
        raise error

    return probe


def test_every_check_answers_in_its_place() -> None:
    report = doctor.doctor()
    assert [row.name for row in report.checks] == list(BY_NAME)
    assert all(row.found and (row.status == "ok") == (row.fix is None) for row in report.checks)
    assert report.ok and report.faults == 0, report
    assert report.warnings == sum(row.status == "warning" for row in report.checks)
    read = [row.found for row in report.checks if row.name.startswith("reading-")]
    assert all(text.endswith("25 of 25 numbered frames right, at exact times") for text in read)


def test_a_check_that_breaks_is_a_fault_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt is not a finding."""
    fine = Check(name="fine", probe=lambda: Finding("ok", "well"), fix="-")
    bad = replace(fine, probe=raising(ZeroDivisionError("division\n by zero")))
    assert bad.run() == Finding("fault", "ZeroDivisionError: division by zero", "-")
    monkeypatch.setattr(doctor, "CHECKS", (bad, fine, bad, fine))
    report = doctor.doctor()
    assert [row.status for row in report.checks] == ["fault", "ok", "fault", "ok"]
    assert (report.ok, report.faults, report.warnings) == (False, 2, 0)
    progress = [Progress(what="checks", done=n, total=4, detail="fine") for n in range(1, 5)]
    assert list(doctor.doctor.events()) == progress
    with pytest.raises(KeyboardInterrupt):
        replace(fine, probe=raising(KeyboardInterrupt())).run()


def test_libraries_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=1.26", "nonesuch-vidiff[fast]>=2", 'other-vidiff>=1; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    assert found("libraries") == Finding("fault", "not installed: nonesuch-vidiff", "pip install nonesuch-vidiff")
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


@pytest.mark.parametrize(("free", "working", "temporary"), [(1e7, *["fault"] * 2), (1e9, "warning", "ok")])
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, free: float, working: str, temporary: str) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert (found("working-folder").status, found("temporary-folder").status) == (working, temporary)


def test_folders_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", raising(PermissionError(13, "Permission denied")))
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


def test_a_frame_shows_its_number() -> None:
    """Also under noise."""
    rng = np.random.default_rng(0)
    for index in range(2**video.BITS):
        frame = video.numbered_frame(index)
        noisy = np.clip(frame.astype(int) + rng.integers(-60, 60, frame.shape), 0, 255).astype(np.uint8)
        assert video.read_frame_number(frame) == video.read_frame_number(noisy) == index


CHANGES: dict[str, Callable[[Any], Any]] = {
    "starts late": lambda decoded: replace(decoded, frames=np.roll(decoded.frames, 1, axis=0)),
    "drops the last": lambda decoded: replace(decoded, frames=decoded.frames[:-1], times=decoded.times[:-1]),
    "a frame late": lambda decoded: replace(decoded, times=tuple(time + Fraction(1, 25) for time in decoded.times)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_decoder_that_shows_wrong_frames(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    decode = DECODE.decode
    monkeypatch.setattr(DECODE, "decode", lambda path, **more: CHANGES[change](decode(path, **more)))
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


@pytest.mark.parametrize(
    ("encoders", "decoders", "status"),
    [
        ({"libvpx-vp9": ".webm"}, (), "warning"),
        ({}, ("AV1",), "warning"),
        ({"libx264": ".mp4 and .mkv"}, (), "fault"),
    ],
)
def test_missing_codecs(monkeypatch: pytest.MonkeyPatch, encoders, decoders, status: str) -> None:
    monkeypatch.setattr("vidiff_cli.video.ffmpeg_features.missing_encoders", lambda: encoders)
    monkeypatch.setattr("vidiff_cli.video.ffmpeg_features.missing_decoders", lambda: decoders)
    finding = found("ffmpeg")
    assert finding.status == status and all(word in finding.found for word in (*encoders, *decoders))
