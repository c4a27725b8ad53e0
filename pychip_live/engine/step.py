"""The step a frame takes: window, embed, classify, count. Live and batch share it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.classify import classify
from pychip_live.core.embedding import Embedding
from pychip_live.core.fractions import phase_fractions
from pychip_live.core.frame import Frame
from pychip_live.core.grid import Grid
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.result import FrameFacts, FrameIdentity, FrameResult
from pychip_live.core.window import Windowed
from pychip_live.engine.recipe import Recipe

MASKED_SHARE = 0.5
"""A chip with a larger share of NaN or infinite pixels is not classified."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A frame on its way to the network.

    Parameters
    ----------
    identity, facts
        What goes into the record about the frame itself.
    windowed, grid
        What the network gets.
    seen_at
        Unix time, s, when the file was seen complete.
    stages
        Seconds spent so far, by stage.
    """

    identity: FrameIdentity
    facts: FrameFacts
    windowed: Windowed
    grid: Grid
    seen_at: float
    stages: dict[str, float]

    @property
    def masked(self) -> NDArray[np.bool_] | None:
        """``(n_chips,)`` chips without enough valid pixels, or None where all are valid."""
        if self.windowed.invalid is None:
            return None
        return self.grid.share_per_chip(self.windowed.invalid) > MASKED_SHARE


def prepare(
    frame: Frame, identity: FrameIdentity, recipe: Recipe, *, seen_at: float, read_s: float
) -> Prepared:
    """Lay the grid and apply the window.

    Raises
    ------
    GridError
        If no chip fits the frame.
    """
    start = time.perf_counter()
    grid = Grid(recipe.chip, *frame.shape)
    windowed = recipe.embedder.window(frame.pixels, recipe.fit.limits)
    facts = FrameFacts(
        shape=frame.shape,
        dtype=str(frame.pixels.dtype),
        calibration=frame.calibration,
        metadata=frame.metadata,
        limits=windowed.limits,
        saturated=windowed.saturated,
        n_invalid=windowed.n_invalid,
        chip=grid.chip,
        rows=grid.rows,
        cols=grid.cols,
        cropped=grid.cropped,
    )
    stages = {"read": read_s, "window": time.perf_counter() - start}
    return Prepared(identity, facts, windowed, grid, seen_at, stages)


def embed(prepared: Prepared, recipe: Recipe) -> Embedding:
    """Run the network."""
    start = time.perf_counter()
    embedding = recipe.embedder.embed(prepared.windowed, prepared.grid, recipe.fit)
    prepared.stages["embed"] = time.perf_counter() - start
    return embedding


def label(
    embedding: Embedding,
    masked: NDArray[np.bool_] | None,
    rows: int,
    cols: int,
    prototypes: Prototypes,
) -> FrameResult:
    """Classify the chips of one frame and count: all that an edit of the support set repeats."""
    classification = classify(embedding, prototypes, masked)
    fractions = phase_fractions(embedding, classification, prototypes)
    return FrameResult(
        revision=prototypes.revision,
        labels=classification.labels.reshape(rows, cols),
        probabilities=classification.probabilities.reshape(rows, cols, -1),
        fractions=fractions,
    )
