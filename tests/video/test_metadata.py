"""What a file says about itself goes with its frames; how it was turned and its chapters do not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import encode, ffmpeg, probe
from vidiff_cli.video.metadata import KEPT, LONGEST, read_tags

FRAMES = np.zeros((3, 16, 16, 3), np.uint8)
TAGS = {
    "title": "A = b; #1 \\ \n[STREAM]\nartist=nobody",
    "artist": "Ж 日本",
    "album": "-y",
    "date": "2024-05-06",
    "creation_time": "2024-05-06T07:08:09.000000Z",
    "location": "+48.8577+002.2950/",
    "comment": "two\nlines",
    "copyright": "© 'me' \"too\"",
}
CHAPTERS = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/10\nSTART=0\nEND=2\ntitle=one\n"


@pytest.fixture
def tagged(tmp_path, make):
    """A turned video with tags, chapters and sound: `tagged(".mp4")`."""
    (tmp_path / "chapters.txt").write_text(CHAPTERS)
    streams = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=10:d=0.3", "-f", "lavfi", "-i", "sine=d=0.3"]
    make(tmp_path / "plain.mp4", *streams)
    inputs = ["-display_rotation", "90", "-i", ffmpeg.file_url(tmp_path / "plain.mp4")]
    inputs += ["-i", ffmpeg.file_url(tmp_path / "chapters.txt"), "-map", "0", "-map_chapters", "1", "-c", "copy"]

    def made(suffix: str, tags: dict[str, str] = TAGS, *more: str) -> Path:
        named = [word for tag in tags.items() for word in ("-metadata", "=".join(tag))]
        return make(tmp_path / f"tagged{suffix}", *inputs, *named, *more)

    return made


def position(text: str) -> tuple[float, float]:
    """Latitude and longitude of an ISO 6709 place."""
    sign = max(text.rfind("+"), text.rfind("-"))
    return float(text[:sign]), float(text[sign:].rstrip("/"))


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_tags_go_with_the_frames(tmp_path, tagged, suffix, sound):
    given = tagged(".mp4")
    found = read_tags(given)
    assert found.keys() == TAGS.keys()
    assert {**found, "location": 0} == {**TAGS, "location": 0}
    target = tmp_path / f"a{suffix}"
    encode(target, FRAMES, Fraction(10), metadata_from=given, audio_from=given if sound else None)
    back = read_tags(target)
    assert position(back.pop("location")) == pytest.approx(position(TAGS["location"]))
    assert back == {name: value for name, value in TAGS.items() if name != "location"}
    log = ffmpeg.run(ffmpeg.input_arguments(target))[1]
    assert "Chapter" not in log and probe(target).rotation == 0 and probe(given).rotation != 0
    assert probe(target).has_audio == sound
    assert "Chapter" in ffmpeg.run(ffmpeg.input_arguments(given))[1]


def test_names_of_phones_and_of_matroska(tagged):
    apple = {
        "com.apple.quicktime.location.ISO6709": "+01.0000-002.0000/",
        "com.apple.quicktime.creationdate": "2023-01-02T03:04:05+0100",
        "com.apple.quicktime.make": "Phone",
    }
    assert read_tags(tagged(".mov", apple, "-movflags", "use_metadata_tags")) == {
        "date": "2023-01-02T03:04:05+0100",
        "location": "+01.0000-002.0000/",
    }
    assert read_tags(tagged(".mkv", {"DATE_RECORDED": "1999", "Title": "x"})) == {"title": "x", "date": "1999"}


def test_without_tags_nothing_is_written(tmp_path, tagged):
    encode(tmp_path / "a.mkv", FRAMES, Fraction(10), metadata_from=tagged(".mp4", {}))
    encode(tmp_path / "b.mkv", FRAMES, Fraction(10))
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_hostile_tags(tmp_path, tagged, monkeypatch):
    assert read_tags(tagged(".mkv", {"title": "x" * (LONGEST + 1), "comment": "  ", "artist": "me"})) == {
        "artist": "me"
    }
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(bytes(range(256)) * 9)
    assert read_tags(junk) == {}
    for broken in ("", "title", "=x", "title=", "\\", "title=\\", "[STREAM]\ntitle=x\n", "title\\=x=y\n"):
        monkeypatch.setattr("vidiff_cli.video.metadata.ffmpeg.Ffmpeg", lambda *_, text=broken, **__: _Says(text))
        assert read_tags(junk) == {}


class _Says:
    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self):
        from io import BytesIO
        from types import SimpleNamespace

        return SimpleNamespace(stdout=BytesIO(self.text.encode()))

    def __exit__(self, *_) -> None:
        pass


def test_pictures_have_none_and_a_missing_file_is_an_error(tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    assert read_tags(tmp_path / "a.png") == {}
    with pytest.raises(VidiffError, match=r"nowhere\.mp4"):
        read_tags(tmp_path / "nowhere.mp4")
    assert set(TAGS) <= set(KEPT)
