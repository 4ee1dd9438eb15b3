"""sample: prompts, seeds, batches, lengths."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from vidiff_cli.commands.sample import sample
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.text.prompts_file import read_prompts
from vidiff_cli.video.probe import probe

KNOWN = "a small red square moving right slowly"


def test_the_length_is_the_windows_unless_told(settings, frames_of) -> None:
    report = sample(settings("sample"))
    assert report.paths == (Path("video_s3_4f_16x16.mp4"),) and len(frames_of(report.paths[0])) == 4
    assert probe(report.paths[0]).fps == report.fps == 8
    assert len(frames_of(sample(settings("sample", num_frames=2)).paths[0])) == 2


@pytest.mark.parametrize(("condition", "sampler"), [("auto", "dpmpp-2m"), ("reconstruction", "ddpm")])
def test_the_window_slides(settings, frames_of, sampler: str, condition: str) -> None:
    """The first window of a long video is the short video of the same seed."""
    common = {"sampler": sampler, "condition": condition, "lossless": True}
    long = sample(settings("sample", num_frames=9, fps="12", output="long.mkv", **common))
    short = sample(settings("sample", num_frames=4, fps="12", output="short.mkv", **common))
    made = frames_of(long.paths[0])
    assert len(made) == 9 and probe(long.paths[0]).fps == 12
    assert np.array_equal(made[:4], frames_of(short.paths[0]))


def test_several_videos_of_a_prompt(settings, frames_of) -> None:
    """Seeds s, s + 1, s + 2: three videos, each of which can be made alone, but for the rounding of batch sizes."""
    three = sample(settings("sample", prompts=(KNOWN,), count=3, output="out", lossless=True))
    assert three.seeds == (3, 4, 5)
    names = [f"a-small-red-square-moving-right-slowly_s{seed}_4f_16x16.mkv" for seed in three.seeds]
    assert three.paths == tuple(Path("out") / name for name in names)
    videos = [frames_of(path).astype(int) for path in three.paths]
    assert all(np.abs(one - other).max() > 10 for one, other in pairwise(videos))
    alone = sample(settings("sample", prompts=(KNOWN,), seed=4, output="alone.mkv", lossless=True))
    assert np.abs(frames_of(alone.paths[0]) - videos[1]).max() <= 2
    again = sample(settings("sample", prompts=(KNOWN,), count=3, batch_size=2, output="again", lossless=True))
    assert all(np.abs(frames_of(path) - video).max() <= 2 for path, video in zip(again.paths, videos, strict=True))
    assert json.loads(three.paths[1].with_suffix(".json").read_text())["settings"]["seed"] == 4


def test_one_name_for_several_videos(settings) -> None:
    report = sample(settings("sample", count=2, output="take.webm"))
    assert report.paths == (Path("take_s3.webm"), Path("take_s4.webm")) and all(map(Path.is_file, report.paths))
    with pytest.raises(VidiffError, match=r"take_s4.webm exists"):
        sample(settings("sample", count=2, seed=4, output="take.webm"))


def test_prompts_and_their_file(settings, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(f"\ufeff{KNOWN}\n\n# a remark\n  a blue square  \n", encoding="utf-8")
    asked = settings("sample", prompts=("first",), prompts_file=file, count=2, compare=True)
    report = sample(asked)
    assert report.prompts == ("first", "first", KNOWN, KNOWN, "a blue square", "a blue square")
    assert report.seeds == tuple(range(3, 9)) and len(set(report.paths)) == 6
    assert report.sheet is not None and report.sheet.is_file()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", 'seed,prompt\n1,"a cat, red"\n2,\n3,a dog\n'),
        ("p.csv", 'caption\n"a cat, red"\na dog\n'),
        ("p.jsonl", '{"prompt": "a cat, red"}\n\n{"text": "a dog", "seed": 3}\n{"prompt": " "}\n'),
        ("p.txt", "# animals\na cat, red\n\n a dog\n"),
    ],
)
def test_prompts_of_a_table(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")
    assert read_prompts(tmp_path / name) == ["a cat, red", "a dog"]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("p.csv", "seed,words\n1,a cat\n", "no prompt in line 2: found seed, words"),
        ("p.csv", "prompt\n", "has no prompt"),
        ("p.csv", 'prompt\n"' + "x" * 200_000, "not a CSV table"),
        ("p.jsonl", '{"prompt": "a cat"}\n[1]\n', "no object in line 2"),
        ("p.jsonl", "{" * 100_000, "no object in line 1"),
        ("p.jsonl", '{"prompt": 3}\n', "no text as prompt in line 1: found 3"),
    ],
)
def test_tables_that_have_no_prompts(tmp_path: Path, name: str, content: str, found: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(VidiffError, match=found):
        read_prompts(tmp_path / name)


def test_unseen_words_are_named(settings, told) -> None:
    """Of prompts and negative ones, which are made all the same; not with strict prompts."""
    report, notes = told(sample.events(settings("sample", prompts=("a purple square", KNOWN), negative_prompt="rain")))
    warnings = [note.text for note in notes if note.level == "warning" and "never seen" in note.text]
    assert warnings == [
        "The model has never seen: purple (in 'a purple square').",
        "The model has never seen: rain (in 'rain').",
    ]
    assert all(path.is_file() for path in report.paths)
    with pytest.raises(VidiffError, match=r"never seen some words: found purple, dragon;"):
        sample(settings("sample", prompts=("a purple purple dragon",), strict_prompt=True, output="new/out.mp4"))
    assert not Path("new").exists()
    assert sample(settings("sample", prompts=(KNOWN,), strict_prompt=True)).paths[0].is_file()


def test_prompts_matter_and_guidance_scales_them(settings, frames_of) -> None:
    def made(name: str, prompt: str, **more) -> np.ndarray:
        prompts = (prompt,) if prompt else ()
        report = sample(settings("sample", prompts=prompts, output=f"{name}.mkv", lossless=True, **more))
        return frames_of(report.paths[0])

    plain = made("plain", "")
    assert np.array_equal(made("ignored", KNOWN, guidance_scale=0), plain)
    assert not np.array_equal(made("guided", KNOWN, guidance_scale=9), plain)


def test_a_negative_prompt_alone_pushes_away_from_it(settings, run: Path) -> None:
    """Without a prompt: x + scale-fold the way from the negative prompt to no prompt, never the negative prompt."""
    model = load_model(run, torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    z, level = torch.randn(1, 3, 4, 16, 16, generator=generator), torch.zeros(1, 4)
    times, given = torch.arange(4)[None] / 8, torch.zeros(1, 4, dtype=torch.bool)
    with torch.no_grad():
        plain = model.denoiser(times, given, [""], scale=2)(z, level)
        negative = model.denoiser(times, given, [KNOWN], scale=1)(z, level)
        away = model.denoiser(times, given, [""], scale=3, negative=KNOWN)(z, level)
    assert not torch.equal(plain, negative)
    torch.testing.assert_close(away, negative + 3 * (plain - negative))


def test_large_seeds(settings, frames_of) -> None:
    names = [sample(settings("sample", seed=2**80 + more, lossless=True)).paths[0] for more in (0, 1)]
    assert not np.array_equal(*map(frames_of, names))


def test_what_is_said_before_sampling(settings, told, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes where that is long, and that a rate is outside of those trained on."""
    monkeypatch.setattr("vidiff_cli.generation.budget.LONG_SECONDS", -1)
    _, notes = told(sample.events(settings("sample", fps="25")))
    assert any(note.text.startswith("This will take about") for note in notes)
    assert "The model was trained at 4 to 8 fps, and this is 25 fps." in [note.text for note in notes]
    assert sample(settings("sample", fps="30000/1001", seed=9)).fps == Fraction(30000, 1001)
