from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.splits import check_held_out, split


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.sampled_from("abcdef"), max_size=30),
    st.floats(0, 0.99),
    st.integers(0, 5),
)
def test_groups_stay_together_and_both_sides_are_filled(groups, fraction, seed):
    sides = split(groups, val_fraction=fraction, seed=seed)
    assert set(sides) == set(groups)
    units = {(group, None) if group is not None else (None, name) for name, group in groups.items()}
    for group in "abcdef":
        assert len({sides[name] for name in groups if groups[name] == group}) <= 1
    if fraction > 0 and len(units) > 1:
        assert set(sides.values()) == {"train", "val"}
    if fraction == 0:
        assert "val" not in sides.values()


def test_the_draw_is_stable_follows_the_seed_and_the_fraction():
    groups = dict.fromkeys(map(str, range(200)))
    sides = split(groups, val_fraction=0.1, seed=0)
    assert sides == split(dict(reversed(groups.items())), val_fraction=0.1, seed=0)
    assert sides != split(groups, val_fraction=0.1, seed=1)
    assert sum(side == "val" for side in sides.values()) == 20


@given(st.sets(st.text(max_size=5), min_size=1, max_size=30), st.data(), st.floats(0.01, 0.99), st.integers(0, 5))
def test_something_that_moves_is_held_out(names, data, fraction, seed):
    """Where two sources or more move. Pictures among them change as few sides as that takes: two, or none."""
    stills = data.draw(st.sets(st.sampled_from(sorted(names))))
    groups = dict.fromkeys(names)
    plain = split(groups, val_fraction=fraction, seed=seed)
    sides = split(groups, val_fraction=fraction, seed=seed, stills=stills)
    held = {name for name, side in sides.items() if side == "val"}
    assert sorted(sides.values()) == sorted(plain.values())
    moves = {name for name, side in plain.items() if side == "val"} - stills
    if moves or len(names - stills) < 2 or not held:
        assert sides == plain
    else:
        assert len(held - stills) == 1 and sum(sides[name] != plain[name] for name in names) == 2
    assert len(names - stills) < 2 or not held or held - stills


@pytest.mark.parametrize("count", [2, 5, 12, 24])
def test_a_source_more_changes_no_other_of_a_small_folder(count):
    """Below 30 sources one validates: a new one takes its place or none, and which does not depend on the order."""
    names = [f"clip {number}" for number in range(count)]
    before = split(dict.fromkeys(names), val_fraction=0.05, seed=0)
    after = split(dict.fromkeys(["new", *reversed(names)]), val_fraction=0.05, seed=0)
    (held,) = [name for name, side in before.items() if side == "val"]
    (then,) = [name for name, side in after.items() if side == "val"]
    assert then in (held, "new")


def test_hold_out_is_exactly_these_groups():
    groups: dict[str, str | None] = {"a": "p1", "b": "p2", "c": "p1", "d": None}
    sides = split(groups, val_fraction=0.9, seed=0, hold_out=("p1",))
    assert sides == {"a": "val", "b": "train", "c": "val", "d": "train"}
    with pytest.raises(VidiffError, match=r"p3 is not a value .* p1, p2"):
        check_held_out(("p3",), ("p2", "p1", None))
