"""A profile for a simulated specimen, and how far a measured curve is from the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Frame
from pychip_live.core.grid import Grid
from pychip_live.core.profile import GridOptions, ProfileOptions
from pychip_live.core.support import Example, SupportSet
from pychip_live.engine.recipe import ensure_fit, load_embedder
from pychip_live.errors import UsageError
from pychip_live.settings import Settings
from pychip_live.simulate.specimen import Specimen
from pychip_live.simulate.truth import Truth
from pychip_live.store.profiles import ProfileFolder

PURE = 0.9
"""Least share of one phase in a chip that serves as its example."""
EXAMPLES = 10
"""Examples a phase."""
REFERENCE_TIMES = (0.3, 0.95)
"""Times of the two reference frames, 0…1: between them they show every phase."""


def make_profile(
    folder: Path, preset: str, *, size: int, chip: int, seed: int, settings: Settings
) -> ProfileFolder:
    """Make a profile the way a person would, but with the simulated truth as the teacher.

    Parameters
    ----------
    folder
        New profile folder.
    preset
        Of the specimen.
    size, chip
        Edge of a frame and of a chip, px.
    seed
        Of the specimen and of the choice of examples; use another one for the run.
    settings
        Of this place.

    Raises
    ------
    UsageError
        If a phase has no pure chip.
    """
    specimen = Specimen((size, size), seed, preset)
    profile = ProfileFolder(folder)
    profile.create(ProfileOptions(schema=1, name=preset, grid=GridOptions(chip=chip)))
    shots = [specimen.frame(t) for t in REFERENCE_TIMES]
    names = [
        profile.add_reference(
            Frame(pixels, specimen.calibration, specimen.metadata), f"{preset}-{i}"
        )
        for i, (pixels, _) in enumerate(shots, start=1)
    ]
    rng = np.random.default_rng(seed)
    support = SupportSet()
    grid = Grid(chip, size, size)
    corners = grid.corners()
    for phase in specimen.phases:
        support = support.add_class(phase)
    for number, phase in enumerate(specimen.phases):
        pure = [
            (name, int(chip_number))
            for name, (_, phase_map) in zip(names, shots, strict=True)
            for chip_number in np.flatnonzero(grid.share_per_chip(phase_map == number) >= PURE)
        ]
        if not pure:
            raise UsageError(
                f"no chip of {chip} px is pure {phase} in the simulated specimen; use smaller chips"
            )
        for choice in rng.permutation(len(pure))[:EXAMPLES]:
            name, chip_number = pure[choice]
            x, y = (int(v) for v in corners[chip_number])
            support = support.add_example(
                Example(
                    class_id=support.named(phase).id,
                    reference=name,
                    x=x,
                    y=y,
                    size=chip,
                    who="simulation",
                )
            )
    profile.save_support(support)
    loaded = profile.load()
    ensure_fit(profile, loaded, load_embedder(loaded, settings))
    return profile


@dataclass(frozen=True, slots=True)
class Agreement:
    """One phase: measured against true.

    ``mean_error`` and ``worst_error`` are absolute differences of the phase fraction, 0…1;
    ``covered`` is the share of frames whose 95 % interval holds the truth.
    """

    phase: str
    mean_error: float
    worst_error: float
    covered: float
    frames: int


def compare(
    measured: Iterable[tuple[str, dict[str, tuple[float, float, float]]]], truth: Sequence[Truth]
) -> list[Agreement]:
    """Compare share, low and high by phase, for each measured frame, with the truth of that frame.

    Raises
    ------
    UsageError
        If no measured frame is in the truth.
    """
    true = {row.frame: row.fractions for row in truth}
    rows = [(shares, true[name]) for name, shares in measured if name in true]
    if not rows:
        raise UsageError("none of the measured frames is in the truth table")
    found = []
    for phase in rows[0][1]:
        values: NDArray[np.float64] = np.array(
            [[*shares.get(phase, (0.0, 0.0, 0.0)), right[phase]] for shares, right in rows]
        )
        error = np.abs(values[:, 0] - values[:, 3])
        inside = (values[:, 1] <= values[:, 3]) & (values[:, 3] <= values[:, 2])
        found.append(
            Agreement(
                phase, float(error.mean()), float(error.max()), float(inside.mean()), len(rows)
            )
        )
    return found
