"""Training in the latent space of an autoencoder, and all that is done with such a run, by the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import json_of, sentence_of, vidiff
from PIL import Image
from public_models import save_model
from runs import assert_same_training, config_of, newest, rows_of

from vidiff_cli.commands.distill import distill
from vidiff_cli.commands.train import train
from vidiff_cli.config.distill import DistillSettings
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.generation.load_model import find_checkpoint, load_model
from vidiff_cli.models.public.autoencoder import open_frame_codec, resolve_autoencoder
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.runs import latents as latents_room
from vidiff_cli.runs import train_run as train_command
from vidiff_cli.training.latent_cache import LatentCache
from vidiff_cli.video.encode import encode

CPU, SIDE = torch.device("cpu"), 16
CONDITIONS = ("learned", "replacement", "reconstruction")


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A public model with a frame autoencoder, which halves each side and has 4 channels."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    return save_model("modelscope", tmp_path_factory.mktemp("public") / "modelscope")


@pytest.fixture(scope="module")
def data(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, with room for latents of its own."""
    return Path(shutil.copytree(dataset, tmp_path_factory.mktemp("data") / "dataset"))


@pytest.fixture(scope="module")
def latent_run(public: Path, data: Path, training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "latent"
    train(training(data, folder, autoencoder=str(public), validate_every=3, sample_every=6, loader={"flip": True}))
    return folder


def expected_z(data: Path, public: Path, number: int, model: ModelSettings) -> np.ndarray:
    codec = open_frame_codec(resolve_autoencoder(str(public)), CPU)
    assert model.autoencoder is not None
    z = codec.encode(clip_from_uint8(open_dataset(data).frames(number)))[0].permute(1, 2, 3, 0).numpy()
    return (z - np.array(model.autoencoder.mean)) / np.array(model.autoencoder.deviation)


def test_the_run_records_the_autoencoder_and_holds_none_of_it(latent_run: Path, public: Path, data: Path) -> None:
    folder, config = resolve_autoencoder(str(public)), config_of(latent_run)
    model = ModelSettings.model_validate(config["model"])
    assert model.autoencoder is not None and model.autoencoder.sha256 == folder.sha256
    assert (model.autoencoder.source, model.autoencoder.spatial) == (str(public), 2)
    assert (model.network.channels, model.z_size, model.multiple) == (4, (8, 8), 2 * model.network.multiple)
    assert not model.network.motion and not config["train"]["loader"]["flip"]
    names = load_model(latent_run, CPU, torch.float32).video_model.state_dict()
    assert all(name.startswith(("denoiser.", "text.")) for name in names)
    values = np.concatenate([expected_z(data, public, number, model).reshape(-1, 4) for number in range(12)])
    assert np.abs(values.mean(axis=0)).max() < 0.05 and np.abs(values.std(axis=0) - 1).max() < 0.05


def test_the_network_is_shown_standardized_latents(latent_run: Path, public: Path, data: Path, monkeypatch) -> None:
    model = ModelSettings.model_validate(config_of(latent_run)["model"])
    assert model.autoencoder is not None
    settings = TrainSettings(dataset=data, autoencoder=str(public))
    steps = latents_room.open_latents(settings, model.autoencoder, open_dataset(data), CPU, encode=False)
    with pytest.raises(StopIteration) as done:
        next(steps)
    for number in (0, 11):
        shown, wanted = done.value.value(number, range(1, 8, 2)), expected_z(data, public, number, model)[1:8:2]
        assert shown.dtype == np.float32 and np.abs(shown - wanted).max() < 5e-3


def test_a_run_is_validated_and_sampled_while_it_is_trained(latent_run: Path) -> None:
    losses = [row["validation_loss"] for row in rows_of(latent_run) if "validation_loss" in row]
    assert len(losses) == 3 and all(0.5 < loss < 2 for loss in losses)
    assert (latent_run / "samples" / "step-000006.png").is_file()


def test_its_student_works_on_the_same_latents(latent_run: Path, tmp_path: Path) -> None:
    values = {"teacher": latent_run, "output": tmp_path / "student", "steps": 2, "train_steps": 1, "batch_size": 2}
    report = distill(DistillSettings.model_validate(values | {"precision": "fp32", "sample_every": 1}))
    assert report is not None and (report.run / "samples" / "step-000001.png").is_file()
    before, after = (config_of(folder)["model"] for folder in (latent_run, report.run))
    assert after == before | {"distilled": {"steps": 2, "guidance_scale": 2.0}}


@pytest.fixture(scope="module")
def outputs(latent_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sample, extend and interpolate by the command line: folders of PNG, and given.mkv, which is lossless."""
    folder = tmp_path_factory.mktemp("outputs")
    sampling = ["-m", latent_run, "--steps", "2", "--seed", "3", "--dtype", "fp32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        commands = [("sample", "a red circle", "-o", "sample", "--num-frames", "6")]
        given = ("given.mkv", "--size", "model", "--detail", "model")
        for name in CONDITIONS:
            commands.append(("extend", *given, "--condition", name, "-o", f"extend-{name}", "--num-frames", "5"))
        commands.append(("interpolate", *given, "--factor", "2", "-o", "between"))
        for command in commands:
            result = vidiff(*command, *sampling)
            assert result.exit_code == 0, result.stderr
            if command[0] == "sample":
                encode(folder / "given.mkv", pictures(folder / "sample"), Fraction(8), lossless=True)
    return folder


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_samples_extensions_and_in_betweens(outputs: Path, public: Path) -> None:
    given = pictures(outputs / "sample")
    assert given.shape == (6, SIDE, SIDE, 3) and given.std() > 1
    for name in CONDITIONS:
        longer = pictures(outputs / f"extend-{name}")
        assert longer.shape == (11, SIDE, SIDE, 3)
        assert (longer[:6] == given).all()  # copied, never encoded and decoded
        assert (longer[6] != given[-1]).any()
    assert (pictures(outputs / "between")[:11:2] == given).all()
    record = json.loads((outputs / "sample.json").read_text())["checkpoint"]
    assert record["autoencoder"]["sha256"] == resolve_autoencoder(str(public)).sha256


def test_what_is_sampled_is_decoded_by_the_autoencoder(latent_run: Path, public: Path) -> None:
    """The codec of the model decodes what it encodes of a frame to what the autoencoder makes of it."""
    model, codec = load_model(latent_run, CPU, torch.float32), open_frame_codec(resolve_autoencoder(str(public)), CPU)
    frames = torch.rand(1, 3, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = model.codec.encode(frames)
    assert z.shape == (1, 4, 2, 8, 8) and not model.codec.is_identity
    assert torch.allclose(model.codec.decode(z), codec.decode(codec.encode(frames)), atol=1e-5)
    assert model.kept_bytes((1, 4, 4, 8, 8)) == model.kept_bytes((2, 4, 4, 8, 8)) // 2


def test_info_names_the_autoencoder(latent_run: Path) -> None:
    found = json_of("info", latent_run)
    assert found["model"]["autoencoder"]["channels"] == 4
    assert "works on" in vidiff("info", latent_run).stdout


def test_a_run_is_evaluated(latent_run: Path, data: Path) -> None:
    more = ["--side", "train", "--num-frames", "4", "--steps", "2", "-n", "4", "--no-clip", "--no-temporal"]
    result = vidiff("evaluate", latent_run, *more, "--dataset", data, "--bootstrap", "0", "--extractor", "random")
    assert result.exit_code == 0, result.stderr


def test_a_training_goes_on_bit_for_bit(latent_run: Path, public: Path, data: Path, training, signal_at, tmp_path):
    """Interrupted in the middle, and with latents that are made again: the same weights."""
    own = Path(shutil.copytree(data, tmp_path / "data"))
    asked = training(own, tmp_path / "run", autoencoder=str(public), validate_every=3, sample_every=6)
    asked = asked.model_copy(update={"loader": asked.loader.model_copy(update={"flip": True})})
    signal_at(3, asked)
    shutil.rmtree(own / "latents")
    train(asked)
    assert_same_training(tmp_path / "run", latent_run)


def test_the_same_training_from_another_place_of_the_autoencoder(
    latent_run: Path, public: Path, data: Path, training, tmp_path: Path
) -> None:
    """The folder of the autoencoder alone, elsewhere: the same weights, the same run."""
    run, alone = Path(shutil.copytree(latent_run, tmp_path / "run")), tmp_path / "alone"
    shutil.copytree(public / "vae", alone)
    settings = {"validate_every": 3, "sample_every": 6, "loader": {"flip": True}}
    report = train(training(data, run, autoencoder=str(alone), steps=8, **settings))
    assert report is not None and report.steps == 8
    assert config_of(run)["model"]["autoencoder"]["source"] == str(public)
    result = vidiff("sample", "a dog", "-m", run, "--autoencoder", alone, "--steps", "1", "-o", tmp_path / "a.mkv")
    assert result.exit_code == 0, result.stderr


def test_a_run_from_a_run_takes_its_statistics(latent_run: Path, data: Path, tmp_path: Path) -> None:
    small = [
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--sample-every",
        "0",
        "--validate-every",
        "0",
        "-o",
        tmp_path / "run",
    ]
    assert vidiff("train", data, "--from", latent_run, *small).exit_code == 0
    ours, theirs = (config_of(run)["model"]["autoencoder"] for run in (tmp_path / "run", latent_run))
    assert ours == theirs


KILLED = """
import os, signal, sys
from pathlib import Path
from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.training import latent_cache
latent_cache.SHARD_PIXELS = 1
written = latent_cache.write_tensors
def kill(path, *more):
    written(path, *more)
    if len(list(path.parent.glob("shard-*"))) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
latent_cache.write_tensors = kill
train(TrainSettings.model_validate_json(sys.argv[1]))
"""


def test_a_training_killed_while_it_encodes_goes_on(public: Path, dataset: Path, training, tmp_path: Path) -> None:
    own = Path(shutil.copytree(dataset, tmp_path / "data", ignore=shutil.ignore_patterns("latents")))
    asked = training(own, tmp_path / "run", autoencoder=str(public), steps=1)
    command = [sys.executable, "-c", KILLED, asked.model_dump_json()]
    assert subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300).returncode == -signal.SIGKILL
    folder = resolve_autoencoder(str(public))
    assert len(LatentCache(open_dataset(own), sha256=folder.sha256, codec=folder).missing(range(12))) == 7
    assert not (tmp_path / "run" / "config.json").exists()
    assert train(asked).steps == 1


def test_a_full_disk_is_one_sentence_and_no_run(public: Path, dataset: Path, training, tmp_path, monkeypatch) -> None:
    own = Path(shutil.copytree(dataset, tmp_path / "data", ignore=shutil.ignore_patterns("latents")))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vidiff_cli.system.atomic_files.os.replace", full)
        result = vidiff("train", own, "--autoencoder", public, "-o", "run", "--preset", "tiny", "--steps", "1")
    assert "no space left" in sentence_of_last(result)
    assert not Path("run", "config.json").exists()


def sentence_of_last(result) -> str:
    """The sentence of a command that has said what it did before it failed."""
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_an_autoencoder_that_is_gone_or_another_is_one_sentence(latent_run: Path, public: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(latent_run, tmp_path / "run"))
    for name in ("model", "ema"):
        path = newest(run) / f"{name}.safetensors"
        path.write_bytes(path.read_bytes().replace(str(public).encode(), b"/" + b"x" * (len(str(public)) - 1)))
    gone = sentence_of(vidiff("sample", "a dog", "-m", run, "-o", "a.mp4"))
    assert "works on latents and needs its autoencoder: found /xxx" in gone and "--autoencoder says where" in gone
    other = Path(shutil.copytree(public / "vae", tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.7}))
    message = sentence_of(vidiff("sample", "a dog", "-m", run, "--autoencoder", other, "-o", "a.mp4"))
    assert "trained on the latents of another autoencoder" in message
    assert not Path("a.mp4").exists()
    on_pixels = sentence_of(vidiff("sample", "a dog", "-m", "builtin", "--autoencoder", other), code=2)
    assert "works on pixels" in on_pixels


def no_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "AutoencoderKL"}')


def pickle_only(folder: Path) -> None:
    no_files(folder)
    (folder / "diffusion_pytorch_model.bin").touch()


def groups(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "AutoencoderKLWan"}')


def another_class(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "VQModel"}')


def not_json(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{")


def empty(folder: Path) -> None:
    folder.mkdir()


def no_description(folder: Path) -> None:
    no_files(folder)
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"")


REFUSED = {
    empty: "is not an autoencoder: found no config.json",
    groups: "compresses time",
    another_class: "is not a frame autoencoder: found VQModel",
    not_json: "not valid JSON",
    no_files: "no weights",
    pickle_only: "pickle",
    no_description: "does not describe an AutoencoderKL",
    None: "found no such folder",
}


@pytest.mark.parametrize("make", REFUSED)
def test_folders_that_are_refused(make, data: Path) -> None:
    if make is not None:
        make(Path("folder"))
    found = sentence_of(vidiff("train", data, "--autoencoder", "folder", "-o", "run", "--preset", "tiny"))
    assert REFUSED[make] in found and not Path("run").exists()


def test_damaged_weights_are_one_sentence(public: Path, data: Path) -> None:
    folder = Path(shutil.copytree(public / "vae", "cut"))
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:2000])
    result = vidiff("train", data, "--autoencoder", folder, "-o", "run", "--preset", "tiny")
    assert "cut cannot be opened as AutoencoderKL" in sentence_of_last(result)


@pytest.mark.parametrize(
    ("more", "code", "found"),
    [
        (("--flow-loss", "0.1"), 2, "--flow-loss needs pixels"),
        (("--set", "loader.crop=8"), 2, "loader.crop needs pixels"),
        (("--set", "network.channel_mult=[1,2,2,2]"), 1, "multiples of 32"),
    ],
)
def test_settings_that_need_pixels_are_refused(more, code: int, found: str, public: Path, data: Path) -> None:
    result = vidiff("train", data, "--autoencoder", public, "-o", "run", "--preset", "tiny", "--text", "none", *more)
    assert result.exit_code == code and found in result.stderr.splitlines()[-1], result.stderr


def test_a_name_that_was_not_fetched_and_a_world_are_refused(public: Path, data: Path, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    message = sentence_of(vidiff("train", data, "--autoencoder", "hf:a/b", "-o", "run", "--preset", "tiny"))
    assert "vidiff fetch hf:a/b" in message
    message = sentence_of(vidiff("train", "world:shapes", "--autoencoder", public, "-o", "run"))
    assert "vidiff world" in message


def test_a_snapshot_of_the_hub_is_pinned(public: Path, data: Path, training, monkeypatch, tmp_path: Path) -> None:
    """The commit is recorded, and sampling takes that commit after the branch has moved on."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository, old, new = tmp_path / "hub" / "models--a--b", "a" * 40, "b" * 40
    shutil.copytree(public / "vae", repository / "snapshots" / old)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(old)
    train(training(data, tmp_path / "run", autoencoder="hf:a/b", steps=1))
    recorded = config_of(tmp_path / "run")["model"]["autoencoder"]
    assert (recorded["source"], recorded["commit"]) == ("hf:a/b", old)
    (repository / "refs" / "main").write_text(new)
    shutil.copytree(public / "text_encoder", repository / "snapshots" / new)
    assert load_model(tmp_path / "run", CPU, torch.float32).codec.channels == 4


def test_an_estimate_writes_nothing(public: Path, dataset: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(dataset, tmp_path / "data", ignore=shutil.ignore_patterns("latents")))
    more = ["--preset", "tiny", "--batch-size", "2", "--text", "none", "--frames", "4"]
    found = json_of("train", own, "--autoencoder", public, "--estimate", *more)
    assert found["seconds_per_step"] > 0 and not (own / "latents").exists()


def test_the_preset_for_latents_is_the_one_that_is_chosen(public: Path, data: Path) -> None:
    from vidiff_cli.runs.setup import default_preset

    assert default_preset(TrainSettings(dataset=data, autoencoder=str(public))) == "latent"
    chosen = TrainSettings.model_validate(preset("latent"))
    assert chosen.network.multiple * 8 <= 32  # 256 pixels a side, by an autoencoder that has an eighth of it


def test_a_run_of_pixels_is_not_continued_on_latents(run: Path, public: Path, dataset: Path, training) -> None:
    own = Path(shutil.copytree(run, "run"))
    with pytest.raises(train_command.VidiffError, match="trained with another autoencoder"):
        train(training(dataset, own, autoencoder=str(public)))
    assert find_checkpoint(own)
