from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pychip_live.core.window import (
    DRIFT,
    REACH,
    Limits,
    apply_window,
    choose_limits,
    percentile_limits,
    reach_limits,
    steady_limits,
)
from pychip_live.errors import ProfileError

REAL = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@st.composite
def frames(draw: st.DrawFn) -> NDArray[Any]:
    """Any small frame of any real type, NaN and infinities included."""
    dtype = np.dtype(draw(st.sampled_from(REAL)))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    return draw(hnp.arrays(dtype, shape))


@given(frames(), st.sampled_from([(0.0, 100.0), (0.1, 99.9), (25.0, 50.0)]))
def test_percentiles_are_those_of_numpy(
    pixels: NDArray[Any], percentiles: tuple[float, float]
) -> None:
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    limits = percentile_limits(pixels, percentiles)
    if not finite.size:
        assert limits == Limits(0.0, 0.0)
        return
    if np.abs(finite).max() > 1e300:  # differences of such numbers are not numbers
        return
    low, high = np.percentile(finite, percentiles)
    assert limits.low == pytest.approx(low, rel=1e-9, abs=1e-300)
    assert limits.high == pytest.approx(high, rel=1e-9, abs=1e-300)


@given(
    frames(),
    st.one_of(
        st.none(),
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
    ),
)
def test_window_units_are_always_0_to_1(
    pixels: NDArray[Any], numbers: tuple[float, float] | None
) -> None:
    limits = Limits(*sorted(numbers)) if numbers else percentile_limits(pixels, (0.1, 99.9))
    before = pixels.copy()
    seen = apply_window(pixels, limits)
    assert seen.values.dtype == np.float32
    assert seen.values.shape == pixels.shape
    assert np.isfinite(seen.values).all()
    assert seen.values.min() >= 0
    assert seen.values.max() <= 1
    assert 0 <= seen.saturated <= 1
    assert seen.n_invalid == np.count_nonzero(~np.isfinite(pixels))
    np.testing.assert_array_equal(pixels, before)


@given(frames())
def test_own_extremes_saturate_nothing(pixels: NDArray[Any]) -> None:
    assert apply_window(pixels, percentile_limits(pixels, (0, 100))).saturated == 0


def test_pixels_at_the_limit_are_not_saturated_by_rounding() -> None:
    rng = np.random.default_rng(1)
    for low, high in rng.normal(size=(500, 2)).astype(np.float32):
        pixels = np.array([[min(low, high), max(low, high)]])
        assert apply_window(pixels, percentile_limits(pixels, (0, 100))).saturated == 0


@given(
    hnp.arrays(np.float32, (4, 5), elements=st.floats(-1000, 1000, width=32)),
    st.floats(-500, 500),
    st.floats(1, 500),
)
def test_window_keeps_the_order_of_grey_values(
    pixels: NDArray[np.float32], low: float, width: float
) -> None:
    values = apply_window(pixels, Limits(low, low + width)).values.ravel()
    assert (np.diff(values[np.argsort(pixels, axis=None)]) >= 0).all()
    expected = np.clip((pixels.astype(np.float64) - low) / width, 0, 1).ravel()
    np.testing.assert_allclose(values, expected, atol=2e-4)


@pytest.mark.parametrize("dtype", REAL)
def test_constant_frame_is_legal(dtype: str) -> None:
    pixels = np.ones((3, 4), dtype)
    limits = percentile_limits(pixels, (0.1, 99.9))
    assert limits == Limits(1.0, 1.0)
    seen = apply_window(pixels, limits)
    assert (seen.values == 0).all()
    assert seen.saturated == 0
    assert seen.invalid is None


def test_single_pixel() -> None:
    pixels = np.array([[7]], np.uint16)
    assert percentile_limits(pixels, (0.1, 99.9)) == Limits(7.0, 7.0)
    assert apply_window(pixels, Limits(0, 10)).values[0, 0] == pytest.approx(0.7)


def test_invalid_pixels_hold_the_mean_of_the_others() -> None:
    pixels = np.array([[0.0, 10.0], [np.nan, np.inf]])
    seen = apply_window(pixels, Limits(0, 10))
    assert seen.n_invalid == 2
    np.testing.assert_array_equal(seen.values, [[0, 1], [0.5, 0.5]])
    assert seen.saturated == 0
    assert percentile_limits(pixels, (0, 100)) == Limits(0.0, 10.0)


def test_frame_without_a_valid_pixel() -> None:
    seen = apply_window(np.full((2, 2), np.nan), Limits(0, 1))
    assert seen.n_invalid == 4
    assert (seen.values == 0).all()
    assert seen.saturated == 0


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8"])
def test_counts_past_2_to_24_stay_apart(dtype: str) -> None:
    pixels = (2**24 + np.arange(4)).astype(dtype).reshape(2, 2)
    seen = apply_window(pixels, percentile_limits(pixels, (0, 100)))
    np.testing.assert_allclose(seen.values.ravel(), [0, 1 / 3, 2 / 3, 1], rtol=1e-6)


def test_float16_does_not_overflow() -> None:
    pixels = np.array([[-65504, 65504]], np.float16)
    seen = apply_window(pixels, percentile_limits(pixels, (0, 100)))
    np.testing.assert_array_equal(seen.values, [[0, 1]])


def test_negative_limits() -> None:
    pixels = np.array([[-20, -15, -10]], np.int16)
    seen = apply_window(pixels, percentile_limits(pixels, (0, 100)))
    np.testing.assert_array_equal(seen.values, [[0, 0.5, 1]])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_huge_values(dtype: str) -> None:
    pixels = np.array([[-3e38, 0, 3e38]], dtype)
    seen = apply_window(pixels, percentile_limits(pixels, (0, 100)))
    np.testing.assert_allclose(seen.values, [[0, 0.5, 1]], rtol=1e-6)


def test_limits_of_a_reference_far_outside_float32() -> None:
    seen = apply_window(np.array([[3]], np.uint8), Limits(-1e300, 1e300))
    assert seen.values[0, 0] == 0.5


def test_window_narrower_than_float32_resolves() -> None:
    seen = apply_window(np.array([[0, 1]], np.float32), Limits(0.0, 1e-40))
    assert np.isfinite(seen.values).all()


def test_saturation_is_counted_on_both_sides() -> None:
    pixels = np.arange(10, dtype=np.uint8).reshape(2, 5)
    assert apply_window(pixels, Limits(1, 7)).saturated == pytest.approx(0.3)


def test_frame_unlike_a_constant_reference_is_reported_as_saturated() -> None:
    pixels = np.arange(10, dtype=np.uint8).reshape(2, 5)
    assert apply_window(pixels, Limits(5, 5)).saturated == pytest.approx(0.9)


def test_modes() -> None:
    pixels = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    frozen, fixed = Limits(1, 2), Limits(3, 4)

    def limits(mode: Any, fixed: Limits | None = fixed) -> Limits:
        return choose_limits(pixels, mode, percentiles=(10, 90), frozen=frozen, fixed=fixed)

    assert limits("frozen") == frozen
    assert limits("fixed") == fixed
    assert limits("minmax") == Limits(0, 1000)
    assert limits("frame") == Limits(100, 900)
    with pytest.raises(ProfileError, match="low and high"):
        limits("fixed", None)


SCENE = np.random.default_rng(0).normal(1000, 50, (64, 80))


def units(pixels: NDArray[Any], limits: Limits) -> tuple[float, float]:
    """Mean and standard deviation of a frame in units of a window, not clipped."""
    width = limits.high - limits.low
    return float((pixels.mean() - limits.low) / width), float(pixels.std() / width)


def test_reach_is_standard_deviations_about_the_mean_of_finite_pixels() -> None:
    pixels = SCENE.copy()
    pixels[0, 0], pixels[5, 5] = np.nan, np.inf
    finite = pixels[np.isfinite(pixels)]
    limits = reach_limits(pixels)
    assert limits.low == pytest.approx(finite.mean() - REACH * finite.std())
    assert limits.high == pytest.approx(finite.mean() + REACH * finite.std())
    assert reach_limits(np.full((2, 2), np.nan)) == Limits(0, 0)


@pytest.mark.parametrize(("gain", "shift"), [(1.0, 0.0), (1.15, 0.1), (0.85, -0.15)])
def test_a_steady_window_lets_the_specimen_change(gain: float, shift: float) -> None:
    reference = reach_limits(SCENE)
    frame = 1000 + shift * 50 + (SCENE - 1000) * gain
    limits = steady_limits(frame, reference)
    assert limits.low == pytest.approx(reference.low, abs=1e-3)
    assert limits.high == pytest.approx(reference.high, abs=1e-3)


@given(gain=st.floats(1.5, 300), offset=st.floats(-1e4, 1e4), invert=st.booleans())
def test_a_steady_window_takes_out_gain_and_offset(
    gain: float, offset: float, invert: bool
) -> None:
    reference = reach_limits(SCENE)
    drifted = SCENE * (1 / gain if invert else gain) + offset
    mean, spread = units(drifted, steady_limits(drifted, reference))
    right_mean, right_spread = units(SCENE, reference)
    assert abs(np.log(spread / right_spread)) == pytest.approx(DRIFT, abs=1e-3)
    assert abs(mean - right_mean) <= DRIFT * right_spread * 1.001


def test_a_steady_window_never_jumps() -> None:
    reference = reach_limits(SCENE)
    offsets = np.linspace(-30, 30, 601)
    lows = np.array([steady_limits(SCENE + o, reference).low for o in offsets])
    assert np.abs(np.diff(lows)).max() <= 0.11  # no faster than the offset itself, 0.1 a step


def test_a_blank_frame_keeps_the_window() -> None:
    reference = reach_limits(SCENE)
    assert steady_limits(np.full((8, 8), 7, np.uint8), reference) == reference
    assert steady_limits(np.full((8, 8), np.nan), reference) == reference
    assert steady_limits(SCENE, Limits(3, 3)) == Limits(3, 3)


def test_a_large_frame_is_sampled_by_rows() -> None:
    pixels = np.random.default_rng(1).integers(0, 4000, (3000, 1500), np.uint16)
    exact = pixels.astype(np.float64)
    limits = reach_limits(pixels)
    assert (limits.low + limits.high) / 2 == pytest.approx(exact.mean(), rel=2e-3)
    assert (limits.high - limits.low) / (2 * REACH) == pytest.approx(exact.std(), rel=2e-3)
