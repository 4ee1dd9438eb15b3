"""Settings: which source wins, and what a mistake is told."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidiff_cli.config.fields import NTSC_NOMINAL, Rate, parse_rate
from vidiff_cli.config.resolve import resolve
from vidiff_cli.errors import UsageError


class Net(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    width: int = Field(default=32, ge=1)
    kind: Literal["attention", "both"] = "both"
    channels: tuple[int, ...] = (1, 2)


class Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = 100
    num_frames: int | None = None
    batch_size: int | Literal["auto"] = "auto"
    prompt: str = ""
    folder: Path = Path("runs")
    fps: Rate = Fraction(25)
    net: Net = Net()

    @model_validator(mode="after")
    def _together(self) -> Job:
        if self.prompt == "nothing" and self.steps > 1000:
            raise ValueError("--prompt nothing goes with at most 1000 --steps")
        return self


def toml(folder: Path, text: str, name: str = "a.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


LEVELS = st.lists(st.none() | st.integers(1, 10**6), min_size=5, max_size=5)


@given(steps=LEVELS, width=LEVELS)
def test_later_sources_win_setting_by_setting(tmp_path_factory, steps, width):
    """Defaults < preset < two files < flags < --set, independently for a plain and for a nested setting."""
    folder = tmp_path_factory.mktemp("files")
    files = []
    for number in (1, 2):
        lines = [f"steps = {steps[number]}"] if steps[number] else []
        lines += ["[net]", f"width = {width[number]}"] if width[number] else []
        files.append(toml(folder, "\n".join(lines), f"{number}.toml"))
    under: dict[str, object] = {"steps": steps[0]} if steps[0] else {}
    under |= {"net": {"width": width[0]}} if width[0] else {}
    flags = {name: value for name, value in (("steps", steps[3]), ("net.width", width[3])) if value}
    sets = [f"{name}={value}" for name, value in (("steps", steps[4]), ("net.width", width[4])) if value]
    settings = resolve(Job, under=under, files=files, given=flags, sets=sets)
    assert settings.steps == next((value for value in reversed(steps) if value), 100)
    assert settings.net.width == next((value for value in reversed(width) if value), 32)
    assert settings.net.kind == "both"


def test_defaults_alone():
    assert resolve(Job) == Job()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("prompt=a red circle", "prompt", "a red circle"),
        ("prompt=2020", "prompt", "2020"),
        ("prompt=true", "prompt", "true"),
        ('prompt="x = 1"', "prompt", "x = 1"),
        ("prompt=a=b", "prompt", "a=b"),
        ("prompt=", "prompt", ""),
        ("batch_size=auto", "batch_size", "auto"),
        ("batch-size=8", "batch_size", 8),
        ("fps=30000/1001", "fps", Fraction(30000, 1001)),
        ("fps=23.976", "fps", Fraction(24000, 1001)),
        ("folder=2024-01-01", "folder", Path("2024-01-01")),
    ],
)
def test_set_reads_toml_or_text(text, name, value):
    assert getattr(resolve(Job, sets=[text]), name) == value


def test_set_reads_a_list():
    assert resolve(Job, sets=["net.channels=[1, 2, 4]"]).net.channels == (1, 2, 4)


def test_hyphens_in_a_file_stand_for_underscores(tmp_path):
    assert resolve(Job, files=[toml(tmp_path, "num-frames = 8")]).num_frames == 8


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["stepz=3"], ["stepz", "did you mean steps"]),
        (["width=3"], ["width", "did you mean net.width"]),
        (["nett.width=3"], ["nett.width", "--set nett.width=3", "did you mean net.width"]),
        (["net.widht=3"], ["net.widht", "did you mean net.width"]),
        (["qqqq=3"], ["qqqq", "known are batch_size"]),
        (["steps=soon"], ["--set steps=soon", "'soon'", "a valid integer"]),
        (["net.width=0"], ["net.width", "found 0", "greater than or equal to 1"]),
        (["net.kind=none"], ["'none'", "'attention' or 'both'"]),
        (["batch_size=many"], ["'many'", "'auto'", "integer"]),
        (["fps=fast"], ["'fast'", "30000/1001"]),
        (["steps"], ["--set steps", "NAME=VALUE"]),
        ([".=3"], ["NAME=VALUE"]),
        (["net=3", "net.width=4"], ["net"]),
        (["net=3"], ["--set net=3", "found 3"]),
        (["prompt=nothing", "steps=2000"], ["--prompt nothing goes with at most 1000 --steps"]),
    ],
)
def test_a_mistake_is_one_sentence(sets, words):
    with pytest.raises(UsageError) as caught:
        resolve(Job, sets=sets)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert sentence.endswith(".") and "\n" not in sentence and "pydantic" not in sentence


def test_a_mistake_names_its_file(tmp_path):
    with pytest.raises(UsageError, match=r"steps in .*a\.toml: found 'soon', expected a valid integer"):
        resolve(Job, files=[toml(tmp_path, "steps = 'soon'")])
    with pytest.raises(UsageError, match=r"batch_size in .*a\.toml: found 'soon', expected a valid integer or 'auto'"):
        resolve(Job, files=[toml(tmp_path, "batch_size = 'soon'")])


def test_a_mistake_names_its_flag():
    with pytest.raises(UsageError, match="--num-steps: found -3"):
        resolve(Job, given={"net.width": -3}, names={"net.width": "--num-steps"})


@pytest.mark.parametrize("text", ["steps =", "\xff", "a = 1\na = 2"])
def test_a_broken_file_is_one_sentence(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"a\.toml"):
        resolve(Job, files=[path])
    with pytest.raises(UsageError, match="no such file"):
        resolve(Job, files=[tmp_path / "none.toml"])


@given(st.fractions(min_value=Fraction(1, 10**6), max_value=10**6, max_denominator=10**9))
def test_a_rate_survives_json(rate):
    assert Job.model_validate_json(Job(fps=rate).model_dump_json()).fps == rate


@pytest.mark.parametrize("nominal", NTSC_NOMINAL)
def test_ntsc_spellings_are_exact(nominal):
    exact = Fraction(nominal * 1000, 1001)
    for digits in (2, 3, 6):
        assert parse_rate(f"{float(exact):.{digits}f}") == exact
        assert parse_rate(round(float(exact), digits)) == exact
    assert parse_rate(nominal) == parse_rate(f"{nominal}") == parse_rate(f"{nominal}.0") == nominal


@pytest.mark.parametrize("text", ["12.5", "7.5", "23.5", "0.5", "24.1"])
def test_other_decimals_are_kept(text):
    assert parse_rate(text) == Fraction(text)


@pytest.mark.parametrize(
    "value", [0, -1, "0", "-25", "1/0", "", "nan", "inf", "1e99999999", True, None, "9" * 99, "25 fps"]
)
def test_what_is_no_rate(value):
    with pytest.raises(ValueError, match="frame rate"):
        parse_rate(value)
