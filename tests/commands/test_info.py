"""What `vidiff info` says is what is there; of anything damaged it says one sentence."""

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

from vidiff_cli import __version__
from vidiff_cli.checkpoint import file_hash, write_tensors
from vidiff_cli.cli.info import ROWS
from vidiff_cli.commands.info import info
from vidiff_cli.commands.info.checkpoint import CheckpointInfo
from vidiff_cli.commands.info.dataset import DatasetInfo
from vidiff_cli.commands.info.media import FolderInfo, MediaInfo, bit_depth
from vidiff_cli.commands.info.run import RunInfo
from vidiff_cli.commands.sample import sample
from vidiff_cli.config.model import ModelSettings, NetworkSettings, TextSettings
from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import HARDLY_TRAINED
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.system.locks import folder_alone
from vidiff_cli.training.state import TrainState
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.encode import encode

SMALL = NetworkSettings(base_channels=8, head_dim=8, embedding=16, context_dim=16)
RESULT = Path("checkpoints") / "step-000006-of-000006"


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


def about(path: Path) -> Any:
    return info(path)


# --- checkpoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_checkpoint(saved: Callable[..., Path], weights: str) -> None:
    text = TextSettings(vocabulary=(3, 5, 8))
    folder = saved(frame_strides=(1, 2), text=text, diffusion={"target": "x", "weighting": "truncated"})
    path = folder / {"ema": "ema.safetensors", "raw": "model.safetensors"}[weights]
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
    assert (found.noise, found.noise_strength, found.context_noise) == ("independent", 0.0, 0.0)


def test_a_checkpoint_says_what_noise_it_was_trained_with(saved: Callable[..., Path]) -> None:
    found = about(saved(diffusion={"noise": "mixed", "noise_strength": 0.25}, context_noise=0.5))
    assert (found.noise, found.noise_strength, found.context_noise) == ("mixed", 0.25, 0.5)


def test_no_tensor_is_read(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("tensors were loaded")

    folder = saved()
    monkeypatch.setattr("safetensors.torch.load_file", refused)
    monkeypatch.setattr("vidiff_cli.checkpoint.read_tensors", refused)
    found = about(folder)
    assert found.parameters > 0 and found.path == folder / "ema.safetensors"


def test_what_a_model_cannot_do(saved: Callable[..., Path]) -> None:
    network = SMALL.model_copy(update={"context_dim": 0})
    found = about(saved(conditioning="none", network=network, text={"kind": "none"}))
    assert found.conditioning == ("reconstruction", "replacement")
    assert (found.text.kind, found.text.tokens) == ("none", None)


def test_a_clip_encoder_is_named(tmp_path: Path) -> None:
    clip = {"encoder": "ViT-B-32", "weights": "tag", "sha256": "ab" * 32, "width": 512, "pooled": 512, "context": 77}
    write_tensors(tmp_path / "a.safetensors", {}, {"model": {"text": {"kind": "clip", "clip": clip}}})
    found = about(tmp_path / "a.safetensors").text
    assert (found.kind, found.tokens, found.clip, found.sha256) == ("clip", None, "ViT-B-32:tag", "ab" * 32)


def test_hardly_trained(saved: Callable[..., Path], told: Callable) -> None:
    for seen, hardly in ((HARDLY_TRAINED - 1, True), (HARDLY_TRAINED, False)):
        found, notes = told(info.events(saved(clips_seen=seen)))
        assert (found.clips_seen, found.hardly_trained) == (seen, hardly)
        assert [note.text for note in notes if note.level == "warning"] == list(found.warnings)
        assert bool(found.warnings) == hardly


def test_a_file_of_tensors_without_a_model(saved: Callable[..., Path], tmp_path: Path) -> None:
    folder = saved()
    with pytest.raises(VidiffError, match="holds no model"):
        about(folder / "optimizer.safetensors")
    write_tensors(tmp_path / "odd.safetensors", {}, {"model": {"width": "wide"}})
    with pytest.raises(VidiffError, match="settings that this vidiff does not know"):
        about(tmp_path / "odd.safetensors")


def test_a_sparse_header_is_described(tmp_path: Path) -> None:
    """One of an older vidiff, or with nonsense in places."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {}, {"model": {}, "step": "seven", "clips_seen": True, "weights": 3, "phase": None})
    found = about(path)
    assert (found.vidiff, found.step, found.clips_seen, found.weights, found.phase) == (None, None, 0, None, None)
    assert found.parameters == 0


def test_errors_of_a_checkpoint(saved: Callable[..., Path]) -> None:
    """As it has them; none for one that says nothing of them; damaged ones are no description."""
    assert about(saved()).errors is None
    told = {"between": {"1": [0.02, 0.2]}, "beyond": {"2": [0.0, 0.1]}, "clips": 5, "split": "val"}
    found = about(saved(errors=told))
    assert found.errors.as_json() == told and found.network["motion"] is False
    shown = dict(ROWS["checkpoint"](found))
    assert shown["1 missing between two"] == "PSNR 40.0 dB in one pass, 20.0 dB by motion alone"
    assert shown["2 after the last"] == "PSNR infinite in one pass, 26.0 dB by motion alone"
    assert shown["measured on"] == "5 held-out clips"
    with pytest.raises(VidiffError, match="damaged: found errors = 7"):
        about(saved(errors=7))


# --- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run(own_run: Path, dataset: Path) -> None:
    found = about(own_run)
    rows = [json.loads(line) for line in (own_run / "metrics.jsonl").read_text().splitlines()]
    assert isinstance(found, RunInfo)
    assert (found.state, found.steps, found.steps_logged, found.steps_asked) == ("finished", 6, 6, 6)
    assert (found.dataset, found.preset, found.vidiff) == (str(dataset), None, __version__)
    assert found.loss == rows[-1]["loss"] and found.loss_mean == pytest.approx(np.mean([row["loss"] for row in rows]))
    assert found.seconds_left == 0 and found.seconds_per_step == rows[-1]["seconds_per_step"]
    assert [saved.name for saved in found.checkpoints][-1] == RESULT.name
    assert {saved.step for saved in found.checkpoints} == {4, 6}
    assert all(saved.bytes > 0 for saved in found.checkpoints)
    assert (
        found.model is not None and found.model.step == 6 and found.model.path == own_run / RESULT / "ema.safetensors"
    )
    assert found.bytes == sum(file.stat().st_size for file in own_run.rglob("*") if file.is_file())
    assert found.metrics == own_run / "metrics.jsonl"


def test_an_unfinished_run(own_run: Path) -> None:
    shutil.rmtree(own_run / RESULT)
    (own_run / "checkpoints" / "latest").write_text("step-000004\n")
    found = about(own_run)
    assert (found.state, found.steps, found.steps_logged) == ("unfinished", 4, 6)
    assert found.seconds_left == pytest.approx(2 * found.seconds_per_step)


def test_a_run_that_has_just_begun(own_run: Path) -> None:
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


def test_a_run_elsewhere_is_told_with_a_warning(own_run: Path) -> None:
    config = json.loads((own_run / "config.json").read_text())
    config["train"]["dataset"] = "no/such/dataset"
    (own_run / "config.json").write_text(json.dumps(config))
    assert any("no/such/dataset is not to be found" in text for text in about(own_run).warnings)


@pytest.mark.parametrize("content", ["", "step-000099", "../../../elsewhere", "."])
def test_a_wrong_pointer_is_a_warning(own_run: Path, content: str) -> None:
    (own_run / "checkpoints" / "latest").write_text(content)
    found = about(own_run)
    assert found.model is None and found.steps == 6 and "names none of the checkpoints" in found.warnings[0]


@pytest.mark.parametrize("content", [b"{", b"\xff\xff", b'{"train": 3, "model": 4}', b'{"train": {"lr": 1}}'])
def test_a_damaged_config(own_run: Path, content: bytes) -> None:
    (own_run / "config.json").write_bytes(content)
    with pytest.raises(VidiffError, match=r"config\.json"):
        about(own_run)


# --- datasets ----------------------------------------------------------------------------------------------------


def test_a_dataset(dataset: Path) -> None:
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


def test_rejected_sources(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "dataset")
    ledger = tmp_path / "dataset" / "ledger.jsonl"
    with ledger.open("a") as file:
        for kind in ("too short", "damaged", "too short"):
            file.write(json.dumps({"source": "x", "kind": kind}) + "\n")
    assert about(tmp_path / "dataset").rejected == {"too short": 2, "damaged": 1}
    for content in ("nonsense", "[1]\n"):
        ledger.write_text(content)
        found = about(tmp_path / "dataset")
        assert found.rejected == {} and "Why sources were rejected" in found.warnings[0]


# --- videos, photos, folders -------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """made("name.mp4", *ffmpeg arguments): a second of ffmpeg's moving test picture."""

    def make(name: str, *arguments: str, size: str = "64x48", fps: str = "25") -> Path:
        source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={fps}:duration=1"]
        code, log, _ = ffmpeg.run([*source, *arguments, ffmpeg.file_url(tmp_path / name)])
        assert code == 0, log
        return tmp_path / name

    return make


def test_a_video(made: Callable[..., Path]) -> None:
    path = made("a.mp4", "-pix_fmt", "yuv420p", fps="30000/1001")
    found = about(path)
    assert isinstance(found, MediaInfo)
    assert (found.kind, found.codec, found.frames, found.frames_announced) == ("video", "h264", 30, 30)
    assert found.fps == found.fps_announced == Fraction(30000, 1001) and found.rate == "constant"
    assert (found.width, found.height, found.coded_width, found.coded_height) == (64, 48, 64, 48)
    assert (found.rotation, found.square_pixels, found.bit_depth, found.alpha, found.audio) == (
        0,
        True,
        8,
        False,
        False,
    )
    assert found.seconds == pytest.approx(1.001) and found.bytes == path.stat().st_size
    assert found.counted_all and found.damage is None and found.made_by is None and found.warnings == ()


def test_an_upright_video(made: Callable[..., Path], tmp_path: Path) -> None:
    made("lying.mp4", "-pix_fmt", "yuv420p")
    turned = ["-display_rotation", "90", "-i", ffmpeg.file_url(tmp_path / "lying.mp4"), "-c", "copy"]
    code, log, _ = ffmpeg.run([*turned, ffmpeg.file_url(tmp_path / "upright.mp4")])
    assert code == 0, log
    found = about(tmp_path / "upright.mp4")
    assert (found.width, found.height, found.coded_width, found.coded_height) == (48, 64, 64, 48)
    assert found.rotation == 270 and found.square_pixels


def test_odd_wide_deep_and_sounding(made: Callable[..., Path]) -> None:
    odd = about(made("odd.mp4", "-vf", "scale=63:47", "-pix_fmt", "yuv444p"))
    assert (odd.width, odd.height) == (63, 47)
    wide = about(made("wide.mp4", "-vf", "setsar=2", "-pix_fmt", "yuv420p"))
    assert (wide.width, wide.height, wide.coded_width, wide.square_pixels) == (128, 48, 64, False)
    deep = about(made("deep.mp4", "-pix_fmt", "yuv420p10le"))
    assert (deep.pixel_format, deep.bit_depth) == ("yuv420p10le", 10)
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-shortest"]
    assert about(made("sound.mkv", *sound)).audio


def test_a_variable_rate(made: Callable[..., Path]) -> None:
    found = about(made("vfr.mp4", "-vf", "select=not(mod(n\\,3))+not(mod(n\\,7))", "-fps_mode", "vfr"))
    assert (found.frames, found.rate) == (11, "variable")
    assert (found.shortest_gap_seconds, found.longest_gap_seconds) == (pytest.approx(0.04), pytest.approx(0.12))


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        *[("yuv420p", 8), ("nv12", 8), ("RGBA", 8), ("yuv444p12be", 12), ("gbrp9le", 9), ("rgb48le", 16)],
        *[("rgba64be", 16), ("I;16", 16), ("ya16le", 16), ("monow", 1), ("1", 1), ("F", 32), ("p010le", 10)],
        ("x2rgb10le", 10),
    ],
)
def test_bit_depth(name: str, bits: int) -> None:
    assert bit_depth(name) == bits


def test_a_photo(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20)).save(tmp_path / "photo.png")
    found = about(tmp_path / "photo.png")
    assert (found.kind, found.width, found.height, found.frames, found.alpha) == ("photo", 30, 20, 1, True)
    assert found.fps is found.rate is found.seconds is None


def test_a_folder_of_sources(tmp_path: Path, clip: Callable[..., Path]) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    shutil.move(clip(3), folder / "a.mkv")
    (folder / "a.txt").write_text("a red square")
    for number in range(3):
        Image.new("RGB", (30, 20 + number // 2)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_text("no picture")
    found = about(folder)
    assert isinstance(found, FolderInfo)
    assert (found.videos, found.images, found.other_files, found.captioned, found.unreadable) == (1, 4, 1, 1, 1)
    assert found.sizes == {"30x20": 2, "30x21": 1} and not found.numbered


def test_a_folder_of_frames(tmp_path: Path) -> None:
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    encode(f"{tmp_path}/frames/", frames, Fraction(8))
    found = about(tmp_path / "frames")
    assert (found.images, found.numbered, found.sizes) == (3, True, {"16x16": 3})


def test_how_a_video_was_made(settings: Callable[..., Any], run: Path) -> None:
    (path,) = sample(settings("sample", output=Path("out.mp4"), num_frames=4)).paths
    made = about(path).made_by
    assert made is not None and (made.command, made.seed, made.vidiff) == ("sample", 3, __version__)
    assert made.model_sha256 == file_hash(run / RESULT / "ema.safetensors")
    assert made.repeat == "vidiff sample --from-json out.json -o again.mp4"


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "[" * 100_000,
        '{"command": "sample; rm -r", "settings": {}, "checkpoint": {}, "versions": {}, "seed": 1}',
        '{"command": "sample", "settings": {}, "checkpoint": 7, "versions": {}, "seed": 1}',
    ],
    ids=range(4),
)
def test_another_json_beside_a_video(clip: Callable[..., Path], content: str) -> None:
    path = clip(2)
    path.with_suffix(".json").write_text(content)
    assert about(path).made_by is None


# --- everything --------------------------------------------------------------------------------------------------


def test_nothing_that_info_knows(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "nothing").touch()
    for name in ("empty", "notes.txt", "noise", "missing", "link", "nothing"):
        with pytest.raises(VidiffError, match=name):
            about(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VidiffError, match="not a regular file"):
        about(tmp_path / "pipe")


def test_a_folder_with_somebody_elses_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"editor": "vi"}')
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert about(tmp_path).kind == "folder"


def test_the_fields_are_stable() -> None:
    """They are the keys of --json."""
    keys = {kind: [field.name for field in fields(kind)] for kind in (CheckpointInfo, DatasetInfo, RunInfo)}
    assert all(names[0] == "kind" and names[-1] == "warnings" for names in keys.values())
    assert {"parameters", "clips_seen", "sha256", "text", "conditioning", "rates"} <= set(keys[CheckpointInfo])
    assert {"state", "steps", "steps_asked", "go_on", "model", "samples", "plot"} <= set(keys[RunInfo])
    assert {"clips", "splits", "rejected", "captions", "examples", "shards"} <= set(keys[DatasetInfo])
