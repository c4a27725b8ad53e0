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
from pychip_live.core.fractions import (
    _BLOCK,
    PhaseFractions,
    _likeliest_shares,
    _resampled_shares,
    phase_fractions,
)
from pychip_live.core.prototypes import Prototypes, fit_prototypes


def chips(vectors: NDArray[Any]) -> Embedding:
    return Embedding("e", vectors.astype(np.float16), np.zeros(len(vectors), np.float16))


def support(vectors: NDArray[Any], class_ids: Sequence[int], **options: Any) -> Prototypes:
    known: dict[str, Any] = {
        "all_classes": sorted(set(class_ids)),
        "embedding_id": "e",
        "revision": 0,
    }
    made = chips(vectors)
    return fit_prototypes(made.vectors, made.residual, class_ids, **(known | options))


def fractions(embedding: Embedding, made: Prototypes, masked: Any = None) -> PhaseFractions:
    return phase_fractions(embedding, classify(embedding, made, masked), made)


@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([0, 4, 11]), min_size=1, max_size=9),
    st.integers(1, 60),
    st.sampled_from(["off", "lenient", "strict"]),
)
def test_shares_sum_to_one_within_their_intervals(
    seed: int, class_ids: list[int], n: int, unknown: str
) -> None:
    rng = np.random.default_rng(seed)
    made = support(rng.normal(size=(len(class_ids), 3)), class_ids, unknown=unknown)
    embedding = chips(rng.normal(size=(n, 3)) * 2)
    got = fractions(embedding, made, rng.random(n) < 0.3)
    assert got.class_ids == made.class_ids
    assert got.n_chips == n
    assert 0 <= got.n_unknown <= n
    if got.n_unknown == n:
        assert np.isnan([got.share, got.low, got.high]).all()
        return
    assert got.share.sum() == pytest.approx(1)
    assert (got.low >= 0).all()
    assert (got.low <= got.share).all()
    assert (got.share <= got.high).all()
    assert (got.high <= 1).all()


def test_unknown_chips_do_not_count() -> None:
    x = np.array([[0.0, 0], [0, 1], [10, 0], [10, 1]])
    made = support(x, [0, 0, 1, 1])
    got = fractions(chips(np.vstack([x[:3], [[500, 500]]])), made)
    assert (got.n_chips, got.n_unknown) == (4, 1)
    np.testing.assert_allclose(got.share, [2 / 3, 1 / 3])


def test_single_class_is_certain() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2))
    for m in (1, 3):
        got = fractions(chips(x), support(x[:m], [6] * m))
        assert (got.share[0], got.low[0], got.high[0]) == (1, 1, 1)


def test_one_example_a_class_says_nothing_about_spread() -> None:
    got = fractions(chips(np.eye(2)), support(np.eye(2), [0, 1]))
    np.testing.assert_array_equal(got.share, [0.5, 0.5])
    np.testing.assert_array_equal(got.low, [0, 0])
    np.testing.assert_array_equal(got.high, [1, 1])


def test_classes_that_cannot_be_told_apart_have_a_wide_interval() -> None:
    x = np.repeat(np.random.default_rng(1).normal(size=(4, 3)), 2, axis=0)
    got = fractions(chips(x), support(x, [0, 1] * 4))
    assert (got.high - got.low > 0.5).all()


def test_clear_classes_have_a_narrow_interval() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 4)) + 100 * (np.arange(400) % 4 == 0)[:, None]
    examples = (np.arange(12) % 4 == 0).astype(int).tolist()
    got = fractions(chips(x), support(x[:12], examples, unknown="off"))
    np.testing.assert_allclose(got.share, [0.75, 0.25])
    assert (got.high - got.low < 0.01).all()


@pytest.mark.parametrize("n", [1, 50, _BLOCK + 7])
def test_resampled_shares_agree_with_a_naive_loop(n: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    resamples = rng.normal(size=(8, 3, 5)).astype(np.float32)
    for got, means in zip(_resampled_shares(x, resamples), resamples, strict=True):
        winner = ((x[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_allclose(got, np.bincount(winner, minlength=3) / n, atol=1e-3)


def test_likeliest_shares_undo_the_pull_towards_equal_shares() -> None:
    rng = np.random.default_rng(4)
    truth = np.array([0.85, 0.15])
    phase = rng.random(20_000) < truth[1]
    x = rng.normal(size=20_000) + 2 * phase
    odds = np.exp(2 * x - 2)  # of two unit normals, 2 apart
    p = np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1).astype(np.float32)
    counted = np.bincount(p.argmax(axis=1)) / len(p)
    assert abs(counted - truth).max() > 0.08
    assert abs(_likeliest_shares(p) - truth).max() < 0.02


def synthetic_coverage(
    n_examples: int, truth: list[float], apart: float, spread: Sequence[float] = (1, 1, 1)
) -> float:
    """Share of intervals that hold the true share: Gaussian classes, 40 draws of 1,024 chips."""
    k, p = len(truth), 16
    covered = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        centers = rng.normal(size=(k, p))
        centers *= apart / np.linalg.norm(centers[0] - centers[1])
        phase = rng.permutation(np.repeat(np.arange(k), [round(1024 * share) for share in truth]))
        label = np.repeat(np.arange(k), n_examples)
        x, examples = (
            centers[c] + np.take(spread, c)[:, None] * rng.normal(size=(len(c), p))
            for c in (phase, label)
        )
        got = fractions(chips(x), support(examples, label.tolist(), unknown="off"))
        share = np.bincount(phase, minlength=k) / len(phase)
        covered.append((got.low <= share) & (share <= got.high))
    return float(np.mean(covered))


EQUAL, UNEVEN, RARE = [0.34, 0.33, 0.33], [0.7, 0.2, 0.1], [0.95, 0.05]


@pytest.mark.parametrize("n_examples", [2, 5, 10])
@pytest.mark.parametrize("apart", [2.0, 3.5, 6.0], ids=["overlapping", "touching", "clear"])
@pytest.mark.parametrize("truth", [EQUAL, UNEVEN, RARE], ids=["equal", "uneven", "rare"])
def test_interval_covers_the_truth(n_examples: int, apart: float, truth: list[float]) -> None:
    assert synthetic_coverage(n_examples, truth, apart) >= 0.85


@pytest.mark.parametrize("n_examples", [5, 10])
@pytest.mark.parametrize("apart", [2.0, 3.5, 6.0], ids=["overlapping", "touching", "clear"])
@pytest.mark.parametrize("truth", [EQUAL, UNEVEN, RARE], ids=["equal", "uneven", "rare"])
def test_interval_covers_the_truth_of_classes_of_unequal_spread(
    n_examples: int, apart: float, truth: list[float]
) -> None:
    assert synthetic_coverage(n_examples, truth, apart, (0.6, 1.4, 1.0)) >= 0.8
