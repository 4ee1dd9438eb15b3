"""Real files of every kind, sound and damaged: each works or is one sentence, and prep stops for none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vidiff_cli.video.decode import SUFFIXES_IMAGE, SUFFIXES_VIDEO

SMALL_BYTES = 50_000  # files that a quick run looks at


@pytest.fixture
def sweep(model, vidiff, sentence, quick, tmp_path, hidden):
    """sweep(files, commands): runs each command on each file; returns how many made a video."""

    def over(sources, commands):
        made = 0
        for source in sources:
            for command, more in commands:
                target = tmp_path / "out" / f"{source.stem}-{command}.mkv"
                result = vidiff(command, source, "-m", model, "-o", target, *more, *quick)
                assert (result.code == 0) == target.is_file(), (source, result)
                assert result.code == 0 or sentence(result), (source, result)
                made += result.code == 0
        assert hidden(tmp_path) == []
        return made

    return over


EXTEND, INTERPOLATE = ("extend", ["--num-frames", "2"]), ("interpolate", [])


def test_small_files_work_or_are_one_sentence(real_clips, sweep):
    small = [path for path in real_clips if path.stat().st_size < SMALL_BYTES][::9]
    assert 0 < sweep(small, [EXTEND]) < len(small)


def test_prep_keeps_the_good_and_lists_the_bad(real_clips, vidiff, tmp_path):
    small = [path for path in real_clips if path.stat().st_size < SMALL_BYTES]
    settings = ["--size", "16", "--frames", "2", "--clips-per-source", "1"]
    result = vidiff("prep", *small, "-o", "dataset", *settings, "--preview", "0", "--quiet")
    assert result.code == 0, result
    ledger = [json.loads(line) for line in Path("dataset/ledger.jsonl").read_text().splitlines()]
    assert len(ledger) == len(small)
    rejected = {Path(row["source"]).name: row for row in ledger if row["status"] == "rejected"}
    assert {"WrongFile.mp4", "broken.mp4", "zero_bytes.mp4", "empty.flv"} <= rejected.keys()
    assert all(row["reason"].strip() and "\n" not in row["reason"] for row in rejected.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_real_file_through_every_command(real_clips, sweep, vidiff, sentence, pytestconfig):
    """The whole sweep, some minutes: pytest -m slow tests/hostile."""
    if "slow" not in pytestconfig.option.markexpr:
        pytest.skip("some minutes: run it with -m slow")
    assert {path.suffix.lower() for path in real_clips} <= SUFFIXES_VIDEO | SUFFIXES_IMAGE
    sweep(real_clips, [EXTEND, ("extend", ["--num-frames", "1", "--before"])])
    sweep([path for path in real_clips if path.stat().st_size < 400_000], [INTERPOLATE])
    for path in real_clips:
        looked = vidiff("info", path)
        assert looked.code == 0 or sentence(looked), (path, looked)
    result = vidiff("prep", *real_clips, "-o", "dataset", "--size", "16", "--frames", "2", "--quiet")
    assert result.code == 0, result
