"""The window: raw intensities to 0…1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pychip_live.errors import ProfileError

Mode = Literal["steady", "frozen", "frame", "minmax", "fixed"]

REACH = 2.5
"""A steady window reaches this many standard deviations to both sides of the mean."""

DRIFT = 0.2
"""Drift that a steady window lets pass: of the mean, in standard deviations of the reference
frames, and of the logarithm of the standard deviation. Within real and simulated series the one
moved by up to 0.25 and the other by up to 0.35; between the frames of labelled sets the medians
were 0.3–2.4 and 0.2–0.45, the largest 3000 and 7.5 (fields of view, gains, bit depths)."""

_BLOCK = 1 << 17
"""Pixels that are scaled at a time."""

_SAMPLED = 1 << 20
"""Pixels from which mean and standard deviation are taken, at most about twice as many."""

_FLOAT32_SAFE = 1e30
"""Magnitude of limits up to which float32 arithmetic on them cannot overflow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Raw intensities that become 0 and 1."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Windowed:
    """A frame in window units.

    Parameters
    ----------
    values
        ``(height, width)`` float32 in 0…1.
    limits
        The raw intensities that became 0 and 1.
    invalid
        ``(height, width)`` mask of NaN and infinite pixels, or None where there are none;
        ``values`` holds the mean of the others there.
    saturated
        Share of valid pixels below ``limits.low`` or above ``limits.high``.
    """

    values: NDArray[np.float32]
    limits: Limits
    invalid: NDArray[np.bool_] | None
    saturated: float

    @property
    def n_invalid(self) -> int:
        """Number of NaN and infinite pixels."""
        return 0 if self.invalid is None else int(self.invalid.sum())


def percentile_limits(pixels: NDArray[Any], percentiles: tuple[float, float]) -> Limits:
    """Limits at two percentiles of the finite pixels, by linear interpolation.

    Exact, and without a full sort: counting for 8 and 16-bit integers, selection otherwise.

    Parameters
    ----------
    pixels
        Any shape, bool, integer or real floating.
    percentiles
        Lower and upper percentile, 0…100.

    Returns
    -------
    Limits
        ``(0, 0)`` where no pixel is finite.
    """
    flat = pixels.reshape(-1)
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        if not finite.all():
            flat = flat[finite]
    if not flat.size:
        return Limits(0.0, 0.0)
    positions = [p / 100 * (flat.size - 1) for p in percentiles]
    ranks = sorted({int(f(p)) for p in positions for f in (np.floor, np.ceil)})
    if flat.dtype.kind == "u" and flat.dtype.itemsize <= 2:
        below = np.cumsum(np.bincount(flat))
        at = {rank: float(np.searchsorted(below, rank, side="right")) for rank in ranks}
    else:
        chosen = np.partition(flat.view(np.uint8) if flat.dtype.kind == "b" else flat, ranks)
        at = {rank: float(chosen[rank]) for rank in ranks}
    low, high = (at[int(p)] + (p - int(p)) * (at[int(np.ceil(p))] - at[int(p)]) for p in positions)
    return Limits(low, high)


def reach_limits(pixels: NDArray[Any]) -> Limits:
    """Limits at ``REACH`` standard deviations to both sides of the mean of the finite pixels.

    Large frames are sampled by whole rows.

    Returns
    -------
    Limits
        ``(0, 0)`` where no pixel is finite.
    """
    mean, spread = _moments(pixels)
    return Limits(mean - REACH * spread, mean + REACH * spread)


def steady_limits(pixels: NDArray[Any], reference: Limits) -> Limits:
    """Limits of the reference frames, moved along with a frame that drifted too far.

    Let the frame's mean differ from that of the reference frames by d of their standard
    deviations, and the logarithm of its standard deviation by r. What of d and r lies within
    ±``DRIFT`` is the specimen's and stays; the rest is the microscope's (gain, offset, dose) and is
    taken out. The limits are a continuous function of the pixels, so a curve does not jump.

    Parameters
    ----------
    pixels
        ``(height, width)``.
    reference
        ``reach_limits`` of the reference frames.
    """
    wanted = (reference.high - reference.low) / (2 * REACH)
    mean, spread = _moments(pixels)
    if not (spread > 0 and 0 < wanted < np.inf):
        return reference  # a blank frame has no contrast to go by
    log_gain = np.log(spread / wanted)
    gain = float(np.exp(log_gain - np.clip(log_gain, -DRIFT, DRIFT)))
    center = (reference.low + reference.high) / 2
    shift = float(np.clip((mean - center) / wanted, -DRIFT, DRIFT)) * wanted
    half = REACH * wanted
    return Limits(mean - gain * (shift + half), mean - gain * (shift - half))


def _moments(pixels: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of the finite pixels; zeros where there are none."""
    rows = pixels[:: max(1, pixels.size // _SAMPLED)] if pixels.ndim == 2 else pixels
    flat: NDArray[Any] = rows.reshape(-1).astype(
        np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    )
    if pixels.dtype.kind == "f":
        flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 0.0
    mean = float(flat.mean(dtype=np.float64))
    flat -= flat.dtype.type(mean)
    return mean, float(np.sqrt(np.dot(flat, flat) / flat.size))


def choose_limits(
    pixels: NDArray[Any],
    mode: Mode,
    *,
    percentiles: tuple[float, float],
    frozen: Limits,
    fixed: Limits | None = None,
) -> Limits:
    """Limits for one frame: kept, steadied, its own percentiles or extremes, or given numbers.

    Parameters
    ----------
    pixels
        ``(height, width)``.
    mode
        As in the profile's ``[window]``.
    percentiles
        For ``frame``.
    frozen
        Of the reference frames, for ``frozen`` and ``steady``.
    fixed
        For ``fixed``.

    Raises
    ------
    ProfileError
        If ``fixed`` is asked for without numbers.
    """
    if mode == "steady":
        return steady_limits(pixels, frozen)
    if mode == "frame":
        return percentile_limits(pixels, percentiles)
    if mode == "minmax":
        return percentile_limits(pixels, (0, 100))
    if mode == "frozen":
        return frozen
    if fixed is None:
        raise ProfileError("window mode 'fixed' needs the numbers low and high")
    return fixed


def apply_window(pixels: NDArray[Any], limits: Limits) -> Windowed:
    """Map raw intensities to 0…1 between two limits, clipped.

    A window without a finite width (a constant frame) maps everything to 0.

    Parameters
    ----------
    pixels
        ``(height, width)``, bool, integer or real floating.
    limits
        The raw intensities that become 0 and 1.
    """
    # float64 where float32 cannot hold the numbers: 32-bit counts differ by one at 2**24
    wide = (
        pixels.dtype.itemsize > 4
        or (pixels.dtype.kind in "iu" and pixels.dtype.itemsize == 4)
        or max(abs(limits.low), abs(limits.high)) > _FLOAT32_SAFE
    )
    kind: type[np.floating[Any]] = np.float64 if wide else np.float32
    low, high = kind(limits.low), kind(limits.high)
    width = limits.high - limits.low
    scale = kind(1 / width) if np.finfo(kind).tiny <= width < np.inf else None
    values = np.empty(pixels.shape, np.float32)
    invalid: NDArray[np.bool_] | None = None
    n_invalid = outside = 0
    # block by block, so that every pass but the first finds its numbers in the cache
    rows = max(1, _BLOCK // pixels.shape[1])
    for top in range(0, pixels.shape[0], rows):
        here = slice(top, top + rows)
        block: NDArray[Any] = pixels[here].astype(kind)
        if pixels.dtype.kind == "f":
            finite = np.isfinite(block)
            if not finite.all():
                invalid = np.zeros(pixels.shape, np.bool_) if invalid is None else invalid
                np.logical_not(finite, out=invalid[here])
                n_invalid += int(np.count_nonzero(invalid[here]))
                block[invalid[here]] = low
        # counted before scaling: rounding may carry a pixel at the limit past 1
        outside += int(np.count_nonzero(block < low)) + int(np.count_nonzero(block > high))
        if scale is None:
            values[here] = 0
            continue
        with np.errstate(over="ignore"):
            block -= low
            block *= scale
        np.clip(block, 0, 1, out=values[here], casting="same_kind")
    n_valid = pixels.size - n_invalid
    if invalid is not None:
        values[invalid] = values[~invalid].mean() if n_valid else 0.0
    return Windowed(values, limits, invalid, outside / n_valid if n_valid else 0.0)
