"""A specimen that transforms over time, with the exact phase of every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.errors import UsageError
from pychip_live.simulate.presets import PRESETS, Recipe

MARGIN = 24
"""Specimen beyond each edge of the frame, px: room for the drift."""


@dataclass(frozen=True, slots=True)
class _Path:
    """A smooth path in the unit square: a sum of slow sines with seeded phases."""

    phases: NDArray[np.float64]

    def at(self, t: float) -> NDArray[np.float64]:
        """Two numbers in −1…1."""
        slow = np.sin(2 * np.pi * 0.6 * t + self.phases[:, 0])
        fast = np.sin(2 * np.pi * 2.3 * t + self.phases[:, 1])
        return np.asarray(0.75 * slow + 0.25 * fast, np.float64)


class Specimen:
    """A deterministic specimen under a microscope with drift, uneven light and shot noise.

    Parameters
    ----------
    shape
        ``(height, width)`` of a frame, px, each at least 64.
    seed
        Whole number ≥ 0; the same seed gives the same specimen and the same noise.
    preset
        ``"crystallisation"`` or ``"precipitation"``.

    Raises
    ------
    UsageError
        If the preset does not exist, or shape or seed is out of range.
    """

    def __init__(
        self,
        shape: tuple[int, int] = (1024, 1024),
        seed: int = 0,
        preset: str = "crystallisation",
    ) -> None:
        if preset not in PRESETS:
            raise UsageError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}")
        if min(shape) < 64:
            raise UsageError(f"a simulated frame is at least 64 px wide and high, not {shape}")
        if seed < 0:
            raise UsageError(f"the seed of a simulation is a whole number ≥ 0, not {seed}")
        self.preset = preset
        self.seed = seed
        self.shape = shape
        rng = np.random.default_rng([seed, list(PRESETS).index(preset)])
        canvas = (shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN)
        self._recipe: Recipe = PRESETS[preset](canvas, rng)
        self._drift = _Path(rng.uniform(0, 2 * np.pi, (2, 2)))
        self._light = _Path(rng.uniform(0, 2 * np.pi, (2, 2)))

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases, by their numbers in the phase map."""
        return self._recipe.phases

    @property
    def calibration(self) -> Calibration:
        """Size of a pixel."""
        return self._recipe.calibration

    @property
    def metadata(self) -> Metadata:
        """Exposure and microscope; the acquisition time is the player's."""
        return self._recipe.metadata

    def frame(self, t: float) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.uint8]]:
        """Expose one frame.

        Parameters
        ----------
        t
            Time, 0 (start of the experiment) to 1 (end).

        Returns
        -------
        pixels
            ``shape``, uint16 or uint8 (the recipe's detector).
        phase_map
            ``shape``, uint8, numbers of ``phases``.

        Raises
        ------
        UsageError
            If the time is outside 0…1.
        """
        if not 0 <= t <= 1:
            raise UsageError(f"the time of a simulated frame is within 0…1, not {t}")
        window = self._window(t)
        scene = self._recipe.base[window].copy()
        phase_map = np.zeros(self.shape, np.uint8)
        now = np.float32(t)
        for number, layer in enumerate(self._recipe.layers, start=1):
            onset = layer.onset[window]
            inside = onset <= now
            front = (onset <= now + np.float32(layer.front_time)) & ~inside
            np.multiply(scene, np.float32(layer.front), out=scene, where=front)
            np.copyto(scene, layer.texture[window], where=inside)
            np.copyto(phase_map, np.uint8(number), where=inside)
        return self._expose(scene, t), phase_map

    def fractions(self, phase_map: NDArray[np.uint8]) -> dict[str, float]:
        """Share of pixels of each phase in a phase map (or any part of one)."""
        counts = np.bincount(phase_map.reshape(-1), minlength=len(self.phases))
        return {name: int(n) / phase_map.size for name, n in zip(self.phases, counts, strict=True)}

    def _window(self, t: float) -> tuple[slice, slice]:
        """Part of the specimen in view."""
        top, left = (MARGIN + np.round((MARGIN - 1) * 0.5 * self._drift.at(t))).astype(int)
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])

    def _expose(self, scene: NDArray[np.float32], t: float) -> NDArray[np.unsignedinteger[Any]]:
        """Light, blur, shot noise and read-out; ``scene`` is used up."""
        camera = self._recipe.camera
        tilt_y, tilt_x = camera.unevenness * self._light.at(t)
        height, width = self.shape
        scene *= 1 + np.linspace(-tilt_y, tilt_y, height, dtype=np.float32)[:, None]
        scene *= 1 + np.linspace(-tilt_x, tilt_x, width, dtype=np.float32)[None, :]
        _blur(scene)

        # the time itself seeds the noise: the same frame twice is the same noise
        bits = np.random.SFC64([self.seed, round(t * 2**40)])
        noise = np.random.Generator(bits).standard_normal(self.shape, dtype=np.float32)
        # shot noise in its Gaussian limit, exact enough for ≥ 20 electrons a pixel
        scene *= np.float32(camera.electrons)
        variance = scene + np.float32(camera.read_noise**2)
        noise *= np.sqrt(np.maximum(variance, 0, out=variance), out=variance)
        scene += noise
        scene *= np.float32(camera.gain)
        scene += np.float32(camera.offset + 0.5)
        np.clip(scene, 0, np.iinfo(camera.dtype).max, out=scene)
        return scene.astype(camera.dtype)


def _blur(image: NDArray[np.float32]) -> None:
    """Point spread of ¼ ½ ¼ along both axes, in place; the outermost pixels stay."""
    sums = image[2:] + image[:-2]
    image[1:-1] *= 0.5
    sums *= 0.25
    image[1:-1] += sums
    sums = image[:, 2:] + image[:, :-2]
    image[:, 1:-1] *= 0.5
    sums *= 0.25
    image[:, 1:-1] += sums
