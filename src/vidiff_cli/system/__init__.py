"""Locks, signals, processes and files: what every room needs of the operating system. Nothing here knows a video."""
