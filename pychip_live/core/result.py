"""What is known about one frame once it has been through: identity, result, timings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.fractions import PhaseFractions
from pychip_live.core.frame import Calibration, Metadata
from pychip_live.core.window import Limits


@dataclass(frozen=True, slots=True)
class FrameIdentity:
    """Which frame this is.

    Parameters
    ----------
    name
        Path relative to the watched or given folder, ``#k`` for plane k of a stack, or
        ``series/frame`` of a stream.
    path
        Absolute path of the file, or None for a stream.
    plane, n_planes
        Plane of a stack, and how many the file holds; 0 and 1 for a single frame.
    signature
        Size in bytes and modification time in ns of the file when it was read.
    digest
        SHA-256 of dtype, shape and pixels, hex; "" where the frame was not read.
    """

    name: str
    path: str | None
    plane: int = 0
    n_planes: int = 1
    signature: tuple[int, int] = (0, 0)
    digest: str = ""


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What was measured on the frame itself, whatever the support set.

    Parameters
    ----------
    shape
        ``(height, width)``, px.
    dtype
        As delivered by the reader.
    calibration, metadata
        As stated by the file.
    limits
        Window limits used, raw intensities.
    saturated
        Share of valid pixels outside the limits.
    n_invalid
        NaN and infinite pixels.
    chip
        Edge of a chip, px.
    rows, cols
        Chips down and across.
    cropped
        Pixels left over at the bottom and at the right.
    """

    shape: tuple[int, int]
    dtype: str
    calibration: Calibration | None
    metadata: Metadata
    limits: Limits
    saturated: float
    n_invalid: int
    chip: int
    rows: int
    cols: int
    cropped: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """When the frame passed which point, aware (UTC), and how long each stage took, s.

    ``stages`` holds ``read``, ``window``, ``embed``, ``classify``; ``record`` is known only after
    the commit: those who listen to the run hear it.
    """

    seen_at: datetime
    recorded_at: datetime
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One frame's labels at one revision.

    Parameters
    ----------
    revision
        Revision of the support set, as recorded in the run.
    labels
        ``(rows, cols)`` int16 class ids, −1 for unknown.
    probabilities
        ``(rows, cols, k)`` float16, columns as ``fractions.class_ids``.
    fractions
        Phase fractions with intervals.
    """

    revision: int
    labels: NDArray[np.int16]
    probabilities: NDArray[np.float16]
    fractions: PhaseFractions
