"""Places of given frames of a variable rate, the last frame's stay, and rates that keep given frames."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vidiff_cli.timeline import better_rate, interpolation, leaves_out_most

GAPS = st.lists(st.integers(1, 120), min_size=1, max_size=40)  # milliseconds


@settings(max_examples=150, deadline=None)
@given(gaps=GAPS, rate=st.sampled_from([Fraction(24000, 1001), Fraction(30), Fraction(60)]), factor=st.integers(1, 4))
@example(gaps=[17, 61, 23, 40], rate=Fraction(30), factor=2)
def test_a_given_frame_takes_the_nearest_place_once(gaps: list[int], rate: Fraction, factor: int) -> None:
    times = [Fraction(sum(gaps[:count]), 1000) for count in range(len(gaps) + 1)]
    line = interpolation(len(times), rate, times=times, factor=factor, hold=False)
    true = {index: line.times[rank] for rank, index in line.given.items()}
    assert all(abs(true[index] - time) <= Fraction(1, 1000) for index, time in enumerate(times))
    shown = [line.given.get(rank) for rank in line.written]
    placed = {index: place for place, index in enumerate(shown) if index is not None}
    assert len(placed) == sum(index is not None for index in shown)  # once
    assert list(placed) == sorted(placed)
    for index, time in true.items():
        if index in placed:
            assert abs(time - placed[index] / line.fps) <= 1 / line.fps / 2
        else:  # its place has a nearer one
            rival = shown[int(time * line.fps + Fraction(1, 2))]
            assert rival is not None
            assert abs(true[rival] * line.fps - placed[rival]) <= abs(time * line.fps - placed[rival])
    for place, index in enumerate(shown):
        if index is None:
            assert line.times[line.written[place]] == place / line.fps


def test_a_phone_loses_no_frame() -> None:
    times = [k / Fraction(30) + Fraction(k * 7919 % 86, 10_000) for k in range(24)]
    line = interpolation(24, Fraction(30), times=[time - times[0] for time in times], factor=2)
    assert {line.given[rank] for rank in line.written if rank in line.given} == set(range(24))


def test_the_last_frame_stays_as_long_as_it_did() -> None:
    for stay in (Fraction(1), Fraction(1, 10), Fraction(1, 50)):
        line = interpolation(12, Fraction(10), factor=2, last_seconds=stay)
        assert len(line.written) == max(23, (Fraction(11, 10) + stay) * 20)
    assert len(interpolation(12, Fraction(10), factor=2, last_seconds=Fraction(1), hold=False).written) == 23


def test_a_rate_that_keeps_the_given_frames() -> None:
    ntsc, count = Fraction(24000, 1001), 575
    for wanted, better in ((Fraction(60), Fraction(60000, 1001)), (Fraction(48), 2 * ntsc), (Fraction(12), ntsc / 2)):
        line = interpolation(count, ntsc, fps=wanted)
        kept = len({*line.written} & {*line.given})
        assert leaves_out_most(kept, count, len(line.written))
        assert better_rate(count, ntsc, wanted) == better
    for fine in (Fraction(60000, 1001), 3 * ntsc, ntsc / 2):
        line = interpolation(count, ntsc, fps=fine)
        assert not leaves_out_most(len({*line.written} & {*line.given}), count, len(line.written))
