"""`python -m vidiff_cli` is `vidiff`: the spelling that torchrun needs."""

import signal


def start() -> None:
    """The command. Until its own handlers stand, Ctrl-C ends it without a word: nothing has begun."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vidiff_cli.cli.app import main

    main()


if __name__ == "__main__":
    start()
