"""vidiff in processes that are forked from one that has imported everything: seconds of CPU less for each.

That one is a process of its own, which does nothing else: a fork of this one could wait for threads that it lacks.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

SIGNALS = ("SIGTERM", "SIGHUP", "SIGINT")


class Forked:
    """A command as `subprocess.Popen` has one, as far as tests use that: in a process group of its own, with default
    signals. `first` is a script that is run in it before."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], first: Path | None = None
    ) -> None:
        self.returncode: int | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        request = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "folder": self._folder.name}
        server = _server()
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(request | {"first": first and str(first)}) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def poll(self) -> int | None:
        status = Path(self._folder.name, "status")
        if self.returncode is None and status.exists():
            self.returncode = int(status.read_text())
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked command", timeout)
            time.sleep(0.005)
        return code

    def communicate(self, timeout: float = float("inf")) -> tuple[str, str]:
        """stdout and stderr, after the end."""
        self.wait(timeout)
        return Path(self._folder.name, "out").read_text(), Path(self._folder.name, "err").read_text()

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _server() -> subprocess.Popen[str]:
    """The process that is forked; it ends with this one, whose end closes its input."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(Path(__file__))]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def serve() -> None:
    """Import what the long commands import, then fork for every line of stdin; its process number is a line of stdout,
    its exit code as Popen has it the file `status` of its folder."""

    import vidiff_cli.commands.evaluate
    import vidiff_cli.commands.extend
    import vidiff_cli.commands.many
    import vidiff_cli.commands.prep
    import vidiff_cli.commands.sample
    import vidiff_cli.commands.train  # noqa: F401

    folders: dict[int, Path] = {}

    def reap(*_: object) -> None:
        for number in tuple(folders):
            if (found := os.waitpid(number, os.WNOHANG))[0]:
                folder = folders.pop(number)
                (folder / "ended").write_text(str(os.waitstatus_to_exitcode(found[1])))
                (folder / "ended").rename(folder / "status")

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        request = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # until its folder is known
        if not (number := os.fork()):
            _run(**request)
        folders[number] = Path(request["folder"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(number, flush=True)


def _run(arguments: list[str], cwd: str, env: dict[str, str], folder: str, first: str | None) -> None:
    """The command, in the child, which never returns from here."""
    code: Any = 70
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for name in SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for place, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), place)
        sys.argv = ["vidiff", *arguments]
        if first:
            runpy.run_path(first)
        from vidiff_cli.cli.app import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
