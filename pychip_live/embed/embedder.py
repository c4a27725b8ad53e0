"""The embedder: window, network and pooling behind one door."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pychip_live.core.embedding import Embedding, Fit, fit_features, project, recipe_json
from pychip_live.core.grid import Grid
from pychip_live.core.profile import EmbeddingOptions, WindowOptions
from pychip_live.core.window import (
    Limits,
    Windowed,
    apply_window,
    choose_limits,
    percentile_limits,
    reach_limits,
)
from pychip_live.embed import geometry
from pychip_live.embed.runtime import open_runtime
from pychip_live.embed.weights import locate

VERSION = 2
"""Of the method; part of every embedding id. Raise it when the numbers change."""

CHIP_BATCH = 256
"""Chips that go through the network together where each is embedded alone."""

Features = list[NDArray[np.float32]]


class Embedder:
    """A network made ready: frames in, embeddings of their chips out.

    The numbers are bit-identical from call to call and from process to process on one machine
    with the same runtime, device and thread count. From here on NumPy multiplies with one thread in
    this process: its matrices are small, the cores belong to the network, and sums must not depend
    on how many there are.

    Parameters
    ----------
    options, window
        The profile's ``[embedding]`` and ``[window]``.
    weights
        Weights file to use instead of the packaged one.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``…
    runtime
        ``auto`` is PyTorch on a GPU, else OpenVINO where it is installed, else PyTorch.
    allow_download
        Whether torchvision's weights may be fetched.
    threads
        CPU threads; None for the runtime's default.

    Raises
    ------
    WeightsError
        If the weights file is missing, altered or of another network.
    EmbeddingError
        If the backbone does not exist or lacks a stage.
    UsageError
        If device or runtime cannot be had.
    """

    def __init__(
        self,
        options: EmbeddingOptions,
        window: WindowOptions,
        *,
        weights: Path | None = None,
        device: str = "auto",
        runtime: Literal["auto", "torch", "openvino"] = "auto",
        allow_download: bool = False,
        threads: int | None = None,
    ) -> None:
        threadpool_limits(1, user_api="blas")
        self.options = options
        self.window_options = window
        self._weights = locate(options.backbone, weights, allow_download=allow_download)
        self._runtime, self._stages = open_runtime(
            options, self._weights, device=device, runtime=runtime, threads=threads
        )

    def recipe(self, chip: int) -> str:
        """Return what the features of chips of ``chip`` px depend on, as canonical JSON."""
        recipe = {
            "version": VERSION,
            "weights_sha256": self._weights.sha256,
            "chip": chip,
            "window": self.window_options.model_dump(mode="json"),
            **self.options.model_dump(mode="json"),
        }
        if self.options.method == "chip":
            del recipe["stages"]
        return recipe_json(recipe)

    @property
    def description(self) -> dict[str, str]:
        """Backbone, weights, device, runtime, precision and versions, for the record."""
        return {
            "backbone": self.options.backbone,
            "weights": str(self._weights.path),
            "weights_sha256": self._weights.sha256,
            **self._runtime.description,
        }

    def window(self, pixels: NDArray[Any], limits: Limits) -> Windowed:
        """Map raw intensities to 0…1 as the profile says.

        Parameters
        ----------
        pixels
            ``(height, width)``.
        limits
            Of the reference frames.
        """
        options = self.window_options
        chosen = choose_limits(
            pixels, options.mode, percentiles=options.percentiles, frozen=limits,
            fixed=options.fixed,
        )  # fmt: skip
        windowed = apply_window(pixels, chosen)
        if not options.clahe:
            return windowed
        return Windowed(
            equalise(windowed.values, eight_bit=pixels.dtype.itemsize == 1),
            windowed.limits, windowed.invalid, windowed.saturated,
        )  # fmt: skip

    def features(self, windowed: Windowed, grid: Grid) -> Features:
        """Features of all chips of a frame, row by row.

        Returns
        -------
        list
            ``(n_chips, channels)`` float32 a stage (one of them for ``method = "chip"``).
        """
        inside = windowed.values[: grid.rows * grid.chip, : grid.cols * grid.chip]
        if self.options.method == "chip":
            return self._chip_wise(inside, grid.corners(), grid.chip)
        px = self.options.chip_px
        whole: Features = []
        for down in geometry.spans(grid.rows, px):
            for across in geometry.spans(grid.cols, px):
                part = self._dense(inside, grid.chip, down, across)
                if not whole:
                    whole = [np.empty((grid.rows, grid.cols, p.shape[2]), np.float32) for p in part]
                for w, p in zip(whole, part, strict=True):
                    w[down.start : down.stop, across.start : across.stop] = p
        return [w.reshape(grid.n_chips, -1) for w in whole]

    def features_at(
        self, windowed: Windowed, corners: NDArray[np.integer[Any]], chip: int
    ) -> Features:
        """Features of chips at any positions; exactly those of ``features`` on the grid.

        Parameters
        ----------
        corners
            ``(m, 2)`` left and top pixels, x and y.
        chip
            Edge of a chip, frame px.
        """
        height, width = windowed.values.shape
        if self.options.method == "chip":
            return self._chip_wise(windowed.values, corners, chip)
        found: Features = []
        phases = corners % chip
        for phase in np.unique(phases, axis=0):
            x, y = (int(v) for v in phase)
            here = np.flatnonzero((phases == phase).all(axis=1))
            grid = Grid(chip, height - y, width - x)
            shifted = Windowed(windowed.values[y:, x:], windowed.limits, None, windowed.saturated)
            places = (corners[here] - phase) // chip
            chosen = [
                f[places[:, 1] * grid.cols + places[:, 0]] for f in self.features(shifted, grid)
            ]
            if not found:
                found = [np.empty((len(corners), f.shape[1]), np.float32) for f in chosen]
            for whole, part in zip(found, chosen, strict=True):
                whole[here] = part
        return found

    def embed(self, windowed: Windowed, grid: Grid, fit: Fit) -> Embedding:
        """Embed the chips of one frame."""
        return project(self.features(windowed, grid), fit)

    def fit(self, frames: Sequence[NDArray[Any]], chip: int) -> Fit:
        """Fit window limits, stage scales and projection to the reference frames.

        Parameters
        ----------
        frames
            Raw pixels, each at least one chip large.
        chip
            Edge of a chip, frame px.
        """
        options = self.window_options
        pixels = frames[0] if len(frames) == 1 else np.concatenate([f.reshape(-1) for f in frames])
        limits = (
            reach_limits(pixels)
            if options.mode == "steady"
            else percentile_limits(pixels, options.percentiles)
        )
        every = [self.features(self.window(f, limits), Grid(chip, *f.shape)) for f in frames]
        return fit_features(
            [np.concatenate(stage) for stage in zip(*every, strict=True)],
            limits=limits, recipe=self.recipe(chip), components=self.options.components,
        )  # fmt: skip

    def _dense(
        self, inside: NDArray[np.float32], chip: int, down: geometry.Span, across: geometry.Span
    ) -> Features:
        """Features ``(rows, cols, channels)`` a stage of one tile."""
        px = self.options.chip_px
        deepest = max(s.stride for s in self._stages)
        tile = geometry.tile(inside, chip, px, down, across, deepest)
        height, width = tile.shape
        weights = [
            geometry.pooling(
                s.stop - s.start, s.margin, px, stage.stride, size // stage.stride, stage.offset
            )
            for s, size in ((down, height), (across, width))
            for stage in self._stages
        ]
        return self._runtime.run(tile[None, None], *weights)

    def _chip_wise(
        self, values: NDArray[np.float32], corners: NDArray[np.integer[Any]], chip: int
    ) -> Features:
        px = self.options.chip_px
        parts = []
        for start in range(0, len(corners), CHIP_BATCH):
            some = corners[start : start + CHIP_BATCH]
            # always whole batches: another batch size may round differently
            batch = np.zeros((CHIP_BATCH, 1, px, px), np.float32)
            for k, (x, y) in enumerate(some):
                batch[k, 0] = geometry.resize(values[y : y + chip, x : x + chip], px, px)
            parts.append(self._runtime.run(batch)[0][: len(some)])
        return [np.concatenate(parts)]


def equalise(values: NDArray[np.float32], *, eight_bit: bool) -> NDArray[np.float32]:
    """Equalise contrast locally (CLAHE, clip limit 2, 8 × 8 tiles), in 8 or 16 bit."""
    top = 255 if eight_bit else 65535
    rounded = np.round(values * np.float32(top))
    counts = rounded.astype(np.uint8) if eight_bit else rounded.astype(np.uint16)
    equalised = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(counts)
    scaled: NDArray[np.float32] = equalised.astype(np.float32) / np.float32(top)
    return scaled
