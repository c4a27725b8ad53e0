"""From chips to network pixels and back: scaling, tiles with a halo, and exact pooling weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

TILE_PX = 1536
"""Largest edge of what goes through the network at once, network pixels (halo not counted)."""

HALO_PX = 160
"""Surroundings that tiles share with their neighbours, network pixels."""

MARGIN_PX = 16
"""Mirrored surroundings of a frame that goes through in one piece, network pixels."""


DEEPEST = 32
"""Stride of the deepest stage, network pixels."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of chips along one axis of a tile.

    Parameters
    ----------
    start, stop
        First chip, and the one after the last.
    halo
        Chips of surroundings on each side, as far as the frame goes.
    margin
        Network pixels before the first chip: surroundings, and what is mirrored.
    """

    start: int
    stop: int
    halo: int
    margin: int


def spans(n_chips: int, chip_px: int) -> list[Span]:
    """Cut one axis of a grid into tiles of at most ``TILE_PX``, all of the same length.

    The last one starts earlier where the chips do not divide: tiles of one shape need only one
    compiled network.
    """
    n_tiles = -(-n_chips // max(1, TILE_PX // chip_px))
    if n_tiles == 1:
        return [Span(0, n_chips, 0, MARGIN_PX)]
    halo = -(-HALO_PX // chip_px)
    length = -(-n_chips // n_tiles)
    starts = [min(k * length, n_chips - length) for k in range(n_tiles)]
    made = []
    for start in starts:
        context = min(halo, start)
        # features are sampled every stride: a tile must start in step with the untiled frame
        step = (MARGIN_PX + (start - context) * chip_px) % DEEPEST
        made.append(Span(start, start + length, halo, context * chip_px + step))
    return made


def tile(
    values: NDArray[np.float32], chip: int, chip_px: int, down: Span, across: Span, multiple: int
) -> NDArray[np.float32]:
    """Cut a tile with its surroundings out of a frame and scale it to network pixels.

    Surroundings beyond the frame are its mirror image.

    Parameters
    ----------
    values
        The frame, cropped to the grid.
    multiple
        The edges of the result are multiples of this: the stride of the deepest stage.
    """
    cut, pads, sizes = [], [], []
    for span, n_chips in zip(
        (down, across), (values.shape[0] // chip, values.shape[1] // chip), strict=True
    ):
        first, last = max(0, span.start - span.halo), min(n_chips, span.stop + span.halo)
        cut.append(slice(first * chip, last * chip))
        sizes.append((last - first) * chip_px)
        before = span.margin - (span.start - first) * chip_px
        after = MARGIN_PX + -(before + sizes[-1] + MARGIN_PX) % multiple
        pads += [before, after]
    return mirror(resize(values[cut[0], cut[1]], *sizes), *pads)


def resize(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Scale an image; shrinking averages over area, which is what antialiasing asks for."""
    if values.shape == (height, width):
        return np.ascontiguousarray(values)
    shrink = height <= values.shape[0] and width <= values.shape[1]
    how = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    scaled = cv2.resize(values, (width, height), interpolation=how)
    return np.asarray(scaled, np.float32)


def mirror(
    values: NDArray[np.float32], top: int, bottom: int, left: int, right: int
) -> NDArray[np.float32]:
    """Continue an image beyond its edges by mirroring (repeatedly where it is small)."""
    if not (top or bottom or left or right):
        return values
    padded = cv2.copyMakeBorder(values, top, bottom, left, right, cv2.BORDER_REFLECT)
    return np.asarray(padded, np.float32)


@lru_cache(maxsize=256)
def pooling(
    n_chips: int, first_px: int, chip_px: int, stride: int, size: int, offset: float
) -> NDArray[np.float32]:
    """Weights that average a feature map over chips, exactly by area, along one axis.

    Parameters
    ----------
    n_chips
        Chips wanted.
    first_px
        Where the first one starts, network pixels.
    chip_px
        Edge of a chip, network pixels.
    stride
        Network pixels a feature pixel stands for.
    size
        Feature pixels along the axis.
    offset
        How far the centre of a feature pixel lies beyond the middle of its ``stride`` network
        pixels, network pixels.

    Returns
    -------
    NDArray[np.float32]
        ``(n_chips, size)``, rows sum to 1.
    """
    left = np.arange(size) * stride + offset
    begin = (first_px + np.arange(n_chips) * chip_px)[:, None]
    overlap = np.minimum(left + stride, begin + chip_px) - np.maximum(left, begin)
    weights = np.clip(overlap, 0, None)
    exact: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return exact
