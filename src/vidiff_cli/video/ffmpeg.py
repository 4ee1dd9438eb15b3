"""The ffmpeg binary: its path, a running process, and its log.

The log goes to a temporary file: ffmpeg blocks on a pipe that is not drained.

Input files are untrusted. ffmpeg gets an open file as stdin instead of a name, may open nothing else (so that a
playlist reaches neither disk nor network), and is restricted to formats that hold the frames themselves.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from vidiff_cli.errors import VidiffError
from vidiff_cli.system import process_tree
from vidiff_cli.system.shortage import raise_shortage

LOG_PATIENCE_SECONDS = 30.0
PIPE_BYTES = 1 << 20
LOG_BYTES = 1 << 20  # that are read at a time
ERROR_LINE = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )*\[(?:error|fatal)\] (.*)", re.M)
# The filter that tells of every frame, by a name that no file can know: a title or the name of a tag may contain line
# breaks, and whatever looks like a line of the log.
SECRET = f"showinfo@{secrets.token_hex(8)}"
SHOWINFO = f"{SECRET}=checksum=0"
SHOWN = rf"\[{SECRET} @ [^\]]*\] \[info\] "

MAX_PIXELS = 64_000_000  # of a frame: a decoder refuses more before it asks for memory
# Not here: playlists and scripts (hls, dash, concat, sdp, imf, avisynth), drawings (svg), text as video (tty), patterns
# of file names (image2), devices. Sound alone is here for the sake of a better sentence.
FORMATS = (
    "mov,matroska,webm,avi,flv,live_flv,asf,asf_o,mpeg,mpegts,mpegvideo,m4v,h264,hevc,vc1,obu,ivf,mjpeg,ogg,mxf,gxf,"
    "yuv4mpegpipe,gif,apng,webp_anim,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,dv,rm,wtv,nut,nsv,flic,"
    "mp3,wav,flac,aac,ac3,aiff,amr,caf"
)


@dataclass(frozen=True, slots=True)
class FfmpegInput:
    """An argument that stands for an input file, which ffmpeg gets as its stdin. At most one per command."""

    path: Path


def executable() -> str:
    """Path of ffmpeg: IMAGEIO_FFMPEG_EXE, else the one of imageio-ffmpeg."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise VidiffError("ffmpeg was not found", found=str(error), fix="pip install imageio-ffmpeg") from error


def file_url(path: Path) -> str:
    """URL of one of our own files: a local file even if its name looks like -y, http: or concat:."""
    return f"file:{path.absolute()}"


def input_arguments(path: Path, options: Sequence[str] = ()) -> list[str | FfmpegInput]:
    """Arguments that open `path` for reading, with ffmpeg's own `options`: this file only, one decoding thread (as fast
    here, with less memory)."""
    bounds = ["-protocol_whitelist", "fd", "-format_whitelist", FORMATS, "-max_pixels", str(MAX_PIXELS)]
    return [*bounds, "-threads", "1", *options, "-i", FfmpegInput(path)]


_in_group = False


def keep_in_group() -> None:
    """Keeps every later ffmpeg in this process's group, so that it dies with it; for processes with their own session.

    The main thread has to start them: ffmpeg ends with the thread that started it.
    """
    global _in_group
    _in_group = True


class Ffmpeg:
    """A running ffmpeg as a context manager: leaving it kills the process and removes the log.

    `stdin` and `stdout` are pipes on request; an `FfmpegInput` among the arguments becomes stdin. The process has its
    own session, so that Ctrl-C does not reach it and never closes a half-written file as if it were complete (in a
    worker process it shares the worker's session and ends with it).
    """

    def __init__(self, arguments: Sequence[str | FfmpegInput], *, stdin: bool = False, stdout: bool = False) -> None:
        named = ["fd:" if isinstance(argument, FfmpegInput) else argument for argument in arguments]
        command = [executable(), "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info", "-y", *named]
        # Without a name, so that no kill can leave it. ffmpeg's place in it is ours too: it is read by position only.
        self._log = tempfile.TemporaryFile(prefix="vidiff-", suffix=".log")  # noqa: SIM115
        source: int | None = None
        try:
            source = next((_opened(argument.path) for argument in arguments if isinstance(argument, FfmpegInput)), None)
            self.process = subprocess.Popen(
                command,
                stdin=source if source is not None else subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                stderr=self._log,
                start_new_session=not _in_group,
                preexec_fn=process_tree.death_with_parent() if _in_group else None,
            )
        except VidiffError:
            self._log.close()
            raise
        except OSError as error:
            self._log.close()
            raise_shortage("ffmpeg", error)
            raise VidiffError("ffmpeg cannot be started", found=str(error), fix="pip install imageio-ffmpeg") from error
        finally:
            if source is not None:
                os.close(source)
        _widen(self.process.stdout)

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
        self._log.close()

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def lines(self) -> Iterator[str]:
        """Follows the log line by line until ffmpeg ends, or until nothing new was written for a long time."""
        place, partial, last_output = 0, b"", time.monotonic()
        while True:
            ended = self.process.poll() is not None  # asked before reading, so that the last lines are not missed
            piece = os.pread(self._log.fileno(), LOG_BYTES, place)
            place += len(piece)
            *complete, partial = (partial + piece).split(b"\n")
            for line in complete:
                yield line.decode(errors="replace") + "\n"
            if piece:
                last_output = time.monotonic()
            elif ended or time.monotonic() - last_output > LOG_PATIENCE_SECONDS:
                return
            else:
                time.sleep(0.002)

    def log(self) -> str:
        """The complete log so far."""
        parts = list[bytes]()
        while piece := os.pread(self._log.fileno(), LOG_BYTES, sum(map(len, parts))):
            parts.append(piece)
        return b"".join(parts).decode(errors="replace")

    def first_error(self) -> str:
        """The first error in the log (later ones are consequences), else the exit status."""
        errors = ERROR_LINE.findall(self.log())
        if errors:
            return errors[0].strip().rstrip(".")
        code = self.process.poll()
        if code is not None and code < 0:
            return f"ffmpeg was killed by signal {-code}"
        return f"ffmpeg's exit status {code}"


def _widen(pipe: IO[bytes] | None) -> None:
    """Enlarges a pipe to several frames, if allowed, so that both ends wait less often."""
    if pipe is not None and sys.platform.startswith("linux"):
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise VidiffError(f"{path} cannot be read", found=getattr(error, "strerror", None) or str(error)) from error


def run(arguments: Sequence[str | FfmpegInput], *, timeout_seconds: float | None = None) -> tuple[int, str, str]:
    """Runs ffmpeg to its end: exit status, log, first error. Raises VidiffError after the timeout."""
    with Ffmpeg(arguments) as ffmpeg:
        try:
            code = ffmpeg.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise VidiffError("ffmpeg does not finish", found=f"no end after {timeout_seconds:g} s") from error
        return code, ffmpeg.log(), ffmpeg.first_error()
