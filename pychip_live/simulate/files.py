"""A frame as the bytes of a file."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable
from datetime import UTC
from typing import Any, Literal

import tifffile

from pychip_live.core.frame import Frame
from pychip_live.simulate.dm4 import encode_dm4

Format = Literal["tiff", "dm4"]

SUFFIXES: dict[str, str] = {"tiff": ".tif", "dm4": ".dm4"}
"""File name suffix by format."""

_OME_LENGTHS = frozenset({"pm", "Å", "nm", "µm", "mm", "cm", "m"})


def encode(frame: Frame, form: Format) -> bytes:
    """Encode as an uncompressed OME-TIFF or a DM4 file; the same frame gives the same bytes.

    TIFF keeps the calibration, time and exposure; DM4 all metadata.

    Raises
    ------
    ValueError
        If the format cannot hold the pixels' dtype or the calibration's unit.
    """
    return _ENCODERS[form](frame)


def _encode_tiff(frame: Frame) -> bytes:
    # OME and not ImageJ: it states unit, time zone and exposure, which ImageJ's tags cannot
    pixels = frame.pixels
    meta: dict[str, Any] = {"axes": "YX"}
    if frame.calibration is not None:
        size, unit = frame.calibration.pixel_size, frame.calibration.unit
        if unit not in _OME_LENGTHS:
            raise ValueError(f"OME-TIFF has no pixel size in {unit!r}; write it as DM4")
        meta |= {"PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
        meta |= {"PhysicalSizeY": size, "PhysicalSizeYUnit": unit}
    if frame.metadata.acquired_at is not None:
        moment = frame.metadata.acquired_at.astimezone(UTC).replace(tzinfo=None)
        meta["AcquisitionDate"] = f"{moment.isoformat(timespec='microseconds')}Z"
    if frame.metadata.exposure_s is not None:
        meta["Plane"] = {"ExposureTime": frame.metadata.exposure_s, "ExposureTimeUnit": "s"}
    # tifffile would draw a random one
    digest = hashlib.sha256(pixels.tobytes() + repr(meta).encode()).hexdigest()
    meta["UUID"] = str(uuid.uuid5(uuid.NAMESPACE_OID, digest))
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, ome=True, photometric="minisblack", metadata=meta)
    return file.getvalue()


def _encode_dm4(frame: Frame) -> bytes:
    return encode_dm4(frame.pixels, frame.calibration, frame.metadata)


_ENCODERS: dict[str, Callable[[Frame], bytes]] = {"tiff": _encode_tiff, "dm4": _encode_dm4}
