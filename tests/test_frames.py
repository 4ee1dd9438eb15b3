"""Laws of the plans of frame indices and of the exact times, checked by brute force."""

from collections.abc import Collection
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from vidiff_cli.frames import Scheme, Timeline, Window, extension, interpolation, plan

SCHEMES: tuple[Scheme, ...] = ("autoregressive", "hierarchical")
RATES = [Fraction(rate) for rate in ("1", "8", "10", "24", "25", "30", "60", "24000/1001", "30000/1001", "7/2")]


def check_plan(windows: list[Window], total: int, given: Collection[int], *, window: int, overlap: int) -> None:
    """Every law that a plan promises, whatever its scheme."""
    given, there = set(given), set(given)
    for planned in windows:
        frames, observed, makes = planned.frames, planned.observed, planned.makes
        assert makes, "a window that makes nothing"
        assert list(frames) == sorted(set(frames))
        assert set(frames) == observed | makes
        assert len(frames) == min(window, total), "a window that is not full"
        assert observed <= there, "observes what is not there yet"
        assert not makes & there, "makes what is there already"
        assert makes <= set(range(total))
        assert len(observed) >= min(overlap, len(there))
        for frame in makes:
            if any(other < frame for other in given) and any(other > frame for other in given):
                assert any(other < frame for other in observed) and any(other > frame for other in observed)
        there |= makes
    assert there == set(range(total)), "frames are lost"


def contiguous(frames: Collection[int]) -> bool:
    return max(frames) - min(frames) + 1 == len(frames)


@st.composite
def problems(draw: st.DrawFn) -> tuple[int, set[int], int, int]:
    """(total, given, window, overlap): given frames scattered, regular, at either end, none or all."""
    total = draw(st.integers(0, 70))
    scattered = st.sets(st.integers(0, total - 1)) if total else st.just(set())
    few = st.sets(st.integers(0, total - 1), max_size=3) if total else st.just(set())
    every = st.integers(1, 20).map(lambda step: set(range(0, total, step)))
    start = st.integers(0, total).map(lambda stop: set(range(stop)))
    end = st.integers(0, total).map(lambda first: set(range(first, total)))
    both = st.tuples(start, end).map(lambda sides: sides[0] | sides[1])
    given = draw(st.one_of(scattered, few, every, start, end, both))
    window = draw(st.integers(3, 20))
    return total, given, window, draw(st.integers(0, window - 1))


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=150, deadline=None)
@cases(problem=problems())
def test_a_plan_keeps_its_laws(scheme: Scheme, problem: tuple[int, set[int], int, int]) -> None:
    total, given, window, overlap = problem
    windows = plan(total, given, window=window, overlap=overlap, scheme=scheme)
    check_plan(windows, total, given, window=window, overlap=overlap)


@settings(max_examples=60, deadline=None)
@cases(count=st.integers(0, 20), new=st.integers(0, 60), window=st.integers(1, 20), data=st.data())
def test_extension_is_contiguous_and_its_mirror_goes_backwards(
    count: int, new: int, window: int, data: st.DataObject
) -> None:
    overlap, total = data.draw(st.integers(0, window - 1)), count + new
    forwards = plan(total, range(count), window=window, overlap=overlap)
    check_plan(forwards, total, range(count), window=window, overlap=overlap)
    assert all(contiguous(planned.frames) for planned in forwards)
    assert all(max(planned.observed, default=-1) < min(planned.makes) for planned in forwards)
    for position, planned in enumerate(forwards[:-1]):
        there = count if position == 0 else total
        assert len(planned.observed) == min(overlap, there)
    if count:  # without given frames both directions are the same, forwards
        backwards = plan(total, range(new, total), window=window, overlap=overlap)
        assert [mirrored(planned, total) for planned in backwards] == forwards


def mirrored(planned: Window, total: int) -> Window:
    frames, observed, makes = (
        [total - 1 - f for f in part] for part in (planned.frames, planned.observed, planned.makes)
    )
    return Window(frames=tuple(sorted(frames)), observed=frozenset(observed), makes=frozenset(makes))


def test_the_last_window_of_an_extension_slides_back() -> None:
    windows = plan(30, range(8), window=16, overlap=8)
    assert [planned.frames for planned in windows] == [tuple(range(16)), tuple(range(8, 24)), tuple(range(14, 30))]
    assert windows[-1].makes == frozenset(range(24, 30))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("total", [0, 1, 2, 5, 16])
def test_what_fits_one_window_takes_one(scheme: Scheme, total: int) -> None:
    for given in ([], [0], range(total // 2), range(0, total, 2)):
        given = [frame for frame in given if frame < total]
        windows = plan(total, given, window=16, overlap=8, scheme=scheme)
        assert len(windows) == (len(given) < total)
        check_plan(windows, total, given, window=16, overlap=8)


def test_nothing_is_planned_when_all_is_given() -> None:
    assert plan(40, range(40), window=16, overlap=8) == []


def test_without_given_frames_the_first_window_makes_a_whole_window() -> None:
    first = plan(40, [], window=16, overlap=8)[0]
    assert first.makes == frozenset(range(16)) and not first.observed


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wide_gap_is_filled_from_coarse_to_fine(scheme: Scheme) -> None:
    """The first frames stand evenly in the gap, seen from both ends; then every frame has near neighbours."""
    given = [*range(5), *range(95, 100)]
    windows = plan(100, given, window=16, overlap=4, scheme=scheme)
    check_plan(windows, 100, given, window=16, overlap=4)
    assert windows[0].observed == {3, 4, 95, 96}
    steps = [late - early for early, late in pairwise(sorted({4, *windows[0].makes, 95}))]
    assert max(steps) - min(steps) <= 1
    for planned in windows[1:]:
        for frame in planned.makes:
            assert min(abs(frame - other) for other in planned.observed) <= max(steps)


def test_hierarchical_frames_stand_over_the_whole_range_first() -> None:
    assert {0, 99} <= plan(100, [], window=16, overlap=4, scheme="hierarchical")[0].makes
    assert 99 in plan(100, range(4), window=16, overlap=4, scheme="hierarchical")[0].makes
    assert 0 in plan(100, range(96, 100), window=16, overlap=4, scheme="hierarchical")[0].makes


def test_in_betweens_share_windows_from_left_to_right() -> None:
    windows = plan(41, range(0, 41, 4), window=16, overlap=4)
    assert [min(planned.makes) for planned in windows] == sorted(min(planned.makes) for planned in windows)
    assert len(windows) == 4  # nine in-betweens a window, thirty in all
    for planned in windows:  # the given frames on both sides of each
        assert all({frame // 4 * 4, frame // 4 * 4 + 4} <= planned.observed for frame in planned.makes)


def test_a_join_sees_both_sides_alike() -> None:
    (planned,) = plan(40, [*range(16), *range(24, 40)], window=16, overlap=8)
    assert planned.frames == tuple(range(12, 28))


def test_long_plans_are_quick() -> None:
    times = interpolation(4000, Fraction(30), factor=4)
    windows = plan(len(times.times), times.given, window=16, overlap=4)
    assert sum(len(planned.makes) for planned in windows) == 3999 * 3


@pytest.mark.parametrize(
    ("given", "window", "overlap", "scheme"),
    [
        ([0], 4, 4, "autoregressive"),
        ([0], 4, -1, "autoregressive"),
        ([0], 0, 0, "autoregressive"),
        ([10], 4, 1, "autoregressive"),
        ([-1], 4, 1, "autoregressive"),
        ([0, 9], 2, 1, "autoregressive"),
        ([], 2, 1, "hierarchical"),
        ([0], 2, 1, "hierarchical"),
        ([0], 4, 1, "sideways"),
    ],
)
def test_what_cannot_be_planned_is_refused(given: list[int], window: int, overlap: int, scheme: Scheme) -> None:
    with pytest.raises(ValueError, match=r"expected|range"):
        plan(10, given, window=window, overlap=overlap, scheme=scheme)


def check_timeline(line: Timeline, count: int, source: list[Fraction], stop: Fraction, *, hold: bool) -> None:
    """The laws of an interpolation: its union, its given frames, and what is shown at every k / fps."""
    assert all(early < late for early, late in pairwise(line.times))
    assert {line.times[rank]: index for rank, index in line.given.items()} == {t: k for k, t in enumerate(source)}
    output = [k / line.fps for k in range(int(stop * line.fps) + 2)]
    shown = [time for time in output if time <= source[-1] or (hold and time < stop)]
    assert [line.times[rank] for rank in line.written] == [min(time, source[-1]) for time in shown]
    assert set(line.times) == set(source) | {time for time in output if time <= source[-1]}
    assert len(line.given) == count


@settings(max_examples=150, deadline=None)
@cases(count=st.integers(1, 30), rate=st.sampled_from(RATES), wanted=st.sampled_from(RATES), hold=st.booleans())
def test_any_rate_has_exact_times(count: int, rate: Fraction, wanted: Fraction, hold: bool) -> None:
    line = interpolation(count, rate, fps=wanted, hold=hold)
    check_timeline(line, count, [k / rate for k in range(count)], count / rate, hold=hold)


@settings(max_examples=60, deadline=None)
@cases(count=st.integers(1, 30), rate=st.sampled_from(RATES), factor=st.integers(1, 9))
def test_a_factor_keeps_the_count_the_frames_and_the_duration(count: int, rate: Fraction, factor: int) -> None:
    line = interpolation(count, rate, factor=factor)
    assert line.fps == rate * factor
    assert len(line.times) == (count - 1) * factor + 1
    assert dict(line.given) == {k * factor: k for k in range(count)}
    assert line.written == (*range(len(line.times)), *[len(line.times) - 1] * (factor - 1))
    assert len(line.written) / line.fps == count / rate
    assert interpolation(count, rate, factor=factor, hold=False).written == tuple(range(len(line.times)))


def test_24_to_60() -> None:
    line = interpolation(24, Fraction(24), fps=Fraction(60))
    assert len(line.written) == 60
    assert line.written[-3:] == (68, 69, 69)  # 57/60; then 58/60 and 59/60 hold the last source frame, 23/24
    written_source = {line.given[rank] for rank in line.written if rank in line.given}
    assert written_source == {*range(0, 24, 2), 23}  # every second frame meets an output time
    assert line.times[:4] == (0, Fraction(1, 60), Fraction(1, 30), Fraction(1, 24))


def test_ntsc_to_60_meets_every_500th_frame() -> None:
    line = interpolation(1002, Fraction(30000, 1001), fps=Fraction(60), hold=False)
    assert {line.given[rank] for rank in line.written if rank in line.given} == {0, 500, 1000}
    assert len(line.written) == 1001 * 1001 * 60 // 30000 + 1


def test_doubling_ntsc_meets_every_frame() -> None:
    line = interpolation(10, Fraction(30000, 1001), fps=Fraction(60000, 1001))
    assert line == interpolation(10, Fraction(30000, 1001), factor=2)


def test_a_variable_rate_is_observed_at_its_own_times() -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(17, 100), Fraction(2, 5)]
    line = interpolation(4, Fraction(10), times=times, factor=2)
    check_timeline(line, 4, times, Fraction(1, 2), hold=True)


def test_times_rounded_to_milliseconds_are_put_back_on_the_grid() -> None:
    rate = Fraction(24000, 1001)
    rounded = [Fraction(round(1000 * k / rate), 1000) for k in range(50)]
    assert interpolation(50, rate, times=rounded, factor=3) == interpolation(50, rate, factor=3)


def test_timelines_can_be_planned() -> None:
    for line in (
        interpolation(24, Fraction(24), fps=Fraction(60)),
        interpolation(20, Fraction(10), fps=Fraction(24)),
        interpolation(20, Fraction(60), fps=Fraction(24)),
        extension(4, Fraction(8), new=60),
    ):
        total = len(line.times)
        check_plan(plan(total, line.given, window=16, overlap=4), total, line.given, window=16, overlap=4)


def test_extensions() -> None:
    after = extension(3, Fraction(8), new=2)
    assert after.times == tuple(Fraction(k, 8) for k in range(5)) and after.written == tuple(range(5))
    assert dict(after.given) == {0: 0, 1: 1, 2: 2}
    assert dict(extension(3, Fraction(8), new=2, before=True).given) == {2: 0, 3: 1, 4: 2}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: interpolation(3, Fraction(8)),
        lambda: interpolation(3, Fraction(8), factor=2, fps=Fraction(16)),
        lambda: interpolation(0, Fraction(8), factor=2),
        lambda: interpolation(3, Fraction(0), factor=2),
        lambda: interpolation(3, Fraction(8), factor=0),
        lambda: interpolation(2, Fraction(8), factor=2, times=[Fraction(0), Fraction(0)]),
        lambda: interpolation(2, Fraction(8), factor=2, times=[Fraction(1), Fraction(2)]),
        lambda: interpolation(2, Fraction(8), factor=2, times=[Fraction(0)]),
        lambda: extension(3, Fraction(0), new=2),
        lambda: extension(3, Fraction(8), new=-1),
    ],
)
def test_impossible_times_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong()
