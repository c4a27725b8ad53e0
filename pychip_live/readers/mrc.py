"""MRC and its relatives (MRC2014, CCP-EM): images and stacks of sections."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers.base import FrameFile, Source, read_array
from pychip_live.readers.mdoc import Mdoc, read_mdoc
from pychip_live.readers.stated import calibration_xy

_HEADER = 1024
_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_COMPLEX = {3, 4}
_IMOD = 1146047817
_SIGNED_BYTES = 1


class MRCFile(FrameFile):
    """A file of one or more sections; each is a plane."""

    format = "MRC"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        header = source.take(0, _HEADER, "the header")
        order = self._byte_order(source, header)
        nx, ny, nz, mode = struct.unpack_from(f"{order}4i", header)
        if min(nx, ny, nz) < 1:
            raise source.incomplete(f"the header, which still says {nx} × {ny} × {nz}")
        if mode in _COMPLEX:
            raise source.unsupported(
                f"a complex transform (mode {mode}, {nx} × {ny}); save the real image"
            )
        if mode not in _TYPES:
            raise source.unsupported(f"MRC mode {mode} is not read; convert to mode 1, 2 or 6")
        dtype = np.dtype(_TYPES[mode])
        imod, flags = struct.unpack_from(f"{order}2i", header, 152)
        if mode == 0 and imod == _IMOD and not flags & _SIGNED_BYTES:
            # IMOD before 4.2.23 wrote unsigned bytes
            dtype = np.dtype("u1")
        self.shape = (ny, nx)
        self.n_planes = nz
        self.dtype = dtype
        self._stored = dtype.newbyteorder(order)  # type: ignore[arg-type]
        source.check_plane(self.shape, dtype)
        (extended,) = struct.unpack_from(f"{order}i", header, 92)
        if extended < 0:
            raise source.corrupt(f"its extended header has {extended} bytes")
        self._offset = _HEADER + extended
        self._plane_bytes = ny * nx * dtype.itemsize
        self._end = self._offset + nz * self._plane_bytes
        source.need(self._end, f"the last of {nz} sections" if nz > 1 else "the image")
        self._cell = struct.unpack_from(f"{order}3i", header, 28) + struct.unpack_from(
            f"{order}3f", header, 40
        )
        self._mdoc: Mdoc | None = None

    @staticmethod
    def _byte_order(source: Source, header: bytes) -> str:
        for order in "<>":
            nx, ny, nz, mode = struct.unpack_from(f"{order}4i", header)
            if 0 <= mode <= 127 and all(0 <= n < 1 << 24 for n in (nx, ny, nz)):
                return order
        raise source.corrupt("its MRC header has no possible size and mode")

    def stretches(self) -> Iterable[tuple[int, int]]:
        """Bytes of all sections."""
        return [(self._offset, self._end)]

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        return read_array(file, self._offset + plane * self._plane_bytes, self._stored, self.shape)

    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        if self._mdoc is None:
            self._mdoc = read_mdoc(self.path)
        calibration, metadata = self._mdoc.about(plane)
        mx, my, _, x_length, y_length, _ = self._cell
        if calibration is None and mx > 0 and my > 0:
            calibration = calibration_xy(x_length / mx, "Å", y_length / my, "Å")
        return calibration, metadata
