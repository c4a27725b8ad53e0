"""DM3 and DM4 of both byte orders, with the tags that real small test files lack."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pychip_live.core.frame import Calibration
from pychip_live.errors import CorruptError, IncompleteError, UnsupportedError
from pychip_live.readers import evidence, open_file
from pychip_live.readers.base import Source
from pychip_live.readers.dm_tags import TagReader

STACK = np.arange(2 * 5 * 7, dtype=np.int16).reshape(2, 5, 7)


class Writer:
    """The smallest writer of DM files; nested dicts are groups, unnamed entries have digits."""

    codes = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "u1": 10, "c8": 6}  # noqa: RUF012

    def __init__(self, version: int, order: Literal["<", ">"]) -> None:
        self.version = version
        self.order: Literal["<", ">"] = order
        self.count = ">Q" if version == 4 else ">I"

    def counts(self, *numbers: int) -> bytes:
        return b"".join(struct.pack(self.count, number) for number in numbers)

    def group(self, tags: dict[str, Any]) -> bytes:
        parts = [b"\1\0", self.counts(len(tags))]
        for name, value in tags.items():
            label = b"" if name.isdigit() else name.encode("latin-1")
            kind, body = (b"\x14", self.group(value)) if isinstance(value, dict) else (
                b"\x15", self.data(value)
            )  # fmt: skip
            size = struct.pack(">Q", len(body)) if self.version == 4 else b""
            parts += [kind, struct.pack(">H", len(label)), label, size, body]
        return b"".join(parts)

    def data(self, value: Any) -> bytes:
        if isinstance(value, str):
            value = np.array([ord(letter) for letter in value], "u2")
        array = np.asarray(value)
        code = self.codes[array.dtype.str[1:]]
        stored = array.astype(array.dtype.newbyteorder(self.order)).tobytes()
        if array.ndim:
            n_items = array.size * (2 if array.dtype.kind == "c" else 1)
            return b"%%%%" + self.counts(3, 20, code, n_items) + stored
        return b"%%%%" + self.counts(1, code) + stored

    def file(self, tags: dict[str, Any]) -> bytes:
        body = self.group(tags)
        endian = struct.pack(">I", self.order == "<")
        return struct.pack(">I", self.version) + self.counts(len(body)) + endian + body + bytes(8)


def dm(
    pixels: np.ndarray[Any, Any] = STACK,
    code: int = 1,
    units: tuple[str, ...] = ("nm", "nm", "s"),
    scales: tuple[float, ...] = (0.5, 0.5, 2.0),
    image_tags: dict[str, Any] | None = None,
) -> dict[str, Any]:
    dims = pixels.shape[::-1]
    axes = {
        str(i): {"Scale": np.float32(scale), "Units": unit}
        for i, (scale, unit) in enumerate(zip(scales[: len(dims)], units, strict=False))
    }
    image = {
        "ImageData": {
            "Calibrations": {"Dimension": axes},
            "Data": pixels.reshape(-1),
            "DataType": np.uint32(code),
            "Dimensions": {str(i): np.uint32(n) for i, n in enumerate(dims)},
        },
        "ImageTags": image_tags or {},
    }
    thumbnail = {
        "ImageData": {
            "Data": np.zeros(6, np.int32),
            "DataType": np.uint32(23),
            "Dimensions": {"0": np.uint32(3), "1": np.uint32(2)},
        }
    }
    return {
        "ImageList": {"0": thumbnail, "1": image},
        "Thumbnails": {"0": {"ImageIndex": np.uint32(0)}},
    }


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [3, 4])
def test_stack_in_both_byte_orders(tmp_path: Path, version: int, order: Literal["<", ">"]) -> None:
    path = tmp_path / "stack.dm"
    path.write_bytes(Writer(version, order).file(dm()))
    assert evidence(path).complete
    with open_file(path) as opened:
        assert (opened.format, opened.n_planes) == (f"DM{version}", 2)
        for plane in range(2):
            frame = opened.read(plane)
            np.testing.assert_array_equal(frame.pixels, STACK[plane])
            assert frame.calibration == Calibration(0.5, "nm")


TIMES: dict[str, tuple[dict[str, Any], datetime | None]] = {
    "file time first": (
        {
            "DataBar": {
                "Acquisition Time (OS)": np.float64(133_000_000_000_000_000),
                "Acquisition Date": "1/2/2003",
                "Acquisition Time": "4:05:06 PM",
            }
        },
        datetime(2022, 6, 18, 4, 26, 40, tzinfo=UTC),
    ),
    "epoch": (
        {"Acquisition": {"Frame": {"Sequence": {
            "Acquisition Start Time (epoch)": np.float64(1_600_000_000_500)
        }}}},
        datetime(2020, 9, 13, 12, 26, 40, 500_000, tzinfo=UTC),
    ),
    "texts": (
        {"DataBar": {"Acquisition Date": "5/17/2015", "Acquisition Time": "5:00:16 PM"}},
        datetime(2015, 5, 17, 17, 0, 16),
    ),
    "texts with a day that could be a month": (
        {"DataBar": {"Acquisition Date": "5/7/2015", "Acquisition Time": "5:00:16 PM"}},
        None,
    ),
    "nonsense": ({"DataBar": {"Acquisition Time (OS)": np.float64(1e300)}}, None),
    "nothing": ({}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", TIMES)
def test_time(tmp_path: Path, case: str) -> None:
    tags, want = TIMES[case]
    path = tmp_path / "frame.dm4"
    path.write_bytes(Writer(4, "<").file(dm(image_tags=tags)))
    with open_file(path) as opened:
        assert opened.read(0).metadata.acquired_at == want
        # the third axis is in seconds, 2 a plane
        later = opened.read(1).metadata.acquired_at
    assert later == (want + timedelta(seconds=2) if want else None)


def test_exposure_in_nanoseconds(tmp_path: Path) -> None:
    tags = {"Acquisition": {"Frame": {"Sequence": {"Exposure Time (ns)": np.float64(2.5e8)}}}}
    path = tmp_path / "frame.dm4"
    path.write_bytes(Writer(4, "<").file(dm(image_tags=tags)))
    with open_file(path) as opened:
        assert opened.read(0).metadata.exposure_s == pytest.approx(0.25)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "4-D": (dm(STACK.reshape(2, 1, 5, 7)[:, [0, 0]], units=("nm",) * 4, scales=(1,) * 4), "4-D"),
    "complex": (dm(STACK[0].astype(np.complex64), 3), "complex image"),
    "packed FFT": (dm(STACK[0], 5), "complex image"),
    "spectrum": (dm(STACK[0, 0]), "spectrum"),
    "spectrum image": (dm(units=("nm", "nm", "eV")), "spectrum"),
    "said to be one": (dm(image_tags={"Meta Data": {"Format": "Spectrum image"}}), "spectrum"),
    "unknown pixels": (dm(STACK[0], 99), "type 99"),
    "no image": ({"a": {"b": np.int32(1)}}, "no image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, case: str) -> None:
    tags, words = REFUSED[case]
    path = tmp_path / "data.dm4"
    path.write_bytes(Writer(4, "<").file(tags))
    for call in (evidence, open_file):
        with pytest.raises(UnsupportedError, match=words):
            call(path)


def test_dimensions_that_contradict_the_data(tmp_path: Path) -> None:
    tags = dm()
    tags["ImageList"]["1"]["ImageData"]["Dimensions"]["0"] = np.uint32(8)
    path = tmp_path / "data.dm4"
    path.write_bytes(Writer(4, "<").file(tags))
    with pytest.raises(CorruptError, match="160 bytes, but the file holds 140"):
        open_file(path)


def test_tags_after_the_pixels_are_awaited(tmp_path: Path) -> None:
    """The root length is set first; pixels and length alone prove nothing."""
    path = tmp_path / "data.dm4"
    whole = Writer(4, "<").file(dm())
    at = whole.index(b"Thumbnails")
    path.write_bytes(whole[:at])
    with pytest.raises(IncompleteError, match="tag directory"):
        open_file(path)
    path.write_bytes(whole[:at] + bytes(len(whole) - at))
    assert not evidence(path).complete


def test_a_missing_close_is_merely_suspicious(tmp_path: Path) -> None:
    path = tmp_path / "data.dm4"
    path.write_bytes(Writer(4, "<").file(dm())[:-8])
    assert evidence(path).suspicious
    with open_file(path) as opened:
        np.testing.assert_array_equal(opened.read(1).pixels, STACK[1])


def test_tags_larger_than_the_window(tmp_path: Path) -> None:
    """Thousands of tags, and arrays, run over the edges of the part that is in memory."""
    rng = np.random.default_rng(4)
    many = {f"group {i}": {f"tag {k}": np.float64(i + k) for k in range(40)} for i in range(200)}
    arrays = {f"array {i}": rng.integers(0, 9, 3 + 997 * i).astype("f4") for i in range(90)}
    path = tmp_path / "many.dm3"
    path.write_bytes(Writer(3, "<").file({"many": many, "arrays": arrays, "last": np.int32(7)}))
    with path.open("rb") as file:
        tags = TagReader(Source(path, file)).read()
    assert len(tags) == 200 * 40 + 90 + 1
    assert tags["many.group 199.tag 39"] == 238
    assert tags["last"] == 7
