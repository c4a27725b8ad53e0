"""Phase fractions of one frame, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.classify import Classification
from pychip_live.core.embedding import Embedding
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.support import UNKNOWN

Z95 = 1.959964
"""Half-width of a 95 % interval in standard deviations of a normal distribution."""


@dataclass(frozen=True, slots=True, eq=False)
class PhaseFractions:
    """Share of each class among the classified chips.

    Parameters
    ----------
    class_ids
        ``k`` ids, in the order of the arrays.
    n_chips, n_unknown
        Chips of the frame, and those called unknown.
    share, low, high
        ``(k,)`` float64 in 0…1 and the 95 % interval; NaN where no chip is classified.
    """

    class_ids: tuple[int, ...]
    n_chips: int
    n_unknown: int
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def phase_fractions(
    embedding: Embedding, classification: Classification, prototypes: Prototypes
) -> PhaseFractions:
    """Count the classes and estimate how far the counts can be trusted.

    Two variances add up: that of the share over bootstrap resamples of the examples (would other
    examples have given another count?), and that of the chips between two classes, Σp(1−p)/n²
    (Poisson binomial). Their normal 95 % interval is clipped to 0…1.
    """
    known = classification.labels != UNKNOWN
    n = int(known.sum())
    k = len(classification.class_ids)
    n_chips = len(known)
    if n == 0:
        nothing = np.full(k, np.nan)
        return PhaseFractions(classification.class_ids, n_chips, n_chips, nothing, nothing, nothing)
    labels = classification.labels[known]
    share = np.array([np.count_nonzero(labels == c) for c in classification.class_ids]) / n
    p = classification.probabilities[known].astype(np.float32)
    ambiguity = (p * (1 - p)).sum(axis=0, dtype=np.float64) / n**2
    shares = _resampled_shares(embedding.vectors[known].astype(np.float32), prototypes.resamples)
    # about the share that is reported, not about the mean of the resamples: a shift counts too
    variance = ((shares - share) ** 2).mean(axis=0) + ambiguity
    half = Z95 * np.sqrt(variance)
    return PhaseFractions(
        classification.class_ids,
        n_chips,
        n_chips - n,
        share,
        np.clip(share - half, 0, 1),
        np.clip(share + half, 0, 1),
    )


def _resampled_shares(
    x: NDArray[np.float32], resamples: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Shares ``(r, k)`` that each resample of the prototypes would give."""
    r, k = resamples.shape[:2]
    if k == 1:
        return np.ones((r, 1))
    shares = np.empty((r, k))
    best = np.full((len(x), r), np.inf, np.float32)
    winner = np.zeros((len(x), r), np.int8 if k < 128 else np.int16)
    for c in range(k):
        mu = resamples[:, c]
        d2 = x @ (-2 * mu.T)
        d2 += np.einsum("ij,ij->i", mu, mu)
        closer = d2 < best
        np.copyto(best, d2, where=closer)
        winner[closer] = c
    for c in range(k):
        shares[:, c] = np.count_nonzero(winner == c, axis=0) / len(x)
    return shares
