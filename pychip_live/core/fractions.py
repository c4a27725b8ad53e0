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

_BLOCK = 512
"""Chips compared at once with all resamples: their distances stay in the processor's cache."""


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

    Three mean squared errors add up: that of the share over bootstrap resamples of the examples
    (would other examples have given another count?), that of the chips between two classes,
    Σp(1−p)/n² (Poisson binomial), and that of counting itself, which favours rare classes where
    classes overlap: the squared step to the share of greatest likelihood (Saerens, Latinne and
    Decaestecker, Neural Computation 14, 2002). Their normal 95 % interval is clipped to 0…1.
    Where no class has two examples nothing is known of their spread, and the interval is 0…1.
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
    if k > 1 and not len(prototypes.resamples):
        half = np.ones(k)
    else:
        x = embedding.vectors[known].astype(np.float32)
        shares = _resampled_shares(x, prototypes.resamples)
        # about the share that is reported, not about the mean of the resamples: a shift counts too
        scatter = ((shares - share) ** 2).mean(axis=0) if k > 1 else 0.0
        half = Z95 * np.sqrt(scatter + ambiguity + (_likeliest_shares(p) - share) ** 2)
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
    mu = resamples.transpose(1, 0, 2)
    offset = np.einsum("krp,krp->kr", mu, mu)[:, :, None]
    counts = np.zeros((r, k))
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        d2 = np.matmul(-2 * mu, block.T)
        d2 += offset
        best = d2.min(axis=0)
        one = np.ones(len(block), np.float32)
        for c in range(k):
            counts[:, c] += (d2[c] == best).astype(np.float32) @ one
    counts /= counts.sum(axis=1, keepdims=True)  # a chip equally near to two counts for both
    return counts


def _likeliest_shares(p: NDArray[np.float32]) -> NDArray[np.float64]:
    """Shares ``(k,)`` under which the chips are likeliest, by expectation maximisation.

    ``p`` ``(n, k)`` are probabilities for equal shares. Twenty steps: the interval needs the size
    of the shift, not its last digit.
    """
    weights = p.astype(np.float64)
    share = np.full(p.shape[1], 1 / p.shape[1])
    for _ in range(20):
        share = share * (weights.T @ (1 / (weights @ share))) / len(weights)
    return share
