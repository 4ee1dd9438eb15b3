"""Prompts, settings and sidecars that no one would write by hand: bounded, one sentence, and never obeyed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from vidiff_cli.cli.console import LONGEST_LINE, shown

PROMPTS = {
    "empty": "",
    "ten thousand words": "word " * 10_000,
    "one long word": "x" * 100_000,
    "escapes": "\x1b[31mred\x1b]0;title\x07\x9b31m",
    "right to left": "\u202eabc\u2066x",
    "surrogate": "a\ud800b",
    "lines": "line\nline\r\u2028line",
    "path": "../../etc/passwd",
    "option": "--help",
    "format": "%d%s{0}{x}",
    "markup": "[bold]x[/bold][/]",
    "combining": "a" + "\u0301" * 3000,
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_prompt_of_any_kind(kind, vidiff, model, quick, tmp_path, no_control, hidden):
    """Makes one file with a plain and short name; nothing of it is obeyed by the terminal."""
    result = vidiff("sample", "-m", model, *quick, "--compare", "--", PROMPTS[kind])
    assert result.code == 0, result
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3 and all(re.fullmatch(r"[^\W_A-Z][\w-]*_s1_4f_16x16(_sheet)?\.\w+", name) for name in names)
    assert all(len(name.encode()) <= 200 for name in names) and hidden(tmp_path) == []
    assert no_control(result.err.replace("\n", "")) and len(result.err) < 3 * LONGEST_LINE
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["settings"]["prompts"] == [PROMPTS[kind]]


def test_negative_prompts_and_unknown_words_are_not_obeyed(vidiff, refused, model, quick, no_control):
    odd = "\x1b[31mred\x07 \u202eabc \ud800" + "x" * 9000
    result = vidiff("sample", "-m", model, *quick, "--negative-prompt", odd, "-o", "out.mp4", "--", odd)
    assert result.code == 0 and no_control(result.err.replace("\n", "")), result
    error = refused("sample", "-m", model, *quick, "--strict-prompt", "-o", "strict.mp4", "--", odd)
    assert all(no_control(line) and len(line) < LONGEST_LINE + 100 for line in error.splitlines())


def test_what_is_shown_is_one_bounded_line_without_control():
    text = "".join(map(chr, range(0x3000))) + "\ud800\udcff\U0001f600" + "\x1b[2J"
    console = Console(width=100)
    assert shown(text).isprintable() and len(shown(text * 9)) < 12 * LONGEST_LINE
    assert shown("a plain name é 日本.mp4") == "a plain name é 日本.mp4"
    assert shown("\x1b[31m\u202e\n") == "\\x1b[31m\\u202e\\n"
    assert console.render_str(shown("x"), markup=False).plain == "x"


FILES = {
    "binary": bytes(range(256)),
    "half a character": "a cat\na dog".encode("utf-16")[:-1],
    "nuls": b"a cat\0\0\0\xc3\xa9",
    "empty": b"",
    "comments": b"#a\n  # b\n#",
    "too large": b"word " * 4_000_000,
}


@pytest.mark.parametrize("kind", FILES)
def test_a_prompts_file_that_is_none(kind, refused, model, quick, tmp_path):
    (tmp_path / "prompts.txt").write_bytes(FILES[kind])
    refused("sample", "-m", model, *quick, "--prompts", "prompts.txt", "-o", "out/")
    assert not Path("out").exists()


def test_a_prompts_file_with_odd_lines(vidiff, model, quick, tmp_path, no_control):
    lines = [b"\xef\xbb\xbfa cat", b"\x1b[31mred", "\u202ex".encode(), b"../../x", b"", b"# no", b"a\rb\x0cc"]
    (tmp_path / "prompts.txt").write_bytes(b"\r\n".join(lines))
    result = vidiff("sample", "-m", model, *quick, "--prompts", "prompts.txt", "-o", "out/")
    assert result.code == 0 and no_control((result.err + result.out).replace("\n", "")), result
    made = [Path(line) for line in result.out.splitlines()]
    assert len(made) == 7 and {path.parent for path in made} == {Path("out")}


def test_more_videos_than_anyone_wants_are_refused(refused, model, quick, tmp_path):
    command = ("sample", "-m", model, *quick, "--prompts", "prompts.txt", "-o", "out/")
    for lines, more in ((100_001, ()), (1_000_000, ("-n", "100000"))):
        (tmp_path / "prompts.txt").write_bytes(b"a\n" * lines)
        assert "too many videos requested" in refused(*command, *more)


@pytest.mark.parametrize("option", ["--prompts", "--config", "--from-json"])
def test_files_that_are_none_for_every_option_that_reads_one(option, refused, model, quick, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder", "loop", "none", "/dev/zero", "x" * 300, "a\nb"):
        refused("sample", "-m", model, *quick, option, name, "-o", "out.mp4")


# --- settings ----------------------------------------------------------------------------------------------------

SETS = [
    *("num_frames=1000000000000", "fps=1e400", "fps='1/0'", "fps=1e-300", f"fps='{'9' * 30}/7'", "count=0"),
    *("guidance_scale=nan", "guidance_scale=-1", "threshold=2", "seed=-1", "overlap=1000000", "langevin=inf"),
    *(f"seed={'9' * 5000}", f"steps={'[' * 50_000}", "steps=1979-05-27", "prompts=[1]", "prompts={}"),
    *("device='cpu; rm -rf'", "device='cuda:99'", "model='a\\u0000b'", f"{'x' * 10_000}=1", "__class__=1", "...=1"),
]


@pytest.mark.parametrize("text", SETS, ids=lambda text: text[:24])
def test_a_setting_that_cannot_be(text, refused, model, quick, tmp_path):
    error = refused("sample", "-m", model, *quick, "-o", "out.mp4", "--set", text)
    assert len(error) < LONGEST_LINE + 100 and list(tmp_path.iterdir()) == []


TOMLS = {
    "binary": b"\xff\xfe\x00",
    "deep": b"x=" + b"[" * 100_000,
    "deep keys": b".".join([b"a"] * 5000) + b"=1",
    "digits": b"steps=" + b"9" * 100_000,
    "nul": b"a\0=1",
    "list": b"prompts=[[1]]",
    "unknown": b'"\\u001b[31m"=1',
}
SIDECARS = {
    "empty": b"",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "nothing in it": b"{}",
    "settings that are a number": b'{"command":"sample","settings":5}',
    "settings that are pairs": b'{"command":"sample","settings":[["steps",2]]}',
    "a command that is a list": b'{"command":["sample"],"settings":{}}',
    "another command": b'{"command":"sam\\u001b[31mple","settings":{}}',
    "an unknown setting": b'{"command":"sample","settings":{"__class__":"x"}}',
    "an infinite number": b'{"command":"sample","settings":{"steps":1e999}}',
    "digits": b'{"command":"sample","settings":{"seed":' + b"9" * 5000 + b"}}",
    "a wrong type": b'{"command":"sample","settings":{"prompts":{"a":1}}}',
}
SETTINGS_FILES = [("--config", kind) for kind in TOMLS] + [("--from-json", kind) for kind in SIDECARS]


@pytest.mark.parametrize(("option", "kind"), SETTINGS_FILES)
def test_a_settings_file_or_a_sidecar_that_cannot_be(option, kind, refused, model, tmp_path, no_control):
    (tmp_path / "given").write_bytes((TOMLS if option == "--config" else SIDECARS)[kind])
    error = refused("sample", option, "given", "-m", model, "--device", "cpu", "--quiet", "-o", "out.mp4")
    assert no_control(error.removesuffix("\n")) and not Path("out.mp4").exists()


def test_a_sidecar_says_neither_where_to_write_nor_what_to_read_as_prompts(vidiff, model, quick, tmp_path):
    (tmp_path / "victim.mp4").write_bytes(b"precious")
    (tmp_path / "secret.txt").write_text("a secret\n")
    settings = {"output": "victim.mp4", "overwrite": True, "prompts_file": "secret.txt", "prompts": ["a ball"]}
    (tmp_path / "a.json").write_text(json.dumps({"command": "sample", "settings": settings}))
    result = vidiff("sample", "--from-json", "a.json", "-m", model, *quick)
    assert result.code == 0 and "secret" not in result.out + result.err
    assert (tmp_path / "victim.mp4").read_bytes() == b"precious"
    assert (tmp_path / "a-ball_s1_4f_16x16.mp4").is_file()


def test_training_and_prep_settings_that_cannot_be(refused, made, training, tmp_path):
    for text in ("optimizer.lr=nan", "network.base_channels=1000000", "network.num_res_blocks=99", "frames=10000"):
        refused("train", made / "dataset", "-o", "run", "--steps", "1", *training, "--quiet", "--set", text)
    for text in ("size=100000", "fps=0", "val_fraction=nan", "stride=0", "fps=" + "9" * 4400):
        refused("prep", made / "clips", "-o", "dataset", "--quiet", "--set", text)
    assert list(tmp_path.iterdir()) == []
