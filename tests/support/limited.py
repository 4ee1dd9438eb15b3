"""vidiff in a process that may open few files."""

from __future__ import annotations

import subprocess
import sys

OPEN_FILES = 64
MAIN = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({OPEN_FILES}, {OPEN_FILES}))
from vidiff_cli.cli.app import main
sys.argv[0] = "vidiff"
main()
"""


def run_limited(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command with these arguments, run to its end."""
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
