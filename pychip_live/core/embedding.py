"""Embeddings of chips: the fit on the reference frames, its id, and the projection.

A backbone gives each chip one feature vector a stage. The fit scales every stage to unit variance
and keeps the leading principal components of the reference frames' chips; it is made once and then
belongs to the profile. The id names everything the numbers depend on, so that embeddings of two
recipes are never compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.window import Limits

_LARGEST = float(np.finfo(np.float16).max)
"""Embeddings are kept within what float16 holds: an infinite one cannot be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What was fitted on the reference frames.

    Parameters
    ----------
    limits
        Window limits of the reference frames, raw intensities.
    stage_scale
        ``(stages,)`` float32; features of a stage are divided by it.
    center
        ``(d,)`` float32, mean of the scaled, concatenated features.
    components
        ``(p, d)`` float32, orthonormal rows: the leading principal components.
    recipe
        Backbone, weights hash, method, stages… as JSON: what the features depend on.
    """

    limits: Limits
    stage_scale: NDArray[np.float32]
    center: NDArray[np.float32]
    components: NDArray[np.float32]
    recipe: str

    @property
    def embedding_id(self) -> str:
        """Sixteen hex digits (64 bits of SHA-256) over the recipe and every fitted number."""
        digest = hashlib.sha256(self.recipe.encode())
        digest.update(np.array([self.limits.low, self.limits.high], "<f8").tobytes())
        for array in (self.stage_scale, self.center, self.components):
            digest.update(str(array.shape).encode() + array.astype("<f4").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The chips of one frame, as they are stored and compared.

    Parameters
    ----------
    id
        Id of the fit that made them.
    vectors
        ``(n_chips, p)`` float16, projected.
    residual
        ``(n_chips,)`` float16, norm of what the projection left out.
    """

    id: str
    vectors: NDArray[np.float16]
    residual: NDArray[np.float16]


def recipe_json(recipe: Mapping[str, object]) -> str:
    """Return a recipe as canonical JSON: sorted keys, no spaces."""
    return json.dumps(recipe, sort_keys=True, separators=(",", ":"))


def fit_features(
    stages: Sequence[NDArray[np.float32]],
    *,
    limits: Limits,
    recipe: str,
    components: int,
) -> Fit:
    """Fit stage scales and the projection to the chips of the reference frames.

    Parameters
    ----------
    stages
        One ``(n_chips, channels)`` array a stage, all reference chips stacked.
    limits
        Window limits used for them.
    recipe
        What the features depend on.
    components
        Dimensions to keep, at most; fewer where the chips span fewer.
    """
    # root of the variance summed over channels: each stage then weighs the same in a squared
    # distance, however many channels it has
    scale = np.array([_stage_scale(stage) for stage in stages], np.float32)
    scaled = _concatenate(stages, scale)
    center = scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
    centered = (scaled - center).astype(np.float64)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    order = np.argsort(values)[::-1]
    rank = int((values[order] > max(float(values[order[0]]), 0.0) * 1e-9).sum())
    keep = order[: max(1, min(components, rank))]
    basis = vectors[:, keep].T
    # sign is arbitrary in an eigenvector: fix it, so that a fit is the same on every machine
    largest = basis[np.arange(len(basis)), np.abs(basis).argmax(axis=1)]
    basis = basis * np.where(largest < 0, -1, 1)[:, None]
    return Fit(limits, scale, center, np.ascontiguousarray(basis, np.float32), recipe)


def project(stages: Sequence[NDArray[np.float32]], fit: Fit) -> Embedding:
    """Scale, center and project the features of one frame's chips.

    Parameters
    ----------
    stages
        One ``(n_chips, channels)`` array a stage.
    fit
        The fit of the profile.
    """
    centered = _concatenate(stages, fit.stage_scale)
    centered -= fit.center
    vectors = centered @ fit.components.T
    left = np.einsum("ij,ij->i", centered, centered) - np.einsum("ij,ij->i", vectors, vectors)
    residual = np.sqrt(np.maximum(left, 0))
    return Embedding(
        fit.embedding_id,
        np.clip(vectors, -_LARGEST, _LARGEST).astype(np.float16),
        np.minimum(residual, _LARGEST).astype(np.float16),
    )


def _stage_scale(stage: NDArray[np.float32]) -> float:
    """Root of the summed variance; the magnitude where chips differ by no more than rounding."""
    spread = float(np.sqrt(stage.var(axis=0, dtype=np.float64).sum()))
    magnitude = float(np.sqrt((stage.astype(np.float64) ** 2).mean(axis=0).sum()))
    return spread if spread > 1e-5 * magnitude else magnitude or 1.0


def _concatenate(
    stages: Sequence[NDArray[np.float32]], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.concatenate([s / scale[i] for i, s in enumerate(stages)], axis=1)
