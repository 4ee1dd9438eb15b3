"""Any number of sources under a low limit of open files, and shortages that are no one's fault."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limited import run_limited
from PIL import Image

from vidiff_cli.config.read_options import ReadOptions
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.extract import ClipSpec, ExtractJob, extract
from vidiff_cli.preparation.extract_cache import ExtractCache, ExtractedSource
from vidiff_cli.preparation.scan import MediaSource, scan
from vidiff_cli.system.shortage import ShortageError

SPEC = ClipSpec(
    size=8, aspect="square", frames=1, fps=Fraction(25), stride=1, scenes=True, decoder="auto", images_fps=Fraction(25)
)


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.full((8, 8, 3), (number % 251, number // 251, 7), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.bmp")


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_number_of_sources_needs_no_more_than_64_open_files(tmp_path: Path, count: int) -> None:
    write_images(tmp_path / "in", count)
    options = ["--size", 8, "--images", "stills", "--min-difference", 0, "--min-contrast", 0, "--workers", 2]
    done = run_limited("prep", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(tmp_path / "out")
    assert len(dataset) == count
    for index in (0, 77, count - 1):
        number = int(Path(dataset.clips[index].source).stem)
        assert dataset.frames(index)[0, 0, 0].tolist() == [number % 251, number // 251, 7]


@pytest.fixture
def one_source(tmp_path: Path) -> MediaSource:
    write_images(tmp_path / "in", 1)
    return scan([str(tmp_path / "in")], images="stills").sources[0]


def fails_to_open(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    """Opening `path` fails with the error `number`, whatever else is opened."""
    real = Path.open

    def fail(self: Path, *arguments: Any, **keywords: Any) -> Any:
        if self == path:
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", fail)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC])
def test_a_shortage_throws_no_finished_source_away(
    tmp_path: Path, one_source: MediaSource, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    cache = ExtractCache(tmp_path, {})
    cache.write(one_source, (), ExtractedSource(kind="too short", reason="too short"))
    with monkeypatch.context() as patch:
        fails_to_open(patch, cache.path(one_source, ()), number)
        with pytest.raises(ShortageError, match=os.strerror(number).lower()) as caught:
            cache.read(one_source, ())
    assert "damaged" not in str(caught.value) and "overwrite" not in str(caught.value)
    assert cache.read(one_source, ()) is not None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_worker_that_is_short_of_something_rejects_no_source(
    tmp_path: Path, one_source: MediaSource, monkeypatch: pytest.MonkeyPatch, number: int, wrapped: bool
) -> None:
    def probe(path: Path, options: ReadOptions) -> None:
        error = OSError(number, os.strerror(number))
        if wrapped:
            raise VidiffError(f"{path} cannot be read", found=error.strerror) from error
        raise error

    monkeypatch.setattr("vidiff_cli.preparation.extract.probe", probe)
    path = tmp_path / "entry"
    result = extract(ExtractJob(source=one_source, segments=(), clip_spec=SPEC, path=path))
    assert isinstance(result, ShortageError) and not path.exists()


def test_a_broken_source_is_no_shortage(one_source: MediaSource, tmp_path: Path) -> None:
    one_source.path.write_bytes(b"BM" + bytes(60))
    result = extract(ExtractJob(source=one_source, segments=(), clip_spec=SPEC, path=tmp_path / "entry"))
    assert isinstance(result, ExtractedSource) and result.kind
