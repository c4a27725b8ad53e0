"""Classification: nearest prototype by squared Euclidean distance, or unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.embedding import Embedding
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.support import UNKNOWN
from pychip_live.errors import EmbeddingMismatchError


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """The chips of one frame at one revision.

    Parameters
    ----------
    class_ids
        ``k`` ids, the columns of ``probabilities``.
    labels
        ``(n_chips,)`` int16 class ids, −1 for unknown.
    probabilities
        ``(n_chips, k)`` float16, softmax of −d²/T; for unknown chips too (NaN where the
        embedding is NaN).
    """

    class_ids: tuple[int, ...]
    labels: NDArray[np.int16]
    probabilities: NDArray[np.float16]

    @property
    def confidence(self) -> NDArray[np.float16]:
        """``(n_chips,)`` probability of the nearest class."""
        best: NDArray[np.float16] = self.probabilities.max(axis=1)
        return best


def classify(
    embedding: Embedding,
    prototypes: Prototypes,
    masked: NDArray[np.bool_] | None = None,
) -> Classification:
    """Assign each chip to the nearest prototype.

    Parameters
    ----------
    embedding
        Chips of one frame.
    prototypes
        Of the same embedding id.
    masked
        ``(n_chips,)``, chips without enough valid pixels: they become unknown.

    Raises
    ------
    EmbeddingMismatchError
        If the embedding ids differ.
    """
    if embedding.id != prototypes.embedding_id:
        raise EmbeddingMismatchError(embedding.id, prototypes.embedding_id)
    x = embedding.vectors.astype(np.float32)
    inside = (
        np.einsum("ij,ij->i", x, x)[:, None]
        - 2 * (x @ prototypes.means.T)
        + np.einsum("ij,ij->i", prototypes.means, prototypes.means)
    )
    nearest = inside.argmin(axis=1)
    logits = inside / np.float32(-prototypes.temperature)
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    labels = np.asarray(prototypes.class_ids, np.int16)[nearest]
    distance = inside.min(axis=1) + embedding.residual.astype(np.float32) ** 2
    labels[~(distance <= prototypes.radius)] = UNKNOWN  # NaN, too, is nowhere near
    if masked is not None:
        labels[masked] = UNKNOWN
    return Classification(prototypes.class_ids, labels, logits.astype(np.float16))
