"""`vidiff evaluate` from files, datasets and a run: what is compared, what is refused, and what is written."""

from __future__ import annotations

import json
import math
import resource
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vidiff_cli.commands.evaluate import EvaluateReport, evaluate, table_rows
from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.evaluation import report
from vidiff_cli.evaluation.report import Result
from vidiff_cli.evaluation.video_sets import VideoSet, dataset_set
from vidiff_cli.metrics.extractors import random_extractor
from vidiff_cli.metrics.fidelity import psnr, ssim
from vidiff_cli.video.encode import encode

CPU = torch.device("cpu")
COUNT = 5  # of videos on each side


def video(frames: int = 4, side: int = 16, *, seed: int = 0) -> np.ndarray:
    """Smooth blobs that drift over gray."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    center, speed, color = rng.uniform(4, side - 4, 2), rng.normal(0, 0.8, 2), rng.uniform(40, 200, 3)
    places = center + np.arange(frames)[:, None] * speed
    blobs = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 12)[..., None] * color + 40 for px, py in places]
    return np.stack(blobs).astype(np.uint8)


def folder_of(
    folder: Path, videos: Sequence[np.ndarray], *, names: str = "clip-{:02}.mkv", fps: Fraction = Fraction(8)
) -> Path:
    """A lossless file for each video."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frames in enumerate(videos):
        path = folder / names.format(number)
        encode(path, frames, fps, lossless=path.suffix == ".mkv")
    return folder


def settings_for(real: Path, generated: Path | None = None, **more: Any) -> EvaluateSettings:
    values = {"real": real, "generated": generated, "extractors": ("random",), "bootstrap": 5, "clip": False}
    return EvaluateSettings.model_validate(values | more)


def result(report: EvaluateReport, name: str) -> Result:
    return next(each for each in report.results if each.name.startswith(name))


def brighter(number: int) -> np.ndarray:
    """The generated video of a number."""
    return np.clip(video(seed=20 + number).astype(int) + 20, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    folder_of(folder / "real", [video(seed=number) for number in range(COUNT)])
    folder_of(folder / "made", [brighter(number) for number in range(COUNT)], names="sample_{}.mkv")
    return folder


@pytest.fixture
def sets(made_once: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Five videos, and five others of other names."""
    shutil.copytree(made_once, tmp_path / "sets")
    return tmp_path / "sets" / "real", tmp_path / "sets" / "made"


@pytest.fixture(autouse=True)
def no_plot(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else here."""
    if request.node.name != "test_the_table_has_a_row_for_each_number_and_the_page_its_protocol":
        monkeypatch.setattr(report, "plot_evaluation", lambda rows, by_frame, path, title: path)


def test_equal_sets_have_no_distance_and_infinite_psnr(sets: tuple[Path, Path], tmp_path: Path) -> None:
    """Of files, and of the same frames as folders of pictures."""
    for number in range(COUNT):
        (tmp_path / "pictures" / f"clip-{number:02}").mkdir(parents=True)
        for place, frame in enumerate(video(seed=number)):
            Image.fromarray(frame).save(tmp_path / "pictures" / f"clip-{number:02}" / f"{place:05}.png")
    report = evaluate(settings_for(sets[0], tmp_path / "pictures"))
    assert report.protocol["paired"] and report.protocol["equal_frames"] == 4 * COUNT
    sides = report.protocol["real"], report.protocol["generated"]
    assert sides[0]["pixels_sha256"] == sides[1]["pixels_sha256"] and sides[0]["lossy"] == []
    assert sides[1]["codecs"] == {"numbered pictures": COUNT}
    assert result(report, "Frechet").generated.value == pytest.approx(0, abs=1e-9)
    assert result(report, "PSNR").generated.value == math.inf and result(report, "SSIM").generated.value == 1.0
    for name in ("warping error", "motion", "flicker", "color drift"):
        both = result(report, name)
        assert both.real is not None and both.generated == both.real
    written = json.loads(report.json.read_text())
    assert next(each for each in written["results"] if each["name"] == "PSNR")["generated"]["value"] is None
    assert "infinite" in report.table.read_text()


def test_the_distance_is_that_of_the_features_of_the_frames(sets: tuple[Path, Path]) -> None:
    """Files to numbers, by another way: features of the arrays, numpy's covariances, eigenvalues of the product."""
    report = evaluate(settings_for(*sets))
    extractor = random_extractor(CPU)
    real = np.stack([extractor(video(seed=number)) for number in range(COUNT)]).astype(np.float64)
    made = np.stack([extractor(brighter(number)) for number in range(COUNT)]).astype(np.float64)
    product = np.cov(real.T) @ np.cov(made.T)
    shared = np.sqrt(np.maximum(np.linalg.eigvals(product).real, 0))
    wanted = np.square(real.mean(0) - made.mean(0)).sum() + np.trace(np.cov(real.T)) + np.trace(np.cov(made.T))
    found = result(report, "Frechet").generated
    assert found.value == pytest.approx(wanted - 2 * shared[shared > 1e-6].sum(), rel=1e-4)
    assert found.low is not None and found.value is not None and found.high is not None
    assert found.low <= found.value <= found.high
    assert not report.protocol["paired"] and "PSNR" not in {each.name for each in report.results}
    assert any("too high" in text for text in report.warnings) and any("full rank" in text for text in report.warnings)


def test_pairs_by_name_leave_the_given_frames_out(tmp_path: Path) -> None:
    truth = [video(6, seed=number) for number in range(3)]
    made = [np.concatenate([frames[:2], np.minimum(frames[2:], 245) + 10]) for frames in truth]
    real, generated = folder_of(tmp_path / "real", truth), folder_of(tmp_path / "made", made)
    report = evaluate(settings_for(real, generated, given="2"))
    changed = [(np.minimum(each[2:], 245) + 10, each[2:]) for each in truth]
    by_frame = np.mean([psnr(*pair) for pair in changed], axis=0)
    assert result(report, "PSNR").generated.value == pytest.approx(by_frame.mean())
    assert result(report, "SSIM").generated.value == pytest.approx(np.mean([ssim(*pair).mean() for pair in changed]))
    assert report.by_frame["PSNR"][:2] == (None, None)
    assert report.by_frame["PSNR"][2:] == pytest.approx(by_frame.tolist())
    assert result(report, "seam jump").generated.videos == 3
    ranges = evaluate(settings_for(real, generated, given="0-1", output=tmp_path / "again"))
    assert ranges.results == report.results and ranges.protocol["given_frames"] == [0, 1]
    whole = evaluate(settings_for(real, generated, output=tmp_path / "whole"))
    assert result(whole, "PSNR").generated.value == math.inf  # its given frames are equal
    for given, sentence in (("6", "all frames were given"), ("0-8", "frames that do not exist: found frame 8")):
        with pytest.raises(VidiffError, match=sentence):
            evaluate(settings_for(real, generated, given=given, output=tmp_path / "none"))


def test_sidecars_tell_the_given_frames(tmp_path: Path) -> None:
    truth = [video(6, seed=number) for number in range(2)]
    real, generated = folder_of(tmp_path / "real", truth), folder_of(tmp_path / "made", truth)
    for number in range(2):
        sidecar = {"command": "extend", "settings": {"before": True, "prompt": ["a blob"]}, "given": 4, "made": 2}
        (generated / f"clip-{number:02}.json").write_text(json.dumps(sidecar))
    assert evaluate(settings_for(real, generated)).protocol["given_frames"] == [2, 3, 4, 5]


def test_pairs_in_order_where_asked_and_two_single_videos_without_asking(sets: tuple[Path, Path]) -> None:
    report = evaluate(settings_for(*sets, paired=True))
    wanted = [psnr(brighter(number), video(seed=number)) for number in range(COUNT)]
    assert result(report, "PSNR").generated.value == pytest.approx(np.mean(wanted))
    assert result(report, "warping error along the real motion").generated.videos == COUNT
    single = evaluate(settings_for(sets[0] / "clip-00.mkv", sets[1] / "sample_0.mkv", output=Path("single")))
    assert single.protocol["paired"] and "Distances need at least two videos on each side: skipped." in single.warnings
    assert {each.kind for each in single.results} == {"fidelity", "time"}


def test_only_videos_of_a_set_count_and_lossy_ones_are_warned_of(sets: tuple[Path, Path], tmp_path: Path) -> None:
    """Sheets and comparisons beside them are left out."""
    lossy = folder_of(tmp_path / "lossy", [video(seed=number) for number in range(COUNT)], names="x{}.mp4")
    encode(lossy / "x0_compare.mp4", video(side=32), Fraction(8))
    Image.fromarray(video()[0]).save(lossy / "x0_sheet.png")
    report = evaluate(settings_for(sets[0], lossy))
    made = report.protocol["generated"]
    assert (made["videos"], made["left_out"], made["lossy"]) == (COUNT, 2, ["h264"])
    assert [text for text in report.warnings if "lossy codec (h264)" in text and "generated" in text]


@pytest.mark.parametrize(
    ("side", "fps", "sentence"),
    [
        (24, 8, "the videos differ in size: found 16x16 .*and 24x24 .*; pass --size"),
        (16, 10, "the videos differ in frame rate: found 8 fps .*and 10 fps .*; pass --fps"),
    ],
)
def test_other_sizes_and_rates_are_one_sentence(tmp_path: Path, sets, side: int, fps: int, sentence: str) -> None:
    videos = [video(side=side, seed=number) for number in range(2)]
    other = folder_of(tmp_path / "other", videos, names="o{}.mkv", fps=Fraction(fps))
    with pytest.raises(VidiffError, match=sentence):
        evaluate(settings_for(sets[0], other))
    report = evaluate(settings_for(sets[0], other, size="16", fps="8", num_frames=3))
    assert (report.protocol["width"], report.protocol["frames"], report.protocol["fps"]) == (16, 3, Fraction(8))


def test_a_rate_is_brought_about_by_exact_times(tmp_path: Path) -> None:
    """Every second frame of 8 a second are the frames of 4 a second."""
    fast = [video(8, seed=number) for number in range(2)]
    real, slow = (
        folder_of(tmp_path / "real", fast),
        folder_of(tmp_path / "slow", [f[::2] for f in fast], fps=Fraction(4)),
    )
    report = evaluate(settings_for(real, slow, fps="4"))
    assert report.protocol["frames"] == 4 and report.protocol["equal_frames"] == 8
    with pytest.raises(VidiffError, match="is too slow: found 4 fps, expected --fps 8 or more"):
        evaluate(settings_for(real, slow, fps="8", output=tmp_path / "none"))


def test_too_few_and_too_short_and_damaged_videos_are_one_sentence(tmp_path: Path, sets: tuple[Path, Path]) -> None:
    one, other = folder_of(tmp_path / "one", [video()], names="one.mkv"), tmp_path / "other"
    shutil.copytree(sets[1], other)
    whole = (other / "sample_3.mkv").read_bytes()
    (other / "sample_3.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    for generated, more, sentence in (
        (one, {}, "too few videos for a distance: found 5 real and 1 generated"),
        (sets[1], {"num_frames": 5}, r"clip-00\.mkv is too short: found 4 frames, expected 5"),
        (one, {"paired": True}, "cannot be paired: found 5 real and 1 generated"),
        (other, {}, r"sample_3\.mkv"),
    ):
        with pytest.raises(VidiffError, match=sentence):
            evaluate(settings_for(sets[0], generated, **more))
    assert not Path("evaluation").exists()


def test_nothing_is_written_over_unless_told(sets: tuple[Path, Path]) -> None:
    first = evaluate(settings_for(*sets))
    with pytest.raises(VidiffError, match=r"evaluation.json exists; .*--overwrite"):
        evaluate(settings_for(*sets))
    assert evaluate(settings_for(*sets, overwrite=True)).results == first.results
    Path("file").write_text("")
    with pytest.raises(VidiffError, match="file is not a folder"):
        evaluate(settings_for(*sets, output=Path("file")))


def test_a_part_of_the_videos_is_the_same_part_every_time(sets: tuple[Path, Path]) -> None:
    """Wherever the folder lies."""
    three = evaluate(settings_for(*sets, count=3, output=Path("a")))
    assert three.protocol["real"]["videos"] == three.protocol["generated"]["videos"] == 3
    moved = sets[0].rename(sets[0].with_name("elsewhere"))
    there = evaluate(settings_for(moved, sets[1], count=3, output=Path("b")))
    assert there.results == three.results
    assert there.protocol["real"]["pixels_sha256"] == three.protocol["real"]["pixels_sha256"]


def test_a_side_of_a_dataset_is_measured_as_it_is_stored(dataset: Path, tmp_path: Path) -> None:
    """Against the same frames as files, over the train side."""
    opened = open_dataset(dataset)
    clips = [opened.frames(index) for index in opened.split("train")]
    report = evaluate(settings_for(dataset, folder_of(tmp_path / "files", clips), side="train"))
    assert report.protocol["real"]["pixels"].startswith("frames of a dataset")
    assert report.protocol["real"]["videos"] == len(clips)
    assert result(report, "Frechet").generated.value == pytest.approx(0, abs=1e-6)
    with pytest.raises(VidiffError, match="too few"):
        evaluate(settings_for(dataset, tmp_path / "files", output=tmp_path / "x", paired=False, count=1))


def test_a_run_is_sampled_with_the_captions_of_its_held_out_clips(run: Path, dataset: Path) -> None:
    more = {"side": "all", "count": 4, "sampling": {"steps": 2, "dtype": "fp32"}}
    report = evaluate(settings_for(run, **more))
    made = report.protocol["generated"]
    assert made["pixels"] == "sampler tensor rounded to 8 bits" and made["videos"] == 4
    assert made["first_seed"] == 0 and made["settings"]["steps"] == 2 and len(made["checkpoint"]["sha256"]) == 64
    assert report.protocol["real"]["path"] == str(dataset) and report.protocol["frames"] == 4
    again = evaluate(settings_for(dataset, run, **more, output=Path("again")))
    assert again.results == report.results
    other = evaluate(settings_for(run, **more, seed=1, output=Path("other")))
    assert other.protocol["generated"]["pixels_sha256"] != made["pixels_sha256"]


def test_wrong_sides_are_wrong_usage(run: Path, sets: tuple[Path, Path]) -> None:
    for asked, error, sentence in (
        (settings_for(run, sets[0]), UsageError, "the first one to compare must be real"),
        (settings_for(sets[0]), UsageError, "nothing to compare"),
        (settings_for(run, paired=True), UsageError, "leave out --paired"),
        (settings_for(run, dataset=sets[0]), VidiffError, "is not a dataset"),
    ):
        with pytest.raises(error, match=sentence):
            evaluate(asked)


def test_clip_compares_frames_with_their_prompt(sets: tuple[Path, Path], tiny_clip: Any) -> None:
    """The same as open_clip by itself, on the videos that have a prompt."""
    import open_clip

    prompts = {0: "a red blob", 3: "gray"}
    for number, prompt in prompts.items():
        (sets[1] / f"sample_{number}.txt").write_text(prompt)
    report = evaluate(settings_for(*sets, clip=True, clip_model=tiny_clip.named()))
    model: Any = tiny_clip.model()
    prepare: Any = open_clip.image_transform(16, is_train=False)
    wanted = []
    with torch.no_grad():
        for number, prompt in prompts.items():
            images = torch.stack([prepare(Image.fromarray(frame)) for frame in brighter(number)])
            text = model.encode_text(open_clip.get_tokenizer("tiny-clip")([prompt]))
            wanted.append(100 * torch.cosine_similarity(model.encode_image(images), text).mean().item())
    found = result(report, "CLIP similarity").generated
    assert found.videos == 2 and found.value == pytest.approx(np.mean(wanted), abs=1e-3)
    assert report.protocol["clip"]["name"].startswith("tiny-clip:")
    with pytest.raises(VidiffError, match=r"CLIP weights .* are not on this machine"):
        evaluate(settings_for(*sets, clip=True, clip_model="ViT-B-32:./nothing.safetensors", output=Path("n")))


def test_a_wrong_file_of_weights_is_refused(tmp_path: Path, sets: tuple[Path, Path]) -> None:
    wrong = settings_for(*sets, extractors=("random",), expect=("random:" + "0" * 64,))
    with pytest.raises(VidiffError, match="not the expected weights of random: found sha256 6ddf7"):
        evaluate(wrong)
    with pytest.raises(VidiffError, match="weights of r3d_18 not found at"):
        evaluate(settings_for(*sets, extractors=(f"r3d_18:{tmp_path / 'none'}",)))
    for bad in (("i3d",), ("random:x",), ("nothing",), ("random", "random")):
        with pytest.raises(ValueError, match="extractors"):
            settings_for(*sets, extractors=bad)


def test_memory_does_not_grow_with_the_number_of_videos(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every video of 6 MB is forgotten before the next is read: sixty of them would be 360 MB."""
    big = np.zeros((4, 700, 700, 3), np.uint8)

    def many(path: Path, side: str) -> VideoSet:
        small = dataset_set(path, "all")
        items = [
            replace(small.items[0], key=str(n), width=700, height=700, load=lambda view, n=n: big + np.uint8(n))
            for n in range(60)
        ]
        return replace(small, items=tuple(items))

    monkeypatch.setattr("vidiff_cli.commands.evaluate.dataset_set", many)
    monkeypatch.setattr(
        random_extractor(CPU).__class__, "__call__", lambda self, frames: frames[:, :9, :5, 0].ravel()[:128]
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = evaluate(settings_for(dataset, dataset, paired=False, temporal=False, bootstrap=0))
    assert report.protocol["real"]["videos"] == 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_the_table_has_a_row_for_each_number_and_the_page_its_protocol(sets: tuple[Path, Path]) -> None:
    report = evaluate(settings_for(*sets))
    rows = table_rows(report)
    assert [row[0] for row in rows[1:]] == [each.name for each in report.results]
    assert "halves" in rows[1][3] and "## Protocol" in report.table.read_text()
    written = json.loads(report.json.read_text())
    for key in ("extractors", "frames", "width", "height", "fps", "seed", "intervals", "resizing", "versions"):
        assert key in written["protocol"]
    assert len(written["protocol"]["extractors"][0]["sha256"]) == 64
    assert report.plot.read_bytes().startswith(b"\x89PNG")
