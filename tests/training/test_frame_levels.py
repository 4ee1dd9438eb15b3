"""Noise levels by frame: kinds and their shares, what each kind draws, and that nothing else is drawn otherwise."""

import numpy as np
import pytest
import torch
from batches import draw, same_batch
from pydantic import ValidationError
from tiny_source import Row, make_source

from vidiff_cli.config.resolve import resolve
from vidiff_cli.config.train import LevelSettings, ObjectiveSettings, TrainSettings
from vidiff_cli.errors import UsageError
from vidiff_cli.runs.setup import consistent
from vidiff_cli.training.frame_levels import draw_sloped, rolling_places
from vidiff_cli.training.loader import Batch

T = 8


def drawn(*, steps: int = 60, **levels: float) -> list[Batch]:
    objective = ObjectiveSettings(levels=LevelSettings(**levels))
    source = make_source([Row(frames=T)] * 50)
    return [draw(source, step=step, size=16, window=T, objective=objective) for step in range(steps)]


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        ({}, (0.5, 0.5, 0, 0)),
        ({"observed": 0}, (1, 0, 0, 0)),
        ({"independent": 0.5}, (0.25, 0.25, 0.5, 0)),
        ({"independent": 1}, (0, 0, 1, 0)),
        ({"shared": 0.2, "sloped": 0.3}, (0.2, 0.5, 0, 0.3)),
        ({"shared": 0.1, "observed": 0.2, "independent": 0.3, "sloped": 0.4}, (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_what_is_not_given_is_filled_in(given: dict[str, float], shares: tuple[float, ...]) -> None:
    made = LevelSettings.model_validate(given)
    assert tuple(made.model_dump().values()) == pytest.approx(shares)
    assert LevelSettings.model_validate(made.model_dump()) == made, "a run records all four"


def test_a_wrong_sum_is_one_sentence() -> None:
    for given in ({"shared": 0.3, "observed": 0.3}, {"independent": 0.7, "sloped": 0.7}):
        with pytest.raises(ValidationError, match=r"add up to .*: found .*, expected a sum of 1"):
            LevelSettings.model_validate(given)
    with pytest.raises(UsageError, match="leave shared or observed out") as raised:
        resolve(TrainSettings, sets=["objective.levels.shared=0.3", "objective.levels.observed=0.3"])
    assert "\n" not in str(raised.value)
    made = resolve(
        TrainSettings, under={"objective": {"levels": {"observed": 0}}}, sets=["objective.levels.sloped=.25"]
    )
    assert made.objective.levels == LevelSettings(shared=0.75, observed=0, sloped=0.25)
    wrong = resolve(TrainSettings, given={"conditioning": "none"}, sets=["objective.levels.independent=0.5"])
    with pytest.raises(UsageError, match="found --conditioning none"):
        consistent(wrong)


def test_what_follows_from_the_shares() -> None:
    """Independent levels condition on frames, and give none to estimate motion from."""
    made = {
        kind: consistent(TrainSettings.model_validate({"objective": {"levels": {kind: 1}}}))
        for kind in ("shared", "observed", "independent", "sloped")
    }
    assert {kind: (each.conditioning, each.motion) for kind, each in made.items()} == {
        "shared": ("none", False),
        "observed": ("mixed", True),
        "independent": ("mixed", False),
        "sloped": ("mixed", True),
    }
    none = consistent(TrainSettings(conditioning="none"))
    assert none.objective.levels == LevelSettings(shared=1, observed=0) and not none.motion


def test_kinds_have_their_shares() -> None:
    batches = drawn(steps=120, shared=0.3, observed=0.3, independent=0.2, sloped=0.2)
    u, observed = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("u", "observed"))
    same = (u == u[:, :1]).all(dim=1)
    independent = ~same & ((u > 0) & (u < 1)).all(dim=1) & ~observed.any(dim=1)
    assert float(same.double().mean()) == pytest.approx(0.6, abs=0.04)
    assert float((same & observed.any(dim=1)).double().mean()) == pytest.approx(0.3 * (1 - 0.2 / 9), abs=0.04)
    assert float(independent.double().mean()) == pytest.approx(0.2, abs=0.05)


def test_the_kinds_of_before_are_drawn_as_before() -> None:
    """One number a clip decides its kind: a clip without levels by frame is the same whatever the others are."""
    plain, mixed = drawn(steps=30, observed=0.4), drawn(steps=30, observed=0.4, independent=0.3)
    both = 0
    for one, other in zip(plain, mixed, strict=True):
        kept = (other.u == other.u[:, :1]).all(dim=1)
        for name in ("u", "observed", "dropped", "times", "noise", "video"):
            assert torch.equal(getattr(one, name)[kept], getattr(other, name)[kept])
        assert torch.equal(one.noise, other.noise) and torch.equal(one.video, other.video)
        both += int(kept.sum())
    assert 0.6 * 480 < both < 0.8 * 480
    assert all(
        same_batch(one, two) for one, two in zip(mixed, drawn(steps=30, observed=0.4, independent=0.3), strict=True)
    )


def test_independent_levels_are_even_and_independent() -> None:
    batches = drawn(steps=200, independent=1)
    u = torch.cat([batch.u for batch in batches]).double()
    assert not any(batch.observed.any() for batch in batches)
    for frame in range(T):
        apart = u[:, frame].sort().values - torch.linspace(0, 1, len(u), dtype=torch.float64)
        assert float(apart.abs().max()) < 1.63 / len(u) ** 0.5, "Kolmogorov and Smirnov, 1 %"
    relation = np.corrcoef(u.numpy().T) - np.eye(T)
    assert np.abs(relation).max() < 4 / len(u) ** 0.5


def test_a_rolling_window_moves_on_by_a_frame_in_a_slot() -> None:
    """In the middle of a video, the window after a slot is the one before, moved by a frame; at the beginning frames
    wait as noise, at the end the first ones are done."""
    np.testing.assert_allclose(rolling_places(3.25, 4), 1 - (3.25 - np.arange(4)) / 4)
    assert rolling_places(1.0, 4).tolist() == [0.75, 1, 1, 1]
    assert rolling_places(6.0, 4).tolist() == [0, 0, 0, 0.25]
    before, after = rolling_places(3.0, 4), rolling_places(4.0, 4)
    np.testing.assert_allclose(after[1:], before[:-1])
    assert after[0] == 0.0


def test_sloped_windows_are_those_of_rolling_sampling() -> None:
    """In both directions: observed frames, then levels that rise by equal parts of the schedule, clean and noise at the
    ends."""
    rng, seen = np.random.default_rng(0), {"full": 0, "begin": 0, "end": 0, "back": 0}
    for _ in range(3000):
        u, observed = draw_sloped(rng, T)
        if observed[-1] or (not observed[0] and u[0] > u[-1]):
            u, observed = u[::-1], observed[::-1]
            seen["back"] += 1
        count = int(observed.sum())
        assert count < T and observed[:count].all() and (u[:count] == 0).all()
        made = u[count:]
        assert (made > 0).all() and (np.diff(made) >= 0).all()
        inside = made[made < 1]
        if len(inside) > 1:
            apart = np.diff(inside)
            np.testing.assert_allclose(apart, apart[0], atol=1e-9)
            assert 1 / T - 1e-9 <= apart[0] <= 0.5 + 1e-9
        seen["full"] += bool(len(made) > 1 and made[-1] < 1 and made[0] <= np.diff(made)[0] + 1e-9)
        seen["begin"] += bool(len(made) > 1 and made[-1] == 1)
        seen["end"] += bool(len(made) == 1 and made[0] < 0.2)
    assert 0.4 < seen["back"] / 3000 < 0.6
    assert seen["full"] / 3000 > 0.5 and seen["begin"] > 100 and seen["end"] > 20, "mostly the middle of a video"


def test_images_beside_a_clip_keep_the_level_of_the_clip() -> None:
    objective = ObjectiveSettings(levels=LevelSettings(independent=1), image_fraction=0.5)
    source = make_source([Row(frames=T)] * 9)
    batch = draw(source, size=4, window=T, objective=objective)
    plain = draw(source, size=4, window=T, objective=ObjectiveSettings(image_fraction=0.5))
    assert batch.u.shape == (4, 2 * T) and torch.equal(batch.u[:, T:], plain.u[:, T:])
    assert torch.equal(batch.u[:, T:], batch.u[:, T : T + 1].expand(-1, T))
    assert batch.without_images().u.shape == (4, T) and not torch.equal(batch.u[:, :T], plain.u[:, :T])


def test_an_image_has_one_level_whatever_the_kind() -> None:
    source = make_source([Row(frames=1, fps="0")] * 9)
    for kind in ("independent", "sloped"):
        objective = ObjectiveSettings(levels=LevelSettings.model_validate({kind: 1}))
        batch = draw(source, size=9, window=T, objective=objective)
        assert batch.u.shape == (9, 1) and not batch.observed.any() and ((batch.u > 0) & (batch.u <= 1)).all()
        assert len(batch.u.unique()) > 7
