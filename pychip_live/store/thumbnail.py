"""Thumbnails: what is left to look at when the file is gone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pychip_live.errors import RecordError

EDGE = 512
"""Longest edge, px; smaller frames keep their size."""
QUALITY = 85
"""JPEG quality, 0…100."""


def thumbnail(values: NDArray[np.float32]) -> bytes:
    """Encode a windowed frame as a grey JPEG.

    Parameters
    ----------
    values
        ``(height, width)`` in 0…1.
    """
    height, width = values.shape
    scale = min(1.0, EDGE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA) if scale < 1 else values
    grey = (small * 255 + 0.5).astype(np.uint8)
    made, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not made:
        raise RecordError(f"a frame of {width} × {height} px could not be made a thumbnail")
    return encoded.tobytes()


def decode_thumbnail(data: bytes) -> NDArray[np.uint8]:
    """Pixels of a thumbnail, ``(height, width)``; RecordError where it is damaged."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise RecordError("a thumbnail in the run record is damaged")
    return pixels.astype(np.uint8)
