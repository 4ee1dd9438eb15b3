"""`vidiff`, and `python -m vidiff_cli`, which torchrun needs."""

import gc
import os
import signal
from types import FrameType


def start() -> None:
    """Run the command. Until it has its own handlers, Ctrl-C and its like end the process quietly: no work has
    begun."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    from vidiff_cli.system.standard_streams import open_closed_streams  # after the handlers, as all that is slow

    open_closed_streams()
    from vidiff_cli.system.utf8_mode import run_in_utf8_mode

    run_in_utf8_mode()
    gc.disable()  # modules are loaded, none of which is garbage; `follow` enables it
    from vidiff_cli.cli.app import main

    try:
        main()
    finally:
        gc.freeze()  # or the closing interpreter looks through them all


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    start()
