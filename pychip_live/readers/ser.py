"""SER (FEI/Thermo TIA): images and series of images.

Layout after C. Boothroyd's description of the format, as in ncempy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers.base import FrameFile, Source, read_array
from pychip_live.readers.stated import calibration_xy, unix_time

_TYPES = {1: "u1", 2: "u2", 3: "u4", 4: "i1", 5: "i2", 6: "i4", 7: "f4", 8: "f8"}
_COMPLEX = {9, 10}
_TAG_BYTES = {0x4152: 8, 0x4142: 24}
_ELEMENT = struct.Struct("<ddiddihii")
_SPECTRA, _IMAGES = 0x4120, 0x4122
_LONGEST_METRES = 1e-3
_SHORTEST_PER_METRE = 1e3
_MAX_ELEMENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Element:
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    sizes: tuple[float, float]
    tag: int

    @property
    def end(self) -> int:
        return self.offset + self.shape[0] * self.shape[1] * self.dtype.itemsize


class SERFile(FrameFile):
    """A file of one image or a series."""

    format = "SER"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        version, kind, tag_kind, total, valid = struct.unpack(
            "<HIIii", source.take(4, 18, "the header")
        )
        wide = version >= 0x220
        letter, width = ("q", 8) if wide else ("i", 4)
        (table,) = struct.unpack(f"<{letter}", source.take(22, width, "the header"))
        if kind == _SPECTRA:
            raise source.unsupported(
                f"{valid} spectra (1-D), no image; save the survey image or a map of them"
            )
        if kind != _IMAGES:
            raise source.corrupt(f"its elements are of unknown kind {kind:#x}")
        if total < 1 or not 0 <= valid <= total or total > _MAX_ELEMENTS:
            raise source.corrupt(f"it claims {valid} of {total} images")
        if valid < 1:
            raise source.incomplete(f"the first of {total} images")
        self.n_planes = valid
        if valid < total:
            # the same whether the series goes on or was stopped
            self.pending = f"the rest of the series: {valid} of {total} images so far"
            self.note = f"{valid} of the {total} images that were planned"
        # two tables, of images and of their time tags, each with room for all planned images
        raw = source.take(table, 2 * total * width, "the table of images")
        offsets = struct.unpack(f"<{2 * total}{letter}", raw)
        self._elements = [
            self._element(source, offset, tag, _TAG_BYTES.get(tag_kind, 0))
            for offset, tag in zip(offsets[:valid], offsets[total : total + valid], strict=True)
        ]
        first = self._elements[0]
        self.shape, self.dtype = first.shape, first.dtype.newbyteorder("=")

    @staticmethod
    def _element(source: Source, offset: int, tag: int, tag_bytes: int) -> _Element:
        if not offset:
            raise source.incomplete("an image whose place in the file is still zero")
        header = source.take(offset, _ELEMENT.size, "the header of an image")
        _, dx, _, _, dy, _, code, nx, ny = _ELEMENT.unpack(header)
        if code in _COMPLEX:
            raise source.unsupported(f"a complex image ({nx} × {ny}); save its modulus")
        if code not in _TYPES:
            if not header.strip(b"\0"):
                raise source.incomplete("the header of an image, which is still zeros")
            raise source.corrupt(f"an image has pixels of unknown type {code}")
        element = _Element(
            offset + _ELEMENT.size, (ny, nx), np.dtype(_TYPES[code]).newbyteorder("<"), (dx, dy),
            tag,
        )  # fmt: skip
        source.check_plane(element.shape, element.dtype)
        source.need(element.end, "the last image")
        source.need(tag + tag_bytes, "the time of the last image")
        return element

    def stretches(self) -> Iterable[tuple[int, int]]:
        """Bytes of all images."""
        return [(element.offset, element.end) for element in self._elements]

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        element = self._elements[plane]
        # rows are stored from the bottom to the top
        return read_array(file, element.offset, element.dtype, element.shape)[::-1]

    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        element = self._elements[plane]
        file.seek(element.tag)
        tag = file.read(8)
        seconds = struct.unpack("<I", tag[4:])[0] if element.tag and len(tag) == 8 else None
        dx, dy = element.sizes
        # SI units without a word: a pixel is metres long in an image, 1/metres in a diffractogram
        if 0 < dx < _LONGEST_METRES:
            unit = "m"
        else:
            unit = "1/m" if dx > _SHORTEST_PER_METRE else ""
        return calibration_xy(dx, unit, dy, unit), Metadata(unix_time(seconds))
