"""A cascade: what a model makes, taken through upscalers, by --then and as one folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import json_of, sentence_of, vidiff
from tiny_model import CAPTIONS, tiny_network, tiny_settings, write_model

from vidiff_cli.commands.cascade import cascade
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.upscale import upscale
from vidiff_cli.config.cascade import CascadeSettings
from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.config.model import TextSettings
from vidiff_cli.config.upscale import UpscaleSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import cascade_folder, load_model, made_frames, sample_batches, upscaling
from vidiff_cli.generation.cascade import open_stages, pass_frames
from vidiff_cli.generation.cascade_folder import read_cascade
from vidiff_cli.text.learned import collect_vocabulary
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe

SIDE, FRAMES = 8, 7  # of the videos of the base, whose window is 4 frames
LARGE = {"patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "upscale": 2}
DISTILLED = {"steps": 2, "guidance_scale": 1.0}
PLAIN = {"seed": 5, "dtype": "fp32", "device": "cpu", "lossless": True}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models: a base, upscalers in one step and in two (which observe frames), and gray ones of each."""
    folder = tmp_path_factory.mktemp("models")
    for name, channels in (("", 3), ("gray-", 1)):
        write_model(folder / f"{name}base.safetensors", tiny_settings(tiny_network(channels=channels), SIDE))
        large = {"frames": 3, "augmentation": 0.3, "fps": "8"}
        network = tiny_network(channels=channels, **LARGE)
        write_model(folder / f"{name}one.safetensors", tiny_settings(network, 32, **large))
        two = tiny_settings(network, 32, **large, distilled=DISTILLED)
        write_model(folder / f"{name}two.safetensors", two, seed=1)
    text = TextSettings(vocabulary=collect_vocabulary(CAPTIONS))
    words = tiny_settings(tiny_network(**LARGE, context_dim=8), 32, **large, text=text)
    write_model(folder / "words.safetensors", words, noise=0.2)
    return folder


@pytest.fixture
def asked(models: Path) -> Callable[..., SampleSettings]:
    """asked(...): the settings of one lossless call, of the base alone unless told otherwise."""

    def make(**more: Any) -> SampleSettings:
        values = {"model": models / "base.safetensors", "num_frames": FRAMES, "steps": 2}
        return SampleSettings.model_validate(values | PLAIN | more)

    return make


@pytest.fixture
def then(models: Path) -> list[Path]:
    return [models / "two.safetensors", models / "one.safetensors"]


@pytest.fixture
def folder(models: Path, then: list[Path]) -> Path:
    """A cascade of two stages."""
    cascade(CascadeSettings(base=models / "base.safetensors", upscalers=tuple(then), output=Path("all")))
    return Path("all")


def frames_of(path: Path) -> np.ndarray:
    return decode(path).frames


def upscaled(source: Path, model: Path, **more: Any) -> Path:
    """The file of a film upscaled by the model's frames alone."""
    values = {"input": source, "model": model, "detail": "model", "output": f"{source.stem}-{model.stem}.mkv"}
    return upscale(UpscaleSettings.model_validate(values | PLAIN | more)).path


def test_two_stages_are_sample_and_upscale_twice(asked, then) -> None:
    report = sample(asked(then=then, compare=True))
    assert report.paths == (Path(f"video_s5_{FRAMES}f_32x32.mkv"),) and (report.width, report.height) == (32, 32)
    step = sample(asked(output="base.mkv")).paths[0]
    for model, steps in zip(then, (2, 1), strict=True):
        step = upscaled(step, model, steps=steps)
    made, small = frames_of(report.paths[0]), frames_of(Path("base.mkv"))
    assert made.shape == (FRAMES, 32, 32, 3) and probe(report.paths[0]).fps == probe(Path("base.mkv")).fps
    assert np.array_equal(made, frames_of(step))
    cells = small.repeat(4, 1).repeat(4, 2)
    assert 2 < np.abs(made.astype(int) - cells).mean() < 100


def test_windows_are_those_of_a_film_with_a_cut(asked, then) -> None:
    film = np.random.default_rng(0).integers(0, 60, (11, 8, 8, 3), np.uint8)
    film[5:] += 180
    encode("film.mkv", film, Fraction(8), lossless=True)
    made = pass_frames(open_stages(asked(), then[:1]), film, Fraction(8), prompt="", seed=5)
    assert np.array_equal(made, frames_of(upscaled(Path("film.mkv"), then[0], steps=2)))
    uncut = upscaled(Path("film.mkv"), then[0], steps=2, scenes=False, output="uncut.mkv")
    assert not np.array_equal(made, frames_of(uncut))


def test_a_stage_reads_the_prompt(asked, models: Path) -> None:
    words, prompt = models / "words.safetensors", "a red square moving left"
    report = sample(asked(then=[words], prompts=(prompt,)))
    base, made = sample(asked(prompts=(prompt,), output="base.mkv")).paths[0], frames_of(report.paths[0])
    assert np.array_equal(made, frames_of(upscaled(base, words, prompt=prompt)))
    assert not np.array_equal(made, frames_of(upscaled(base, words, output="without.mkv")))


def test_a_sidecar_names_the_stages_and_repeats_them(asked, then, folder: Path) -> None:
    first = sample(asked(then=then, output="first.mkv")).paths[0]
    told = json.loads(Path("first.json").read_text())
    assert [stage["path"] for stage in told["stages"]] == [str(path) for path in then]
    assert all(len(stage["sha256"]) == 64 for stage in told["stages"])
    again = vidiff("sample", "--from-json", "first.json", "-o", "again.mkv")
    assert again.exit_code == 0, again.stderr
    assert Path("again.mkv").read_bytes() == first.read_bytes()
    sample(asked(model=folder, output="one.mkv"))
    again = vidiff("sample", "--from-json", "one.json", "-o", "one-again.mkv")
    assert again.exit_code == 0 and Path("one-again.mkv").read_bytes() == first.read_bytes(), again.stderr


def test_a_folder_is_one_model(asked, then, folder: Path, told) -> None:
    whole = sample(asked(then=then, output="whole.mkv")).paths[0]
    report, notes = told(sample.events(asked(model=folder, output="folder.mkv")))
    assert report.paths[0].read_bytes() == whole.read_bytes() and (report.width, report.height) == (32, 32)
    assert [note.text for note in notes if "times larger" in note.text] == [
        "It makes the frames 2 times larger, to 16x16.",
        "It makes the frames 2 times larger, to 32x32.",
    ]
    other, notes = told(sample.events(asked(model=folder, then=then[1:], output="other.mkv")))
    assert any("--then takes the place of the upscalers" in note.text for note in notes) and other.width == 16
    base = sample(asked(model=folder / "ema.safetensors", output="base.mkv")).paths[0]
    assert base.read_bytes() == sample(asked(output="plain.mkv")).paths[0].read_bytes()


def test_info_names_the_stages_and_models_lists_it(folder: Path) -> None:
    text = vidiff("info", folder)
    assert text.exit_code == 0 and "2 times larger by two, to 16x16" in text.stdout, text.stderr
    assert "2 times larger by one, to 32x32" in text.stdout
    assert [stage["name"] for stage in json_of("info", folder)["stages"]] == ["two", "one"]
    Path("runs").mkdir()
    folder.rename("runs/all")
    assert "runs/all" in vidiff("models").stdout


def test_killed_the_same_command_gives_the_same_bytes(asked, then, killed, told) -> None:
    """Killed as the second video is written: the windows of the base and of the stages are kept."""
    settings = {"then": then, "count": 2, "seed": None, "compare": True}
    killed(sample_batches, "encode", lambda: sample(asked(**settings)), at=2)
    assert list(Path().glob(".*.partial.frames")) and len(list(Path().glob("video_*.mkv"))) == 1
    report, notes = told(sample.events(asked(**settings)))
    assert any("Continuing after window" in note.text for note in notes), notes
    assert report.sheet is not None and not list(Path().glob(".*"))
    assert frames_of(report.sheet).shape[1] > 2 * 32
    for path, seed in zip(report.paths, report.seeds, strict=True):
        single = sample(asked(then=then, seed=seed, output=f"single-{seed}.mkv")).paths[0]
        assert path.read_bytes() == single.read_bytes()


def windows_made(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> int:
    """The windows that the stages of a call make."""
    made, original = [], upscaling.upscale_window

    def count(*given: Any, **more: Any) -> Any:
        made.append(given)
        return original(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(upscaling, "upscale_window", count)
        call()
    return len(made)


@pytest.mark.parametrize(("at", "left"), [(3, 12), (6, 10), (10, 6), (15, 1)])
def test_no_finished_window_of_a_stage_is_made_again(
    asked, then, killed, at: int, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of two videos, killed as the n-th window is put into its store: 3 of the base for both videos, and of
    each video 3 of the first stage, which observe frames, and 3 of the second."""
    both = {"then": then, "count": 2, "batch_size": 2, "compare": True}
    settings = asked(**both, output="videos/")
    wholes, reports = [], []
    assert windows_made(monkeypatch, lambda: wholes.append(sample(asked(**both, output="whole/")))) == 12
    killed(made_frames, "write_made", lambda: sample(settings), at=at)
    assert windows_made(monkeypatch, lambda: reports.append(sample(settings))) == left
    for path, other in zip(reports[0].paths, wholes[0].paths, strict=True):
        assert path.read_bytes() == other.read_bytes()
    assert np.array_equal(*(frames_of(each.sheet) for each in (*reports, *wholes))) and not list(Path().rglob(".*"))


def test_nothing_is_kept_for_another_upscaler(asked, then, killed, told) -> None:
    Path("own.safetensors").write_bytes(then[0].read_bytes())
    settings = asked(then=["own.safetensors"], num_frames=2)
    killed(sample_batches, "encode", lambda: sample(settings))
    Path("own.safetensors").write_bytes(then[1].read_bytes())
    report, notes = told(sample.events(settings))
    assert not any("Continuing" in note.text for note in notes)
    other = sample(asked(then=then[1:], num_frames=2, output="other.mkv")).paths[0]
    assert report.paths[0].read_bytes() == other.read_bytes()


def test_a_folder_appears_whole_or_not_at_all(models: Path, folder: Path, killed) -> None:
    for output in (folder, Path("new")):
        wanted = CascadeSettings(
            base=models / "base.safetensors", upscalers=(models / "one.safetensors",), output=output, overwrite=True
        )
        killed(cascade_folder, "file_hash", lambda: cascade(wanted), at=2)  # noqa: B023
        assert [path.name for path in Path().iterdir()] == ["all"] and len(read_cascade(folder).stages) == 2


def test_in_memory_it_is_the_same(asked, then) -> None:
    small = frames_of(sample(asked(output="base.mkv")).paths[0])
    stages = open_stages(asked(), then)
    made = pass_frames(stages, small, Fraction(probe(Path("base.mkv")).fps), prompt="", seed=5)
    assert np.array_equal(made, frames_of(sample(asked(then=then, output="then.mkv")).paths[0]))
    assert pass_frames(stages, small[:1], Fraction(8), prompt="", seed=5).shape == (1, 32, 32, 3)


def test_gray_stages_follow_a_gray_base(models: Path, asked) -> None:
    report = sample(asked(model=models / "gray-base.safetensors", then=[models / "gray-two.safetensors"]))
    made = frames_of(report.paths[0])
    assert made.shape == (FRAMES, 16, 16, 3) and np.ptp(made, axis=-1).max() == 0


def test_overwrite_replaces_a_cascade_and_nothing_else(models: Path, folder: Path, then) -> None:
    base, one = models / "base.safetensors", models / "one.safetensors"
    said = sentence_of(vidiff("cascade", base, one, "-o", folder))
    assert said.startswith("all exists") and len(read_cascade(folder).stages) == 2
    assert vidiff("cascade", base, one, "-o", folder, "--overwrite").exit_code == 0
    assert len(read_cascade(folder).stages) == 1 and not (folder / "stage-2.safetensors").exists()
    shorter = vidiff("cascade", folder, *then, "-o", folder, "--overwrite")
    assert shorter.exit_code == 0 and "its base alone is taken" in shorter.stderr
    assert len(read_cascade(folder).stages) == 2 and not list(Path().glob(".*"))
    Path("mine").mkdir()
    Path("mine/ema.safetensors").write_bytes(base.read_bytes())
    said = sentence_of(vidiff("cascade", base, one, "-o", "mine", "--overwrite"))
    assert "mine is not empty and not a cascade" in said and len(list(Path("mine").iterdir())) == 1


@pytest.mark.parametrize(
    ("base", "upscalers", "said"),
    [
        ("one", ["two"], "makes videos larger: expected a model that makes videos"),
        ("base", ["base"], "does not make videos larger: found a model that makes videos; name stages after BASE"),
        ("base", ["gray-one"], "found a stage of gray frames, expected one of frames in color"),
        ("gray-base", ["one"], "found a stage of frames in color, expected one of gray frames"),
        ("base", ["one"] * 12, "the result would be too large: found 32768x32768"),
        ("base", ["one"] * 16, "too many stages: found 16, expected at most 15"),
        ("base", ["missing"], "is not a model: found no such file or folder"),
        ("missing", ["one"], "is not a model: found no such file or folder"),
    ],
)
def test_what_does_not_go_together(models: Path, base: str, upscalers: list[str], said: str) -> None:
    paths = [models / f"{name}.safetensors" for name in (base, *upscalers)]
    assert said in sentence_of(vidiff("cascade", *paths, "-o", "all"))
    if base != "one" and len(upscalers) < 15:  # sample has its own sentences there
        chosen = [part for path in paths[1:] for part in ("--then", path)]
        assert said.partition(";")[0] in sentence_of(vidiff("sample", "-m", paths[0], *chosen, "-o", "out.mkv"))
    assert not list(Path().iterdir())


def test_frames_that_do_not_fit(asked, then, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vidiff_cli.generation.upscale_budget.available_memory", lambda device: 10_000)
        with pytest.raises(VidiffError, match=r"16x16 does not fit in memory.*take fewer stages"):
            sample(asked(then=then))
    monkeypatch.setattr("vidiff_cli.generation.budget.free_bytes", lambda place: FRAMES * 16 * 16 * 3)
    with pytest.raises(VidiffError, match="7 frames of 32x32"):
        sample(asked(then=then))
    assert sample(asked(then=then[1:])).width == 16


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda all: (all / "stage-2.safetensors").unlink(), "all/stage-2.safetensors is missing"),
        (lambda all: _truncate(all / "stage-1.safetensors"), "all/stage-1.safetensors is damaged"),
        (lambda all: _truncate(all / "ema.safetensors"), "all/ema.safetensors is damaged"),
        (lambda all: (all / "cascade.json").write_text("{"), "all/cascade.json is damaged"),
        (lambda all: (all / "cascade.json").write_text("[" * 10_000), "all/cascade.json is damaged"),
        (lambda all: (all / "cascade.json").write_bytes(b" " * 100_000), "all/cascade.json is damaged"),
        (lambda all: (all / "cascade.json").write_text('{"version": 2, "stages": []}'), "all/cascade.json is damaged"),
    ],
)
def test_a_damaged_folder(folder: Path, damage: Callable[[Path], Any], said: str) -> None:
    damage(folder)
    for command in (("sample", "-m", folder), ("info", folder)):
        refused = sentence_of(vidiff(*command))
        assert said in refused and "make the cascade again with vidiff cascade" in refused


def test_other_commands_refuse_it_in_a_sentence(folder: Path, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    said = sentence_of(vidiff("upscale", clip(3), "-m", folder))
    assert "all is a cascade: expected an upscaler; name one of its stages, such as all/stage-1.safetensors" in said
    monkeypatch.setattr(load_model, "builtin_upscaler", lambda scale: None)
    said = sentence_of(vidiff("sample", "-m", folder, "--then", "builtin"))
    assert "no upscaler: found none in the package; name an upscaler with --then, or train one" in said


def test_where_no_folder_can_be_made(models: Path) -> None:
    said = sentence_of(vidiff("cascade", models / "base.safetensors", models / "one.safetensors", "-o", "/proc/all"))
    assert said.startswith("/proc/all could not be written")
    Path("file").touch()
    for output in ("file", "file/all"):
        said = sentence_of(vidiff("cascade", models / "base.safetensors", models / "one.safetensors", "-o", output))
        assert said.startswith(output)
