"""Recipes of simulated specimens: textures, kinetics and camera.

Brightness alone does not segment them: thickness and diffraction contrast make the means of chips
overlap (only voids are mostly darker), and the textures carry the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.simulate.growth import grow_grains, grow_particles
from pychip_live.simulate.textures import Image, plane_wave, random_field


@dataclass(frozen=True, slots=True)
class Camera:
    """The detector.

    Parameters
    ----------
    dtype
        ``np.uint8`` or ``np.uint16``.
    electrons
        Mean dose, electrons a pixel.
    gain, offset
        Counts per electron, and counts in the dark.
    read_noise
        Standard deviation of the read-out, electrons.
    unevenness
        Amplitude of the illumination gradient from the centre to an edge, relative.
    """

    dtype: type[np.unsignedinteger[Any]]
    electrons: float
    gain: float
    offset: float
    read_noise: float
    unevenness: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A phase that grows over the ones before it.

    Parameters
    ----------
    onset
        ``(height, width)`` time at which the phase arrives, infinity for never.
    texture
        ``(height, width)`` its look, mean about 1.
    front, front_time
        Factor on the intensity just ahead of the front (Fresnel fringe, strain), and how far
        ahead in time.
    """

    onset: NDArray[np.float32]
    texture: Image
    front: float
    front_time: float


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """Everything about a specimen: the phase at the start, then the layers in their order."""

    phases: tuple[str, ...]
    base: Image
    layers: tuple[Layer, ...]
    camera: Camera
    calibration: Calibration
    metadata: Metadata


def crystallisation(shape: tuple[int, int], rng: np.random.Generator) -> Recipe:
    """HR-TEM of an amorphous film that crystallises, and dewets into voids late.

    Gold: {111} planes at 0.2355 nm and 0.025 nm a pixel give fringes of 9.42 px.
    """
    thickness = 0.05 * random_field(shape, rng, 240)
    speckle = random_field(shape, rng, 4, 7)
    amorphous = 1 + thickness + 0.17 * speckle

    grains = grow_grains(
        shape,
        rng,
        per_megapixel=70,
        speed=255,
        first=0.05,
        roughness=5 * random_field(shape, rng, 22),
    )
    number = np.maximum(grains.owner, 0)
    angle = grains.angles[number]
    bend = 1.5 * random_field(shape, rng, 120)
    second = rng.random(len(grains.angles)) < 0.45
    fringes = plane_wave(shape, 9.42, angle, bend)
    crossed = plane_wave(shape, 9.42, angle + np.float32(np.radians(70.5)), bend)
    fringes += np.where(second[number], crossed, 0)
    visibility = 0.20 + 0.04 * random_field(shape, rng, 60)
    diffraction = rng.uniform(-0.09, 0.09, len(grains.angles)).astype(np.float32)
    crystalline = 1 + thickness + diffraction[number]
    crystalline += np.clip(visibility, 0.14, None) * fringes + 0.06 * speckle

    voids = grow_particles(
        shape,
        rng,
        per_megapixel=20,
        half_axes=(60, 52),
        spread=0.45,
        starts=(0.5, 0.85),
        duration=0.35,
        angles=tuple(np.linspace(0, np.pi, 8, endpoint=False)),
        roughness=0.12 * random_field(shape, rng, 24),
    )
    void = 0.85 + 0.9 * thickness + 0.03 * random_field(shape, rng, 14)
    return Recipe(
        phases=("amorphous", "crystalline", "void"),
        base=amorphous.astype(np.float32),
        layers=(
            Layer(grains.onset, crystalline.astype(np.float32), 0.93, 0.012),
            Layer(voids.onset, void.astype(np.float32), 1.18, 0.03),
        ),
        camera=Camera(np.uint16, electrons=60, gain=22, offset=96, read_noise=2, unevenness=0.03),
        calibration=Calibration(0.025, "nm"),
        metadata=Metadata(exposure_s=0.1, voltage_v=300e3, magnification=400e3),
    )


def precipitation(shape: tuple[int, int], rng: np.random.Generator) -> Recipe:
    """HAADF-STEM of an alloy: ordered round precipitates, then laths through everything."""
    thickness = 0.09 * random_field(shape, rng, 320)
    ripple = random_field(shape, rng, 7, 12)
    # scan lines differ a little in brightness: flyback noise
    lines = 0.02 * rng.standard_normal((shape[0], 1), dtype=np.float32)
    matrix = 0.97 + thickness + lines + 0.09 * ripple

    rounds = grow_particles(
        shape,
        rng,
        per_megapixel=42,
        half_axes=(62, 58),
        spread=0.35,
        starts=(0.02, 0.6),
        duration=0.4,
        angles=(0.0, 0.9),
        roughness=0.05 * random_field(shape, rng, 30),
    )
    columns = plane_wave(shape, 8.5, 0.35) + plane_wave(shape, 8.5, 0.35 + np.pi / 2)
    precipitate = 1.10 + thickness + lines + 0.10 * columns

    laths = grow_particles(
        shape,
        rng,
        per_megapixel=17,
        half_axes=(180, 38),
        spread=0.3,
        starts=(0.35, 0.8),
        duration=0.3,
        angles=(0.55, 0.55 + np.pi / 3),
        roughness=0.04 * random_field(shape, rng, 30),
    )
    across = laths.angles[np.maximum(laths.owner, 0)] + np.float32(np.pi / 2)
    striations = plane_wave(shape, 11, across, 1.2 * random_field(shape, rng, 50))
    lath = 1.0 + thickness + lines + 0.13 * striations + 0.03 * ripple
    return Recipe(
        phases=("matrix", "precipitate", "lath"),
        base=matrix.astype(np.float32),
        layers=(
            Layer(rounds.onset, precipitate.astype(np.float32), 0.88, 0.02),
            Layer(laths.onset, lath.astype(np.float32), 0.85, 0.01),
        ),
        camera=Camera(np.uint8, electrons=90, gain=1.3, offset=6, read_noise=3, unevenness=0.04),
        calibration=Calibration(0.12, "nm"),
        metadata=Metadata(exposure_s=0.5, voltage_v=200e3, magnification=1.2e6),
    )


PRESETS: dict[str, Callable[[tuple[int, int], np.random.Generator], Recipe]] = {
    "crystallisation": crystallisation,
    "precipitation": precipitation,
}
"""Recipes by the name the command line knows."""
