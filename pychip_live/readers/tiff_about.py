"""Calibration and metadata of a TIFF page, as makers of microscopes and software write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers import tiff_ifd as ifd
from pychip_live.readers.base import Source
from pychip_live.readers.stated import calibration_xy, iso_time, number

About = tuple[Calibration | None, Metadata]
_Value = TypeVar("_Value")

_ZEISS, _FEI_SFEG, _FEI_HELIOS, _FEI_TITAN = 34118, 34680, 34682, 34683
_DM_UNIT_X, _DM_UNIT_Y, _DM_SCALE_X, _DM_SCALE_Y = 65003, 65004, 65009, 65010
_PER_INCH, _PER_CM = 2, 3
_PRINT_NM = 2540
"""A "resolution" of larger pixels (under 10,000 dpi) may be that of a print or a screen."""


def about_page(source: Source, page: ifd.Page, description: str, beside: About) -> About:
    """Collect what a page and its file say; the first that states a thing wins.

    Parameters
    ----------
    source
        The open file.
    page
        The directory.
    description
        Image description of the first page, which speaks for all.
    beside
        What a companion file says; it wins.
    """
    said: list[About] = [beside]
    if {_FEI_SFEG, _FEI_HELIOS} & page.entries.keys():
        said.append(_fei_ini(page.text(source, _FEI_HELIOS) or page.text(source, _FEI_SFEG)))
    if _FEI_TITAN in page.entries:
        said.append(_fei_xml(page.text(source, _FEI_TITAN)))
    if _ZEISS in page.entries:
        said.append(_zeiss(page.text(source, _ZEISS)))
    if _DM_SCALE_X in page.entries:
        said.append((_dm(source, page), Metadata()))
    elif "<OME" in description:
        said.append(_ome(description))
    elif description.startswith("ImageJ="):
        said.append((_imagej(source, page, description), Metadata()))
    else:
        said.append((_resolution(source, page), Metadata()))
    said.append((None, Metadata(_tiff_time(page.text(source, ifd.DATE_TIME)))))
    stage: dict[str, float] = {}
    for _, metadata in reversed(said):
        stage.update(metadata.stage)

    def first(get: Callable[[Metadata], _Value | None]) -> _Value | None:
        return next((value for _, m in said if (value := get(m)) is not None), None)

    return next((c for c, _ in said if c is not None), None), Metadata(
        first(lambda m: m.acquired_at),
        first(lambda m: m.exposure_s),
        first(lambda m: m.voltage_v),
        first(lambda m: m.magnification),
        stage,
    )


def _fei_ini(text: str) -> About:
    """FEI_SFEG and FEI_HELIOS: sections of ``key=value``, SI units and radians."""
    entries: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[] \t")
        elif "=" in line:
            key, _, said = line.partition("=")
            entries.setdefault(f"{section}.{key.strip()}", said.strip())

    def value(*keys: str) -> float | None:
        return next((n for key in keys if (n := number(entries.get(key))) is not None), None)

    scan = entries.get("Beam.Scan", "Scan")
    width = value(f"{scan}.PixelWidth", "Scan.PixelWidth", "EScan.PixelWidth")
    height = value(f"{scan}.PixelHeight", "Scan.PixelHeight", "EScan.PixelHeight")
    stage = {}
    for key, name, factor in (
        ("x_um", "StageX", 1e6),
        ("y_um", "StageY", 1e6),
        ("z_um", "StageZ", 1e6),
        ("alpha_deg", "StageT", math.degrees(1)),
    ):
        position = value(f"Stage.{name}")
        if position is not None:
            stage[key] = position * factor
    date, time = entries.get("User.Date", ""), entries.get("User.Time", "")
    return calibration_xy(width, "m", height, "m"), Metadata(
        _day_time(date, time),
        value(f"{scan}.FrameTime", "Scan.FrameTime", "EScan.FrameTime"),
        value("Beam.HV", "EBeam.HV") or None,
        None,
        stage,
    )


def _day_time(date: str, time: str) -> datetime | None:
    """Time from FEI's texts; None where day and month cannot be told apart."""
    found = set()
    for day in ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y-%m-%d"):
        for clock in ("%H:%M:%S", "%I:%M:%S %p"):
            try:
                found.add(datetime.strptime(f"{date} {time}", f"{day} {clock}"))
            except ValueError:
                continue
    return found.pop() if len(found) == 1 else None


def _fei_xml(text: str) -> About:
    """FEI_TITAN: XML. Searched rather than parsed, so that no entity can blow up."""

    def element(name: str, within: str) -> tuple[str, str]:
        match = re.search(rf"<{name}\b([^>]*)>([^<]*)</{name}>", within)
        return (match[1], match[2].strip()) if match else ("", "")

    sizes: list[tuple[float | None, str]] = []
    block = re.search(r"<PixelSize>(.*?)</PixelSize>", text, re.DOTALL)
    for axis in "XY":
        attributes, value = element(axis, block[1] if block else "")
        unit = re.search(r'\bunit="([^"]*)"', attributes)
        power = re.search(r'\bunitPrefixPower="(-?\d{1,2})"', attributes)
        size = number(value)
        if size is not None and power:
            size *= 10.0 ** int(power[1])
        sizes.append((size, unit[1] if unit else ""))
    time = element("AcquisitionDatetime", text)[1]
    return calibration_xy(*sizes[0], *sizes[1]), Metadata(
        iso_time(time) if time else None,
        number(element("FrameTime", text)[1]) or None,
        number(element("AccelerationVoltage", text)[1]) or None,
    )


def _zeiss(text: str) -> About:
    """CZ_SEM: lines ``Name = value unit``."""

    def entry(name: str) -> tuple[float | None, str]:
        match = re.search(rf"(?m)^{name}\s*=\s*([-+.\deE]+)\s*(\S*)", text)
        return (number(match[1]), match[2]) if match else (None, "")

    size, unit = entry("Image Pixel Size")
    voltage, volts = entry("EHT")
    kilo = {"kV": 1e3, "V": 1.0}.get(volts)
    return calibration_xy(size, unit, size, unit), Metadata(
        voltage_v=voltage * kilo if voltage and kilo else None
    )


def _dm(source: Source, page: ifd.Page) -> Calibration | None:
    """Scales that DigitalMicrograph writes in tags of its own."""
    return calibration_xy(
        page.ratio(source, _DM_SCALE_X),
        page.text(source, _DM_UNIT_X),
        page.ratio(source, _DM_SCALE_Y),
        page.text(source, _DM_UNIT_Y),
    )


def _ome(description: str) -> About:
    """OME-XML. Searched rather than parsed, so that no entity can blow up."""

    def attribute(element: str, name: str) -> str:
        match = re.search(rf'<{element}\b[^>]*?\b{name}="([^"]*)"', description)
        return match[1] if match else ""

    # micrometres where the unit is missing, says the OME schema
    calibration = calibration_xy(
        number(attribute("Pixels", "PhysicalSizeX")),
        attribute("Pixels", "PhysicalSizeXUnit") or "µm",
        number(attribute("Pixels", "PhysicalSizeY")),
        attribute("Pixels", "PhysicalSizeYUnit") or "µm",
    )
    date = re.search(r"<AcquisitionDate>([^<]*)</AcquisitionDate>", description)
    exposure = number(attribute("Plane", "ExposureTime"))
    seconds = {"": 1.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}.get(
        attribute("Plane", "ExposureTimeUnit")
    )
    return calibration, Metadata(
        iso_time(date[1]) if date else None,
        exposure * seconds if exposure is not None and seconds else None,
    )


def _imagej(source: Source, page: ifd.Page, description: str) -> Calibration | None:
    """ImageJ: pixels per unit in the resolution, the unit in the description."""
    match = re.search(r"(?m)^unit=(.+)$", description)
    unit = match[1].strip().replace("\\u00B5", "µ") if match else ""
    if unit in ("", "pixel", "pixels", "inch"):
        return None
    x, y = page.ratio(source, ifd.X_RESOLUTION), page.ratio(source, ifd.Y_RESOLUTION)
    return calibration_xy(1 / x if x else None, unit, 1 / y if y else None, unit)


def _resolution(source: Source, page: ifd.Page) -> Calibration | None:
    """Pixel size from the resolution tags, in nm, where it cannot be that of a print."""
    nm = {_PER_INCH: 25.4e6, _PER_CM: 1e7}.get(page.value(source, ifd.RESOLUTION_UNIT, _PER_INCH))
    x, y = page.ratio(source, ifd.X_RESOLUTION), page.ratio(source, ifd.Y_RESOLUTION)
    if not nm or not x or not y or nm / x >= _PRINT_NM:
        return None
    return calibration_xy(nm / x, "nm", nm / y, "nm")


def _tiff_time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text.strip(), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
