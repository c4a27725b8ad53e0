"""Where a new phase nucleates and how it grows, as the onset time of every pixel.

An onset map holds, for each pixel, the time (0…1 of the experiment) at which the phase arrives
there, and infinity where it never does. A phase map at any time is then one comparison, exact and
monotonic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Onset = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Grains:
    """Impinging grains.

    Parameters
    ----------
    onset
        ``(height, width)`` arrival time of the nearest front.
    owner
        ``(height, width)`` int32 number of the grain that arrives first, −1 where none does.
    angles
        ``(n_grains,)`` lattice direction of each grain, rad.
    """

    onset: Onset
    owner: NDArray[np.int32]
    angles: NDArray[np.float32]


def grow_grains(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    per_megapixel: float,
    speed: float,
    first: float,
    roughness: NDArray[np.float32],
) -> Grains:
    """Constant nucleation rate and constant growth speed in the plane.

    The transformed area follows Johnson–Mehl–Avrami–Kolmogorov kinetics with exponent 3:
    ``1 − exp(−π/3 · I · v² · (t − first)³)`` (Avrami, J. Chem. Phys. 7 (1939) 1103), up to the
    scatter of a finite frame.

    Parameters
    ----------
    shape
        ``(height, width)`` of the map.
    rng
        Source of randomness.
    per_megapixel
        Nucleation rate I: nuclei per 10⁶ px over the whole experiment.
    speed
        Growth speed v, px per experiment.
    first
        Incubation: no nucleus before this time, 0…1.
    roughness
        ``shape``, detour of the fronts, px.
    """
    height, width = shape
    # nuclei outside the map grow into it, so that its edges are like its middle
    reach = int(np.ceil(speed * (1 - first)))
    area = (height + 2 * reach) * (width + 2 * reach)
    count = rng.poisson(per_megapixel * 1e-6 * area * (1 - first))
    xs = rng.uniform(-reach, width + reach, count)
    ys = rng.uniform(-reach, height + reach, count)
    starts = np.sort(rng.uniform(first, 1, count))
    angles = rng.uniform(0, np.pi, count).astype(np.float32)

    detour = float(np.abs(roughness).max())
    onset = np.full(shape, np.inf, np.float32)
    owner = np.full(shape, -1, np.int32)
    for k in range(count):
        radius = speed * (1 - starts[k]) + detour
        window = _window(shape, xs[k], ys[k], radius)
        if window is None:
            continue
        inside = 0 <= xs[k] < width and 0 <= ys[k] < height
        if inside and onset[int(ys[k]), int(xs[k])] <= starts[k]:
            continue  # an older grain is there already
        dx, dy = _offsets(window, xs[k], ys[k])
        # half way between a disc and a hexagon along the lattice: rounded facets
        distance = np.sqrt(dx**2 + dy**2)
        facet = np.zeros_like(distance)
        for turn in angles[k] + np.radians([0, 60, 120], dtype=np.float32):
            projection = dx * np.cos(turn) + dy * np.sin(turn)
            np.maximum(facet, np.abs(projection, out=projection), out=facet)
        distance += facet
        distance *= 0.5
        distance += roughness[window]
        arrival = np.maximum(distance / np.float32(speed), 0) + np.float32(starts[k])
        wins = arrival < onset[window]
        onset[window][wins] = arrival[wins]
        owner[window][wins] = k
    return Grains(onset, owner, angles)


def grow_particles(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    per_megapixel: float,
    half_axes: tuple[float, float],
    spread: float,
    starts: tuple[float, float],
    duration: float,
    angles: tuple[float, ...],
    roughness: NDArray[np.float32],
) -> Grains:
    """Separate ellipses that appear over a while, thicken as √time and stop.

    Parabolic growth to a final size is what diffusion through a depleting matrix gives (Zener,
    J. Appl. Phys. 20 (1949) 950). Along the first axis the growth is linear in time when the
    axes differ (a lengthening lath).

    Parameters
    ----------
    shape
        ``(height, width)`` of the map.
    rng
        Source of randomness.
    per_megapixel
        Particles per 10⁶ px.
    half_axes
        Mean final half length and half width, px.
    spread
        Relative spread of the sizes, 0…1.
    starts
        First and last time of appearance.
    duration
        Time from appearance to final size.
    angles
        Directions that the first axis may take, rad.
    roughness
        ``shape``, relative detour of the outline.
    """
    height, width = shape
    reach = max(half_axes) * (1 + spread) * 1.3
    area = (height + 2 * reach) * (width + 2 * reach)
    count = rng.poisson(per_megapixel * 1e-6 * area)
    xs = rng.uniform(-reach, width + reach, count)
    ys = rng.uniform(-reach, height + reach, count)
    begin = rng.uniform(*starts, count)
    scale = rng.uniform(1 - spread, 1 + spread, count)
    direction = rng.choice(np.asarray(angles, np.float32), count)
    lath = half_axes[0] > 1.5 * half_axes[1]

    onset = np.full(shape, np.inf, np.float32)
    owner = np.full(shape, -1, np.int32)
    for k in range(count):
        window = _window(shape, xs[k], ys[k], reach)
        if window is None:
            continue
        dx, dy = _offsets(window, xs[k], ys[k])
        cos, sin = np.cos(direction[k]), np.sin(direction[k])
        along = np.abs(dx * cos + dy * sin) / (half_axes[0] * scale[k])
        across = np.abs(dy * cos - dx * sin) / (half_axes[1] * scale[k])
        ripple = 1 + roughness[window]
        age = (along + across**2 if lath else along**2 + across**2) * ripple
        arrival = np.where(age <= 1, begin[k] + duration * age, np.inf).astype(np.float32)
        wins = arrival < onset[window]
        onset[window][wins] = arrival[wins]
        owner[window][wins] = k
    return Grains(onset, owner, direction)


def _window(
    shape: tuple[int, int], x: float, y: float, radius: float
) -> tuple[slice, slice] | None:
    """Part of the map within ``radius`` of a point, or None."""
    top, bottom = max(0, int(y - radius)), min(shape[0], int(y + radius) + 2)
    left, right = max(0, int(x - radius)), min(shape[1], int(x + radius) + 2)
    if top >= bottom or left >= right:
        return None
    return slice(top, bottom), slice(left, right)


def _offsets(
    window: tuple[slice, slice], x: float, y: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances in x (a row) and y (a column) from a point over a window."""
    rows, cols = window
    dx = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] - np.float32(x)
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(y)
    return dx, dy
