"""`vidiff info` of a public model, and `vidiff doctor` on the packages for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import json_of, sentence_of, vidiff
from public_models import FAMILIES

from vidiff_cli.commands.doctor import machine


@pytest.mark.parametrize("family", FAMILIES)
def test_info_is_what_sampling_would_do(folder_of, model_of, family: str, no_network) -> None:
    about, model = json_of("info", folder_of(family)), model_of(family)
    assert about["kind"] == "public model" and about["family"] == model.family.name and about["licence"] is None
    assert about["conditioning"] == list(model.conditions) and about["fps"] == model.fps
    assert about["works"] == (
        ["sample", "extend", "interpolate"] if model.codec.temporal == 1 else ["sample", "extend forwards"]
    )
    assert [part["name"] for part in about["parts"]] == ["text_encoder", model.family.part, "vae"]
    assert about["parameters"] == sum(part["parameters"] for part in about["parts"]) > 1000
    assert no_network == []


def test_info_of_a_licence_and_of_a_damaged_folder(folder_of, tmp_path: Path) -> None:
    own = shutil.copytree(folder_of("modelscope"), tmp_path / "model")
    (own / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    shown = vidiff("info", own)
    assert shown.exit_code == 0 and "cc-by-nc-4.0" in shown.stdout and "32x32" in shown.stdout
    next((own / "vae").glob("*.safetensors")).write_bytes(b"x")
    assert "vae" in sentence_of(vidiff("info", own))


@pytest.mark.parametrize(
    ("absent", "status"), [((), "ok"), (("peft",), "warning"), (machine.PUBLIC, "ok")], ids=["all", "some", "none"]
)
def test_doctor_names_the_extra(monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...], status: str) -> None:
    monkeypatch.setattr(machine, "installed_version", lambda name: None if name in absent else "1.0")
    found = machine.check_public()
    assert found.status == status and ("vidiff-cli[public]" in f"{found.found} {found.fix}") == bool(absent)
