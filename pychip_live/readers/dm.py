"""DM3 and DM4 (Gatan DigitalMicrograph): images, stacks plane by plane, RGB as luminance."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers.base import FrameFile, Source, read_array
from pychip_live.readers.dm_tags import (
    COLOUR_TYPES,
    COMPLEX_TYPES,
    PIXEL_TYPES,
    TagReader,
    as_array,
)
from pychip_live.readers.luminance import luminance
from pychip_live.readers.stated import calibration_xy, number

_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


class DMFile(FrameFile):
    """The image of a DM3 or DM4 file; its thumbnail is skipped."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        reader = TagReader(source)
        self.format = f"DM{reader.version}"
        self._order = reader.order
        self._tags = reader.read()
        source.whole = True
        self.pending = reader.pending
        self._image = self._choose(source)
        data = f"{self._image}.ImageData."
        array = as_array(self._tags.get(f"{data}Data"))
        dims = self._dimensions(f"{data}Dimensions.")
        if array is None or not dims:
            raise source.unsupported("this DM file holds no image, only tags")
        code = self._tags.get(f"{data}DataType")
        self._check_kind(source, dims, code)
        self._colour = code in COLOUR_TYPES
        stored = np.dtype("u1") if self._colour else PIXEL_TYPES.get(code)  # type: ignore[arg-type]
        if stored is None:
            raise source.unsupported(f"DM pixels of type {code} are not read; convert the image")
        self._stored = stored.newbyteorder(reader.order)  # type: ignore[arg-type]
        self.dtype = stored
        width, height, *planes = (*dims, 1) if len(dims) == 2 else dims
        self.shape = (height, width)
        self.n_planes = planes[0]
        source.check_plane(self.shape, stored, 4 if self._colour else 1)
        self._plane_bytes = height * width * stored.itemsize * (4 if self._colour else 1)
        if self._plane_bytes * self.n_planes != array.n_bytes:
            raise source.corrupt(
                f"an image of {' × '.join(map(str, dims))} {stored} pixels takes "
                f"{self._plane_bytes * self.n_planes} bytes, but the file holds {array.n_bytes}"
            )
        self._array = array

    def _choose(self, source: Source) -> str:
        """Path of the image: the first that is no thumbnail."""
        images = list(dict.fromkeys(
            ".".join(path.split(".", 2)[:2]) for path in self._tags if path.startswith("ImageList.")
        ))  # fmt: skip
        images = [path for path in images if f"{path}.ImageData.DataType" in self._tags]
        if not images:
            raise source.unsupported("this DM file holds no image, only tags")
        thumbnails = {
            f"ImageList.{value}"
            for path, value in self._tags.items()
            if path.startswith("Thumbnails.") and path.endswith(".ImageIndex")
        }
        chosen = [path for path in images if path not in thumbnails] or images
        if chosen == images and len(images) > 1 and self._is_colour(images[0]):
            # DM writes the thumbnail first; some writers do not list it as one
            chosen = images[1:]
        if len(chosen) > 1:
            self.note = f"the first of {len(chosen)} images in the file"
        return chosen[0]

    def _is_colour(self, image: str) -> bool:
        return self._tags.get(f"{image}.ImageData.DataType") in COLOUR_TYPES

    def _dimensions(self, prefix: str) -> list[int]:
        dims: list[int] = []
        while isinstance(size := self._tags.get(f"{prefix}{len(dims)}"), int):
            dims.append(size)
        while len(dims) > 2 and dims[-1] == 1:
            dims.pop()
        return dims

    def _check_kind(self, source: Source, dims: list[int], code: object) -> None:
        shape = " × ".join(map(str, dims))
        tags = f"{self._image}.ImageTags.Meta Data."
        kind = str(self._tags.get(f"{tags}Format", ""))
        units = {self._axis(axis)[1] for axis in range(len(dims))}
        if len(dims) == 1 or "spectrum" in kind.lower() or {"eV", "keV"} & units:
            raise source.unsupported(
                f"a {kind.lower() or 'spectrum'} ({len(dims)}-D, {shape}), not an image; "
                "save the survey image or a map of it"
            )
        if code in COMPLEX_TYPES:
            raise source.unsupported(
                f"a complex image ({shape}, as of an FFT); save its modulus or the real image"
            )
        if len(dims) > 3:
            raise source.unsupported(
                f"{len(dims)}-D data ({shape}, as of 4D-STEM); save a virtual image of it"
            )

    def _axis(self, axis: int) -> tuple[float | None, str]:
        prefix = f"{self._image}.ImageData.Calibrations.Dimension.{axis}."
        return number(self._tags.get(f"{prefix}Scale")), str(
            self._tags.get(f"{prefix}Units", "")
        ).strip("\0 ")

    def stretches(self) -> Iterable[tuple[int, int]]:
        """Bytes of the pixels."""
        return [(self._array.offset, self._array.offset + self._array.n_bytes)]

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        offset = self._array.offset + plane * self._plane_bytes
        if not self._colour:
            return read_array(file, offset, self._stored, self.shape)
        # stored as 32-bit words, blue in the lowest byte
        words = read_array(file, offset, self._stored, (*self.shape, 4))
        return luminance(words[..., 2::-1] if self._order == "<" else words[..., 1:])

    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        (size_x, unit_x), (size_y, unit_y) = self._axis(0), self._axis(1)
        calibration = calibration_xy(size_x, unit_x, size_y, unit_y)
        return calibration, self._metadata(plane)

    def _metadata(self, plane: int) -> Metadata:
        tags = f"{self._image}.ImageTags."

        def value(path: str) -> float | None:
            return number(self._tags.get(tags + path))

        exposure = value("Acquisition.Parameters.High Level.Exposure (s)")
        if exposure is None:
            nanoseconds = value("Acquisition.Frame.Sequence.Exposure Time (ns)")
            exposure = None if nanoseconds is None else nanoseconds * 1e-9
        axes = {"x_um": "X", "y_um": "Y", "z_um": "Z", "alpha_deg": "Alpha", "beta_deg": "Beta"}
        stage = {
            key: position
            for key, axis in axes.items()
            if (position := value(f"Microscope Info.Stage Position.Stage {axis}")) is not None
        }
        acquired_at = self._time(tags)
        step, unit = self._axis(2)
        if acquired_at and plane and step and unit == "s":
            acquired_at += timedelta(seconds=step * plane)
        return Metadata(
            acquired_at,
            exposure,
            value("Microscope Info.Voltage") or None,
            value("Microscope Info.Indicated Magnification") or None,
            stage,
        )

    def _time(self, tags: str) -> datetime | None:
        try:
            ticks = number(self._tags.get(f"{tags}DataBar.Acquisition Time (OS)"))
            if ticks:
                # Windows FILETIME: 100 ns since 1601, UTC
                return _FILETIME_EPOCH + timedelta(microseconds=ticks / 10)
            start = f"{tags}Acquisition.Frame.Sequence.Acquisition Start Time (epoch)"
            milliseconds = number(self._tags.get(start))
            if milliseconds:
                return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
        except OverflowError:
            return None
        date = self._tags.get(f"{tags}DataBar.Acquisition Date")
        time = self._tags.get(f"{tags}DataBar.Acquisition Time")
        return _local_time(f"{date} {time}") if date and time else None


def _local_time(text: str) -> datetime | None:
    """Time from DM's texts; None where day and month cannot be told apart.

    They are written in the format of the PC's locale.
    """
    found = set()
    for date in ("%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%Y-%m-%d", "%d.%m.%Y"):
        for time in ("%I:%M:%S %p", "%H:%M:%S"):
            try:
                found.add(datetime.strptime(text, f"{date} {time}"))
            except ValueError:
                continue
    return found.pop() if len(found) == 1 else None
