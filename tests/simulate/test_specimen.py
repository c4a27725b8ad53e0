from __future__ import annotations

import time

import numpy as np
import pytest

from pychip_live.core.grid import Grid
from pychip_live.errors import UsageError
from pychip_live.simulate.presets import PRESETS
from pychip_live.simulate.specimen import Specimen

TIMES = np.linspace(0, 1, 21)


@pytest.fixture(scope="module", params=list(PRESETS))
def specimen(request: pytest.FixtureRequest) -> Specimen:
    return Specimen((512, 640), seed=3, preset=request.param)


def curves(specimen: Specimen) -> np.ndarray:
    rows = [list(specimen.fractions(specimen.frame(float(t))[1]).values()) for t in TIMES]
    return np.array(rows)


def test_same_seed_same_specimen_and_same_noise(specimen: Specimen) -> None:
    again = Specimen((512, 640), seed=3, preset=specimen.preset)
    for t in (0.0, 0.37, 1.0):
        pixels, phase_map = specimen.frame(t)
        pixels_again, phase_map_again = again.frame(t)
        np.testing.assert_array_equal(pixels, pixels_again)
        np.testing.assert_array_equal(phase_map, phase_map_again)


def test_frames_do_not_depend_on_the_order_they_are_asked_for(specimen: Specimen) -> None:
    before = specimen.frame(0.5)[0]
    specimen.frame(0.9)
    np.testing.assert_array_equal(specimen.frame(0.5)[0], before)


def test_another_seed_is_another_specimen(specimen: Specimen) -> None:
    other = Specimen((512, 640), seed=4, preset=specimen.preset)
    assert (other.frame(0.7)[1] != specimen.frame(0.7)[1]).mean() > 0.05


def test_another_seed_is_other_noise(specimen: Specimen) -> None:
    other = Specimen((512, 640), seed=4, preset=specimen.preset)
    # neighbours' differences hold the noise and little else
    a, b = (np.diff(s.frame(0.0)[0].astype(float)).reshape(-1) for s in (specimen, other))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_noise_is_fresh_in_every_frame(specimen: Specimen) -> None:
    a, b = (specimen.frame(t)[0].astype(float) for t in (0.0, 1e-6))
    np.testing.assert_array_equal(specimen.frame(0.0)[1], specimen.frame(1e-6)[1])
    assert np.std(a - b) > 0.05 * a.mean()


def test_shapes_types_and_range(specimen: Specimen) -> None:
    pixels, phase_map = specimen.frame(0.6)
    assert pixels.shape == phase_map.shape == (512, 640)
    assert (
        pixels.dtype == {"crystallisation": np.uint16, "precipitation": np.uint8}[specimen.preset]
    )
    assert phase_map.dtype == np.uint8
    top = np.iinfo(pixels.dtype).max
    assert np.percentile(pixels, 0.1) > 0
    assert np.percentile(pixels, 99.9) < top


def test_fractions_are_exactly_those_of_the_phase_map(specimen: Specimen) -> None:
    phase_map = specimen.frame(0.8)[1]
    fractions = specimen.fractions(phase_map)
    assert tuple(fractions) == specimen.phases and len(specimen.phases) == 3
    for number, name in enumerate(specimen.phases):
        assert fractions[name] == (phase_map == number).sum() / phase_map.size
    assert sum(fractions.values()) == pytest.approx(1, abs=1e-12)


def test_fractions_of_the_cropped_grid(specimen: Specimen) -> None:
    grid = Grid(100, 512, 640)
    phase_map = specimen.frame(0.8)[1]
    cropped = phase_map[: grid.rows * grid.chip, : grid.cols * grid.chip]
    for number, name in enumerate(specimen.phases):
        chips = grid.share_per_chip(phase_map == number)
        assert specimen.fractions(cropped)[name] == pytest.approx(chips.mean(), abs=1e-6)


def test_the_transformation_is_an_s_curve_and_the_third_phase_comes_late(
    specimen: Specimen,
) -> None:
    first, second, third = curves(specimen).T
    assert first[0] > 0.99 and first[-1] < 0.65
    # monotonic but for the drift of the view
    assert (np.diff(first) < 0.02).all()
    speed = -np.diff(first)
    fastest = int(speed.argmax())
    assert 3 < fastest < 17
    assert speed[:2].mean() < 0.4 * speed.max() and speed[-2:].mean() < 0.4 * speed.max()
    assert second.max() > 0.2 and third.max() > 0.04
    assert np.argmax(third > 0.01) > np.argmax(second > 0.01) + 3


def test_crystallisation_follows_jmak_kinetics() -> None:
    # averaged over specimens, ln(-ln(1 - f)) against ln(t - t0) has the exponent's slope, 3
    times = np.linspace(0.35, 0.7, 8)
    left = np.zeros(len(times))
    for seed in range(4):
        specimen = Specimen((768, 768), seed)
        left += [(specimen.frame(float(t))[1] == 0).mean() / 4 for t in times]
    slope = np.polyfit(np.log(times - 0.05), np.log(-np.log(left)), 1)[0]
    assert 2.5 < slope < 3.6


def test_brightness_alone_does_not_tell_the_phases(specimen: Specimen) -> None:
    large = Specimen((1024, 1024), seed=3, preset=specimen.preset)
    grid = Grid(32, 1024, 1024)
    means, truth = [], []
    for t in (0.4, 0.55, 0.7, 0.85, 1.0):
        pixels, phase_map = large.frame(t)
        shares = np.stack([grid.share_per_chip(phase_map == k) for k in range(3)])
        pure = shares.max(axis=0) >= 0.9
        means.append(pixels.reshape(32, 32, 32, 32).mean(axis=(1, 3)).reshape(-1)[pure])
        truth.append(shares.argmax(axis=0)[pure])
    mean, phase = np.concatenate(means), np.concatenate(truth)
    assert np.bincount(phase).min() >= 50
    # nearest class mean with knowledge of all the truth: the best that brightness could do
    centres = np.array([mean[phase == k].mean() for k in range(3)])
    guess = np.abs(mean[:, None] - centres).argmin(axis=1)
    recall = np.mean([(guess == k)[phase == k].mean() for k in range(3)])
    assert recall < 0.7


def test_the_view_drifts_by_whole_pixels_within_the_specimen(specimen: Specimen) -> None:
    windows = [specimen._window(float(t)) for t in TIMES]
    assert len({(rows.start, cols.start) for rows, cols in windows}) > 3
    for rows, cols in windows:
        assert rows.start >= 0 and rows.stop <= specimen._recipe.base.shape[0]
        assert cols.start >= 0 and cols.stop <= specimen._recipe.base.shape[1]


def test_a_frame_is_rendered_in_60_ms() -> None:
    specimen = Specimen()
    # processor time, which does not depend on what else the machine does
    start = time.thread_time()
    for t in np.linspace(0, 1, 10):
        specimen.frame(float(t))
    assert (time.thread_time() - start) / 10 < 0.06


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"preset": "melting"}, "melting.*crystallisation, precipitation"),
        ({"shape": (63, 512)}, "64 px"),
        ({"seed": -1}, "-1"),
    ],
)
def test_refused_options_are_named(arguments: dict[str, object], names: str) -> None:
    with pytest.raises(UsageError, match=names):
        Specimen(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_a_time_outside_the_experiment_is_refused(specimen: Specimen, t: float) -> None:
    with pytest.raises(UsageError, match="within 0…1"):
        specimen.frame(t)
