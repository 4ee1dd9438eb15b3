"""Files of tests: what is in a folder, and the folder of real videos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def real_data() -> Path:
    """Real videos: $VIDIFF_TEST_DATA, or ../shared/data beside the repository; without them the test is skipped."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("VIDIFF_TEST_DATA", beside))
    if not (folder / "clips").is_dir():
        pytest.skip(f"no real clips: {folder}/clips is not there (set VIDIFF_TEST_DATA)")
    return folder
