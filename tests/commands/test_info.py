"""What `vidiff info` says is what is there. What it says of anything damaged: tests/hostile."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runs import config_of, newest

from vidiff_cli import __version__
from vidiff_cli.checkpoint import file_hash, write_tensors
from vidiff_cli.cli.info import ROWS
from vidiff_cli.commands.info import info
from vidiff_cli.commands.info.dataset import DatasetInfo
from vidiff_cli.commands.info.media import FolderInfo, MediaInfo, bit_depth
from vidiff_cli.commands.sample import sample
from vidiff_cli.config.model import ModelSettings, NetworkSettings, TextSettings
from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import HARDLY_TRAINED
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.runs.checkpoint_info import CheckpointInfo
from vidiff_cli.runs.run_info import RunInfo
from vidiff_cli.system.locks import folder_alone
from vidiff_cli.training.state import TrainState
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.encode import encode

SMALL = NetworkSettings(base_channels=8, head_dim=8, embedding=16, context_dim=16)


def about(path: Path) -> Any:
    return info(path)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """saved(clips_seen=..., **model settings): the folder of a fresh checkpoint."""

    def make(*, clips_seen: int = 10, errors: Any = None, **more: Any) -> Path:
        model = ModelSettings.model_validate({"network": SMALL, "frames": 4, "fps": "30000/1001"} | more)
        state = TrainState(new_video_model(model, 0), OptimizerSettings())
        state.step = 7
        state.save(tmp_path / "step-000007", clips_seen=clips_seen, errors=errors)
        return tmp_path / "step-000007"

    return make


@pytest.mark.parametrize(("weights", "name"), [("ema", "ema.safetensors"), ("raw", "model.safetensors")])
def test_a_checkpoint(saved, weights: str, name: str) -> None:
    text = TextSettings(vocabulary=(3, 5, 8))
    diffusion = {"target": "x", "weighting": "truncated", "noise": "mixed", "noise_strength": 0.25}
    path = saved(frame_strides=(1, 2), text=text, diffusion=diffusion, context_noise=0.5) / name
    found = about(path)
    video_model = new_video_model(ModelSettings(network=SMALL, frames=4, text=text), 0)
    assert isinstance(found, CheckpointInfo)
    assert found.parameters == sum(value.numel() for value in video_model.parameters())
    assert (found.path, found.bytes, found.sha256) == (path, path.stat().st_size, file_hash(path))
    assert (found.weights, found.step, found.phase, found.vidiff) == (weights, 7, "stable", __version__)
    assert (found.width, found.height, found.frames) == (16, 16, 4)
    assert found.rates == (Fraction(30000, 1001), Fraction(15000, 1001)) and found.frame_strides == (1, 2)
    assert (found.target, found.weighting) == ("x", "truncated")
    assert (found.text.kind, found.text.tokens, found.text.clip) == ("learned", 3, None)
    assert found.conditioning == ("learned", "reconstruction", "replacement")
    assert (found.noise, found.noise_strength, found.context_noise) == ("mixed", 0.25, 0.5)


def test_no_tensor_is_read(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved()
    for function in ("safetensors.torch.load_file", "vidiff_cli.checkpoint.read_tensors"):
        monkeypatch.setattr(function, lambda *_, **__: pytest.fail("tensors were loaded"))
    found = about(folder)
    assert found.parameters > 0 and found.path == folder / "ema.safetensors"


def test_what_a_model_cannot_do(saved) -> None:
    network = SMALL.model_copy(update={"context_dim": 0})
    found = about(saved(conditioning="none", network=network, text={"kind": "none"}))
    assert found.conditioning == ("reconstruction", "replacement")
    assert (found.text.kind, found.text.tokens) == ("none", None)


def test_a_clip_encoder_is_named(tmp_path: Path) -> None:
    clip = {"encoder": "ViT-B-32", "weights": "tag", "sha256": "ab" * 32, "width": 512, "pooled": 512, "context": 77}
    write_tensors(tmp_path / "a.safetensors", {}, {"model": {"text": {"kind": "clip", "clip": clip}}})
    found = about(tmp_path / "a.safetensors").text
    assert (found.kind, found.tokens, found.clip, found.sha256) == ("clip", None, "ViT-B-32:tag", "ab" * 32)


def test_hardly_trained(saved, told) -> None:
    for seen, hardly in ((HARDLY_TRAINED - 1, True), (HARDLY_TRAINED, False)):
        found, notes = told(info.events(saved(clips_seen=seen)))
        assert (found.clips_seen, found.hardly_trained, bool(found.warnings)) == (seen, hardly, hardly)
        assert [note.text for note in notes if note.level == "warning"] == list(found.warnings)


def test_a_sparse_header_is_described(tmp_path: Path) -> None:
    """One of an older vidiff, or with nonsense in places."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {}, {"model": {}, "step": "seven", "clips_seen": True, "weights": 3, "phase": None})
    found = about(path)
    assert (found.vidiff, found.step, found.clips_seen, found.weights, found.phase) == (None, None, 0, None, None)
    assert found.parameters == 0


def test_a_file_of_tensors_without_a_model(saved) -> None:
    with pytest.raises(VidiffError, match="holds no model"):
        about(saved() / "optimizer.safetensors")


def test_errors_of_a_checkpoint(saved) -> None:
    """As it has them; none for one that says nothing of them."""
    assert about(saved()).errors is None
    told = {"between": {"1": [0.02, 0.2]}, "beyond": {"2": [0.0, 0.1]}, "clips": 5, "split": "val"}
    found = about(saved(errors=told))
    assert found.errors.as_json() == told and found.network["motion"] is False
    shown = dict(ROWS["checkpoint"](found))
    assert shown["1 missing between two"] == "PSNR 40.0 dB in one pass, 20.0 dB by motion alone"
    assert shown["2 after the last"] == "PSNR infinite in one pass, 26.0 dB by motion alone"
    assert shown["measured on"] == "5 held-out clips"


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_a_finished_run(run: Path, dataset: Path) -> None:
    found = about(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert isinstance(found, RunInfo)
    assert (found.state, found.steps, found.steps_logged, found.steps_asked) == ("finished", 6, 6, 6)
    assert (found.dataset, found.preset, found.vidiff) == (str(dataset), None, __version__)
    assert found.loss == rows[-1]["loss"] and found.loss_mean == pytest.approx(np.mean([row["loss"] for row in rows]))
    assert found.seconds_left == 0 and found.seconds_per_step == rows[-1]["seconds_per_step"]
    assert [(saved.name, saved.step) for saved in found.checkpoints] == [("step-000004", 4), (newest(run).name, 6)]
    assert all(saved.bytes > 0 for saved in found.checkpoints)
    assert found.model is not None and (found.model.step, found.model.path) == (6, newest(run) / "ema.safetensors")
    assert found.bytes == sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    assert found.metrics == run / "metrics.jsonl"


def test_an_unfinished_run_and_one_that_has_just_begun(own_run: Path) -> None:
    shutil.rmtree(newest(own_run))
    (own_run / "checkpoints" / "latest").write_text("step-000004\n")
    found = about(own_run)
    assert (found.state, found.steps, found.steps_logged) == ("unfinished", 4, 6)
    assert found.seconds_left == pytest.approx(2 * found.seconds_per_step)
    shutil.rmtree(own_run / "checkpoints")
    (own_run / "metrics.jsonl").unlink()
    found = about(own_run)
    assert (found.state, found.steps, found.steps_logged, found.checkpoints) == ("unfinished", 0, 0, ())
    assert found.model is found.loss is found.loss_mean is found.seconds_per_step is found.metrics is None


@pytest.mark.skipif(os.name != "posix", reason="POSIX locks")
def test_a_run_at_work(own_run: Path) -> None:
    with folder_alone(own_run, fix="wait"):
        before = sorted(own_run.iterdir())
        assert about(own_run).state == "running"
        assert sorted(own_run.iterdir()) == before
    (own_run / ".lock").write_text("1\n")  # of a process that was killed
    assert about(own_run).state == "finished" and (own_run / ".lock").exists()


def test_what_a_run_lacks_is_a_warning(own_run: Path) -> None:
    """Its dataset, or the checkpoint that `latest` names."""
    config = config_of(own_run)
    config["train"]["dataset"] = "no/such/dataset"
    (own_run / "config.json").write_text(json.dumps(config))
    (own_run / "checkpoints" / "latest").write_text("step-000099")
    found = about(own_run)
    for warning in ("no/such/dataset is not to be found", "names none of the checkpoints"):
        assert any(warning in text for text in found.warnings)
    assert found.model is None and found.steps == 6


def test_a_dataset(dataset: Path, tmp_path: Path) -> None:
    found = about(dataset)
    assert isinstance(found, DatasetInfo)
    assert (found.width, found.height, found.frames) == (16, 16, 8)
    assert (found.sources, found.kept, found.clips, sum(found.splits.values())) == (12, 12, 12, 12)
    assert found.clips_of_rate == {"8": 12} and found.seconds_of_video == 12
    captions = {(dataset.parent / "clips" / f"clip-{number:05d}.txt").read_text().strip() for number in range(12)}
    assert found.captions == len(captions) and set(found.examples) < captions and len(found.examples) == 3
    assert (found.sources_captioned, found.sources_without_caption) == (12, 0)
    assert found.bytes == sum(path.stat().st_size for path in (dataset / "data").iterdir())
    assert (found.shards, found.rejected, found.preview, found.vidiff) == (1, {}, None, __version__)
    shutil.copytree(dataset, tmp_path / "dataset")
    with (tmp_path / "dataset" / "ledger.jsonl").open("a") as file:
        file.writelines(json.dumps({"source": "x", "kind": kind}) + "\n" for kind in ("short", "damaged", "short"))
    assert about(tmp_path / "dataset").rejected == {"short": 2, "damaged": 1}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """made("name.mp4", *ffmpeg arguments): a second of ffmpeg's moving test picture."""

    def make(name: str, *arguments: str, fps: str = "25") -> Path:
        source = ["-f", "lavfi", "-i", f"testsrc2=size=64x48:rate={fps}:duration=1"]
        code, log, _ = ffmpeg.run([*source, *arguments, ffmpeg.file_url(tmp_path / name)])
        assert code == 0, log
        return tmp_path / name

    return make


def test_a_video(made) -> None:
    path = made("a.mp4", "-pix_fmt", "yuv420p", fps="30000/1001")
    found = about(path)
    assert isinstance(found, MediaInfo)
    assert (found.kind, found.codec, found.frames, found.frames_announced) == ("video", "h264", 30, 30)
    assert found.fps == found.fps_announced == Fraction(30000, 1001) and found.rate == "constant"
    assert (found.width, found.height, found.coded_width, found.coded_height) == (64, 48, 64, 48)
    assert (found.rotation, found.bit_depth) == (0, 8) and found.square_pixels
    assert not found.alpha and not found.audio
    assert found.seconds == pytest.approx(1.001) and found.bytes == path.stat().st_size
    assert found.counted_all and found.damage is None and found.made_by is None and found.warnings == ()


def test_odd_wide_deep_sounding_upright_and_uneven(made, tmp_path: Path) -> None:
    odd = about(made("odd.mp4", "-vf", "scale=63:47", "-pix_fmt", "yuv444p"))
    assert (odd.width, odd.height) == (63, 47)
    wide = about(made("wide.mp4", "-vf", "setsar=2", "-pix_fmt", "yuv420p"))
    assert (wide.width, wide.height, wide.coded_width, wide.square_pixels) == (128, 48, 64, False)
    deep = about(made("deep.mp4", "-pix_fmt", "yuv420p10le"))
    assert (deep.pixel_format, deep.bit_depth) == ("yuv420p10le", 10)
    assert about(made("sound.mkv", "-f", "lavfi", "-i", "sine=duration=1", "-shortest")).audio
    turned = ["-display_rotation", "90", "-i", ffmpeg.file_url(tmp_path / "deep.mp4"), "-c", "copy"]
    code, log, _ = ffmpeg.run([*turned, ffmpeg.file_url(tmp_path / "upright.mp4")])
    assert code == 0, log
    upright = about(tmp_path / "upright.mp4")
    assert (upright.width, upright.height, upright.coded_width, upright.coded_height) == (48, 64, 64, 48)
    assert upright.rotation == 270 and upright.square_pixels
    uneven = about(made("vfr.mp4", "-vf", "select=not(mod(n\\,3))+not(mod(n\\,7))", "-fps_mode", "vfr"))
    assert (uneven.frames, uneven.rate) == (11, "variable")
    assert (uneven.shortest_gap_seconds, uneven.longest_gap_seconds) == (pytest.approx(0.04), pytest.approx(0.12))


def test_bit_depth() -> None:
    depths = {"yuv420p": 8, "nv12": 8, "RGBA": 8, "yuv444p12be": 12, "gbrp9le": 9, "rgb48le": 16, "rgba64be": 16}
    depths |= {"I;16": 16, "ya16le": 16, "monow": 1, "1": 1, "F": 32, "p010le": 10, "x2rgb10le": 10}
    assert {name: bit_depth(name) for name in depths} == depths


def test_a_photo(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20)).save(tmp_path / "photo.png")
    found = about(tmp_path / "photo.png")
    assert (found.kind, found.width, found.height, found.frames, found.alpha) == ("photo", 30, 20, 1, True)
    assert found.fps is found.rate is found.seconds is None


def test_a_folder_of_sources_and_one_of_frames(tmp_path: Path, clip) -> None:
    """A config.json that is not a run's is one more file."""
    folder = tmp_path / "sources"
    folder.mkdir()
    shutil.move(clip(3), folder / "a.mkv")
    for name, text in (("a.txt", "a red square"), ("broken.jpg", "no picture"), ("config.json", '{"editor": "vi"}')):
        (folder / name).write_text(text)
    for number in range(3):
        Image.new("RGB", (30, 20 + number // 2)).save(folder / f"{number}.png")
    found = about(folder)
    assert isinstance(found, FolderInfo)
    assert (found.videos, found.images, found.other_files, found.captioned, found.unreadable) == (1, 4, 2, 1, 1)
    assert found.sizes == {"30x20": 2, "30x21": 1} and not found.numbered
    encode(f"{tmp_path}/frames/", np.zeros((3, 16, 16, 3), np.uint8), Fraction(8))
    found = about(tmp_path / "frames")
    assert (found.images, found.numbered, found.sizes) == (3, True, {"16x16": 3})


def test_how_a_video_was_made(settings, run: Path) -> None:
    (path,) = sample(settings("sample", output=Path("out.mp4"), num_frames=4)).paths
    made = about(path).made_by
    assert made is not None and (made.command, made.seed, made.vidiff) == ("sample", 3, __version__)
    assert made.model_sha256 == file_hash(newest(run) / "ema.safetensors")
    assert made.repeat == "vidiff sample --from-json out.json -o again.mp4"


def test_what_info_does_not_know_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "notes.txt", "link"):
        with pytest.raises(VidiffError, match=name):
            about(tmp_path / name)


def test_the_fields_are_stable() -> None:
    """They are the keys of --json."""
    keys = {kind: [field.name for field in fields(kind)] for kind in (CheckpointInfo, DatasetInfo, RunInfo)}
    assert all(names[0] == "kind" and names[-1] == "warnings" for names in keys.values())
    assert {"parameters", "clips_seen", "sha256", "text", "conditioning", "rates"} <= set(keys[CheckpointInfo])
    assert {"state", "steps", "steps_asked", "go_on", "model", "samples", "plot"} <= set(keys[RunInfo])
    assert {"clips", "splits", "rejected", "captions", "examples", "shards"} <= set(keys[DatasetInfo])
