"""Names that look like something else: to a shell, to ffmpeg, to a terminal, to the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vidiff_cli.video import ffmpeg
from vidiff_cli.video.decode import decode

WRITTEN = ["$(touch pwned);x.mp4", "new\nline.mp4", "-dash.mp4", "p%d%03d.mp4", "concat:a|b.mp4"]
WRITTEN += ["esc\x1b[31m\x07.mp4", "not \udcff\udcfe utf-8.mp4"]
NAMES = [*WRITTEN, "a b.mp4", "q'\"`.mp4", "tab\there.mp4", "--model.mp4", "g[*]?{a,b}.mp4", "http:x.mp4", "pipe:0.mp4"]
NAMES += ["fd:3.mp4", "file:x.mp4", "C:\\x.mp4", "~x.mp4", "a,b;c=d.mp4", "[bold]x[!bold].mp4", " .mp4"]
NAMES += ["\u202eright to left.mp4", "e\u0301\u00e9\u65e5\u672c.mp4"]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_any_name_is_read_and_written(name, clip, model, vidiff, quick, tmp_path, hidden, no_control):
    shutil.copyfile(clip(), tmp_path / name)
    Path("out").mkdir()
    target = Path("out") / name
    result = vidiff("extend", "-m", model, *quick, "--num-frames", "2", "-o", target, "--", name)  # a relative name
    assert result.code == 0, result
    assert os.fsencode(result.out.removesuffix("\n")) == os.fsencode(target) or "\udcff" in name
    assert {path.name for path in Path("out").iterdir()} == {name, Path(name).with_suffix(".json").name}
    assert hidden(tmp_path) == [] and not Path("pwned").exists()
    assert no_control(result.err)
    assert json.loads(target.with_suffix(".json").read_text())["command"] == "extend"


@pytest.mark.parametrize("name", ["-y.mp4", "http:x.mp4", "concat:a|b.mp4", "file:x.mp4"])
def test_ffmpeg_takes_a_name_of_ours_for_a_local_file(name, tmp_path):
    still = ["-v", "error", "-f", "lavfi", "-i", "color=s=16x16:d=0.1"]
    subprocess.run([ffmpeg.executable(), *still, ffmpeg.file_url(Path(name))], check=True, timeout=60)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_prep_reads_files_of_any_name(clip, vidiff, no_control):
    Path("in").mkdir()
    for name in NAMES:
        shutil.copyfile(clip(), Path("in") / name)
    result = vidiff("prep", "in", "-o", "dataset", "--size", "16", "--frames", "4", "--min-difference", "0")
    assert result.code == 0 and no_control(result.err.replace("\n", "")), result
    ledger = [json.loads(line) for line in Path("dataset/ledger.jsonl").read_text().splitlines()]
    assert {row["source"]: row["status"] for row in ledger} == dict.fromkeys(NAMES, "kept")


def test_a_missing_file_of_any_name_is_one_sentence(refused, model, quick, no_control):
    for name in NAMES:
        error = refused("extend", "-m", model, *quick, "--", name)
        assert no_control(error.removesuffix("\n")) and "does not exist" in error
        assert no_control(refused("prep", "-o", "dataset", "--", name).removesuffix("\n"))
    assert not Path("dataset").exists()


@pytest.mark.parametrize("name", ["new\nline", "-dash", "not \udcff utf-8", "g[*]?"])
def test_datasets_runs_and_prompts_of_any_name(name, clip, vidiff, training, quick, tmp_path):
    Path("in").mkdir()
    for number in range(2):
        shutil.copyfile(clip(), f"in/{number}.mp4")
    assert vidiff("prep", "in", f"-o{name}", "--size", "16", "--frames", "4", "--quiet").code == 0
    result = vidiff("train", "--steps", "1", *training, "--quiet", "-o", f"run {name}", "--", name)
    assert result.code == 0, result
    (tmp_path / f"{name}.txt").write_text("a ball\n")
    result = vidiff("sample", f"-mrun {name}", f"--prompts={name}.txt", f"-oout {name}.mp4", *quick)
    assert result.code == 0, result
    assert Path(f"out {name}.mp4").is_file()


def test_a_pattern_in_a_name_reads_no_other_file(clip, tmp_path):
    """p%03d.gif means p001.gif, p002.gif, ... to ffmpeg, where it is let to look at names."""
    shutil.copyfile(clip(".gif"), tmp_path / "p%03d.gif")
    (tmp_path / "p001.gif").write_bytes(b"no picture")
    assert len(decode(tmp_path / "p%03d.gif").frames) == 8


def test_an_output_name_that_is_too_long_leaves_nothing(refused, vidiff, clip, model, quick, tmp_path, hidden):
    command = ("extend", clip(), "-m", model, *quick, "--num-frames", "2", "-o")
    for length in (236, 246, 251, 300):
        assert "too long" in refused(*command, "a" * length + ".mp4")
        assert list(tmp_path.iterdir()) == [] and hidden(tmp_path) == []
    assert vidiff(*command, "a" * 200 + ".mp4").code == 0


def test_the_name_of_an_output_that_can_be_nothing(refused, clip, model, quick, tmp_path):
    for name in ("out.exe", "a\tb.sh", "out.mp4\n", ".mp4", "/dev/null", "/proc/x.mp4", str(clip())):
        refused("extend", clip(), "-m", model, *quick, "--num-frames", "2", "-o", name)
