"""`python -m vidiff_cli`, which torchrun needs, is `vidiff`."""

import signal


def start() -> None:
    """Run the command. Until it has its own handlers, Ctrl-C ends the process quietly: no work has begun."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vidiff_cli.cli.app import main

    main()


if __name__ == "__main__":
    start()
