from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pychip_live.core.classify import Classification, classify
from pychip_live.core.embedding import Embedding
from pychip_live.core.prototypes import Prototypes
from pychip_live.errors import EmbeddingMismatchError


def prototypes(
    means: NDArray[Any], ids: tuple[int, ...], *, radius: float = np.inf, temperature: float = 1.0
) -> Prototypes:
    k, p = means.shape
    return Prototypes(
        embedding_id="e",
        revision=1,
        class_ids=ids,
        excluded=(),
        means=means.astype(np.float32),
        temperature=temperature,
        radius=radius,
        resamples=np.empty((0, k, p), np.float32),
    )


def chips(vectors: NDArray[Any], residual: float = 0.0) -> Embedding:
    x = vectors.astype(np.float16)
    return Embedding("e", x, np.full(len(x), residual, np.float16))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Embedding, Prototypes]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    k, p, n = draw(st.integers(1, 5)), draw(st.integers(1, 8)), draw(st.integers(1, 30))
    ids = tuple(rng.permutation(100)[:k].tolist())
    radius = draw(st.sampled_from([np.inf, 1.0, 4.0]))
    made = prototypes(rng.normal(size=(k, p)), ids, radius=radius, temperature=0.7)
    return chips(rng.normal(size=(n, p)), residual=0.5), made


@given(cases())
def test_agrees_with_a_naive_loop(case: tuple[Embedding, Prototypes]) -> None:
    embedding, made = case
    got = classify(embedding, made)
    assert got.labels.dtype == np.int16
    assert got.probabilities.dtype == np.float16
    for i, vector in enumerate(embedding.vectors.astype(float)):
        d2 = [float(((vector - mean) ** 2).sum()) for mean in made.means.astype(float)]
        weights = np.exp(-(np.array(d2) - min(d2)) / made.temperature)
        np.testing.assert_allclose(got.probabilities[i], weights / weights.sum(), atol=1e-3)
        distance = min(d2) + float(embedding.residual[i]) ** 2
        if abs(distance - made.radius) < 1e-4 or sum(d < min(d2) + 1e-4 for d in d2) > 1:
            continue  # a tie to rounding
        expected = -1 if distance > made.radius else made.class_ids[int(np.argmin(d2))]
        assert got.labels[i] == expected
    np.testing.assert_array_equal(got.confidence, got.probabilities.max(axis=1))


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_the_classes_permutes_columns_only(
    case: tuple[Embedding, Prototypes], random: Any
) -> None:
    embedding, made = case
    order = list(range(len(made.class_ids)))
    random.shuffle(order)
    other = prototypes(
        made.means[order],
        tuple(made.class_ids[i] for i in order),
        radius=made.radius,
        temperature=made.temperature,
    )
    one, two = classify(embedding, made), classify(embedding, other)
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_allclose(one.probabilities[:, order], two.probabilities, atol=1e-3)


def three(**options: Any) -> Classification:
    made = prototypes(np.eye(3) * 4, (8, 3, 5), radius=2.0)
    return classify(chips(np.eye(3) * 4), made, **options)


def test_labels_are_ids_not_positions() -> None:
    assert three().labels.tolist() == [8, 3, 5]


def test_masked_chips_are_unknown() -> None:
    assert three(masked=np.array([False, True, False])).labels.tolist() == [8, -1, 5]


def test_far_and_nan_chips_are_unknown() -> None:
    made = prototypes(np.eye(2) * 4, (0, 1), radius=2.0)
    x = np.array([[4, 0], [400, 0], [np.nan, 0]])
    assert classify(chips(x), made).labels.tolist() == [0, -1, -1]
    made = prototypes(np.eye(2) * 4, (0, 1))
    assert classify(chips(x), made).labels.tolist() == [0, 0, -1]


def test_residual_alone_can_make_a_chip_unknown() -> None:
    made = prototypes(np.eye(2) * 4, (0, 1), radius=2.0)
    assert classify(chips(np.eye(2) * 4, residual=1.4), made).labels.tolist() == [0, 1]
    assert classify(chips(np.eye(2) * 4, residual=1.5), made).labels.tolist() == [-1, -1]


def test_largest_float16_embeddings_have_probabilities() -> None:
    x = np.full((2, 64), 65504.0)
    x[1] *= -1
    got = classify(chips(x, residual=65504.0), prototypes(x, (0, 1), temperature=1e-6))
    assert got.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(got.probabilities, np.eye(2))


def test_embeddings_of_another_recipe_are_refused() -> None:
    stranger = Embedding("other", np.zeros((1, 3), np.float16), np.zeros(1, np.float16))
    with pytest.raises(EmbeddingMismatchError, match=r"other.*id e;") as caught:
        classify(stranger, prototypes(np.eye(3), (0, 1, 2)))
    assert (caught.value.have, caught.value.need) == ("other", "e")
