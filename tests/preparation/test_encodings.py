"""Text of any usual encoding is read by every reader of text, or refused with the encoding that would read it."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.reading import decode_text
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import Captions, read_captions
from vidiff_cli.preparation.scan import scan
from vidiff_cli.text.prompts_file import read_prompts

CAPTION = "a café, “quoted” and a cat"  # all of it in cp1252
DECODED = {
    "utf-8": "utf-8",
    "utf-8 with a mark": "utf-8-sig",
    "utf-16 little-endian with a mark": "utf-16",
    "utf-16 little-endian": "utf-16-le",
    "utf-16 big-endian": "utf-16-be",
    "utf-32 with a mark": "utf-32",
}


def sidecar(text: str) -> dict[str, str]:
    return {"a.txt": text}


def table(delimiter: str, first: str = "") -> Callable[[str], dict[str, str]]:
    def write(text: str) -> dict[str, str]:
        quoted = '"' + text.replace('"', '""') + '"'
        return {"metadata.csv": f"{first}file_name{delimiter}text\r\na.mp4{delimiter}{quoted}\r\n"}

    return write


def json_lines(text: str) -> dict[str, str]:
    return {"metadata.jsonl": json.dumps({"file_name": "a.mp4", "text": text}, ensure_ascii=False) + "\n"}


def corpus(text: str) -> dict[str, str]:
    found = {"v_a": {"duration": 9.0, "timestamps": [[0, 9]], "sentences": [text]}}
    return {"train.json": json.dumps(found, ensure_ascii=False)}


READERS = {
    "sidecar": sidecar,
    "csv": table(","),
    "tsv": table("\t"),
    "sep": table(";", "sep=;\r\n"),
    "jsonl": json_lines,
    "corpus": corpus,
}


def captions_of(folder: Path, files: dict[str, bytes], encoding: str | None = None) -> Captions:
    (folder / "a.mp4").write_bytes(b"x")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return read_captions(scan([str(folder)]).sources, encoding=encoding)


def said(found: Captions) -> list[str]:
    return [text for segment in found.by_source["a.mp4"] for text in segment.captions]


def told(found: Captions) -> str:
    return " ".join([*found.notes, *(row.reason for row in found.missing)])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("encoding", DECODED)
def test_captions_are_read_in_every_unicode_encoding(tmp_path: Path, reader: str, encoding: str) -> None:
    files = {name: text.encode(DECODED[encoding]) for name, text in READERS[reader](CAPTION).items()}
    assert said(captions_of(tmp_path, files)) == [CAPTION]


def test_utf_16_big_endian_with_a_mark(tmp_path: Path) -> None:
    assert said(captions_of(tmp_path, {"a.txt": codecs.BOM_UTF16_BE + CAPTION.encode("utf-16-be")})) == [CAPTION]


@pytest.mark.parametrize("reader", READERS)
def test_text_of_windows_is_refused_with_its_name_and_read_with_it(tmp_path: Path, reader: str) -> None:
    files = {name: text.encode("cp1252") for name, text in READERS[reader](CAPTION).items()}
    found = captions_of(tmp_path, files)
    assert said(found) == [] and "--encoding cp1252" in told(found)
    assert said(captions_of(tmp_path, files, "cp1252")) == [CAPTION]


@pytest.mark.parametrize("reader", READERS)
def test_a_named_encoding_leaves_unicode_as_it_is(tmp_path: Path, reader: str) -> None:
    files = {name: text.encode() for name, text in READERS[reader](CAPTION).items()}
    assert said(captions_of(tmp_path, files, "cp1252")) == [CAPTION]


@pytest.mark.parametrize("name", ["shift_jis", "gb18030", "koi8-r"])
def test_any_named_encoding_is_read(tmp_path: Path, name: str) -> None:
    text = {"shift_jis": "赤い丸", "gb18030": "红色的圆", "koi8-r": "красный круг"}[name]
    assert said(captions_of(tmp_path, {"a.txt": text.encode(name)}, name)) == [text]


@pytest.mark.parametrize("reader", READERS)
def test_text_with_nuls_is_no_caption(tmp_path: Path, reader: str) -> None:
    written = READERS[reader]("a cat" + "\0" * 30 + "é").items()
    files = {name: text.replace("\\u0000", "\0").encode() for name, text in written}
    assert said(captions_of(tmp_path, files)) == []


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;"])
@pytest.mark.parametrize("named", [False, True])
def test_the_delimiter_that_a_table_declares_is_taken(tmp_path: Path, first: str, named: bool) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    path = tmp_path / "metadata.csv"
    path.write_bytes(f"{first}\r\nfile_name;text\r\na.mp4;one, two, three, four\r\n".encode())
    found = read_captions(scan([str(tmp_path)]).sources, (str(path),) if named else ("auto",))
    assert said(found) == ["one, two, three, four"] and not found.notes


@pytest.mark.parametrize("delimiter", [",", "\t", "|", ";"])
def test_a_declared_delimiter_wins_over_the_most_frequent(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    names = delimiter.join(["file_name", "text", "a,b,c,d;e;f;g"] if delimiter in "\t|" else ["file_name", "text", "x"])
    row = delimiter.join(["a.mp4", "a cat", "1"])
    (tmp_path / "metadata.csv").write_text(f"sep={delimiter}\n{names}\n{row}\n")
    assert said(read_captions(scan([str(tmp_path)]).sources)) == ["a cat"]


PROMPTS = {
    "p.txt": "# no prompt\n{}\n",
    "p.csv": 'seed,prompt\n1,"{}"\n',
    "p.tsv": "seed\tprompt\n1\t{}\n",
    "q.csv": 'sep=;\r\nseed;prompt\r\n1;"{}"\r\n',
    "r.csv": 'seed;prompt\r\n1;"{}"\r\n',
    "p.jsonl": '{{"prompt": "{}"}}\n',
}


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("encoding", DECODED)
def test_prompts_are_read_in_every_unicode_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(PROMPTS[name].format(CAPTION).encode(DECODED[encoding]))
    assert read_prompts(tmp_path / name) == [CAPTION]


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_of_windows_are_refused_with_its_name_and_read_with_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PROMPTS[name].format(CAPTION).encode("cp1252"))
    with pytest.raises(VidiffError, match=r"--encoding cp1252.*café"):
        read_prompts(tmp_path / name, offered=True)
    with pytest.raises(VidiffError, match="may be cp1252"):  # a command without that option
        read_prompts(tmp_path / name)
    assert read_prompts(tmp_path / name, encoding="cp1252") == [CAPTION]


def test_what_is_not_text_at_all_offers_no_encoding() -> None:
    for content in (bytes(range(256)), b"\x81\x8d\x8f", b"\0" * 40, b"\xff\xfea"):
        with pytest.raises(VidiffError) as caught:
            decode_text(content, "the file", offered=True)
        assert "cp1252" not in str(caught.value)


@pytest.mark.parametrize("name", ["hex", "base64", "rot13", "nonsense", "\0"])
def test_an_unknown_encoding_is_wrong_usage(name: str) -> None:
    with pytest.raises(ValueError, match="is not an encoding of text"):
        PrepSettings.model_validate({"sources": ("x",), "encoding": name})
