"""Runs before a command of several processes: they find out in seconds that one of them is lost."""

from vidiff_cli.system import ranks

ranks.JOIN_SECONDS, ranks.SILENT_SECONDS, ranks.BEAT_SECONDS, ranks.LOOK_SECONDS = 60.0, 3.0, 0.3, 0.02
