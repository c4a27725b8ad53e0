"""SerialEM's ``.mdoc`` beside an image: one section a frame."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers.stated import calibration_xy, number

_MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
_MAX_BYTES = 64 << 20
_SECTION = re.compile(r"\[(?:ZValue|FrameSet|Image)\s*=\s*(.+?)\]")


@dataclass(frozen=True, slots=True)
class Mdoc:
    """What an ``.mdoc`` says.

    Parameters
    ----------
    common
        Entries that hold for all sections.
    sections
        Entries of each section, in the order of the planes.
    """

    common: dict[str, str] = field(default_factory=dict)
    sections: tuple[dict[str, str], ...] = ()

    def about(self, plane: int) -> tuple[Calibration | None, Metadata]:
        """Calibration and metadata of a plane; None and empty where nothing is said."""
        own = self.sections[plane] if plane < len(self.sections) else {}
        entries = self.common | own

        def value(key: str) -> float | None:
            return number(entries.get(key))

        spacing = value("PixelSpacing")
        x, y, *_ = (*map(number, entries.get("StagePosition", "").split()), None, None)
        axes = {"x_um": x, "y_um": y, "z_um": value("StageZ"), "alpha_deg": value("TiltAngle")}
        stage = {key: position for key, position in axes.items() if position is not None}
        voltage = value("Voltage")
        return calibration_xy(spacing, "Å", spacing, "Å"), Metadata(
            _time(entries.get("DateTime", "")),
            value("ExposureTime"),
            voltage * 1e3 if voltage else None,
            value("Magnification") or None,
            stage,
        )


def read_mdoc(path: Path) -> Mdoc:
    """Read the ``.mdoc`` beside an image; an empty one where there is none.

    Parameters
    ----------
    path
        The image: its companion is ``<name>.mdoc``, with the image's suffix kept.
    """
    beside = path.with_name(path.name + ".mdoc")
    try:
        if beside.stat().st_size > _MAX_BYTES:
            return Mdoc()
        text = beside.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Mdoc()
    common: dict[str, str] = {}
    sections: list[dict[str, str]] = []
    current = common
    for line in text.splitlines():
        if _SECTION.match(line):
            current = {}
            sections.append(current)
        elif "=" in line and not line.startswith("["):
            key, _, value = line.partition("=")
            current[key.strip()] = value.strip()
    return Mdoc(common, tuple(sections))


def _time(text: str) -> datetime | None:
    # SerialEM writes English month names with 2 or 4 digits of the year; %b would follow the locale
    match = re.fullmatch(r"(\d{1,2})-([A-Za-z]{3})-(\d{2,4})\s+(\d+):(\d+):(\d+)", text.strip())
    if not match:
        return None
    day, month, year, *clock = match.groups()
    try:
        return datetime(
            int(year) + (2000 if len(year) == 2 else 0),
            _MONTHS.index(month.lower()) // 3 + 1,
            int(day),
            int(clock[0]),
            int(clock[1]),
            int(clock[2]),
        )
    except ValueError:
        return None
