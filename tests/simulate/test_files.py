from __future__ import annotations

import io
import struct
import tempfile
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ncempy.io import dm

from pychip_live.core.frame import Calibration, Frame, Metadata
from pychip_live.simulate.dm4 import encode_dm4, filetime
from pychip_live.simulate.files import encode
from pychip_live.simulate.specimen import Specimen

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 891234, tzinfo=timezone(timedelta(hours=2)))
METADATA = Metadata(
    acquired_at=MOMENT,
    exposure_s=0.25,
    voltage_v=300e3,
    magnification=40e3,
    stage={"x_um": 1.5, "y_um": -2.5, "z_um": 0.25, "alpha_deg": -3.0, "beta_deg": 1.0},
)
TAGS = ".ImageList.2.ImageTags."
DTYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]


def pixels(dtype: Any = np.uint16, shape: tuple[int, ...] = (60, 44)) -> np.ndarray:
    return (np.random.default_rng(1).random(shape) * 120).astype(dtype)


def read_dm4(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    # ncempy wants a real file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dm4"
        path.write_bytes(data)
        with dm.fileDM(path, on_memory=False) as file:
            return file.getDataset(0), file.allTags


def from_filetime(ticks: float) -> datetime:
    return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks / 10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dm4_pixels_come_back_in_ncempy(dtype: Any) -> None:
    image = pixels(dtype)
    dataset, _ = read_dm4(encode_dm4(image))
    assert dataset["data"].dtype == dtype
    np.testing.assert_array_equal(dataset["data"], image)


def test_dm4_from_a_path_like_the_reader_does(tmp_path: Path) -> None:
    path = tmp_path / "frame.dm4"
    path.write_bytes(encode_dm4(pixels(), Calibration(0.03, "nm")))
    dataset = dm.dmReader(path)
    np.testing.assert_array_equal(dataset["data"], pixels())


def test_dm4_calibration_and_metadata() -> None:
    dataset, tags = read_dm4(encode_dm4(pixels(), Calibration(0.03, "µm"), METADATA))
    assert dataset["pixelSize"] == [0.03, 0.03]
    assert dataset["pixelUnit"] == ["µm", "µm"]
    read = from_filetime(tags[TAGS + "DataBar.Acquisition Time (OS)"])
    assert abs(read - MOMENT) <= timedelta(microseconds=2)
    assert tags[TAGS + "Acquisition.Parameters.High Level.Exposure (s)"] == 0.25
    assert tags[TAGS + "Microscope Info.Voltage"] == 300e3
    assert tags[TAGS + "Microscope Info.Indicated Magnification"] == 40e3
    stage = TAGS + "Microscope Info.Stage Position.Stage "
    axes = ("X", "Y", "Z", "Alpha", "Beta")
    assert [tags[stage + axis] for axis in axes] == [1.5, -2.5, 0.25, -3.0, 1.0]


def test_dm4_without_calibration_and_metadata() -> None:
    dataset, tags = read_dm4(encode_dm4(pixels()))
    assert dataset["pixelSize"] == [1, 1]
    assert dataset["pixelUnit"] == ["", ""]
    assert not [name for name in tags if "ImageTags" in name]


def test_dm4_stack_has_the_frames_first() -> None:
    stack = pixels(np.float32, (5, 30, 20))
    dataset, _ = read_dm4(encode_dm4(stack, Calibration(2.5, "nm")))
    np.testing.assert_array_equal(dataset["data"], stack)
    assert dataset["pixelSize"] == [1, 2.5, 2.5]
    assert dataset["pixelUnit"] == ["", "nm", "nm"]


def test_dm4_stack_with_an_interval() -> None:
    dataset, _ = read_dm4(encode_dm4(pixels(shape=(3, 8, 9)), interval_s=0.5))
    assert dataset["pixelSize"] == [0.5, 1, 1]
    assert dataset["pixelUnit"] == ["s", "", ""]


def test_dm4_starts_with_a_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "frame.dm4"
    path.write_bytes(encode_dm4(pixels(shape=(300, 200))))
    with dm.fileDM(path, on_memory=False) as file:
        assert file.thumbnail
        assert file.numObjects == 2
        assert file.xSize[0] <= 96 and file.ySize[0] <= 96


@pytest.mark.parametrize("shape", [(1, 1), (60, 44), (3, 8, 8)])
def test_dm4_structure_that_completeness_is_judged_by(shape: tuple[int, ...]) -> None:
    data = encode_dm4(pixels(shape=shape), Calibration(1, "nm"), METADATA)
    version, root_length, little_endian = struct.unpack_from(">IQI", data)
    assert (version, little_endian) == (4, 1)
    assert len(data) - root_length == 24
    assert data[-8:] == bytes(8)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_dm4_cut_anywhere_does_not_parse(keep: float) -> None:
    data = encode_dm4(pixels(), Calibration(1, "nm"), METADATA)
    with pytest.raises((ValueError, struct.error, IndexError, RuntimeError, OSError)):
        read_dm4(data[: int(keep * len(data))])


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.dtype(np.dtype(d).str.replace("<", o)) for d in DTYPES for o in "<>"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    )
)
def test_dm4_any_array_comes_back(image: np.ndarray) -> None:
    dataset, _ = read_dm4(encode_dm4(image))
    np.testing.assert_array_equal(dataset["data"].reshape(image.shape), image)


@pytest.mark.parametrize(
    ("image", "names"),
    [
        (np.zeros((4, 4), np.complex64), "complex64"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
    ],
)
def test_dm4_refuses_what_dm_has_no_image_for(image: np.ndarray, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        encode_dm4(image)


def test_filetime_of_known_moments() -> None:
    assert filetime(datetime(1601, 1, 1, tzinfo=UTC)) == 0
    assert filetime(datetime(1970, 1, 1, tzinfo=UTC)) == 116_444_736_000_000_000


def test_tiff_calibration_time_and_exposure() -> None:
    image = pixels()
    data = encode(Frame(image, Calibration(0.03, "nm"), METADATA), "tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.asarray(), image)
        assert file.is_ome
        root = ET.fromstring(file.ome_metadata or "")
    ome = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    stated = root.find(f".//{ome}Pixels")
    assert stated is not None
    for axis in "XY":
        assert float(stated.attrib[f"PhysicalSize{axis}"]) == 0.03
        assert stated.attrib[f"PhysicalSize{axis}Unit"] == "nm"
    assert datetime.fromisoformat(root.findtext(f".//{ome}AcquisitionDate") or "") == MOMENT
    plane = root.find(f".//{ome}Plane")
    assert plane is not None
    assert (plane.attrib["ExposureTime"], plane.attrib["ExposureTimeUnit"]) == ("0.25", "s")


def test_tiff_without_calibration_states_none() -> None:
    data = encode(Frame(pixels()), "tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert "PhysicalSize" not in (file.ome_metadata or "")
        assert "AcquisitionDate" not in (file.ome_metadata or "")


def test_tiff_refuses_a_unit_that_ome_lacks() -> None:
    with pytest.raises(ValueError, match="1/nm"):
        encode(Frame(pixels(), Calibration(1, "1/nm")), "tiff")


@pytest.mark.parametrize("form", ["tiff", "dm4"])
def test_the_same_frame_gives_the_same_bytes(form: Any) -> None:
    frame = Frame(Specimen((64, 64)).frame(0.5)[0], Calibration(0.03, "nm"), METADATA)
    assert encode(frame, form) == encode(frame, form)
