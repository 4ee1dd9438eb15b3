"""Models from the hub, against a local server that answers as it does."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import json_of, sentence_of, vidiff
from fake_hub import TOKEN, FakeHub, fake_hub, is_large, use_hub
from public_models import save_model
from typer.testing import CliRunner

from vidiff_cli.cli.app import app
from vidiff_cli.system.locks import alone

NAME = "hf:some/model"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ModelScope model as people upload it: with a card, pickles, code and half precision beside the whole."""
    folder = save_model("modelscope", tmp_path_factory.mktemp("tiny") / "model")
    (folder / "README.md").write_text("---\ntags: [video]\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    for part in ("unet", "vae"):
        whole = folder / part / "diffusion_pytorch_model.safetensors"
        shutil.copy(whole, whole.with_suffix(".fp16.safetensors"))
        whole.with_suffix(".bin").write_bytes(b"pickle")
    for name in ("pipeline.py", "unet/code.py", "model.ckpt", "unet/model.onnx", "text_encoder/flax_model.msgpack"):
        (folder / name).write_bytes(b"not wanted")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path) -> Iterator[FakeHub]:
    """A hub with that model as some/model."""
    monkeypatch.chdir(tmp_path)
    with fake_hub(monkeypatch, tmp_path / "cache") as server:
        server.add("some/model", tiny, card={"license": "cc-by-nc-4.0"})
        yield server


def fetched(cache: Path, name: str = "some--model") -> dict[str, bytes]:
    """The files of the snapshots of a repository."""
    folder = cache / "hub" / f"models--{name}" / "snapshots"
    files = [file for file in folder.glob("*/**/*") if file.is_file()]
    return {str(file.relative_to(folder)).partition("/")[2]: file.read_bytes() for file in files}


def test_takes_what_loading_reads_and_nothing_else(hub: FakeHub, tmp_path: Path) -> None:
    report = json_of("fetch", NAME, "--yes")
    repository = hub.repositories["some/model"]
    files = fetched(tmp_path / "cache")
    assert {file: repository.files[file] for file in files} == files
    assert not [file for file in files if Path(file).suffix in (".py", ".bin", ".ckpt", ".onnx", ".msgpack")]
    weights = {file for file in files if file.endswith(".safetensors")}
    assert weights == {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.safetensors",
    }
    folder = tmp_path / "cache/hub/models--some--model"
    assert (folder / "refs/main").read_text() == report["commits"][0] == repository.commit
    assert (folder / "snapshots" / repository.commit / UNET.replace(".s", ".fp16.s")).is_symlink()


def test_the_clients_own_functions_find_the_files(hub: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    vidiff("fetch", NAME, "--yes")
    cache = tmp_path / "cache" / "hub"
    found = try_to_load_from_cache("some/model", "unet/config.json", cache_dir=cache)
    assert isinstance(found, str) and json.loads(Path(found).read_text())["_class_name"] == "UNet3DConditionModel"
    assert not [warning for warning in scan_cache_dir(cache).warnings if "lock" not in str(warning)]


def test_the_asked_variant_is_taken_and_read(hub: FakeHub, tmp_path: Path) -> None:
    assert vidiff("fetch", NAME, "--yes", "--variant", "full").exit_code == 0
    assert UNET in fetched(tmp_path / "cache") and UNET.replace(".s", ".fp16.s") not in fetched(tmp_path / "cache")
    before = len(hub.asked("resolve"))
    assert json_of("fetch", NAME, "--yes")["fetched_bytes"] == 0  # what is there is read, so no other is needed
    assert not [request for request in hub.asked("safetensors")[before:]]
    assert "expected fp16 or full" in sentence_of(vidiff("fetch", NAME, "--variant", "fp8"), 2)


def test_licence_and_files_are_shown_and_nothing_is_fetched_unasked(hub: FakeHub, tmp_path: Path) -> None:
    result = vidiff("fetch", NAME)
    assert result.exit_code == 1 and "no terminal" in result.stderr and "--yes" in result.stderr
    assert "cc-by-nc-4.0" in result.stderr and UNET.replace(".s", ".fp16.s") in result.stderr
    shown = vidiff("fetch", NAME, "--dry-run")
    assert shown.exit_code == 0 and "cc-by-nc-4.0" in shown.stderr
    assert not hub.asked("safetensors") and not (tmp_path / "cache" / "hub").exists()


def test_sampling_opens_no_socket_and_records_where_the_model_is_from(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vidiff("sample", "a cat", "-m", NAME, "-o", tmp_path / "out.mp4")
    assert "vidiff fetch hf:some/model" in sentence_of(before) and not hub.requests
    vidiff("fetch", NAME, "--yes")
    hub.requests.clear()
    opened: list[Any] = []

    def refuse(*address: Any) -> None:
        opened.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert not [name for name in os.environ if name.endswith("_OFFLINE")]
    result = vidiff("sample", "a cat", "-m", NAME, "--steps", "2", "--num-frames", "4", "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.stderr
    assert not opened and not hub.requests
    model = json.loads((tmp_path / "out.json").read_text())["checkpoint"]
    assert model["repository"] == "some/model" and model["commit"] == hub.repositories["some/model"].commit
    assert model["licence"] == "cc-by-nc-4.0" and "cc-by-nc-4.0" in result.stderr
    assert UNET.replace(".s", ".fp16.s") in model["weights"]


@pytest.mark.parametrize("how", ["connection", "process"])
def test_an_interrupted_file_continues_where_it_stopped(hub: FakeHub, tmp_path: Path, how: str) -> None:
    """`connection`: it breaks and the client asks again; `process`: the hub fails then, and another call goes on."""
    file, kept = UNET.replace(".s", ".fp16.s"), 50_000
    hub.breaks[file] = kept
    if how == "process":
        first = _fail_after_break(hub, file)
        assert "run it again later" in sentence_of(first)
        assert not (tmp_path / "cache/hub/models--some--model/snapshots").exists()
        assert "is not on this machine" in sentence_of(vidiff("sample", "a cat", "-m", NAME, "-o", tmp_path / "a.mp4"))
        hub.requests.clear()
    assert vidiff("fetch", NAME, "--yes").exit_code == 0
    ranges = [request.range for request in hub.asked(file)]
    assert ranges == ([f"bytes={kept}-"] if how == "process" else [None, f"bytes={kept}-"])
    assert fetched(tmp_path / "cache")[file] == hub.repositories["some/model"].files[file]
    if how == "process":
        assert not hub.asked("text_encoder/model.safetensors")  # it was whole


def _fail_after_break(hub: FakeHub, file: str) -> Any:
    """Fetch, with a fault of the hub after the connection broke within a file."""

    class Breaks(dict[str, int]):
        def pop(self, name: str, default: int) -> int:  # type: ignore[override]
            if name == file:
                hub.refused.add(file)
            return super().pop(name, default)

    hub.breaks = Breaks(hub.breaks)
    result = vidiff("fetch", NAME, "--yes", "--quiet")
    hub.refused.clear()
    hub.breaks = {}
    return result


@pytest.mark.parametrize("file", [UNET.replace(".s", ".fp16.s"), "unet/config.json"])
def test_a_wrong_hash_is_refused_and_not_kept(hub: FakeHub, tmp_path: Path, file: str) -> None:
    right = hub.repositories["some/model"].files[file]
    hub.swapped[file] = bytes([right[0] ^ 1]) + right[1:]
    result = vidiff("fetch", NAME, "--yes", "--quiet")
    assert f"{file} came damaged" in sentence_of(result)
    assert not fetched(tmp_path / "cache")
    blobs = [path.read_bytes() for path in (tmp_path / "cache/hub/models--some--model/blobs").iterdir()]
    assert hub.swapped[file] not in blobs
    hub.swapped.clear()
    assert vidiff("fetch", NAME, "--yes").exit_code == 0
    assert fetched(tmp_path / "cache")[file] == right


def test_a_hub_that_sends_more_than_it_announced_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.swapped[UNET.replace(".s", ".fp16.s")] = b"x" * 10**6
    assert "sends more than it announced" in sentence_of(vidiff("fetch", NAME, "--yes", "--quiet"))
    hub.swapped[UNET.replace(".s", ".fp16.s")] = b"x" * 10
    assert vidiff("fetch", NAME, "--yes", "--quiet").exit_code == 1
    assert not fetched(tmp_path / "cache")


def test_a_blob_that_is_damaged_on_this_machine_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    vidiff("fetch", NAME, "--yes")
    files = fetched(tmp_path / "cache")
    link = next((tmp_path / "cache/hub").glob("*/snapshots/*/unet/*.safetensors"))
    content = link.read_bytes()
    link.resolve().write_bytes(b"0" * len(content))
    os.utime(link.resolve(), ns=(1, 1))
    result = vidiff("fetch", NAME, "--yes")
    assert result.exit_code == 0 and "damaged: it is fetched again" in result.stderr
    assert fetched(tmp_path / "cache") == files


def test_the_token_goes_to_the_hub_alone_and_is_never_printed(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["some/model"].gated = hub.redirects = True
    refused = vidiff("fetch", NAME, "--yes")
    assert "is gated" in sentence_of(refused)
    assert f"accept its licence at {hub.address}/some/model and set HF_TOKEN" in refused.stderr
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.requests.clear()
    result = vidiff("fetch", NAME, "--yes", "--verbose")
    assert result.exit_code == 0 and TOKEN not in result.stdout + result.stderr
    elsewhere = hub.asked("/cdn/")
    assert elsewhere and not any(request.token for request in elsewhere)
    assert all(request.token for request in hub.asked("/some/model/resolve") if "/cdn/" not in request.path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]


@pytest.mark.parametrize("token", ["hf_a\x01b", "hf_a\u2026b", "hf secret"])
def test_a_token_that_cannot_be_sent_is_not_printed(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    result = vidiff("fetch", NAME, "--yes", "--verbose")
    assert result.exit_code == 1 and "set HF_TOKEN anew" in result.stderr and token not in result.stderr
    assert not hub.asked("/api/models")


def test_faults_are_one_sentence_without_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "is not on the hub" in sentence_of(vidiff("fetch", "hf:some/nothing", "--yes"))
    assert "has no revision v9" in sentence_of(vidiff("fetch", f"{NAME}@v9", "--yes"))
    hub.refused.add("model_index.json")
    result = vidiff("fetch", NAME, "--yes", "--verbose")
    assert result.exit_code == 1 and "has a fault: found status 500" in result.stderr and TOKEN not in result.stderr


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        use_hub(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path)
        sentence = sentence_of(vidiff("fetch", NAME, "--yes"))
    assert "cannot be reached" in sentence and "refused" in sentence and "check the network" in sentence
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in sentence_of(vidiff("fetch", NAME, "--yes"))
    assert not (tmp_path / "hub").exists()


def test_pickles_are_refused_before_anything_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    files = hub.repositories["some/model"].files
    for name in [name for name in files if name.startswith("unet/") and name.endswith(".safetensors")]:
        del files[name]
    sentence = sentence_of(vidiff("fetch", NAME, "--yes"))
    assert "pickle only: found unet/diffusion_pytorch_model.bin" in sentence
    assert not hub.asked("safetensors") and not (tmp_path / "cache" / "hub").exists()


def test_models_that_vidiff_does_not_know_are_refused_before_they_are_fetched(hub: FakeHub) -> None:
    repository = hub.repositories["some/model"]
    index = json.loads(repository.files["model_index.json"])
    repository.files["model_index.json"] = json.dumps(index | {"unet": ["diffusers", "AnyNetwork"]}).encode()
    assert "found AnyNetwork" in sentence_of(vidiff("fetch", NAME, "--yes"))
    repository.files = {"pytorch_model.bin": b"", "config.json": b"{}"}
    assert "pickle only: found pytorch_model.bin" in sentence_of(vidiff("fetch", NAME, "--yes"))
    repository.files = {"config.json": b'{"_class_name": "Other"}'}
    assert "found Other" in sentence_of(vidiff("fetch", NAME, "--yes"))
    repository.files = {"config.json": b"[" * 10_000}
    assert "is not valid JSON" in sentence_of(vidiff("fetch", NAME, "--yes"))
    assert not hub.asked("safetensors")


OUTSIDE = "../outside.json", "/outside.json", "unet/../../../outside.json", "tokenizer/..\\outside.json", "tokenizer/."


def test_names_in_a_listing_never_lead_out_of_the_cache(hub: FakeHub, tmp_path: Path) -> None:
    repository = hub.repositories["some/model"]
    blob = {"size": 3, "blobId": "0" * 40}
    for name in OUTSIDE:
        repository.extra.append({"rfilename": name, **blob})
    repository.extra.append({"rfilename": "tokenizer/vocab.json", "size": 3, "blobId": "../../outside"})
    repository.extra.append({"rfilename": "tokenizer/merges.txt", "size": -3, "blobId": "0" * 40})
    repository.files["tokenizer/special_tokens_map.json"] = b"../../../../outside.json"  # a link, as git keeps it
    assert vidiff("fetch", NAME, "--yes").exit_code == 0
    assert not list(tmp_path.rglob("outside*"))
    files = fetched(tmp_path / "cache")
    assert files["tokenizer/special_tokens_map.json"] == b"../../../../outside.json"
    assert "tokenizer/vocab.json" not in files and "tokenizer/merges.txt" not in files
    cache = (tmp_path / "cache").resolve()
    assert all(file.resolve().is_relative_to(cache) for file in cache.rglob("*"))


@pytest.mark.parametrize(
    "name",
    ["hf:a/b@/etc/passwd", "hf:a/b@../../x", "hf:../b", "hf:a", "hf:a/b/c", "hf:a--x/b", "folder"],
)
def test_names_that_are_not_on_any_hub_are_refused(hub: FakeHub, name: str) -> None:
    assert "not a name on the hub" in vidiff("fetch", name, "--yes").stderr
    assert not hub.asked("/api/models")


def test_a_repository_without_room_on_the_disk_is_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    assert "not enough room" in sentence_of(vidiff("fetch", NAME, "--yes", "--quiet"))
    assert not hub.asked("fp16")


def test_an_image_model_with_a_motion_adapter(hub: FakeHub, tmp_path: Path, adapted: tuple[Path, Path]) -> None:
    image, adapter = adapted
    hub.add("some/image", image)
    hub.add("some/adapter", adapter)
    assert "MODEL+ADAPTER" in sentence_of(vidiff("fetch", "hf:some/image", "--yes"))
    pair = "hf:some/image+hf:some/adapter"
    sentence = sentence_of(vidiff("sample", "a cat", "-m", pair, "-o", tmp_path / "out.mp4"))
    assert f"vidiff fetch {pair}" in sentence
    report = json_of("fetch", pair, "--yes")
    assert len(report["paths"]) == 2
    result = vidiff("sample", "a cat", "-m", pair, "--steps", "2", "--num-frames", "4", "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.stderr
    model = json.loads((tmp_path / "out.json").read_text())["checkpoint"]
    assert model["path"] == pair and (model["repository"], model["adapter"]) == ("some/image", "some/adapter")
    assert [model["commit"], model["adapter_commit"]] == report["commits"]
    assert "expected a MotionAdapter" in sentence_of(vidiff("fetch", "hf:some/image+hf:some/model", "--yes"))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image model and a motion adapter that fit each other."""
    import torch

    from vidiff_cli.models.public.packages import import_package

    diffusers, folder = import_package("diffusers"), tmp_path_factory.mktemp("adapted")
    image = save_model("animatediff", folder / "image")
    shutil.rmtree(image / "unet")
    shape = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        diffusers.UNet2DConditionModel(
            sample_size=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            **shape,
        ).save_pretrained(image / "unet")
        diffusers.MotionAdapter(
            block_out_channels=(8, 16),
            motion_layers_per_block=1,
            motion_num_attention_heads=2,
            motion_norm_num_groups=4,
            motion_max_seq_length=32,
            use_motion_mid_block=True,
        ).save_pretrained(folder / "adapter")
    index = json.loads((image / "model_index.json").read_text())
    (image / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "UNet2DConditionModel"]}))
    return image, folder / "adapter"


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_a_person_is_asked(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr("vidiff_cli.cli.fetch.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    result = CliRunner().invoke(app, ["fetch", NAME, "--quiet"], input=answer)
    assert result.exit_code == code and result.stderr.index("cc-by-nc-4.0") < result.stderr.index("Fetch them?")
    assert bool(hub.asked("fp16")) == (tmp_path / "cache" / "hub").exists() == (code == 0)


def test_signals_end_the_download_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command ignores signals once its result is written, and its first task, the plan, is not the result."""
    fetched_then: list[int] = []
    monkeypatch.setattr(
        "vidiff_cli.cli.progress.ignore_caught_signals", lambda: fetched_then.append(len(hub.asked("fp16")))
    )
    assert vidiff("fetch", NAME, "--yes").exit_code == 0
    assert fetched_then == [2]


def test_two_fetches_at_once_are_refused(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "cache/hub/models--some--model"
    with alone(folder / ".vidiff-fetch.lock", folder):
        assert "wait for the other fetch" in sentence_of(vidiff("fetch", NAME, "--yes", "--quiet"))
    assert vidiff("fetch", NAME, "--yes").exit_code == 0


def test_a_repository_that_was_moved_is_found(hub: FakeHub, tmp_path: Path) -> None:
    hub.moved["old/name"] = "some/model"
    assert vidiff("fetch", "hf:old/name", "--yes").exit_code == 0
    assert fetched(tmp_path / "cache", "old--name")
    output = tmp_path / "out.mp4"
    result = vidiff("sample", "a cat", "-m", "hf:old/name", "--steps", "1", "--num-frames", "2", "-o", output)
    assert result.exit_code == 0, result.stderr


def test_large_files_are_those_with_weights() -> None:
    assert is_large(UNET) and not is_large("unet/config.json")
