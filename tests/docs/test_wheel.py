"""The wheel has everything that a person needs: installed alone, outside the checkout, it samples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_samples_from_the_builtin_model(tmp_path: Path) -> None:
    """`.ci/wheel` builds it, installs it without the checkout on the path, and runs `vidiff sample`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(ROOT / ".ci" / "wheel"), sys.executable, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 0
    assert str(tmp_path / "installed") in done.stdout, "imported from the wheel"
