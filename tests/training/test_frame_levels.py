"""Noise levels by frame: kinds and their shares, what each kind draws, and that nothing else is drawn otherwise."""

import numpy as np
import pytest
import torch
from batches import draw, same_batch
from pydantic import ValidationError
from tiny_source import Row, make_source

from vidiff_cli.config.resolve import resolve
from vidiff_cli.config.train import LevelSettings, ObjectiveSettings, TrainSettings
from vidiff_cli.diffusion.samplers import SAMPLER_STEPS
from vidiff_cli.errors import UsageError
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.runs.setup import consistent
from vidiff_cli.sampling.rolling import roll, seeded_noise
from vidiff_cli.training.frame_levels import draw_sloped
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


def test_sloped_windows_are_those_of_rolling_sampling() -> None:
    """In both directions: observed frames, then levels that rise by equal parts of the schedule, then noise that has
    not begun; at every moment of a video, from its first frame to its last."""
    rng, seen = np.random.default_rng(0), {"full": 0, "waiting": 0, "ending": 0, "nothing": 0, "back": 0}
    for _ in range(3000):
        u, observed = draw_sloped(rng, T)
        if observed[-1] or (not observed[0] and u[0] > u[-1]):
            u, observed = u[::-1], observed[::-1]
            seen["back"] += 1
        count = int(observed.sum())
        assert count < T and observed[:count].all() and (u[:count] == 0).all()
        made = u[count:]
        assert (made > 0).all() and (made <= 1).all() and (np.diff(made) >= 0).all()
        active = made[made < 1]
        apart = np.diff(active)
        if len(active) > 1:
            np.testing.assert_allclose(1 / apart, round(1 / apart[0]), rtol=1e-6)
            assert len(active) <= round(1 / apart[0]) <= T
            seen["full"] += len(active) == round(1 / apart[0])
            seen["ending"] += bool(made[-1] < 1 - apart[0])
        seen["waiting"] += bool((made == 1).any())
        seen["nothing"] += not count
    assert 0.35 < seen["back"] / 3000 < 0.55, "half of those that are not symmetric"
    assert seen["full"] / 3000 > 0.4 and min(seen.values()) > 150, seen


def test_levels_of_a_sloped_clip_are_those_that_the_loop_asks_for() -> None:
    """Between two steps of the loop of sampling all levels lie between those of the two steps."""
    plan = RollingPlan(way=range(14), known=2, window=T, overlap=4)
    asked: list[np.ndarray] = []

    def denoise(z: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        asked.append(level[0].numpy().copy())
        return z

    places = torch.linspace(1, 0, 9, dtype=torch.float64)
    video = torch.zeros(1, 1, 14, 1, 1)
    for _ in roll(
        plan,
        lambda frames: video[:, :, list(frames)],
        denoise=lambda *_: denoise,
        condition=lambda inner, *_: inner,
        step=SAMPLER_STEPS["ddim"],
        levels=places,
        noise=seeded_noise([0], 1),
    ):
        pass
    for slot in range(plan.slots):
        window, numbers = plan.at(slot), np.array(plan.at(slot).frames) - plan.known
        for half in range(2):
            expected = 1 - np.clip((slot + half / 2 - numbers) / plan.active, 0, 1)
            expected[[frame in window.observed for frame in window.frames]] = 0
            np.testing.assert_allclose(asked[2 * slot + half], expected)


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


def test_levels_follow_from_seed_step_and_clip_alone() -> None:
    """Not from the rank that draws a clip, nor from the steps before."""
    levels = LevelSettings(shared=0.1, observed=0.2, independent=0.4, sloped=0.3)
    source, objective = make_source([Row(frames=T)] * 30), ObjectiveSettings(levels=levels)
    for step in (0, 7):
        whole = draw(source, size=9, window=T, step=step, objective=objective)
        parts = [
            draw(source, size=9, window=T, step=step, objective=objective, rank=rank, world=2) for rank in range(2)
        ]
        for name in ("u", "observed", "noise"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
        other = draw(source, size=9, window=T, step=step, objective=objective, seed=1)
        assert not torch.equal(other.u, whole.u)
