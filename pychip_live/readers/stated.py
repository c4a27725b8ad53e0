"""Values that a file states, or None: nothing is guessed."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from pychip_live.core.frame import Calibration

_ANISOTROPY = 0.01


def number(value: object) -> float | None:
    """Return a finite number, also from text; None otherwise."""
    if value is None or isinstance(value, bool):
        return None
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def calibration_xy(
    size_x: float | None, unit_x: str, size_y: float | None, unit_y: str
) -> Calibration | None:
    """Calibration of square pixels, or None where the axes differ by more than 1 %.

    Parameters
    ----------
    size_x, size_y
        Pixel size along x and y.
    unit_x, unit_y
        Their units; without units there is no calibration.
    """
    unit_x, unit_y = unit_x.strip(), unit_y.strip()
    if not size_x or not size_y or not unit_x or unit_x != unit_y:
        return None
    if size_x <= 0 or size_y <= 0 or abs(size_x / size_y - 1) > _ANISOTROPY:
        return None
    return Calibration(size_x, unit_x)


def unix_time(seconds: object) -> datetime | None:
    """Time in UTC from seconds since 1970; None for zero and for nonsense."""
    value = number(seconds)
    if value is None or value <= 0:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    except OverflowError:
        return None


def iso_time(text: str) -> datetime | None:
    """Time from ISO 8601 text; None where it is something else."""
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None
