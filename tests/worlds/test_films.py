"""Generated films: functions of their number and of time, with the statistics of real pictures and of real motion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.worlds.cutouts import KINDS, cut
from vidiff_cli.worlds.film_draws import BORDERS, CUTS, REPEATS, STILL, draw_film
from vidiff_cli.worlds.films import RATE, WorldFilm, render
from vidiff_cli.worlds.layers import Layer, inward
from vidiff_cli.worlds.outlines import draw_outline
from vidiff_cli.worlds.textures import SIDE, photograph

NUMBERS = range(6)


def undisturbed(film: WorldFilm) -> WorldFilm:
    """The film without what is not continuous in time."""
    return replace(film, noise=0.0, repeats=0.0, scenes=film.scenes[:1], cut_seconds=math.inf)


def power_slope(gray: np.ndarray) -> float:
    """The exponent of the power spectrum over the frequency, a decade in the middle."""
    side = len(gray)
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((gray - gray.mean()) * window * window[:, None])) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side) * side] * 2))
    bands = np.arange(2, side // 3)
    energy = [power[np.abs(frequency - band) < 0.5].mean() for band in bands]
    return float(np.polyfit(np.log(bands), np.log(np.array(energy) + 1e-9), 1)[0])


def fastest(film: WorldFilm) -> float:
    """How far the middle of any layer moves in the picture in a frame's time, a third into the film."""
    scene, when = film.scenes[0], np.array([0.3, 0.3 + 1 / RATE])
    camera = scene.camera.at(when)
    moved = []
    for layer in scene.layers:
        before, after = np.linalg.inv(inward(layer, camera, when))
        seen = [matrix @ [x, y, 1] for matrix in (before, after) for x, y in ((-0.3, -0.3), (0.3, 0.2))]
        first, second, third, fourth = (place[:2] / place[2] for place in seen)
        moved.append(max(np.hypot(*(third - first)), np.hypot(*(fourth - second))))
    return max(moved)


def test_a_film_is_a_function_of_its_seed_and_number():
    frames = [render(draw_film(3, 5), [0.1, 0.4], canvas=32)]
    photograph.cache_clear()
    render(draw_film(3, 6), [0.1], canvas=32)
    frames += [render(draw_film(3, 5), [0.1, 0.4], canvas=32)]
    assert np.array_equal(*frames) and frames[0].dtype == np.uint8 and frames[0].shape == (2, 32, 32, 3)
    for other in (draw_film(3, 7), draw_film(4, 5), draw_film(3, 5, held_out=True)):
        assert not np.array_equal(render(other, [0.1, 0.4], canvas=32), frames[0])


@pytest.mark.parametrize("number", range(3))
def test_a_frame_depends_on_its_own_time_alone(number):
    film = draw_film(0, number)
    together = render(film, np.arange(6) / 24, canvas=24)
    for place in (0, 3, 5):
        assert np.array_equal(render(film, [place / 24], canvas=24)[0], together[place])


@pytest.mark.parametrize("number", NUMBERS)
def test_time_is_continuous(number):
    film, errors = undisturbed(draw_film(0, number)), []
    for step in (0.01, 0.0025, 0.0006):
        frames = render(film, [0.37, 0.37 + step], canvas=32).astype(float)
        errors.append(np.square(frames[0] - frames[1]).mean())
    assert errors[0] + 0.05 >= errors[1] and errors[1] + 0.05 >= errors[2] and errors[2] < 6.5  # 40 dB


def test_the_two_sides_of_a_cut_are_two_films():
    film = next(film for number in range(400) if (film := draw_film(0, number)).cut_seconds < 0.9)
    film = replace(film, repeats=0.0, noise=0.0)
    before, after, later = render(film, film.cut_seconds + np.array([-1e-4, 1e-4, 2e-4]), canvas=32).astype(float)
    assert np.abs(after - later).mean() < 1 < 10 * np.abs(after - later).mean() + 1 < np.abs(before - after).mean()


def test_a_film_looks_the_same_at_every_size():
    for number in NUMBERS:
        film = undisturbed(draw_film(0, number))
        large, small = (render(film, [0.5], canvas=canvas)[0].astype(float) for canvas in (128, 64))
        reduced = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.square(reduced - small).mean() < 0.2 * np.square(small - small.mean()).mean() + 4


def test_pictures_have_the_spectrum_of_natural_ones():
    grays = [render(draw_film(0, number), [0.5], canvas=64)[0].mean(-1) for number in range(16)]
    slopes = [power_slope(gray) for gray in grays if gray.std() > 2]
    assert -3.1 < np.mean(slopes) < -2.1  # of thirteen real clips, reduced to this size: -3.0
    assert 25 < np.median([gray.std() for gray in grays]) < 60 and 80 < np.mean(grays) < 150


def test_films_are_of_the_kinds_they_are_to_be_of():
    films = [draw_film(2, number) for number in range(1500)]

    def share(of: list[bool]) -> float:
        return sum(of) / len(of)

    assert abs(share([len(film.scenes) == 2 for film in films]) - CUTS) < 0.02
    assert abs(share([film.repeats > 0 for film in films]) - REPEATS) < 0.02
    assert abs(share([film.borders > 0 for film in films]) - BORDERS) < 0.02
    speeds = np.array([fastest(film) for film in films[:400]])
    assert STILL - 0.06 < (speeds < 0.001).mean() < STILL + 0.12
    assert 0.005 < np.median(speeds) < 0.03 and (speeds > 0.05).mean() > 0.1


def test_held_out_films_show_other_photographs():
    def photos(held_out: bool) -> set[tuple[int, int]]:
        films = [draw_film(0, number, held_out=held_out) for number in range(300)]
        return {layer.photo for film in films for scene in film.scenes for layer in scene.layers}

    assert len(photos(False)) > 200 and len(photos(True)) > 50 and not photos(False) & photos(True)


def test_repeated_frames_and_black_bars():
    film = replace(draw_film(0, 1), repeats=12.0, noise=2.0, borders=0.125)
    frames = render(film, np.arange(6) / 24, canvas=32)
    assert np.array_equal(frames[::2], frames[1::2]) and not np.array_equal(frames[0], frames[2])
    assert not frames[:, :4].any() and not frames[:, -4:].any() and frames[:, 4:-4].any()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_pieces_cover_a_part_and_end_before_their_border(kind):
    for seed, side in ((0, 12), (1, 40), (2, 200)):
        coverage, shade = cut(kind, seed, side)
        assert coverage.shape == shade.shape == (side, side) and coverage.min() >= 0 and coverage.max() <= 1
        assert 0.005 < coverage.mean() < 0.9 and not coverage[[0, -1]].any() and not coverage[:, [0, -1]].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_an_outline_lies_within_the_unit_circle(seed):
    outline, angle = draw_outline(np.random.default_rng(seed)), np.linspace(0, 2 * math.pi, 90)
    assert outline.distance(np.zeros(1), np.zeros(1))[0] < 0
    assert (outline.distance(1.001 * np.cos(angle), 1.001 * np.sin(angle)) > -1e-3).all()


def test_photographs_go_on_beyond_their_borders():
    seams, inside = [], []
    for number in range(4):
        levels = photograph(0, number)
        assert [len(level) - 1 for level in levels] == [SIDE >> power for power in range(len(levels))]
        for level in levels:
            assert np.array_equal(level[0], level[-1]) and np.array_equal(level[:, 0], level[:, -1])
        rows = np.abs(np.diff(levels[0].astype(float), axis=0)).mean((1, 2))
        seams.append(rows[-1])
        inside.append(rows[:-1].mean())
    assert np.mean(seams) < 2 * np.mean(inside)


def test_limbs_turn_about_their_joints():
    """The joint of a limb stays where it is on the body, whatever both do."""

    def limbs(film: WorldFilm) -> list[Layer]:
        return [layer for layer in film.scenes[0].layers if len(layer.motions) == 2]

    film = next(film for number in range(100) if limbs(film := draw_film(0, number)))
    limb, when = limbs(film)[0], np.linspace(0, 1, 5)
    camera = film.scenes[0].camera.at(when)
    body = inward(replace(limb, motions=limb.motions[:1]), camera, when)
    onto_body = body @ np.linalg.inv(inward(limb, camera, when))
    joints = onto_body @ [0, 0, 1]
    assert np.allclose(joints, joints[0]) and not np.allclose(onto_body, onto_body[0])
