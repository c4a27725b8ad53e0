"""One frame: a real-valued 2-D array with what is known about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """Size of one pixel, as the file states it.

    Parameters
    ----------
    pixel_size
        Edge of a (square) pixel in ``unit``, greater than zero.
    unit
        Unit as written by the file, for example ``"nm"`` or ``"1/nm"``.
    """

    pixel_size: float
    unit: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.pixel_size) and self.pixel_size > 0):
            raise ValueError(f"pixel size must be a positive number, not {self.pixel_size!r}")
        if not self.unit:
            raise ValueError("a calibration needs a unit; use None for an uncalibrated frame")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the file says about the exposure; None is "not stated", never a guess.

    Parameters
    ----------
    acquired_at
        Start of the acquisition. Aware where the format fixes the zone, else naive (local time).
    exposure_s
        Exposure time of the frame, s.
    voltage_v
        Acceleration voltage, V.
    magnification
        Indicated magnification.
    stage
        Stage position by axis: ``x_um``, ``y_um``, ``z_um``, ``alpha_deg``, ``beta_deg``.
    """

    acquired_at: datetime | None = None
    exposure_s: float | None = None
    voltage_v: float | None = None
    magnification: float | None = None
    stage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image.

    Parameters
    ----------
    pixels
        ``(height, width)``, bool, integer or real floating, native byte order.
    calibration
        Pixel size, or None where the file gives none.
    metadata
        Exposure, time and microscope, as far as stated.
    """

    pixels: NDArray[np.generic]
    calibration: Calibration | None = None
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or 0 in self.pixels.shape:
            raise ValueError(f"a frame is 2-D and not empty, not of shape {self.pixels.shape}")
        if self.pixels.dtype.kind not in "buif":
            raise ValueError(f"a frame is real-valued, not {self.pixels.dtype}")
        if not self.pixels.dtype.isnative:
            raise ValueError("the pixels of a frame must be in native byte order")

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        height, width = self.pixels.shape
        return height, width


def digest(pixels: NDArray[np.generic]) -> str:
    """Return the SHA-256 over dtype, shape and pixels, hex: the same picture has the same one."""
    content = hashlib.sha256(f"{pixels.dtype.str}{pixels.shape}".encode())
    content.update(np.ascontiguousarray(pixels).view(np.uint8).data)
    return content.hexdigest()
