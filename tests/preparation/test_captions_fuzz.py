"""Laws of the caption parsers: what is written is read back; whatever is read, no more than one clear error comes."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import FORMATS, Captions
from vidiff_cli.preparation.captions.collector import CaptionCollector
from vidiff_cli.preparation.captions.document import Document, documents
from vidiff_cli.preparation.captions.formats import recognise
from vidiff_cli.preparation.captions.literal import parse_list
from vidiff_cli.preparation.captions.types import CONTROL
from vidiff_cli.preparation.scan import MediaSource

IDS = ("-a_B3456789", "_xOx9hkJoBk", "v_QOlSCBRmfW", "0123456789a")
SLOW = 60_000  # milliseconds: far above what any of these small files takes on a busy machine, below a hang
READABLE = [name for name in FORMATS if name != "sidecar"]


def sources(*names: str) -> list[MediaSource]:
    root = Path("/nowhere")
    return [MediaSource(path=root / name, root=root, name=name, bytes=1, mtime_ns=1) for name in names]


HERE = sources(*(f"{name}.mp4" for name in IDS))


def read(content: bytes, format: str, of: list[MediaSource] | None = None) -> Captions:
    book = CaptionCollector(HERE if of is None else of)
    book.read(Document(Path("/nowhere/captions"), "", content), format, anywhere=True)
    return book.captions()


def check(found: Captions) -> None:
    """What is handed on can be written, shown on a terminal and cut."""
    for parts in found.by_source.values():
        times = [(part.start_seconds, part.stop_seconds) for part in parts]
        assert len(set(times)) == len(times)
        bounded = [(start, stop) for start, stop in times if start is not None and stop is not None]
        assert bounded == sorted(bounded)
        assert all(0 <= start < stop for start, stop in bounded)
        assert len(times) - len(bounded) <= 1
        for part in parts:
            assert part.captions
            for text in part.captions:
                assert text == " ".join(text.split())
                assert not CONTROL.search(text)
                text.encode()
    for row in found.missing:
        assert row.reason
        for text in (row.reason, row.where, row.what):
            assert not CONTROL.search(text)
            text.encode()
    for columns in found.columns.values():
        json.dumps(columns, ensure_ascii=False).encode()


# Blanks collapse, so that the plainest law (what is written is read) holds of texts without them at their ends.
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=12
).filter(lambda text: text == " ".join(text.split()) and text)
SENTENCES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
MILLISECONDS = st.integers(0, 10**7)
CUTS = st.lists(
    st.tuples(MILLISECONDS, st.integers(1, 10**6), SENTENCES), min_size=1, max_size=4, unique_by=lambda cut: cut[:2]
)
DENSE = st.dictionaries(st.sampled_from(IDS), CUTS, min_size=1)
FLAT = st.dictionaries(st.sampled_from(IDS), st.lists(SENTENCES, min_size=1, max_size=4), min_size=1)
PLAIN = st.dictionaries(st.sampled_from(IDS), SENTENCES, min_size=1)


def decimal(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def clock(milliseconds: int) -> str:
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def as_csv(header: list[str], rows: list[list[str]], **style: Any) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, **style).writerows([header, *rows])
    return out.getvalue().encode()


def activitynet(given: dict[str, list[tuple[int, int, str]]]) -> bytes:
    entries = [
        f"{json.dumps('v_' + name)}: {{"
        f'"timestamps": [{", ".join(f"[{decimal(at)}, {decimal(at + long)}]" for at, long, _ in cuts)}], '
        f'"sentences": {json.dumps([" " + text for _, _, text in cuts])}}}'
        for name, cuts in given.items()
    ]
    return ("{" + ", ".join(entries) + "}").encode()


def youcook2(given: dict[str, list[tuple[int, int, str]]]) -> bytes:
    steps = {
        name: [{"segment": [at / 1000, (at + long) / 1000], "id": 0, "sentence": text} for at, long, text in cuts]
        for name, cuts in given.items()
    }
    database = {name: {"subset": "training", "annotations": parts} for name, parts in steps.items()}
    return json.dumps({"database": database}).encode()


def panda70m(given: dict[str, list[tuple[int, int, str]]]) -> bytes:
    rows = [
        [name, "u", repr([[clock(at), clock(at + long)] for at, long, _ in cuts]), repr([text for *_, text in cuts])]
        for name, cuts in given.items()
    ]
    return as_csv(["videoID", "url", "timestamp", "caption"], rows)


def msrvtt(given: dict[str, list[str]]) -> bytes:
    sentences = [{"caption": text, "video_id": name} for name, texts in given.items() for text in texts]
    videos = [{"video_id": name, "category": 9} for name in given]
    return json.dumps({"info": {}, "videos": videos[::-1], "sentences": sentences}, ensure_ascii=False).encode()


def vatex(given: dict[str, list[str]]) -> bytes:
    return json.dumps([{"videoID": f"{name}_000001_000011", "enCap": texts} for name, texts in given.items()]).encode()


def jsonl(given: dict[str, list[str]]) -> bytes:
    rows = [json.dumps({"file_name": f"{name}.mp4", "text": texts}) for name, texts in given.items()]
    return "\n".join(rows).encode()


def webvid(given: dict[str, str]) -> bytes:
    header = ["videoid", "contentUrl", "duration", "page_dir", "name"]
    return as_csv(header, [[name, "u", "PT1S", "p", text] for name, text in given.items()], lineterminator="\n")


def table(given: dict[str, str]) -> bytes:
    return as_csv(["text", "file_name"], [[text, f"{name}.mp4"] for name, text in given.items()], delimiter=";")


def jsfusion(given: dict[str, str]) -> bytes:
    return as_csv(["key", "video_id", "sentence"], [["k", name, text] for name, text in given.items()])


@pytest.mark.parametrize(
    ("format", "write"), [("activitynet", activitynet), ("youcook2", youcook2), ("panda70m", panda70m)]
)
@settings(max_examples=40, deadline=SLOW)
@given(dense=DENSE)
def test_cut_formats_are_read_as_written(format, write, dense):
    content = write(dense)
    assert recognise(Document(Path("any"), "", content)) == format
    found = read(content, format)
    check(found)
    for name in IDS:
        expected = sorted(
            (Fraction(at, 1000), Fraction(at + long, 1000), text) for at, long, text in dense.get(name, ())
        )
        parts = found.by_source[f"{name}.mp4"]
        assert sorted((p.start_seconds, p.stop_seconds, text) for p in parts for text in p.captions) == expected
    assert found.annotated_videos == len(dense)
    assert not [row for row in found.missing if row.kind == "row"]


@pytest.mark.parametrize(("format", "write"), [("msrvtt", msrvtt), ("vatex", vatex), ("jsonl", jsonl)])
@settings(max_examples=40, deadline=SLOW)
@given(flat=FLAT)
def test_lists_of_sentences_are_read_as_written(format, write, flat):
    content = write(flat)
    assert recognise(Document(Path("any"), "", content)) == format
    ending = "_000001_000011.mp4" if format == "vatex" else ".mp4"
    found = read(content, format, sources(*(f"{name}{ending}" for name in IDS)))
    check(found)
    said = {name: [text for part in found.by_source[f"{name}{ending}"] for text in part.captions] for name in IDS}
    once = format == "jsonl"  # a table's repeated captions are one
    assert said == {name: list(dict.fromkeys(flat.get(name, ()))) if once else flat.get(name, []) for name in IDS}


@pytest.mark.parametrize(("format", "write"), [("webvid", webvid), ("csv", table), ("msrvtt", jsfusion)])
@settings(max_examples=40, deadline=SLOW)
@given(plain=PLAIN)
@example(plain={IDS[0]: 'a, "b"; c'})
def test_rows_are_read_as_written(format, write, plain):
    content = write(plain)
    assert recognise(Document(Path("any"), "", content)) == format
    found = read(content, format)
    check(found)
    said = {name: " ".join(text for part in found.by_source[f"{name}.mp4"] for text in part.captions) for name in IDS}
    assert said == {name: plain.get(name, "") for name in IDS}


SAMPLES: dict[str, list[bytes]] = {
    "activitynet": [activitynet({IDS[0]: [(1, 2, "a"), (3, 4, "b")], IDS[1]: [(0, 9, "c")]})],
    "youcook2": [youcook2({IDS[0]: [(1, 2, "a"), (3, 4, "b")], IDS[1]: [(0, 9, "c")]})],
    "panda70m": [panda70m({IDS[0]: [(1, 2, "it's"), (3, 4, '"b"')], IDS[1]: [(0, 9, "c\\")]})],
    "msrvtt": [msrvtt({IDS[0]: ["a", "b"], IDS[1]: ["c"]}), jsfusion({IDS[0]: "a", IDS[1]: 'b, "c"'})],
    "vatex": [vatex({IDS[0]: ["a", "b"], IDS[1]: ["c"]})],
    "jsonl": [jsonl({IDS[0]: ["a", "b"], IDS[1]: ["c"]})],
    "webvid": [webvid({IDS[0]: "a, b", IDS[1]: 'c "d"', IDS[2]: "e"})],
    "csv": [table({IDS[0]: "a; b", IDS[1]: 'c "d"', IDS[2]: "e"})],
    "lerobot": [b'{"codebase_version": "v3.0", "features": {"camera": {"dtype": "video"}}}'],
    "parquet": [b"PAR1" + bytes(40) + b"PAR1"],
}
JUNK = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b'"', b"'", b"[", b"]", b"{", b"}", b",", b"\n", b"\r", b"\0", b"\\", b"\xff", b"\xef\xbb\xbf"]),
    st.sampled_from([b"NaN", b"-1", b"1e999", b"null", b"\\ud800", b"\xe9", b'""', b"[" * 3000, b"9" * 5000]),
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12) | st.just(10**6), JUNK), min_size=1, max_size=4)


def edited(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, gone, put in edits:
        at = int(where * len(content))
        content = content[:at] + put + content[at + gone :]
    return content


@contextlib.contextmanager
def one_sentence_at_most() -> Iterator[None]:
    try:
        yield
    except VidiffError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("format", READABLE)
@settings(max_examples=80, deadline=SLOW)
@given(edits=EDITS, data=st.data())
def test_damaged_files_raise_nothing_but_one_sentence(format, edits, data):
    content = edited(data.draw(st.sampled_from(SAMPLES[format])), edits)
    with one_sentence_at_most():
        check(read(content, format))
    with one_sentence_at_most():
        assert recognise(Document(Path("any"), "", content)) in (None, *READABLE)


SIGNS = st.text("[]{}\",':\\0123456789-.enaN \n\rv_", max_size=200).map(str.encode)


@settings(max_examples=100, deadline=SLOW)
@given(content=st.one_of(st.binary(max_size=200), SIGNS), format=st.sampled_from(sorted(FORMATS)))
def test_arbitrary_bytes_raise_nothing_but_one_sentence(content, format):
    with one_sentence_at_most():
        check(read(content, format))


TEXTS = st.sampled_from(["", " ", "x", "\ud800", "../x", "a\0b", *IDS])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@pytest.mark.parametrize("format", ["activitynet", "youcook2", "msrvtt", "vatex", "jsonl"])
@settings(max_examples=80, deadline=SLOW)
@given(data=st.data())
def test_any_value_in_any_place_raises_nothing_but_one_sentence(format, data):
    value = json.loads(SAMPLES[format][0].splitlines()[0])
    for _ in range(data.draw(st.integers(1, 3))):
        value = replaced(value, data)
    with one_sentence_at_most():
        check(read(json.dumps(value).encode(), format))


def replaced(value: Any, data: st.DataObject) -> Any:
    """The value with one part anywhere in it exchanged for another value."""
    inner = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    if not inner or data.draw(st.integers(0, 5)) == 0:
        return data.draw(VALUES)
    key = data.draw(st.sampled_from(inner))
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = replaced(value[key], data)
    return copy


@settings(max_examples=100, deadline=SLOW)
@given(edits=EDITS)
def test_damaged_archives_raise_nothing_but_one_sentence(tmp_path_factory, edits):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/train.json", SAMPLES["activitynet"][0] * 3)
        archive.writestr("b.csv", SAMPLES["webvid"][0])
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(edited(packed.getvalue(), edits))
    with one_sentence_at_most():
        for document in documents(path):
            assert not CONTROL.search(str(document))
            recognise(document, hurried=True)


LITERALS = st.recursive(
    st.one_of(st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**6), 10**6)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=SLOW)
@example([[[[[[[[]]]]]]]])
@example([1.0] * 10_000)
@given(st.lists(LITERALS, max_size=4).filter(lambda value: depth(value) <= 8))
def test_python_lists_are_read_as_python_reads_them(value):
    assert parse_list(repr(value)) == ast.literal_eval(repr(value)) == value


NO_LISTS = [
    *("", "1", "'a'", "[1],[2]", "[[1][0]]", "['a' 'b']", "[b'x']", "[u'x']", "['''x''']", "[(1)]", "[1 - 1]"),
    *("[1j]", "[0x10]", "[1_0]", "[--1]", "[1, # one\n2]", "[{}]", "[True]", "[None]", "[f'{1}']", "[1e9999]"),
    *("[1", "[,]", "[1,,2]", r"['\U00110000']", "['\x00']", "['" + "\\" * 9999, "['" + "\\'" * 400_000),
    *("[" * 100_000, "[" * 9 + "]" * 9, "[" + "-" * 500_000 + "1]", "[" + "9" * 500_000 + "]"),
    *("[" + "1," * 10_001 + "]", "[" + "'a'," * (1 << 18) + "]"),
]


@pytest.mark.parametrize("text", NO_LISTS, ids=lambda text: ascii(text[:12]))
def test_anything_but_a_plain_list_is_refused(text):
    assert isinstance(parse_list(text), str)


def depth(value: Any) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0
