"""A run to the hub and back, against a local server that answers as the hub does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import json_of, sentence_of, vidiff
from fake_hub import TOKEN, FakeHub, Repository, fake_hub
from runs import config_of, newest
from tiny_model import tiny_network, tiny_settings, write_model

NAME = "hf:me/birds"
LARGE = {"patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "upscale": 2}
LICENCE = ("--licence", "cc-by-4.0")
RESULTS = [
    {"name": "FVD", "unit": "", "better": "lower", "generated": {"value": 12.5}, "real": {"value": 3.25}},
    {"name": "a | b", "unit": "dB", "better": "higher", "generated": {"value": None}, "real": None},
]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """An empty hub, and a token for it."""
    with fake_hub(monkeypatch, tmp_path / "cache") as server:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def test_a_pushed_run_is_fetched_and_makes_the_same_video(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    report = json_of("push", run, NAME, *LICENCE)
    files = hub.repositories["me/birds"].files
    assert files.keys() == {"README.md", "config.json", "ema.safetensors"}
    assert files["ema.safetensors"] == (newest(run) / "ema.safetensors").read_bytes()
    assert report["commit"] == hub.repositories["me/birds"].commit and report["url"] == f"{hub.address}/me/birds"
    assert f"vidiff fetch {NAME}" in sentence_of(vidiff("info", NAME))
    assert vidiff("fetch", NAME, "--yes").exit_code == 0
    same = ("--seed", "3", "--steps", "2", "--dtype", "fp32", "--lossless")
    hub.requests.clear()
    for model, output in ((run, "here.mkv"), (NAME, "there.mkv")):
        result = vidiff("sample", "a red circle", "-m", model, *same, "-o", tmp_path / output)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "here.mkv").read_bytes() == (tmp_path / "there.mkv").read_bytes()
    model = json.loads((tmp_path / "there.json").read_text())["checkpoint"]
    assert (model["path"], model["repository"], model["commit"]) == (NAME, "me/birds", report["commit"])
    assert model["licence"] == "cc-by-4.0" and not hub.requests
    assert json_of("info", NAME)["sha256"] == model["sha256"]
    inside = tmp_path / "cache/hub/models--me--birds/snapshots" / report["commit"] / "ema.safetensors"
    assert inside.is_file()


def test_the_card_says_what_is_known_and_nothing_of_this_machine(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "evaluation").mkdir()
    (copy / "evaluation" / "evaluation.json").write_text(json.dumps({"results": RESULTS, "protocol": {}}))
    assert vidiff("push", copy, NAME, *LICENCE, "--private").exit_code == 0
    repository = hub.repositories["me/birds"]
    card, config = repository.files["README.md"].decode(), json.loads(repository.files["config.json"])
    assert repository.private and card.startswith("---\nlicense: cc-by-4.0\n")
    about = json_of("info", copy)["model"]
    for fact in (about["sha256"], f"{about['parameters'] / 1e6:.2f} M", f"{about['frames']} frames", NAME):
        assert fact in card
    assert "| FVD | 12.5 | 3.25 | lower |" in card and "| a \\| b | - | - | higher | dB |" in card
    recorded = config_of(copy)["train"]
    assert config["train"]["dataset"] == Path(recorded["dataset"]).name == "dataset"
    assert config["train"]["steps"] == recorded["steps"]
    for folder in (str(Path(recorded["dataset"]).parent), str(tmp_path)):
        assert folder not in card and folder not in json.dumps(config)
    (copy / "evaluation" / "evaluation.json").write_text('{"results": [{"generated": 3}]}')
    assert "## Evaluation" not in json_of("push", copy, NAME, *LICENCE, "--dry-run")["texts"]["README.md"]


def test_nothing_is_sent_without_a_licence_a_token_or_a_run(
    hub: FakeHub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "name one: --licence" in sentence_of(vidiff("push", run, NAME))
    assert "not a name on the hub" in sentence_of(vidiff("push", run, "me/birds", *LICENCE), 2)
    assert "expected hf:me/birds" in sentence_of(vidiff("push", run, f"{NAME}@v1", *LICENCE, "--quiet"))
    assert "expected a run or a checkpoint" in sentence_of(vidiff("push", tmp_path, NAME, *LICENCE))
    assert vidiff("push", run, NAME, "--licence", "any: thing").exit_code == 2
    assert vidiff("push", run, NAME, *LICENCE, "--dry-run").exit_code == 0
    monkeypatch.delenv("HF_TOKEN")
    assert "without a token" in sentence_of(vidiff("push", run, NAME, *LICENCE, "--quiet"))
    assert not [request for request in hub.requests if request.method != "GET"]


def test_a_repository_of_something_else_is_left_alone(hub: FakeHub, run: Path) -> None:
    hub.repositories["me/birds"] = Repository(files={"model_index.json": b"{}", "README.md": b""})
    assert "found model_index.json" in sentence_of(vidiff("push", run, NAME, *LICENCE, "--quiet"))
    hub.repositories["me/birds"] = Repository(files={"README.md": b"", ".gitattributes": b""})
    assert "is public" in sentence_of(vidiff("push", run, NAME, *LICENCE, "--private", "--quiet"))
    assert not hub.uploads and not hub.asked("commit")
    assert vidiff("push", run, NAME, *LICENCE).exit_code == 0
    before = hub.repositories["me/birds"].commit
    assert vidiff("push", run, NAME, "--licence", "mit").exit_code == 0  # a run again
    assert hub.repositories["me/birds"].commit != before


def test_the_token_is_not_printed_and_goes_to_the_hub_alone(
    hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = vidiff("push", run, NAME, *LICENCE, "--verbose")
    assert result.exit_code == 0 and TOKEN not in result.stdout + result.stderr
    assert not any(request.token for request in hub.asked("/upload/"))
    assert not [name for name, content in hub.repositories["me/birds"].files.items() if TOKEN.encode() in content]
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    refused = vidiff("push", run, NAME, *LICENCE, "--verbose")
    assert refused.exit_code == 1 and "set HF_TOKEN to a token with write access to me" in refused.stderr
    assert "hf_another" not in refused.stderr


@pytest.fixture
def cascade(run: Path, tmp_path: Path) -> Path:
    """A cascade of the run and an upscaler."""
    settings = tiny_settings(tiny_network(**LARGE), 32, frames=3, augmentation=0.3)
    made = vidiff("cascade", run, write_model(tmp_path / "large.safetensors", settings), "-o", tmp_path / "all")
    assert made.exit_code == 0, made.stderr
    return tmp_path / "all"


def test_a_pushed_cascade_is_fetched_and_makes_the_same_video(hub: FakeHub, cascade: Path, tmp_path: Path) -> None:
    assert vidiff("push", cascade, NAME, *LICENCE).exit_code == 0
    files = hub.repositories["me/birds"].files
    assert files.keys() == {"README.md", "ema.safetensors", "cascade.json", "stage-1.safetensors"}
    assert all(files[path.name] == path.read_bytes() for path in cascade.iterdir())
    card = files["README.md"].decode()
    assert "| large | 2 | 32x32 |" in card and str(tmp_path) not in card + files["cascade.json"].decode()
    fetched = vidiff("fetch", NAME, "--yes")
    assert fetched.exit_code == 0 and "hf:me/birds: cascade of vidiff" in fetched.stderr, fetched.stderr
    assert [stage["name"] for stage in json_of("info", NAME)["stages"]] == ["large"]
    same = ("--seed", "3", "--steps", "2", "--dtype", "fp32", "--lossless")
    for model, output in ((cascade, "here.mkv"), (NAME, "there.mkv")):
        result = vidiff("sample", "a red circle", "-m", model, *same, "-o", tmp_path / output)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "here.mkv").read_bytes() == (tmp_path / "there.mkv").read_bytes()
    assert json.loads((tmp_path / "there.json").read_text())["checkpoint"]["licence"] == "cc-by-4.0"


def test_the_licence_of_a_fetched_base_goes_on(hub: FakeHub, run: Path, cascade: Path, tmp_path: Path) -> None:
    """Into the cascade that is made of it, its sidecars, its card, and one made of that cascade."""
    assert vidiff("push", run, NAME, *LICENCE).exit_code == vidiff("fetch", NAME, "--yes").exit_code == 0
    large, base = tmp_path / "large.safetensors", NAME
    for folder in (tmp_path / "own", tmp_path / "again"):
        made = vidiff("cascade", base, large, "-o", folder)
        assert made.exit_code == 0, made.stderr
        told = json.loads((folder / "cascade.json").read_text())
        assert told["base"]["licence"] == "cc-by-4.0" and told["stages"][0]["licence"] is None
        base = folder
    said = vidiff("push", base, "hf:me/all", "--licence", "mit", "--dry-run")
    assert said.exit_code == 0 and "have the licence cc-by-4.0." in said.stderr
    values = ("--steps", "1", "--num-frames", "2", "-o", tmp_path / "out.mkv")
    assert vidiff("sample", "a red circle", "-m", base, *values).exit_code == 0
    assert json.loads((tmp_path / "out.json").read_text())["checkpoint"]["licence"] == "cc-by-4.0"


def test_a_run_in_the_place_of_a_cascade_leaves_nothing_of_it(hub: FakeHub, run: Path, cascade: Path) -> None:
    for pushed, names in (
        (cascade, {"README.md", "ema.safetensors", "cascade.json", "stage-1.safetensors"}),
        (run, {"README.md", "ema.safetensors", "config.json"}),
        (cascade, {"README.md", "ema.safetensors", "cascade.json", "stage-1.safetensors"}),
    ):
        assert vidiff("push", pushed, NAME, *LICENCE).exit_code == 0
        assert hub.repositories["me/birds"].files.keys() == names


def test_a_damaged_or_incomplete_cascade(hub: FakeHub, cascade: Path) -> None:
    assert vidiff("push", cascade, NAME, *LICENCE).exit_code == 0
    del hub.repositories["me/birds"].files["stage-1.safetensors"]
    assert vidiff("fetch", NAME, "--yes").exit_code == 0
    assert "stage-1.safetensors is missing" in sentence_of(vidiff("sample", "-m", NAME))
    (cascade / "stage-1.safetensors").write_bytes(b"other")
    requests = len(hub.requests)
    assert "stage-1.safetensors is damaged" in sentence_of(vidiff("push", cascade, NAME, *LICENCE))
    assert len(hub.requests) == requests
