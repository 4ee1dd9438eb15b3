"""The ffmpeg binary: where it is, one running process of it, and what its log says.

The log goes to a temporary file, never to a pipe: a pipe that nobody drains stops ffmpeg for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from vidiff_cli.errors import VidiffError

LOG_PATIENCE_SECONDS = 30.0
ERROR_LINE = re.compile(r"\[(?:error|fatal)\] (.*)")


def executable() -> str:
    """The path of the ffmpeg that imageio-ffmpeg brings (or that IMAGEIO_FFMPEG_EXE names)."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise VidiffError("ffmpeg was not found", found=str(error), fix="pip install imageio-ffmpeg") from error


def url(path: Path) -> str:
    """A file's name for ffmpeg: always a local file, even when it starts with a dash or looks like http: or concat:."""
    return f"file:{path.absolute()}"


def reading(path: Path) -> list[str]:
    """The arguments that open `path` for reading: this file alone, in one decoding thread (as fast here, smaller)."""
    return ["-protocol_whitelist", "file", "-threads", "1", "-i", url(path)]


class Ffmpeg:
    """A running ffmpeg, as a context: leaving it kills what still runs and removes the log.

    `stdin` and `stdout` are pipes where asked for. The process has its own session, so that Ctrl-C reaches us alone and
    a half-written file is never closed as if it were whole.
    """

    def __init__(self, arguments: Sequence[str], *, stdin: bool = False, stdout: bool = False) -> None:
        command = [executable(), "-hide_banner", "-nostdin", "-loglevel", "level+info", "-y", *arguments]
        handle, name = tempfile.mkstemp(prefix="vidiff-", suffix=".log")
        self._log_path = Path(name)
        self._log: IO[str] | None = None
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                stderr=handle,
                start_new_session=True,
            )
        except OSError as error:
            self._log_path.unlink()
            raise VidiffError("ffmpeg cannot be started", found=str(error), fix="pip install imageio-ffmpeg") from error
        finally:
            os.close(handle)
        self._log = self._log_path.open(encoding="utf-8", errors="replace", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self._log is not None:
            self._log.close()
        self._log_path.unlink(missing_ok=True)

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def lines(self) -> Iterator[str]:
        """Follows the log line by line while ffmpeg runs, up to its end; gives up when nothing new comes for long."""
        assert self._log is not None
        line, last_news = "", time.monotonic()
        while True:
            ended = self.process.poll() is not None  # asked before reading, so that the last lines are not missed
            piece = self._log.readline()
            line += piece
            if line.endswith("\n"):
                yield line
                line, last_news = "", time.monotonic()
            elif not piece and (ended or time.monotonic() - last_news > LOG_PATIENCE_SECONDS):
                return
            elif not piece:
                time.sleep(0.002)

    def log(self) -> str:
        """The whole log so far."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def complaint(self) -> str:
        """The first error of the log (later ones only follow from it), or how the process ended."""
        errors = ERROR_LINE.findall(self.log())
        if errors:
            return errors[0].strip().rstrip(".")
        code = self.process.poll()
        if code is not None and code < 0:
            return f"ffmpeg was killed by signal {-code}"
        return f"ffmpeg's exit status {code}"


def run(arguments: Sequence[str], *, timeout_seconds: float | None = None) -> tuple[int, str, str]:
    """Runs ffmpeg to its end: exit status, log, first complaint. A run past the timeout is killed: VidiffError."""
    with Ffmpeg(arguments) as ffmpeg:
        try:
            code = ffmpeg.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise VidiffError("ffmpeg does not finish", found=f"no end after {timeout_seconds:g} s") from error
        return code, ffmpeg.log(), ffmpeg.complaint()
