"""Prototypes: the mean embedding of each class, and what its examples say about spread.

Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017: a class is
the mean of its embedded examples, compared by squared Euclidean distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pychip_live.errors import EmptySupportError

Strictness = Literal["off", "lenient", "normal", "strict"]

UNKNOWN_FACTOR: dict[Strictness, float] = {
    "off": np.inf, "lenient": 2.0, "normal": 1.5, "strict": 1.25,
}  # fmt: skip
"""A chip is unknown beyond this multiple of the largest leave-one-out squared distance.

The distance is that of an example to the prototype of its class made without it; for the lone
example of a class, that to the nearest other prototype (its spread may be as large).
"""


@dataclass(frozen=True, slots=True, eq=False)
class Prototypes:
    """Everything classification needs, made from one revision of the support set.

    Parameters
    ----------
    embedding_id, revision
        Which embeddings they can be compared with, and where they come from.
    class_ids
        ``k`` ids of the classes that have examples, in the order of the rows below.
    excluded
        Ids of the classes without examples.
    means
        ``(k, p)`` float32, mean embedding of each class.
    temperature
        Divisor of squared distances in the softmax, > 0.
    radius
        Squared distance to the nearest prototype beyond which a chip is unknown; inf for never.
    resamples
        ``(r, k, p)`` float32, prototypes of bootstrap resamples of the examples; r is 0 where no
        class has two examples.
    """

    embedding_id: str
    revision: int
    class_ids: tuple[int, ...]
    excluded: tuple[int, ...]
    means: NDArray[np.float32]
    temperature: float
    radius: float
    resamples: NDArray[np.float32]


def fit_prototypes(
    vectors: NDArray[np.float16],
    residual: NDArray[np.float16],
    class_ids: Sequence[int],
    *,
    all_classes: Sequence[int],
    embedding_id: str,
    revision: int,
    unknown: Strictness = "lenient",
    n_resamples: int = 64,
    seed: int = 0,
) -> Prototypes:
    """Make the prototypes of a support set.

    Parameters
    ----------
    vectors, residual
        ``(m, p)`` and ``(m,)``, embeddings of the examples.
    class_ids
        ``m`` class ids.
    all_classes
        Ids of all classes, those without examples too.
    unknown
        How readily a chip is called unknown.
    n_resamples, seed
        Bootstrap over the examples.

    Raises
    ------
    EmptySupportError
        If there is no example.
    """
    if not len(class_ids):
        raise EmptySupportError(
            "no class has an example; add at least one chip to each of two classes"
        )
    x = vectors.astype(np.float32)
    outside = residual.astype(np.float32) ** 2
    labels = np.asarray(class_ids)
    ids = tuple(c for c in all_classes if (labels == c).any())
    row = np.array([ids.index(c) for c in labels])
    onehot = (row[:, None] == np.arange(len(ids))).astype(np.float32)
    counts = onehot.sum(axis=0)
    means = (onehot.T @ x) / counts[:, None]
    loo = _leave_one_out(x, outside, row, counts, means)
    several = counts[row] > 1
    own = np.arange(len(ids)) == row[:, None]
    farthest = np.where(own == several[:, None], loo, np.inf).min(axis=1).max()
    radius = UNKNOWN_FACTOR[unknown] * float(farthest)
    rounding = 1e-6 * float(np.einsum("ij,ij->i", x, x).max())  # of float16 and of the distance
    return Prototypes(
        embedding_id=embedding_id,
        revision=revision,
        class_ids=ids,
        excluded=tuple(c for c in all_classes if c not in ids),
        means=means,
        temperature=_fit_temperature(loo[several], row[several]),
        radius=radius if radius > rounding else np.inf,
        resamples=_resample(x, row, counts, means, n_resamples, seed),
    )


def _leave_one_out(
    x: NDArray[np.float32],
    outside: NDArray[np.float32],
    row: NDArray[np.int64],
    counts: NDArray[np.float32],
    means: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Squared distance (m, k) of each example to all prototypes, its own made without it."""
    d2 = ((x[:, None, :] - means[None]) ** 2).sum(axis=2)
    own = np.arange(len(row))
    n = counts[row]
    # distance to the mean of the others is n/(n-1) times the distance to the mean of all
    d2[own, row] *= np.where(n > 1, n / np.maximum(n - 1, 1), 1) ** 2
    distances: NDArray[np.float32] = d2 + outside[:, None]
    return distances


def _fit_temperature(d2: NDArray[np.float32], row: NDArray[np.int64]) -> float:
    """Temperature of least leave-one-out log loss, over a logarithmic grid."""
    if d2.shape[0] == 0 or d2.shape[1] < 2:
        return 1.0
    gap = d2 - d2.min(axis=1, keepdims=True)  # all that a softmax sees
    scale = float(np.median(gap[gap > 0])) if (gap > 0).any() else 1.0
    grid = scale * np.geomspace(1e-2, 1e1, 61)
    logits = -gap[None] / grid[:, None, None]
    own = logits[:, np.arange(len(row)), row]
    loss = (np.log(np.exp(logits).sum(axis=2)) - own).mean(axis=1)
    return float(grid[int(loss.argmin())])


def _resample(
    x: NDArray[np.float32],
    row: NDArray[np.int64],
    counts: NDArray[np.float32],
    means: NDArray[np.float32],
    n_resamples: int,
    seed: int,
) -> NDArray[np.float32]:
    """Bootstrap the deviations of the examples from their prototype.

    Deviations are stretched by sqrt(n/(n-1)) (a mean of n is too close to its members); a class
    with one example borrows the deviations of all others. Without any deviation nothing is drawn.
    """
    rng = np.random.default_rng(seed)
    n = counts[row]
    deviation = (x - means[row]) * np.sqrt(n / np.maximum(n - 1, 1))[:, None]
    pool = np.flatnonzero(n > 1)
    result = np.repeat(means[None], n_resamples if pool.size else 0, axis=0)
    for k, count in enumerate(counts.astype(int)):
        own = np.flatnonzero(row == k) if count > 1 else pool
        if pool.size:
            drawn = rng.choice(own, size=(n_resamples, count))
            result[:, k] += deviation[drawn].mean(axis=1)
    return result
