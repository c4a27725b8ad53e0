"""Colour to luminance, in the same dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 256


def luminance(colour: NDArray[Any]) -> NDArray[Any]:
    """Luminance of RGB pixels, weights 0.299, 0.587, 0.114 (ITU-R BT.601).

    Grey pixels (R = G = B) keep their value exactly; integers are rounded to the nearest.

    Parameters
    ----------
    colour
        ``(height, width, 3 or more)``, integer or real floating; further channels are ignored.

    Returns
    -------
    NDArray
        ``(height, width)`` of the same dtype.
    """
    out = np.empty(colour.shape[:2], colour.dtype)
    # in slices: the wide intermediate would be eight times the frame
    for top in range(0, colour.shape[0], _ROWS_AT_ONCE):
        part = colour[top : top + _ROWS_AT_ONCE]
        red, green, blue = part[..., 0], part[..., 1], part[..., 2]
        if np.array_equal(red, green) and np.array_equal(green, blue):
            out[top : top + _ROWS_AT_ONCE] = green
        elif colour.dtype.kind == "f":
            wide = np.float32 if colour.dtype.itemsize <= 4 else np.float64
            r, g, b = np.moveaxis(part[..., :3].astype(wide), -1, 0)
            with np.errstate(all="ignore"):
                out[top : top + _ROWS_AT_ONCE] = g + 0.299 * (r - g) + 0.114 * (b - g)
        elif colour.dtype.itemsize <= 4:
            wide_int = np.int32 if colour.dtype.itemsize <= 2 else np.int64
            r, g, b = np.moveaxis(part[..., :3].astype(wide_int), -1, 0)
            out[top : top + _ROWS_AT_ONCE] = (299 * r + 587 * g + 114 * b + 500) // 1000
        else:
            # 64-bit counts: whole parts and remainders apart, so that nothing overflows
            whole = 299 * (red // 1000) + 587 * (green // 1000) + 114 * (blue // 1000)
            rest = 299 * (red % 1000) + 587 * (green % 1000) + 114 * (blue % 1000) + 500
            out[top : top + _ROWS_AT_ONCE] = whole + rest // 1000
    return out
