"""Laws of the plans of frame indices and of the exact times, checked by brute force."""

from collections.abc import Collection
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from vidiff_cli.frames import Scheme, Window, batch_independent_windows, evenly_spaced, plan
from vidiff_cli.timeline import Timeline, extension, interpolation, join, loop, plans, split_at_cuts

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
    """The first frames stand evenly in the gap, seen from both ends; then every frame has near neighbors."""
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


def levels(low: int, high: int, room: int) -> int:
    """Levels that a gap takes, by hand: frames spread evenly over it, until what is left fits a window."""
    missing = high - low - 1
    if missing <= 0:
        return 0
    if missing <= room:
        return 1
    edges = [low + round(i * (high - low) / (room + 1)) for i in range(room + 2)]
    return 1 + max(levels(a, b, room) for a, b in pairwise(edges))


@settings(max_examples=40, deadline=None)
@cases(gap=st.integers(1, 400), window=st.integers(5, 20), data=st.data())
def test_a_level_is_made_at_once(gap: int, window: int, data: st.DataObject) -> None:
    """Between two sides that hold a window each, every level of a gap is one batch, however wide it is."""
    overlap = data.draw(st.integers(0, window - 2))
    total = gap + 2 * window
    given = [*range(window), *range(window + gap, total)]
    windows = plan(total, given, window=window, overlap=overlap)
    check_plan(windows, total, given, window=window, overlap=overlap)
    expected = levels(window - 1, window + gap, window - max(overlap, 2))
    assert (
        len(batch_independent_windows(windows, len(windows))) <= expected + 1
    )  # rounding may leave a gap just too wide


@settings(max_examples=60, deadline=None)
@cases(more=st.integers(0, 40), factor=st.integers(2, 6), window=st.integers(7, 20), data=st.data())
def test_in_betweens_do_not_look_at_one_another(more: int, factor: int, window: int, data: st.DataObject) -> None:
    """Where given frames are enough to fill a window, nothing else is looked at: all gaps are one batch."""
    overlap = data.draw(st.integers(0, window - 5))
    line = interpolation(window + more, Fraction(8), factor=factor)
    windows = plan(len(line.times), line.given, window=window, overlap=overlap)
    assert all(planned.observed <= set(line.given) for planned in windows)
    assert batch_independent_windows(windows, len(windows)) == [range(len(windows))]


def test_a_long_interpolation_and_a_long_hierarchy_are_few_batches() -> None:
    line = interpolation(1001, Fraction(8), factor=4)
    windows = plan(len(line.times), line.given, window=16, overlap=4)
    assert len(windows) == 334 and [len(run) for run in batch_independent_windows(windows, 100)] == [100, 100, 100, 34]
    windows = plan(1024, range(16), window=16, overlap=4, scheme="hierarchical")
    assert [len(run) for run in batch_independent_windows(windows, 1000)] == [1, 12, 78]
    autoregressive = plan(64, range(16), window=16, overlap=8)
    assert batch_independent_windows(autoregressive, 100) == [
        range(number, number + 1) for number in range(len(autoregressive))
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=80, deadline=None)
@cases(problem=problems(), most=st.integers(1, 9))
def test_runs_of_windows_look_at_nothing_of_their_own(
    scheme: Scheme, problem: tuple[int, set[int], int, int], most: int
) -> None:
    total, given, window, overlap = problem
    windows = plan(total, given, window=window, overlap=overlap, scheme=scheme)
    runs = batch_independent_windows(windows, most)
    assert [number for run in runs for number in run] == list(range(len(windows)))

    def fits(run: range) -> bool:
        some = [windows[number] for number in run]
        shapes = {(len(one.frames), min(len(one.observed), 2)) for one in some}
        return len(run) <= most and len(shapes) == 1 and not any(a.makes & b.observed for a in some for b in some)

    assert all(fits(run) for run in runs)
    assert not any(fits(range(a.start, b.start + 1)) for a, b in pairwise(runs)), "a run that could go on"


def test_runs_are_of_windows_that_can_be_stacked() -> None:
    def window(start: int, observed: int, length: int = 8) -> Window:
        frames = range(start, start + length)
        return Window(frames=tuple(frames), observed=frozenset(frames[:observed]), makes=frozenset(frames[observed:]))

    alike = [window(0, 2), window(10, 3), window(20, 7)]
    assert batch_independent_windows(alike, 9) == [range(3)] and batch_independent_windows([], 9) == []
    for other in (window(30, 0), window(30, 1), window(30, 2, length=7)):
        assert batch_independent_windows([*alike, other], 9) == [range(3), range(3, 4)]
    with pytest.raises(ValueError, match="expected at least 1"):
        batch_independent_windows(alike, 0)


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


def test_a_variable_rate_is_shown_at_the_nearest_places() -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(17, 100), Fraction(2, 5)]
    line = interpolation(4, Fraction(10), times=times, factor=2)
    assert [line.given.get(rank) for rank in line.written] == [0, None, 1, 2, None, None, None, None, 3, 3]
    assert [line.times[rank] for rank in line.given] == times  # its own time, from which the frames between follow


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


def test_a_loop_leads_back_to_its_beginning() -> None:
    line = loop(5, Fraction(8), new=3, shown=2)
    assert line.times == tuple(Fraction(k, 8) for k in range(10))
    assert dict(line.given) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 8: 0, 9: 1}
    assert line.written == tuple(range(8)), "the beginning is shown once more, and not written"
    assert dict(loop(1, Fraction(8), new=3, shown=16).given) == {0: 0, 4: 0}
    (planned,) = plans(loop(8, Fraction(8), new=8, shown=4), window=16, overlap=8)
    assert planned.frames == tuple(range(4, 20)) and planned.makes == set(range(8, 16))


def test_a_join_is_given_both_clips() -> None:
    line = join(3, 2, Fraction(8), gap=4)
    assert line.times == tuple(Fraction(k, 8) for k in range(9)) and line.written == tuple(range(9))
    assert dict(line.given) == {0: 0, 1: 1, 2: 2, 7: 3, 8: 4}
    (planned,) = plans(join(1, 1, Fraction(8), gap=14), window=16, overlap=8)
    assert planned.frames == tuple(range(16)) and planned.observed == {0, 15}


def in_scenes(line: Timeline) -> list[int]:
    return [rank for scene in line.segments for rank in scene]


def lines(data: st.DataObject) -> Timeline:
    """A timeline of any kind, of 1 to 20 given frames."""
    count, rate = data.draw(st.integers(1, 20)), data.draw(st.sampled_from(RATES))
    new = data.draw(st.integers(0, 30))
    return data.draw(
        st.one_of(
            st.sampled_from(RATES).map(lambda fps: interpolation(count, rate, fps=fps)),
            st.booleans().map(lambda before: extension(count, rate, new=new, before=before)),
            st.integers(1, 20).map(lambda shown: loop(count, rate, new=new, shown=shown)),
            st.integers(1, 20).map(lambda other: join(count, other, rate, gap=new)),
        )
    )


@settings(max_examples=150, deadline=None)
@cases(data=st.data())
def test_scenes_and_copies_keep_their_laws(data: st.DataObject) -> None:
    """By every pair of given frames that follow one another in the source: between them there is a cut, nothing new, or
    work to do."""
    line = lines(data)
    sources = sorted(set(line.given.values()))
    starts, same = (data.draw(st.sets(st.sampled_from(sources), max_size=6)) for _ in range(2))
    cut = split_at_cuts(line, starts=starts, same=same)
    assert (cut.times, cut.given, cut.written, cut.fps) == (line.times, line.given, line.written, line.fps)
    inside = in_scenes(cut)
    assert inside == sorted(set(inside)) and set(cut.given) <= set(inside), "apart, in order, with every given frame"
    edges = {scene.start for scene in cut.segments}
    for rank in range(len(line.times)):
        before = max((other for other in line.given if other <= rank), default=None)
        after = min((other for other in line.given if other > rank), default=None)
        follows = before is not None and after is not None and line.given[before] + 1 == line.given[after]
        is_cut = follows and line.given[after] in starts
        assert (rank + 1 in edges) == (is_cut and after == rank + 1)
        if rank in line.given:
            assert rank not in cut.repeats
        else:
            still = is_cut or (follows and line.given[after] in same)
            assert cut.repeats.get(rank) == (before if still else None)
            assert (rank in inside) == (not is_cut)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=100, deadline=None)
@cases(data=st.data())
def test_every_scene_is_planned_for_itself(scheme: Scheme, data: st.DataObject) -> None:
    line = lines(data)
    sources = sorted(set(line.given.values()))
    starts, same = (data.draw(st.sets(st.sampled_from(sources), max_size=3)) for _ in range(2))
    line = split_at_cuts(line, starts=starts, same=same)
    window = data.draw(st.integers(3, 20))
    overlap = data.draw(st.integers(0, window - 1))
    windows = plans(line, window=window, overlap=overlap, scheme=scheme)
    there = {*line.given, *line.repeats}
    for scene in line.segments:
        own = [planned for planned in windows if planned.frames[0] in scene]
        assert all(frame in scene for planned in own for frame in planned.frames), "a window in two scenes"
        moved = [shifted(planned, -scene.start) for planned in own]
        given = [rank - scene.start for rank in scene if rank in there]
        check_plan(moved, len(scene), given, window=window, overlap=overlap)
    made = [frame for planned in windows for frame in planned.makes]
    assert sorted([*made, *there]) == list(range(len(line.times)))


def shifted(planned: Window, by: int) -> Window:
    frames, observed, makes = ([f + by for f in part] for part in (planned.frames, planned.observed, planned.makes))
    return Window(frames=tuple(frames), observed=frozenset(observed), makes=frozenset(makes))


def test_an_extension_looks_at_the_scene_that_it_continues() -> None:
    after = split_at_cuts(extension(20, Fraction(8), new=30), starts=[0, 15])
    assert after.segments == (range(15), range(15, 50)) and not after.repeats
    assert min(frame for planned in plans(after, window=16, overlap=8) for frame in planned.frames) == 15
    before = split_at_cuts(extension(20, Fraction(8), new=30, before=True), starts=[0, 4])
    assert before.segments == (range(34), range(34, 50))
    assert max(frame for planned in plans(before, window=16, overlap=8) for frame in planned.frames) == 33


def test_a_cut_is_held_and_not_blended_over() -> None:
    line = split_at_cuts(interpolation(4, Fraction(8), factor=3), starts=[0, 2], same=[3])
    assert dict(line.repeats) == {4: 3, 5: 3, 7: 6, 8: 6}
    assert line.segments == (range(4), range(6, 10))
    assert plans(line, window=16, overlap=4) == [
        Window(frames=(0, 1, 2, 3), observed=frozenset({0, 3}), makes=frozenset({1, 2}))
    ]


def test_a_loop_of_two_scenes_leads_from_the_last_to_the_first() -> None:
    line = split_at_cuts(loop(10, Fraction(8), new=6, shown=8), starts=[0, 5])
    assert line.segments == (range(5), range(5, 21), range(21, 24))
    assert line.times == loop(10, Fraction(8), new=6, shown=8).times


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: loop(0, Fraction(8), new=2, shown=1),
        lambda: loop(3, Fraction(0), new=2, shown=1),
        lambda: loop(3, Fraction(8), new=-1, shown=1),
        lambda: loop(3, Fraction(8), new=1, shown=0),
        lambda: join(0, 1, Fraction(8), gap=2),
        lambda: join(1, 0, Fraction(8), gap=2),
        lambda: join(1, 1, Fraction(8), gap=-1),
    ],
)
def test_impossible_loops_and_joins_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong()


@pytest.mark.parametrize(("total", "limit"), [(300, 24), (25, 24), (24, 24), (5, 24), (7, 1), (0, 3)])
def test_evenly_spaced_indices(total: int, limit: int) -> None:
    """All, or the first, the last and equal gaps between; without the last, the starts of equal parts."""
    both, starts = evenly_spaced(total, limit), evenly_spaced(total, limit, to_last=False)
    for indices in (both, starts):
        assert len(indices) == min(total, limit) and indices == sorted(set(indices)) and indices[:1] == [0][:total]
        gaps = [later - earlier for earlier, later in pairwise(indices)]
        assert not gaps or max(gaps) - min(gaps) <= 1
    assert both[-1:] == [total - 1][:total] or limit == 1
    assert starts == [place * total // min(total, limit) for place in range(min(total, limit))]
