"""Calibration, time, exposure, voltage, stage: as stated, or None; never guessed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pychip_live.core.frame import Calibration, Frame
from pychip_live.readers import open_file

PIXELS = np.arange(1, 65, dtype=np.uint16).reshape(8, 8)


def first(path: Path) -> Frame:
    with open_file(path) as opened:
        return opened.read(0)


def container(shared_data: Path, name: str) -> Frame:
    return first(next((shared_data / "containers").rglob(name)))


# file -> pixel size, unit; as RosettaSciIO's and ncempy's own tests state them
CALIBRATED: dict[str, tuple[float, str] | None] = {
    "Fei HAADF-MX_location.dm3": (0.005506073124706745, "µm"),
    "test_diffraction_pattern_tags_removed.dm3": (0.17443299293518066, "1/nm"),
    "test_stackbuilder_imagestack.dm3": (0.05998290330171585, "µm"),
    "dmTest_float32_nonSquare_diffPixelSize.dm4": None,
    "test-2.dm4": None,
    "STEM HAADF Diffraction Micro.emd": (8.737079614225583e-08, "m"),
    "Camera Ceta Diffraction Micro.emd": (114429680.19923936, "1/m"),
    "Si100_3D.emd": (0.25, "nm"),
    "After HAADF 130mm_1.ser": (3.270361189345877e-09, "m"),
    "128x128x5-diffraction_preview_1.ser": (42464134.612716675, "1/m"),
    "20241021_00405_final.mrc": None,
    "test_loading_image_saved_with_imageJ_stack.tif": (0.16867471098853332, "micron"),
    "test_loading_image_saved_with_imageJ_no_scale.tif": None,
    "test_loading_image_saved_with_DM_stack.tif": None,
    "geotiff.tif": None,
    "hopper_float_dpi_2.tif": None,
    "exif-200dpcm.jpg": None,
}


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_of_real_files(shared_data: Path, name: str) -> None:
    path = next(p for p in (shared_data / "containers").rglob(name) if p.parent.name != "1D")
    got, want = first(path).calibration, CALIBRATED[name]
    if want is None:
        assert got is None
    else:
        assert got is not None
        assert got.unit == want[1]
        assert got.pixel_size == pytest.approx(want[0], rel=1e-6)


def test_dm_metadata(shared_data: Path) -> None:
    said = container(shared_data, "Fei HAADF-MX_location.dm3").metadata
    # its tags also say "8/27/2016", "8:55:59 PM" in local time
    assert said.acquired_at is not None
    assert said.acquired_at.replace(microsecond=0) == datetime(2016, 8, 27, 19, 55, 59, tzinfo=UTC)
    assert said.voltage_v == 200_000
    assert said.magnification == 1_300_000
    assert said.stage["x_um"] == pytest.approx(-469.984)
    assert set(said.stage) == {"x_um", "y_um", "z_um", "alpha_deg", "beta_deg"}
    diffraction = container(shared_data, "test_diffraction_pattern_tags_removed.dm3").metadata
    assert diffraction.exposure_s == pytest.approx(0.2)
    assert container(shared_data, "2D/test-2.dm4").metadata.acquired_at is None


def test_velox_metadata(shared_data: Path) -> None:
    said = container(shared_data, "STEM HAADF Diffraction Micro.emd").metadata
    assert said.acquired_at == datetime(2020, 7, 29, 16, 49, 34, tzinfo=UTC)
    assert said.exposure_s == pytest.approx(0.24706)
    assert said.voltage_v == 300_000
    assert said.stage["x_um"] == pytest.approx(0.57681)
    assert said.stage["beta_deg"] == pytest.approx(0.033983, rel=1e-4)


def test_ser_time(shared_data: Path) -> None:
    said = container(shared_data, "After HAADF 130mm_1.ser").metadata
    assert said.acquired_at == datetime(2018, 11, 30, 6, 41, 51, tzinfo=UTC)


TIFFS: dict[str, tuple[dict[str, Any], tuple[float, str] | None]] = {
    "bare": ({}, None),
    "72 dpi is a screen": ({"resolution": (72, 72), "resolutionunit": 2}, None),
    "300 dpi is a print": ({"resolution": (300, 300), "resolutionunit": 2}, None),
    "9600 dpi is a print": ({"resolution": (9600, 9600), "resolutionunit": 2}, None),
    "no unit": ({"resolution": (1e7, 1e7), "resolutionunit": 1}, None),
    "2 nm": ({"resolution": (5e6, 5e6), "resolutionunit": 3}, (2.0, "nm")),
    "not square": ({"resolution": (5e6, 4e6), "resolutionunit": 3}, None),
    "square within 1 %": ({"resolution": (5e6, 4.98e6), "resolutionunit": 3}, (2.0, "nm")),
    "imagej": (
        {"imagej": True, "resolution": (4, 4), "metadata": {"unit": "nm"}},
        (0.25, "nm"),
    ),
    "imagej without unit": ({"imagej": True, "resolution": (4, 4)}, None),
    "ome": (
        {
            "ome": True,
            "metadata": {
                "PhysicalSizeX": 0.5,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.5,
                "PhysicalSizeYUnit": "nm",
            },
        },
        (0.5, "nm"),
    ),
    "ome not square": (
        {
            "ome": True,
            "metadata": {
                "PhysicalSizeX": 0.5,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.7,
                "PhysicalSizeYUnit": "nm",
            },
        },
        None,
    ),
}


@pytest.mark.parametrize("case", TIFFS)
def test_tiff_calibration(tmp_path: Path, case: str) -> None:
    options, want = TIFFS[case]
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, PIXELS, **options)
    got = first(path).calibration
    assert (got is None) == (want is None)
    if got and want:
        assert got.unit == want[1]
        assert got.pixel_size == pytest.approx(want[0], rel=1e-6)


HELIOS = """[User]\r\nDate=11/23/2026\r\nTime=07:08:09 PM\r\n[Beam]\r\nHV=5000\r\nScan=EScan\r
[EScan]\r\nPixelWidth=1.5e-9\r\nPixelHeight=1.5e-9\r\nFrameTime=3.25\r
[Stage]\r\nStageX=0.001\r\nStageY=-2e-3\r\nStageT=0.5235987755982988\r\n"""

TITAN = """<?xml version="1.0"?><Metadata><BinaryResult><PixelSize>
<X unit="m" unitPrefixPower="-9">1.25</X><Y unit="m" unitPrefixPower="-9">1.25</Y>
</PixelSize></BinaryResult><Acquisition><AcquisitionDatetime>2026-11-23T10:00:00
</AcquisitionDatetime></Acquisition><Optics><AccelerationVoltage>2000</AccelerationVoltage>
</Optics></Metadata>"""


def test_fei_helios(tmp_path: Path) -> None:
    path = tmp_path / "sem.tif"
    tifffile.imwrite(path, PIXELS, extratags=[(34682, "s", 0, HELIOS, True)])
    frame = first(path)
    assert frame.calibration == Calibration(1.5e-9, "m")
    assert frame.metadata.acquired_at == datetime(2026, 11, 23, 19, 8, 9)
    assert frame.metadata.exposure_s == 3.25
    assert frame.metadata.voltage_v == 5000
    assert frame.metadata.stage == pytest.approx({"x_um": 1000, "y_um": -2000, "alpha_deg": 30})


def test_fei_helios_of_an_ambiguous_day_has_no_time(tmp_path: Path) -> None:
    path = tmp_path / "sem.tif"
    text = HELIOS.replace("11/23/2026", "03/04/2026")
    tifffile.imwrite(path, PIXELS, extratags=[(34682, "s", 0, text, True)])
    assert first(path).metadata.acquired_at is None


def test_fei_titan(tmp_path: Path) -> None:
    path = tmp_path / "sem.tif"
    tifffile.imwrite(path, PIXELS, extratags=[(34683, "s", 0, TITAN, True)])
    frame = first(path)
    assert frame.calibration is not None
    assert frame.calibration.pixel_size == pytest.approx(1.25e-9)
    assert frame.metadata.acquired_at == datetime(2026, 11, 23, 10)
    assert frame.metadata.voltage_v == 2000


def test_zeiss(tmp_path: Path) -> None:
    path = tmp_path / "sem.tif"
    text = "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 5.58 nm\r\nAP_ACTUALKV\r\nEHT = 3.00 kV\r\n"
    tifffile.imwrite(path, PIXELS, extratags=[(34118, "s", 0, text, True)])
    frame = first(path)
    assert frame.calibration == Calibration(5.58, "nm")
    assert frame.metadata.voltage_v == 3000


MDOC = """PixelSpacing = 2.5
Voltage = 300

[ZValue = 0]
ExposureTime = 0.5
StagePosition = 1.5 -2.5
StageZ = 10
TiltAngle = -3
Magnification = 42000
DateTime = 23-Nov-26  10:20:30

[ZValue = 1]
ExposureTime = 0.75
PixelSpacing = 5
"""


@pytest.mark.parametrize("suffix", [".tif", ".mrc"])
def test_serialem_mdoc_beside_the_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stack{suffix}"
    stack = np.stack([PIXELS, PIXELS + 1])
    if suffix == ".tif":
        tifffile.imwrite(path, stack, photometric="minisblack")
    else:
        header = np.array([8, 8, 2, 6], "<i4").tobytes().ljust(208, b"\0") + b"MAP DD\0\0"
        path.write_bytes(header.ljust(1024, b"\0") + stack.tobytes())
    assert first(path).calibration is None
    path.with_name(path.name + ".mdoc").write_text(MDOC, encoding="utf-8")
    with open_file(path) as opened:
        one, two = opened.read(0), opened.read(1)
    assert one.calibration == Calibration(2.5, "Å")
    assert one.metadata.exposure_s == 0.5
    assert one.metadata.voltage_v == 300_000
    assert one.metadata.magnification == 42_000
    assert one.metadata.acquired_at == datetime(2026, 11, 23, 10, 20, 30)
    assert one.metadata.stage == {"x_um": 1.5, "y_um": -2.5, "z_um": 10, "alpha_deg": -3}
    assert two.calibration == Calibration(5, "Å")
    assert two.metadata.exposure_s == 0.75


def test_mrc_cell(tmp_path: Path) -> None:
    path = tmp_path / "frame.mrc"
    header = np.array([8, 8, 1, 6, 0, 0, 0, 8, 8, 1], "<i4").tobytes()
    header += np.array([16, 16, 1], "<f4").tobytes()
    header = header.ljust(208, b"\0") + b"MAP DD\0\0"
    path.write_bytes(header.ljust(1024, b"\0") + PIXELS.tobytes())
    assert first(path).calibration == Calibration(2.0, "Å")
