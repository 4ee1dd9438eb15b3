"""Clips kept in memory: the same frames, each clip read once, never more bytes than allowed."""

from threading import Thread

import numpy as np

from vidiff_cli.training.clip_cache import ClipCache


def test_frames_are_the_same_and_the_bound_holds() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (6, 5, 2, 2, 3), dtype=np.uint8)
    read: list[int] = []

    def whole(index: int) -> np.ndarray:
        read.append(index)
        return clips[index]

    each = clips[0].nbytes
    cache = ClipCache(whole, limit=3 * each + 1)
    for _ in range(4):
        for index in range(6):
            np.testing.assert_array_equal(cache.read(index, range(1, 5, 2)), clips[index, [1, 3]])
    assert cache.held == 3 * each
    assert [read.count(index) for index in range(6)] == [1, 1, 1, 4, 4, 4], "what came first stays"


def test_without_room_nothing_is_kept() -> None:
    clip = np.zeros((2, 2, 2, 3), dtype=np.uint8)
    cache = ClipCache(lambda index: clip, limit=0)
    assert cache.read(0, range(2)).base is clip and cache.held == 0


def test_threads_count_a_clip_once() -> None:
    clip = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    cache = ClipCache(lambda index: clip, limit=10**6)
    threads = [Thread(target=lambda: [cache.read(index % 7, range(2)) for index in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.held == 7 * clip.nbytes
