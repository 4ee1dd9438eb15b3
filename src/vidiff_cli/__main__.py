"""`python -m vidiff_cli` is `vidiff`: the spelling that torchrun needs."""

from vidiff_cli.cli.app import main

if __name__ == "__main__":
    main()
