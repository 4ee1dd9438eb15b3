"""The list of models: what is here is listed as it is, and nothing is asked of any hub."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from command_line import json_of, vidiff
from fake_hub import use_hub
from public_models import save_model

from vidiff_cli.models.families import FAMILIES
from vidiff_cli.models.public.hub import HubName, find_snapshot, parse_hub_name
from vidiff_cli.models.public.known import KNOWN, find_known, named_model, native_shape
from vidiff_cli.models.public.licence import read_licence
from vidiff_cli.models.public.open import open_public

COMMIT, OTHER = "1" * 40, "2" * 40


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("modelscope", tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a machine without a network."""

    def refuse(*address: Any) -> None:
        raise AssertionError(f"a connection to {address}")

    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "cache" / "hub"


def place(cache: Path, repository: str, folder: Path, commit: str = COMMIT, **refs: str) -> Path:
    """Files in the cache as the hub's client lays them out."""
    root = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, root / "snapshots" / commit)
    (root / "refs").mkdir(exist_ok=True)
    for name, value in refs.items():
        (root / "refs" / name).write_text(value)
    return root / "snapshots" / commit


def test_every_kind_of_model_is_listed(cache: Path, tiny: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "runs" / "mine")
    (tmp_path / "runs" / "broken" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "checkpoints" / "latest").write_text("step-1")
    (place(cache, "some/model", tiny, main=COMMIT) / "README.md").write_text("---\nlicense: mit\n---\n")
    shutil.rmtree(place(cache, "some/model", tiny, OTHER, v1=OTHER) / "vae")
    (tmp_path / "pushed").mkdir()
    shutil.copy(next((run / "checkpoints").glob("*/ema.safetensors")), tmp_path / "pushed")
    place(cache, "me/run", tmp_path / "pushed")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "LanguageModel"}')
    place(cache, "some/language-model", tmp_path / "other", main=COMMIT)
    report = json_of("models")
    here = {model["name"]: model for model in report["here"]}
    assert set(here) == {
        "builtin",
        "runs/mine",
        "runs/broken",
        "hf:some/model",
        "hf:some/model@v1",
        f"hf:me/run@{COMMIT}",
    }
    good = here["hf:some/model"]
    assert (good["family"], good["licence"], good["commit"], good["note"]) == ("ModelScope", "mit", COMMIT, "")
    assert good["bytes"] == sum(file.stat().st_size for file in tiny.rglob("*") if file.is_file()) + 21
    assert "vae" in here["hf:some/model@v1"]["note"] and "is not a model" in here["runs/broken"]["note"]
    assert here[f"hf:me/run@{COMMIT}"]["family"] == here["runs/mine"]["family"] == "vidiff"
    assert [listed["model"]["name"] for listed in report["known"]] == [model.name for model in KNOWN]
    assert not any(listed["fetched"] for listed in report["known"])
    shown = vidiff("models")
    assert shown.exit_code == 0 and all(name in shown.stdout for name in here)
    for model in KNOWN:
        assert f"{model.name} " in shown.stdout and model.licence in shown.stdout


def test_known_models_fit_their_families() -> None:
    families = {family.name: family for family in FAMILIES}
    for model in KNOWN:
        family = families[model.family]
        assert named_model(model.name) is model and find_known(model.repositories[0]) is model
        assert model.commit is None or HubName(repository=model.repositories[0]).wanted == model.commit
        assert all(str(parse_hub_name(part)) == part for part in model.name.split("+"))
        assert native_shape(family, model.repositories[0]) is model
        assert native_shape(family, "some/other") is family
    assert sum(model.recommended for model in KNOWN) == 1


def test_the_shape_and_the_licence_of_a_known_name_win(cache: Path, tiny: Path) -> None:
    zeroscope = next(model for model in KNOWN if "zeroscope" in model.name)
    name = parse_hub_name(zeroscope.name)
    place(cache, name.repository, tiny)
    reference = cache / "models--cerspense--zeroscope_v2_576w/refs" / str(name.revision)
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    import torch

    model = open_public(Path(zeroscope.name), torch.device("cpu"), torch.float32)
    assert (model.width, model.height, model.frames, model.fps) == (576, 320, 24, 8)
    assert model.licence == zeroscope.licence
    plain = open_public(tiny, torch.device("cpu"), torch.float32)
    assert (plain.width, plain.height, plain.frames, plain.licence) == (32, 32, 16, None)  # as in its files
    sentence = vidiff("sample", "a cat", "-m", "hf:Wan-AI/Wan2.1-T2V-1.3B-Diffusers").stderr
    assert "28.9 GB" in sentence and "apache-2.0" in sentence and "vidiff fetch hf:Wan-AI" in sentence


def test_a_pinned_commit_is_preferred_and_another_one_found(cache: Path, tiny: Path) -> None:
    wan = next(model for model in KNOWN if model.recommended)
    name = parse_hub_name(wan.name)
    place(cache, name.repository, tiny, main=COMMIT)
    found = find_snapshot(name)
    assert found is not None and found.commit == COMMIT
    place(cache, name.repository, tiny, str(wan.commit))
    found, main = find_snapshot(name), find_snapshot(parse_hub_name(f"{wan.name}@main"))
    assert found is not None and main is not None
    assert (found.commit, main.commit) == (wan.commit, COMMIT)
    listed = {model["name"] for model in json_of("models")["here"]}
    assert {wan.name, f"{wan.name}@main"} <= listed


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# A", "apache-2.0"),
        ("---\r\ntags: [a]\r\nlicense: 'mit'\r\n---\r\n", "mit"),
        ("---\nlicense:\n- cc-by-4.0\n---\n", "cc-by-4.0"),
        ("---\nlicense: [mit, other]\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: skywork-license\n---\n", "skywork-license"),
        ("---\nlicense: other # of its own\n---\n", "other"),
        ("---\nlicense: \x1b[31mred\n---\n", None),
        ("---\nlicense: " + "x" * 200 + "\n---\n", None),
        ("---\ntags: a\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_of_a_card(tmp_path: Path, card: str, licence: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert read_licence(tmp_path) == licence


def test_a_reference_leads_to_a_commit_only(cache: Path, tiny: Path) -> None:
    place(cache, "some/model", tiny, main="../../outside", v1="x" * 10**6, v2=COMMIT[:-1] + "g", v3=f"{COMMIT}\n")
    found = [find_snapshot(HubName(repository="some/model", revision=name)) for name in ("main", "v1", "v2", "v3")]
    assert found[:3] == [None, None, None] and found[3] is not None
    assert json.dumps(json_of("models")["here"]).count("hf:some/model") == 1
