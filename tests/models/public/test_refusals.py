"""Folders that cannot be used: one sentence, no socket, nothing executed, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import sentence_of, vidiff
from safetensors.torch import load_file, save_file

from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.models.codec import z_shape


class Evil:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def weights(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def without_a_tensor(part: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = weights(folder, part)
        tensors = load_file(path)
        del tensors[sorted(tensors)[1]]
        save_file(tensors, path, {"format": "pt"})

    return damage


def cut(folder: Path) -> None:
    path = weights(folder, "unet")
    path.write_bytes(path.read_bytes()[:-100])


def other_shape(folder: Path) -> None:
    path = weights(folder, "unet")
    tensors = load_file(path)
    name = next(name for name in tensors if tensors[name].ndim == 2)
    save_file(tensors | {name: tensors[name][1:].contiguous()}, path)


def pickled(folder: Path) -> None:
    path = weights(folder, "unet")
    path.unlink()
    path.with_suffix(".bin").write_bytes(pickle.dumps(Evil()))


def shards(names: Callable[[Path], str]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = weights(folder, "unet")
        tensors = load_file(path)
        path.rename(folder / "x.safetensors")
        path.with_name("diffusion_pytorch_model-00001-of-00002.safetensors").write_bytes(b"")
        index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, names(folder))}
        path.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))

    return damage


def linked_to_nothing(folder: Path) -> None:
    path = weights(folder, "unet")
    path.unlink()
    path.symlink_to(folder / "nothing")


def remote_code(part: str, file: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        change(folder / part / file, auto_map={"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]})
        (folder / part / "evil.py").write_text("import os\nos.mkdir('executed')\nclass Evil: pass\n")

    return damage


def scheduler(**entries: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "scheduler" / "scheduler_config.json", **entries)


def part(name: str, **entries: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / name / "config.json", **entries)


def index(**entries: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "model_index.json", **entries)


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle alone": (pickled, "has weights as a pickle only"),
    "no weights": (lambda folder: weights(folder, "unet").unlink(), "has no weights"),
    "no network": (lambda folder: shutil.rmtree(folder / "unet"), "unet does not exist"),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer does not exist"),
    "no scheduler": (lambda folder: shutil.rmtree(folder / "scheduler"), "scheduler_config.json does not exist"),
    "no autoencoder named": (index(vae=[None, None]), "vae is not of a class that ModelScope models have"),
    "unknown network": (index(unet=["diffusers", "UNetSpatioTemporalConditionModel"]), "not a video model that vidiff"),
    "a library of its own": (index(unet=["evil", "UNet3DConditionModel"]), "not a video model that vidiff knows"),
    "a pipeline's own class": (index(unet=["pipeline.py", "UNet3DConditionModel"]), "not a video model that vidiff"),
    "two networks": (index(unet_2=["diffusers", "UNet3DConditionModel"]), "parts that vidiff does not use"),
    "another class inside": (part("unet", _class_name="UNet2DConditionModel"), "another class than model_index.json"),
    "code of the network": (remote_code("unet", "config.json"), "asks for code of its own"),
    "code of the encoder": (remote_code("text_encoder", "config.json"), "asks for code of its own"),
    "code of the tokenizer": (remote_code("tokenizer", "tokenizer_config.json"), "asks for code of its own"),
    "index outside": (shards(lambda folder: "../x.safetensors"), "names a file outside the folder"),
    "index with a path": (shards(lambda folder: str(folder / "x.safetensors")), "names a file outside the folder"),
    "index of an absent file": (shards(lambda folder: "x.safetensors"), "x.safetensors does not exist"),
    "a link to nothing": (linked_to_nothing, "found a link to nothing"),
    "half a file": (cut, "cannot be opened as UNet3DConditionModel"),
    "another shape": (other_shape, "cannot be opened as UNet3DConditionModel"),
    "an empty file": (lambda folder: weights(folder, "vae").write_bytes(b""), "cannot be opened as AutoencoderKL"),
    "a missing tensor": (without_a_tensor("unet"), "lacks weights of its UNet3DConditionModel"),
    "a missing tensor of the encoder": (without_a_tensor("text_encoder"), "lacks weights of its CLIPTextModel"),
    "damaged JSON": (lambda folder: (folder / "unet" / "config.json").write_text("{"), "is not valid JSON"),
    "recursive JSON": (lambda folder: (folder / "vae" / "config.json").write_text('{"a":' * 100_000), "not valid JSON"),
    "huge JSON": (lambda folder: (folder / "model_index.json").write_text(" " * 17 * 2**20), "too large"),
    "a list": (lambda folder: (folder / "model_index.json").write_text("[]"), "does not hold an object"),
    "damaged tokenizer": (
        lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text("{"),
        "cannot be opened as",
    ),
    "settings of another type": (part("unet", layers_per_block="many"), "cannot be opened as"),
    "more channels": (part("unet", in_channels=9), "is of another kind: found 9 in_channels"),
    "more inputs": (part("unet", time_cond_proj_dim=16), "inputs that vidiff lacks: found time_cond_proj_dim"),
    "no scale": (part("vae", scaling_factor=0), "does not say how its values are scaled"),
    "an unknown schedule": (scheduler(beta_schedule="weird"), "noise process that vidiff knows"),
    "betas above 1": (scheduler(beta_end=7), "noise process that vidiff knows"),
    "an unknown spacing": (scheduler(timestep_spacing="weird"), "noise process that vidiff knows"),
    "endless timesteps": (scheduler(num_train_timesteps=10**12), "noise process that vidiff knows"),
    "an unknown prediction": (scheduler(prediction_type="weird"), "predicts something unknown"),
}


@pytest.fixture
def own(folder_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(folder_of("modelscope"), tmp_path / "model")


@pytest.mark.parametrize(("damage", "words"), CASES.values(), ids=CASES)
def test_an_unusable_folder(damage, words: str, own: Path, tmp_path: Path, no_network) -> None:
    damage(own)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    sentence = sentence_of(vidiff("sample", "a cat", "-m", own, "--steps", 1, "--num-frames", 2, "--seed", 1))
    assert words in sentence
    assert no_network == [] and {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before


def test_what_stands_beside_does_no_harm(own: Path, no_network) -> None:
    """A pickle beside safetensors is never opened; weights may be a link, in shards or of a variant."""
    path = weights(own, "unet")
    path.with_suffix(".bin").write_bytes(pickle.dumps(Evil()))
    path.rename(own / "blob")
    path.symlink_to(own / "blob")
    path = weights(own, "vae")
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    path = weights(own, "text_encoder")
    shard = path.with_name("model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(path), shard.name)}
    path.rename(shard).with_name("model.safetensors.index.json").write_text(json.dumps(index))
    result = vidiff("sample", "a cat", "-m", own, "--steps", 1, "--num-frames", 2, "-o", "out.mp4", "--seed", 1)
    assert result.exit_code == 0, result.stderr
    assert no_network == [] and not Path("executed").exists() and Path("out.mp4").is_file()


def test_a_repository_that_is_not_here(no_network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "not on this machine; fetch it with vidiff fetch hf:nobody/nothing" in sentence_of(
        vidiff("sample", "a cat", "-m", "hf:nobody/nothing")
    )
    assert no_network == []


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_without_the_packages(own: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    sentence = sentence_of(vidiff("sample", "a cat", "-m", own))
    assert f"found {package} is not installed; pip install 'vidiff-cli[public]'" in sentence


def test_help_imports_no_library_of_public_models() -> None:
    script = (
        "import sys; sys.argv = ['vidiff', '--help']\n"
        "from vidiff_cli.cli.app import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "import vidiff_cli.generation.load_model\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "found = names & {'diffusers', 'transformers', 'peft', 'huggingface_hub'}\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_options_that_such_a_model_cannot_take(folder_of, own: Path) -> None:
    for arguments, words in (
        (("--threshold", "0.9"), "values without a range"),
        (("--condition", "learned"), "not trained on observed frames"),
        (("--context-noise", "0.1"), "--context-noise is for"),
        (("--steps", "1001"), "more steps than the model has timesteps"),
        (("--clip-model", "x"), "has its own text encoder"),
        (("--model-size", "31x32"), "multiples of 4"),
    ):
        assert words in sentence_of(
            vidiff("sample", "a cat", "-m", own, *arguments), 2 if "clip" in arguments[0] else 1
        )
    for arguments, words in (
        (("--model-size", "32x32", "--model-frames", "6"), "makes frames in groups"),
        (("--model-size", "32x32", "--model-frames", "129"), "at most 125 frames"),
        (("--model-size", "320x32", "--model-frames", "5"), "256 pixels a side"),
    ):
        assert words in sentence_of(vidiff("sample", "a cat", "-m", folder_of("wan"), *arguments))
    assert "at most 32" in sentence_of(vidiff("sample", "-m", folder_of("animatediff"), "--model-frames", "33"))


def test_estimates_are_not_bounded_and_the_grid_is_the_models(model_of) -> None:
    """The thresholding of pixels and the default grid are for pixels."""
    model = model_of("modelscope")
    with pytest.raises(VidiffError, match="has its own grid of levels: found --shift -1"):
        resolve_sampling(model, SampleSettings(shift=-1))
    setup = resolve_sampling(model, SampleSettings(sampler="ddim", steps=4))
    seen = list[float]()

    def denoise(z: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        seen.append(float(level[0, 0]))
        return torch.full_like(z, 3.0)

    z = setup.sample(denoise, torch.randn(z_shape(model.codec, 1, 2, 16, 16)), lambda like, _: torch.randn_like(like))
    assert bool((z == 3).all()) and seen == model.levels(4)[:-1].tolist()
