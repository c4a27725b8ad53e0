from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pychip_live.core.embedding import Fit, fit_features, project, recipe_json
from pychip_live.core.window import Limits

LIMITS = Limits(0.0, 100.0)


def features(seed: int, n: int, channels: tuple[int, ...] = (3, 5)) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(n, c)) * 10**i + 1).astype(np.float32) for i, c in enumerate(channels)
    ]


def fit(stages: list[NDArray[np.float32]], components: int = 64) -> Fit:
    return fit_features(stages, limits=LIMITS, recipe="{}", components=components)


def d2(x: NDArray[Any]) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    result: NDArray[np.float64] = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    return result


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 10))
def test_fit_is_orthonormal_centred_and_of_unit_variance(
    seed: int, n: int, components: int
) -> None:
    stages = features(seed, n)
    made = fit(stages, components)
    p = len(made.components)
    assert p <= min(components, n - 1, 8)
    np.testing.assert_allclose(made.components @ made.components.T, np.eye(p), atol=1e-5)
    for stage, scale in zip(stages, made.stage_scale, strict=True):
        assert (stage / scale).var(axis=0).sum() == pytest.approx(1, rel=1e-4)
    vectors = project(stages, made).vectors.astype(float)
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=5e-3)
    assert (np.diff(vectors.var(axis=0)) <= 5e-3).all()  # leading components first


def test_without_truncation_distances_are_those_of_the_scaled_features() -> None:
    stages = features(1, 40)
    made = fit(stages)
    scaled = np.concatenate([s / made.stage_scale[i] for i, s in enumerate(stages)], axis=1)
    got = project(stages, made)
    np.testing.assert_allclose(d2(got.vectors), d2(scaled), atol=0.03)
    np.testing.assert_allclose(got.residual, 0, atol=5e-3)


def test_residual_is_the_norm_of_what_was_left_out() -> None:
    stages = features(2, 40)
    whole, short = project(stages, fit(stages)), project(stages, fit(stages, 3))
    left = (whole.vectors.astype(float) ** 2).sum(axis=1)
    left -= (short.vectors.astype(float) ** 2).sum(axis=1)
    np.testing.assert_allclose(short.residual.astype(float) ** 2, left, atol=0.02)


def test_new_kind_of_chip_shows_in_the_residual() -> None:
    stages = features(3, 40, (6,))
    stages[0][:, 5] = 0
    made = fit(stages)
    strange = np.array([[1, 1, 1, 1, 1, 30]], np.float32)
    got = project([strange], made)
    assert got.residual[0] == pytest.approx(30 / made.stage_scale[0], rel=1e-2)


def test_chip_alone_gives_what_it_gives_in_the_frame() -> None:
    stages = features(4, 20)
    made = fit(stages, 4)
    whole, alone = project(stages, made), project([s[7:8] for s in stages], made)
    np.testing.assert_allclose(whole.vectors[7:8], alone.vectors, rtol=2e-3, atol=1e-3)


def test_fewer_chips_than_components() -> None:
    assert fit(features(5, 3), 64).components.shape == (2, 8)


def test_single_reference_chip() -> None:
    stages = features(6, 1)
    made = fit(stages)
    assert made.components.shape == (1, 8)
    got = project(stages, made)
    np.testing.assert_array_equal(got.vectors, [[0]])
    assert np.isfinite(project(features(7, 5), made).vectors).all()


@pytest.mark.parametrize("noise", [0.0, 1e-7], ids=["constant", "constant to rounding"])
@pytest.mark.parametrize("level", [0.0, 3.0, -1e4])
def test_constant_features_do_not_blow_up_others(noise: float, level: float) -> None:
    rng = np.random.default_rng(8)
    flat = (level * (1 + noise * rng.normal(size=(50, 4)))).astype(np.float32)
    made = fit([flat, features(8, 50, (5,))[0]])
    assert (made.stage_scale > 0).all()
    other = np.full((3, 4), level + abs(level) + 1, np.float32)
    got = project([other, features(9, 3, (5,))[0]], made)
    assert np.abs(got.vectors).max() < 100
    assert got.residual.max() < 100


@pytest.mark.parametrize("size", [1e6, -1e6, 1e15])
def test_embedding_past_float16_is_kept_finite(size: float) -> None:
    made = fit(features(10, 30), 3)
    got = project([np.full((2, 3), size, np.float32), np.full((2, 5), -size, np.float32)], made)
    assert np.isfinite(got.vectors).all()
    assert np.isfinite(got.residual).all()
    assert np.abs(got.vectors).max() == np.finfo(np.float16).max


def test_fit_does_not_depend_on_the_order_of_the_chips() -> None:
    stages = features(11, 30)
    one, two = fit(stages, 3), fit([s[::-1] for s in stages], 3)
    np.testing.assert_allclose(one.components, two.components, atol=1e-4)


def test_id_is_that_of_the_numbers() -> None:
    made = fit(features(12, 30))
    assert made.embedding_id == fit(features(12, 30)).embedding_id
    assert len(made.embedding_id) == 16
    assert int(made.embedding_id, 16) >= 0
    assert project(features(12, 2), made).id == made.embedding_id


@given(st.data())
def test_id_changes_with_any_number(data: st.DataObject) -> None:
    made = fit(features(13, 30))
    field = data.draw(
        st.sampled_from(["low", "high", "recipe", "stage_scale", "center", "components"])
    )
    changed: Fit
    if field in ("low", "high"):
        number = np.nextafter(getattr(LIMITS, field), np.inf)
        changed = dataclasses.replace(made, limits=dataclasses.replace(LIMITS, **{field: number}))
    elif field == "recipe":
        changed = dataclasses.replace(made, recipe='{"chip_px":16}')
    else:
        array = getattr(made, field).copy()
        at = data.draw(st.integers(0, array.size - 1))
        array.flat[at] = np.nextafter(array.flat[at], np.float32(np.inf))
        changed = dataclasses.replace(made, **{field: array})
    assert changed.embedding_id != made.embedding_id


def test_id_changes_with_the_shape() -> None:
    made = fit(features(14, 30))
    flat = dataclasses.replace(made, components=made.components.reshape(1, -1))
    assert flat.embedding_id != made.embedding_id


def test_recipe_is_canonical() -> None:
    assert recipe_json({"b": (1, 2), "a": "µ"}) == recipe_json({"a": "µ", "b": [1, 2]})
    assert recipe_json({"b": 1, "a": 2}) == '{"a":2,"b":1}'
