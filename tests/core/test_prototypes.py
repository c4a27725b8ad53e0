from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pychip_live.core.classify import classify
from pychip_live.core.embedding import Embedding
from pychip_live.core.prototypes import (
    UNKNOWN_FACTOR,
    Prototypes,
    Strictness,
    _fit_temperature,
    _leave_one_out,
    fit_prototypes,
)
from pychip_live.errors import EmptySupportError


def fit(
    vectors: NDArray[Any], class_ids: Sequence[int], residual: Any = 0.0, **options: Any
) -> Prototypes:
    vectors = np.asarray(vectors, np.float16)
    known: dict[str, Any] = {
        "all_classes": sorted(set(class_ids)),
        "embedding_id": "e",
        "revision": 3,
    }
    outside = np.broadcast_to(np.float16(residual), (len(vectors),)).copy()
    return fit_prototypes(vectors, outside, class_ids, **(known | options))


def labels_of(vectors: NDArray[Any], prototypes: Prototypes) -> list[int]:
    x = np.asarray(vectors, np.float16)
    chips = Embedding("e", x, np.zeros(len(x), np.float16))
    return [int(label) for label in classify(chips, prototypes).labels]


def clouds(seed: int, n: int, k: int = 3, p: int = 6, apart: float = 3.0) -> NDArray[np.float16]:
    """``k`` classes of ``n`` examples each, class by class."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, p)) * apart
    x: NDArray[np.float16] = (np.repeat(centers, n, axis=0) + rng.normal(size=(k * n, p))).astype(
        np.float16
    )
    return x


@given(st.integers(0, 2**32), st.lists(st.sampled_from([7, 2, 30]), min_size=1, max_size=12))
def test_prototype_is_the_mean_of_its_examples(seed: int, class_ids: list[int]) -> None:
    x = np.random.default_rng(seed).normal(size=(len(class_ids), 4)).astype(np.float16)
    made = fit(x, class_ids, all_classes=[30, 5, 2, 7])
    assert made.class_ids == tuple(c for c in (30, 5, 2, 7) if c in class_ids)
    assert made.excluded == tuple(c for c in (30, 5, 2, 7) if c not in class_ids)
    for c, mean in zip(made.class_ids, made.means, strict=True):
        expected = x[[i for i, own in enumerate(class_ids) if own == c]].astype(float).mean(axis=0)
        np.testing.assert_allclose(mean, expected, atol=1e-5)
    assert made.temperature > 0
    assert made.radius > 0
    assert np.isfinite(made.resamples).all()


@given(st.integers(0, 2**32), st.lists(st.integers(0, 2), min_size=2, max_size=15))
def test_leave_one_out_shortcut_equals_brute_force(seed: int, classes: list[int]) -> None:
    ids, row = np.unique(classes, return_inverse=True)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(row), 5)).astype(np.float32)
    outside = rng.random(len(row)).astype(np.float32)
    counts = np.bincount(row).astype(np.float32)
    means = np.stack([x[row == c].mean(axis=0) for c in range(len(ids))])
    got = _leave_one_out(x, outside, row, counts, means)
    for i in range(len(row)):
        others = np.arange(len(row)) != i
        for c in range(len(ids)):
            if c == row[i] and counts[c] == 1:
                continue  # nothing is left of the class
            mean = x[others & (row == c)].mean(axis=0)
            expected = ((x[i] - mean) ** 2).sum() + outside[i]
            assert got[i, c] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("apart", "n"), [(0.3, 8), (0.7, 5), (1.0, 10)])
@pytest.mark.parametrize("outside", [0.0, 1e4], ids=["", "large residual"])
def test_temperature_is_the_optimum_of_the_leave_one_out_loss(
    apart: float, n: int, outside: float
) -> None:
    x = clouds(1, n, apart=apart).astype(np.float32)
    row = np.repeat(np.arange(3), n)
    means = np.stack([x[row == c].mean(axis=0) for c in range(3)])
    d2 = _leave_one_out(
        x, np.full(len(x), outside, np.float32), row, np.full(3, n, np.float32), means
    )

    def loss(t: float) -> float:
        logits = -(d2 - d2.min(axis=1, keepdims=True)).astype(float) / t
        own = logits[np.arange(len(row)), row]
        return float((np.log(np.exp(logits).sum(axis=1)) - own).mean())

    best = min(loss(t) for t in np.geomspace(1e-2, 1e4, 3000))
    assert loss(_fit_temperature(d2, row)) == pytest.approx(best, rel=2e-3)


def test_temperature_follows_the_scale_of_the_embedding() -> None:
    x = clouds(2, 6, apart=1.0).astype(np.float32)
    ids = [0] * 6 + [1] * 6 + [2] * 6
    assert fit(x * 8, ids).temperature == pytest.approx(64 * fit(x, ids).temperature, rel=1e-2)


def test_no_example_at_all() -> None:
    with pytest.raises(EmptySupportError, match="add at least one chip"):
        fit(np.empty((0, 4)), [], all_classes=[0, 1])


def test_class_without_examples_in_the_middle_is_excluded() -> None:
    made = fit(clouds(3, 2, k=2), [9, 9, 4, 4], all_classes=[9, 6, 4])
    assert made.class_ids == (9, 4)
    assert made.excluded == (6,)


def test_single_class_with_a_single_example() -> None:
    made = fit(np.ones((1, 4)), [5])
    assert made.radius == np.inf
    assert made.temperature > 0
    assert labels_of(np.full((2, 4), 100.0), made) == [5, 5]


@pytest.mark.parametrize("strictness", ["lenient", "normal", "strict"])
def test_chip_is_unknown_beyond_what_the_support_shows(strictness: Strictness) -> None:
    x = clouds(4, 5)
    made = fit(x, np.repeat([0, 1, 2], 5).tolist(), unknown=strictness)
    farthest = max(
        float(((x[i].astype(float) - x[others].astype(float).mean(axis=0)) ** 2).sum())
        for i in range(15)
        for others in [[j for j in range(15) if j // 5 == i // 5 and j != i]]
    )
    assert made.radius == pytest.approx(UNKNOWN_FACTOR[strictness] * farthest, rel=1e-3)
    direction = np.zeros(6)
    direction[0] = np.sqrt(made.radius)
    only = fit(x[:5], [0] * 5, unknown=strictness)
    direction[0] = np.sqrt(only.radius)
    assert labels_of(only.means + 0.9 * direction, only) == [0]
    assert labels_of(only.means + 1.1 * direction, only) == [-1]


@pytest.mark.parametrize("strictness", ["off", "lenient", "normal", "strict"])
def test_identical_examples_show_no_spread_and_hide_nothing(strictness: Strictness) -> None:
    x = np.repeat(np.array([[0.1, 3.3, -7.7], [2.2, 0.3, 5.1]]), 3, axis=0)
    made = fit(x, [0, 0, 0, 1, 1, 1], unknown=strictness)
    assert made.radius == np.inf
    assert labels_of(x, made) == [0, 0, 0, 1, 1, 1]
    assert labels_of(x + 1, made) == [0, 0, 0, 1, 1, 1]


def test_flat_class_does_not_make_the_only_example_of_another_unknown() -> None:
    vacuum, particle = np.zeros((5, 3)), np.array([[4.0, 0, 0]])
    vacuum[:, 1] = np.linspace(-0.01, 0.01, 5)
    made = fit(np.vstack([vacuum, particle]), [0] * 5 + [1])
    assert labels_of(particle + np.array([1, 1, 0]), made) == [1]


def test_same_chips_in_two_classes() -> None:
    x = np.repeat(clouds(5, 3, k=1), 2, axis=0)
    made = fit(x, [0, 1] * 3)
    assert set(labels_of(x, made)) <= {0, 1}
    assert made.temperature > 0


def test_huge_embeddings() -> None:
    x = np.full((4, 64), 65504, np.float16)
    x[2:] *= -1
    made = fit(x, [0, 0, 1, 1])
    assert np.isfinite(made.resamples).all()
    assert labels_of(x, made) == [0, 0, 1, 1]


def test_resampled_prototypes_scatter_like_a_mean() -> None:
    x = clouds(6, 5, k=2, p=3).astype(float)
    made = fit(x, [0] * 5 + [1] * 5, n_resamples=20_000)
    for k in range(2):
        own = np.asarray(x[5 * k : 5 * k + 5], np.float16).astype(float)
        expected = own.var(axis=0, ddof=1) / 5
        np.testing.assert_allclose(made.resamples[:, k].var(axis=0), expected, rtol=0.05)
        np.testing.assert_allclose(made.resamples[:, k].mean(axis=0), own.mean(axis=0), atol=0.02)


def test_lone_example_borrows_the_spread_of_the_others() -> None:
    x = np.vstack([clouds(7, 6, k=1, p=3), [[50.0, 0, 0]]])
    made = fit(x, [0] * 6 + [1], n_resamples=20_000)
    own = np.asarray(x[:6], np.float16).astype(float)
    np.testing.assert_allclose(made.resamples[:, 1].var(axis=0), own.var(axis=0, ddof=1), rtol=0.05)


def test_without_two_examples_anywhere_there_is_nothing_to_resample() -> None:
    made = fit(np.eye(3), [0, 1, 2])
    assert made.resamples.shape == (0, 3, 3)


def test_same_seed_same_prototypes() -> None:
    x, ids = clouds(8, 4, k=2), [0] * 4 + [1] * 4
    np.testing.assert_array_equal(fit(x, ids).resamples, fit(x, ids).resamples)
    assert (fit(x, ids, seed=1).resamples != fit(x, ids).resamples).any()
