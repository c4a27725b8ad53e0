"""Textures of a micrograph, as float32 arrays around a mean of 1 (relative intensity)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def random_field(
    shape: tuple[int, int], rng: np.random.Generator, shortest: float, longest: float = np.inf
) -> Image:
    """Gaussian random field with a band of wavelengths.

    Parameters
    ----------
    shape
        ``(height, width)``.
    rng
        Source of randomness.
    shortest, longest
        Band of wavelengths, px; the power falls off smoothly (Gaussian) beyond it.

    Returns
    -------
    Image
        ``shape``, mean 0, standard deviation 1.
    """
    height, width = shape
    spectrum = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    square = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width)[None, :] ** 2
    pass_band = np.exp(-0.5 * square * shortest**2)
    if np.isfinite(longest):
        pass_band *= 1 - np.exp(-0.5 * square * longest**2)
    field = np.fft.irfft2(spectrum * pass_band.astype(np.float32), s=shape)
    field -= field.mean()
    field /= field.std()
    return np.asarray(field, np.float32)


def plane_wave(
    shape: tuple[int, int],
    period: float,
    angle: NDArray[np.float32] | float,
    warp: NDArray[np.float32] | float = 0.0,
) -> Image:
    """Cosine fringes.

    Parameters
    ----------
    shape
        ``(height, width)``.
    period
        Fringe spacing, px.
    angle
        Direction of the wave vector, rad, one number or one a pixel.
    warp
        Displacement along the wave vector, px (bent lattice planes).

    Returns
    -------
    Image
        ``shape``, −1…1.
    """
    y, x = np.indices(shape, dtype=np.float32, sparse=True)
    along = x * np.cos(angle) + y * np.sin(angle) + warp
    return np.asarray(np.cos(np.float32(2 * np.pi / period) * along), np.float32)
