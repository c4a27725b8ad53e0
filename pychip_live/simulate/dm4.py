"""Write Gatan DigitalMicrograph 4 files.

No library writes DM4. The layout is what ncempy and RosettaSciIO read (big-endian structure,
little-endian values): version, root length, byte order, one root tag group, eight zero bytes, so
that the file is 24 bytes longer than its root length says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata

Tags = Mapping[str, Any] | Sequence[Any]
"""A group: named or unnamed entries, each a group, numpy scalar, 1-D array or str."""

_TAG_TYPES = {
    np.dtype(np.int16): 2,
    np.dtype(np.int32): 3,
    np.dtype(np.uint16): 4,
    np.dtype(np.uint32): 5,
    np.dtype(np.float32): 6,
    np.dtype(np.float64): 7,
    np.dtype(np.bool_): 8,
    np.dtype(np.int8): 9,
    np.dtype(np.uint8): 10,
    np.dtype(np.int64): 11,
    np.dtype(np.uint64): 12,
}
_ARRAY = 20

_IMAGE_TYPES = {
    np.dtype(np.int16): 1,
    np.dtype(np.float32): 2,
    np.dtype(np.uint8): 6,
    np.dtype(np.int32): 7,
    np.dtype(np.int8): 9,
    np.dtype(np.uint16): 10,
    np.dtype(np.uint32): 11,
    np.dtype(np.float64): 12,
}
_IMAGE_RGB = 23

_STAGE_TAGS = {
    "x_um": "Stage X",
    "y_um": "Stage Y",
    "z_um": "Stage Z",
    "alpha_deg": "Stage Alpha",
    "beta_deg": "Stage Beta",
}

_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def encode_dm4(
    pixels: NDArray[Any],
    calibration: Calibration | None = None,
    metadata: Metadata | None = None,
    interval_s: float | None = None,
) -> bytes:
    """Encode a DM4 file with a thumbnail and one image or stack.

    Parameters
    ----------
    pixels
        ``(height, width)`` or ``(frames, height, width)``, an integer of 8, 16 or 32 bit or
        floating of 32 or 64 bit.
    calibration
        Pixel size, or None for an uncalibrated image (DM writes scale 1 without a unit).
    metadata
        Time (a naive one is local time), exposure and microscope; what is None is not written.
    interval_s
        Time from one frame of a stack to the next, s, or None for an uncalibrated axis.

    Raises
    ------
    ValueError
        If DM has no image of this dtype or number of dimensions.
    """
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ValueError(f"a DM4 image is 2-D, or 3-D for a stack, not of shape {pixels.shape}")
    image_type = _IMAGE_TYPES.get(pixels.dtype.newbyteorder("="))
    if image_type is None:
        raise ValueError(f"DM4 has no real image of dtype {pixels.dtype}; convert it first")
    plane = pixels if pixels.ndim == 2 else pixels[0]
    root = {
        "ImageList": [
            {"ImageData": _image_data(_thumbnail(plane), _IMAGE_RGB)},
            {
                "ImageData": _image_data(pixels, image_type, calibration, interval_s),
                "ImageTags": _image_tags(metadata or Metadata()),
            },
        ],
        "ImageSourceList": [{"ClassName": "ImageSource:Simple", "ImageRef": np.uint32(1)}],
        "InImageMode": np.bool_(True),
        "Thumbnails": [{"ImageIndex": np.uint32(0)}],
    }
    body = b"".join(_group(root))
    return struct.pack(">IQI", 4, len(body), 1) + body + bytes(8)


def filetime(moment: datetime) -> float:
    """Windows FILETIME (100 ns since 1601-01-01 UTC), as the double that DM stores."""
    passed = moment.astimezone(UTC) - _FILETIME_EPOCH
    return float((passed.days * 86_400 + passed.seconds) * 10_000_000 + passed.microseconds * 10)


def _image_data(
    pixels: NDArray[Any],
    data_type: int,
    calibration: Calibration | None = None,
    interval_s: float | None = None,
) -> dict[str, Any]:
    """Build the ImageData group; axes run x, y, frame."""
    unstated = _axis(1, "")
    edge = _axis(calibration.pixel_size, calibration.unit) if calibration else unstated
    frames = _axis(interval_s, "s") if interval_s else unstated
    flat = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).reshape(-1)
    return {
        "Calibrations": {
            "Brightness": unstated,
            "Dimension": [edge, edge, frames][: pixels.ndim],
            "DisplayCalibratedUnits": np.bool_(True),
        },
        "Data": flat,
        "DataType": np.uint32(data_type),
        "Dimensions": [np.uint32(n) for n in reversed(pixels.shape)],
        "PixelDepth": np.uint32(pixels.itemsize),
    }


def _axis(scale: float, unit: str) -> dict[str, Any]:
    return {"Origin": np.float32(0), "Scale": np.float64(scale), "Units": unit}


def _image_tags(metadata: Metadata) -> dict[str, Any]:
    """Build the ImageTags group with the names that DM gives them."""
    tags: dict[str, Any] = {}
    if metadata.acquired_at is not None:
        tags["DataBar"] = {"Acquisition Time (OS)": np.float64(filetime(metadata.acquired_at))}
    if metadata.exposure_s is not None:
        high = {"Exposure (s)": np.float64(metadata.exposure_s)}
        tags["Acquisition"] = {"Parameters": {"High Level": high}}
    microscope: dict[str, Any] = {}
    if metadata.magnification is not None:
        microscope["Indicated Magnification"] = np.float64(metadata.magnification)
    if metadata.voltage_v is not None:
        microscope["Voltage"] = np.float64(metadata.voltage_v)
    if metadata.stage:
        microscope["Stage Position"] = {
            _STAGE_TAGS[axis]: np.float64(value) for axis, value in metadata.stage.items()
        }
    if microscope:
        tags["Microscope Info"] = microscope
    return tags


def _thumbnail(plane: NDArray[Any]) -> NDArray[np.uint32]:
    """At most 96 px of an image as packed grey BGRA."""
    step = -(-max(plane.shape) // 96)
    small = plane[::step, ::step].astype(np.float64)
    small[~np.isfinite(small)] = 0
    small /= max(1.0, np.abs(small).max())  # now the range cannot overflow
    small -= small.min()
    if small.any():
        small /= small.max()
    grey = (255 * small).astype(np.uint32)
    return grey * np.uint32(0x010101) | np.uint32(0xFF000000)


def _group(tags: Tags) -> list[bytes]:
    """Body of a group: flags, number of entries, entries."""
    entries: Iterable[tuple[str, Any]]
    if isinstance(tags, Mapping):
        entries = tags.items()
    else:
        entries = (("", value) for value in tags)
    named = isinstance(tags, Mapping)
    parts = [struct.pack(">??Q", named, False, len(tags))]
    for label, value in entries:
        is_group = isinstance(value, Mapping | list)
        body = _group(value) if is_group else _value(value)
        text = label.encode("latin-1")
        size = sum(map(len, body))
        parts.append(struct.pack(">BH", 20 if is_group else 21, len(text)) + text)
        parts.append(struct.pack(">Q", size))
        parts += body
    return parts


def _value(value: str | np.generic | NDArray[Any]) -> list[bytes]:
    """Body of a data entry: delimiter, description (big-endian), value (little-endian)."""
    if isinstance(value, str):
        value = np.frombuffer(value.encode("utf-16-le"), "<u2")
    code = _TAG_TYPES[value.dtype.newbyteorder("=")]
    raw = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    if isinstance(value, np.ndarray):
        return [b"%%%%" + struct.pack(">QQQQ", 3, _ARRAY, code, value.size), raw]
    return [b"%%%%" + struct.pack(">QQ", 1, code), raw]
