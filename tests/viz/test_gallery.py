"""The page asks for nothing and runs one script, whatever its texts say; a real browser plays, sorts and filters it."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise
from web_server import listening

from vidiff_cli.errors import VidiffError
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe
from vidiff_cli.viz.gallery import (
    ENLARGED,
    LONGEST_TEXT,
    Gallery,
    GalleryEntry,
    Media,
    browser_type,
    escape_text,
    media_of_file,
    media_of_frames,
)

HOSTILE = '</p></script><script>document.title="owned"</script>"\'><img src=x onerror=alert(1)> {{cards}} &lt;'
VOID = {"meta", "input", "img"}


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text within each kind of tag."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == [], "a tag was left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open += [tag] if tag not in VOID else []

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(tmp_path: Path, *entries: tuple[GalleryEntry, Media | None], title: str = "clips", sort: str = "") -> str:
    path = tmp_path / "gallery.html"
    with Gallery(limit=1e8) as page:
        assert all([page.add(*each) for each in entries])
        assert page.write(path, title=title, summary=["some"], facts={}, sort=sort) == path.stat().st_size
    return path.read_text(encoding="utf-8")


PICTURE = media_of_frames(noise(1, 16), Fraction(0))


# --- texts and structure ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(said=st.one_of(st.text(min_size=1, max_size=60), st.just(HOSTILE)))
def test_no_text_changes_the_structure_of_the_page(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("page")

    def shape(name: str) -> list[tuple[str, list[str]]]:
        entry = GalleryEntry(name=name, kind="clip", prompt=name, facts={name: name}, scores={name: 1.0}, problem=name)
        page = Page(written(folder, (entry, PICTURE), title=name))
        assert json.loads(page.all("li")[0]["data-keys"] or "")[name] == 1.0
        return [(tag, sorted(attributes)) for tag, attributes in page.tags]

    assert shape(said) == shape("harmless")


def test_texts_are_shown_as_they_are_but_for_what_no_page_should_obey(tmp_path):
    assert html.unescape(escape_text(HOSTILE)) == HOSTILE and not set("<>\"'") & set(escape_text(HOSTILE))
    assert escape_text("a\u202eb\x1b[31m\x00\ud800") == "a\ufffdb\ufffd[31m\ufffd\ufffd"
    assert len(html.unescape(escape_text("<" * 10**6))) == LONGEST_TEXT
    scores = {"a": float("nan"), "b": 1e300, "c": -1.0}
    entry = GalleryEntry(name="<\u2028&" * 10**5, kind="clip", seed=10**30, scores=scores)
    (card,) = Page(written(tmp_path, (entry, None))).all("li")
    keys = json.loads(card["data-keys"] or "", parse_constant=pytest.fail)
    assert keys == {"name": entry.name[:LONGEST_TEXT], "seed": 10**30, "b": 1e300, "c": -1.0}


def test_the_page_names_no_other_place_and_lets_only_its_own_script_run(tmp_path):
    video = media_of_frames(noise(4, 16), Fraction(8))
    content = written(
        tmp_path, (GalleryEntry(name=HOSTILE, kind="clip"), video), (GalleryEntry(name="b", kind="image"), PICTURE)
    )
    page = Page(content)
    assert [tag for tag, attributes in page.tags if any(name.startswith("on") for name in attributes)] == []
    places = [
        a[name] or "" for _, a in page.tags for name in ("src", "href", "srcset", "action", "poster") if name in a
    ]
    assert len(places) == 2 and all(re.match(r"data:(video/mp4|image/png);base64,", place) for place in places)
    assert base64.b64decode(places[0].partition(",")[2]) == video.content
    policy = page.all("meta")[1]["content"] or ""
    assert policy.count("script-src 'sha256-") == 1 and "default-src 'none'" in policy and "unsafe" not in policy
    assert len(page.all("script")) == 1 and "url(" not in content and "http:" not in content


def test_what_finds_no_room_is_left_out_and_counted(tmp_path):
    entry, big = GalleryEntry(name="a", kind="image"), Media(kind="image/png", content=bytes(30_000))
    with Gallery(limit=100_000) as page:
        assert [page.add(entry, media) for media in (big, big, big, PICTURE)] == [True, True, False, True]
        assert (page.shown, page.left_out) == (3, 1) and page.bytes <= 100_000
    with Gallery(limit=10) as page:
        assert not page.add(entry, None)
        with pytest.raises(VidiffError, match=r"nothing fits into the gallery: found a limit of .* MB; .*--megabytes"):
            page.write(tmp_path / "none.html", title="", summary=[], facts={})
    assert list(tmp_path.iterdir()) == []


# --- what browsers play -------------------------------------------------------------------------------------------


PLAYED = [("a.mp4", "video/mp4"), ("a.webm", "video/webm"), ("a.gif", "image/gif"), ("a.webp", "image/webp")]


@pytest.mark.parametrize(("name", "kind"), [*PLAYED, ("h264.mkv", None), ("ffv1.mkv", None)])
def test_files_that_browsers_play_are_embedded_as_they_are(tmp_path, name, kind):
    path, again = tmp_path / name, tmp_path / "again.mp4"
    encode(path, noise(4, 16), Fraction(8), lossless=name == "ffv1.mkv")
    media = media_of_file(probe(path))
    assert browser_type(probe(path)) == kind
    if kind is not None:
        assert media == Media(kind=kind, content=path.read_bytes())
        return
    assert media.kind == "video/mp4" and re.match(
        r"Encoded anew for browsers, .*; it is (h264|ffv1) in \.mkv", media.remark
    )
    again.write_bytes(media.content)
    assert browser_type(probe(again)) == "video/mp4" and len(decode(again).frames) == 4


@pytest.mark.parametrize("size", [(1, 1), (33, 20), (161, 121)])
def test_odd_frames_become_what_browsers_play_with_every_pixel(tmp_path, size):
    width, height = size
    frame = np.indices((height, width)).sum(0)[..., None].repeat(3, axis=2) * 7 % 200 + 20
    path = tmp_path / "a.mp4"
    path.write_bytes(media_of_frames([frame.astype(np.uint8)] * 3, Fraction(5)).content)
    found = decode(path)
    assert found.info.pixel_format == "yuv420p" and len(found.frames) == 3 and found.fps == 5
    factor = max(1, ENLARGED // max(size))
    shown = found.frames[1][factor // 2 : height * factor : factor, factor // 2 : width * factor : factor]
    assert np.abs(shown.astype(int) - frame).max() <= 24


def test_an_odd_mp4_and_a_large_file_are_made_anew(tmp_path, monkeypatch):
    encode(tmp_path / "odd.mp4", noise(4, 15), Fraction(8))
    assert media_of_file(probe(tmp_path / "odd.mp4")).remark
    encode(tmp_path / "even.mp4", noise(4, 16), Fraction(8))
    monkeypatch.setattr("vidiff_cli.viz.gallery.LARGEST_FILE", 100)
    assert "a file of 0.00" in media_of_file(probe(tmp_path / "even.mp4")).remark


# --- a real browser -----------------------------------------------------------------------------------------------

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("VIDIFF_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(NAMES)}, $VIDIFF_TEST_BROWSER")


@pytest.fixture
def browse(tmp_path):
    """browse(page, fragment): the page after its script ran, and what it said on the console."""

    def run(page: Path, fragment: str = "") -> tuple[str, list[str]]:
        profile = tmp_path / "profile"
        command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += [
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--window-size=900,900",
        ]
        command += ["--autoplay-policy=no-user-gesture-required", "--enable-logging=stderr"]
        command += ["--virtual-time-budget=6000", "--dump-dom", page.as_uri() + fragment]
        environment = os.environ | {"HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, timeout=100, env=environment)
        log = done.stderr.decode(errors="replace").splitlines()
        return done.stdout.decode(errors="replace"), [line for line in log if "CONSOLE" in line]

    return run


def entries(*prompts: str) -> list[tuple[GalleryEntry, Media | None]]:
    """Videos whose score falls from one to the next; the last entry has neither score nor video."""
    made = []
    for number, prompt in enumerate(prompts):
        said = {"name": f"clip-{number}", "prompt": prompt, "scores": {"motion": 10.0 - number}}
        entry = GalleryEntry(kind="clip", width=16, height=16, seed=number, **said)
        made.append((entry, media_of_frames(noise(8, 16, seed=number), Fraction(8))))
    return [*made, (GalleryEntry(name="broken", kind="clip", prompt="red too", problem="it is damaged"), None)]


@in_browser
def test_a_browser_plays_sorts_and_filters_and_asks_for_nothing(tmp_path, browse):
    with listening() as (address, asked):
        hostile = f'red<img src="{address}/caption"><script src="{address}/script"></script><b>'
        written(tmp_path, *entries("a red square", "blue", hostile, "red (second)"))
        dom, said = browse(tmp_path / "gallery.html", "#sort=motion&filter=red")
        assert asked == []
    assert said == []
    page = Page(dom)
    assert page.all("html")[0]["data-ready"] == "yes"
    cards = page.all("li")
    shown = [json.loads(card["data-keys"] or "")["name"] for card in cards if "hidden" not in card]
    assert shown == ["clip-3", "clip-2", "clip-0", "broken"]  # upwards, what has no score last
    assert [card["class"] for card in cards].count("card small loaded") == 4, "videos that the browser could decode"
    assert "".join(page.texts["output"]) == "4 of 5 shown"
    assert "Pause all" in page.texts["button"] and all("controls" not in video for video in page.all("video"))


ACTIONS = """
addEventListener("load", () => setTimeout(() => {
  const found = {}, page = document.documentElement, find = (id) => document.getElementById(id);
  const all = (query) => [...document.querySelectorAll(query)];
  const names = () => all(".card:not([hidden])").map((card) => JSON.parse(card.dataset.keys).name).join();
  const change = (id, value, kind) => { find(id).value = value; find(id).dispatchEvent(new Event(kind)); };
  const video = document.querySelector("video");
  found.before = all("video").map((each) => each.paused).join();
  video.focus();
  video.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true, cancelable: true}));
  found.key = String(video.paused);
  found.focused = String(document.activeElement === video);
  find("play").click();
  found.all = all("video").map((each) => each.paused).join();
  find("play").click();
  found.none = all("video").map((each) => each.paused).join();
  change("filter", "BLUE", "input");
  found.filtered = names();
  change("filter", "nothing such", "input");
  found.nothing = String(find("nothing").hidden);
  change("filter", "", "input");
  change("sort", "prompt", "change");
  found.sorted = names();
  find("down").click();
  found.down = names();
  found.hash = location.hash;
  page.dataset.found = JSON.stringify(found);
}, 1500));
"""


@in_browser
def test_keys_and_buttons_do_what_they_say(tmp_path, browse):
    content = written(tmp_path, *entries("b blue", "a red"))
    content = re.sub("script-src '[^']*'", "script-src 'unsafe-inline'", content)  # for the hand that presses the keys
    page = tmp_path / "driven.html"
    page.write_text(content.replace("</body>", f"<script>{ACTIONS}</script></body>"), encoding="utf-8")
    dom, said = browse(page, "#play=0")
    assert said == []
    assert json.loads(Page(dom).all("html")[0]["data-found"] or "") == {
        "before": "true,true",
        "key": "false",
        "all": "false,false",
        "none": "true,true",
        "filtered": "clip-0",
        "nothing": "false",
        "sorted": "clip-1,clip-0,broken",
        "down": "broken,clip-0,clip-1",
        "hash": "#sort=prompt&down=1&play=0",
        "focused": "true",
    }
