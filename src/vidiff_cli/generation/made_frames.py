"""Made frames into a store, window after window: rounded to 8 bits, refused where a network's numbers have overflowed,
and kept in the journal of the result.

Shapes: b clips, m frames, h w pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note, Progress
from vidiff_cli.frames import Window
from vidiff_cli.generation.budget import LONG_SECONDS
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.pixels import to_uint8


def write_made(store: FrameStore, ranks: Sequence[int], frames: Tensor, where: str) -> None:
    """Put made frames (b 3 m h w) in their places. `where` they are from is named in the error.

    Raises VidiffError for NaN, which a number format too narrow for a network makes and which would be written as
    black, and where the store cannot be written.
    """
    least, most = torch.aminmax(frames)  # of which NaN is both
    if not bool(least.isfinite() & most.isfinite()):
        fix = "use --dtype fp32, or an earlier checkpoint"
        raise VidiffError("the network's numbers are not finite", found=f"NaN in {where}", fix=fix)
    store.write(ranks, to_uint8(frames).cpu().permute(2, 0, 3, 4, 1).contiguous().numpy())


def write_windows(
    windows: Sequence[Window],
    batches_made: Iterator[Sequence[Tensor]],
    store: FrameStore,
    *,
    start: int = 0,
    journal: WindowJournal | None = None,
    what: str = "windows",
) -> Iterator[Event]:
    """Put what windows make into a store and, with a `journal`, keep count of it there.

    Args:
        windows: All windows, in order.
        batches_made: What the windows of each batch make (b 3 m h w), each taken when the batch before is in the store.
        store: Frames by rank.
        start: Number of windows that are there already.
        journal: Counts finished windows.
        what: Unit of the progress.

    Yields:
        Progress per batch, and a note on the time that remains.

    Raises:
        VidiffError: As `write_made`.
    """
    with torch.no_grad():
        began, done = time.monotonic(), start
        yield Progress(what=what, done=start, total=len(windows))
        for made in batches_made:
            checksum = 0 if journal is None else journal.checksum
            first = done
            for number, window in enumerate(windows[first : first + len(made)]):
                write_made(store, sorted(window.makes), made[number], f"window {done + 1} of {len(windows)}")
                checksum = store.checksum(sorted(window.makes), checksum)
                done += 1
            del made  # before the next ones are made
            remaining = (time.monotonic() - began) / (done - start) * (len(windows) - done)
            if first == start and remaining > LONG_SECONDS:
                yield Note(f"About {remaining / 60:.0f} more minutes for {len(windows) - done} windows.")
            yield Progress(what=what, done=done, total=len(windows))
            if journal is not None:
                journal.save(done, checksum, of=len(windows))


def note_stale(journal: WindowJournal) -> Iterator[Event]:
    """Say where the windows of an interrupted call cannot be taken."""
    if journal.stale:
        yield Note("The windows kept by an interrupted call are of other settings or another input: making all.")


def resume_windows(
    journal: WindowJournal, windows: Sequence[Window], store: FrameStore, batches: Sequence[range]
) -> EventStream[int]:
    """The number of windows that an interrupted call made and whose frames are unharmed; a note says so."""
    whole = journal.windows in {0, *(batch.stop for batch in batches)}  # batches are made whole or not at all
    if not whole or _checksum(store, windows[: journal.windows]) != journal.checksum:
        journal.begin_anew(store.made.shape)
    if journal.windows == len(windows):
        journal.save(journal.windows, journal.checksum, of=journal.windows)
    if journal.windows:
        yield Note(f"Continuing after window {journal.windows} of {len(windows)}.")
    return journal.windows


def _checksum(store: FrameStore, windows: Sequence[Window]) -> int:
    """The checksum of what these windows made."""
    checksum = 0
    for window in windows:
        checksum = store.checksum(sorted(window.makes), checksum)
    return checksum
