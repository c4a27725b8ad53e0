"""EMD, the two formats of that name, both HDF5: Velox (Thermo Fisher) and NCEM (Berkeley)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.errors import CorruptError
from pychip_live.readers.base import MAX_PLANE_BYTES, FrameFile, Source
from pychip_live.readers.stated import calibration_xy, number, unix_time

_MAX_CHUNKS = 4096
_CHECKED_PLANES = 256
_SPECTRAL_UNITS = {"eV", "keV"}
_UNITS = {"n_m": "nm", "u_m": "µm", "n_m^-1": "1/nm", "Å^-1": "1/Å", "A^-1": "1/Å"}


def open_emd(source: Source) -> FrameFile:
    """Open either kind of EMD.

    Raises
    ------
    ReadError
        As for every reader; UnsupportedError for HDF5 of another kind.
    """
    _check_end(source)
    with _hdf5(source.path) as file:
        images = file.get("Data/Image")
        if isinstance(images, h5py.Group):
            return VeloxFile(source, images)
        if isinstance(file.get("Data"), h5py.Group) and "Version" in file:
            raise source.unsupported("this Velox file holds no image, only spectra")
        found: list[h5py.Group] = []

        def collect(_: str, item: Any) -> None:
            if isinstance(item, h5py.Group) and str(item.attrs.get("emd_group_type", "")) == "1":
                found.append(item)

        collect("", file)
        file.visititems(collect)
        if not found:
            raise source.unsupported("this HDF5 file is no EMD (neither Velox nor NCEM)")
        return NCEMFile(source, found)


def _check_end(source: Source) -> None:
    """Compare the end-of-file address of the superblock with the file."""
    version = source.take(8, 1, "the superblock")[0]
    if version in (0, 1):
        width, at = source.take(13, 1, "the superblock")[0], 24 + 4 * version
        at += 2 * width
    elif version in (2, 3):
        width, at = source.take(9, 1, "the superblock")[0], 12
        at += 2 * width
    else:
        raise source.corrupt(f"HDF5 superblock version {version} does not exist")
    if width not in (2, 4, 8):
        raise source.corrupt(f"HDF5 addresses of {width} bytes do not exist")
    end = int.from_bytes(source.take(at, width, "the superblock"), "little")
    if end < at:
        raise source.incomplete("the superblock, whose end-of-file address is not yet written")
    source.need(end, "the HDF5 file")


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    """Open with HDF5, without its lock: a writer must not be kept out."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except OSError as error:
        # HDF5 reports damaged structures as OSError, often with an errno left over from elsewhere
        path.stat()
        raise CorruptError(
            path, f"the HDF5 structure cannot be read ({error}); copy the file again"
        ) from error


class _EMDFile(FrameFile):
    """A dataset of 2 or 3 dimensions; subclasses tell which axis counts the planes."""

    _name: str
    _axis: int | None

    def _take(self, source: Source, dataset: h5py.Dataset, axis: int | None) -> None:
        if dataset.dtype.kind not in "buif" or dataset.dtype.itemsize > 8:
            raise source.corrupt(f"{dataset.name} holds {dataset.dtype}, which is no pixel type")
        self._name, self._axis = dataset.name, axis
        shape = [n for i, n in enumerate(dataset.shape) if i != axis]
        self.shape = (shape[0], shape[1])
        self.n_planes = 1 if axis is None else dataset.shape[axis]
        if self.n_planes < 1:
            raise source.incomplete("the first image of the series")
        self.dtype = dataset.dtype.newbyteorder("=")
        source.check_plane(self.shape, self.dtype)
        self._stretches = _storage(source, dataset)
        # HDF5 marks its end, and what is needed of the file could be read
        source.whole = True

    def stretches(self) -> Iterable[tuple[int, int]]:
        """Bytes of the stored pieces of the dataset."""
        return self._stretches

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        with _hdf5(self.path) as opened:
            dataset = opened[self._name]
            if self._axis is None:
                return np.asarray(dataset[()])
            where: list[Any] = [slice(None)] * dataset.ndim
            where[self._axis] = plane
            return np.asarray(dataset[tuple(where)])


def _storage(source: Source, dataset: h5py.Dataset) -> list[tuple[int, int]]:
    """Byte ranges of a dataset; IncompleteError where a piece of it is not stored yet.

    HDF5 would deliver zeros for it without a word.
    """
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if offset is None:
            if dataset.id.get_storage_size() < dataset.nbytes:
                raise source.incomplete("the pixels, none of which is stored yet")
            return []
        source.need(offset + dataset.nbytes, "the pixels")
        return [(offset, offset + dataset.nbytes)]
    n_bytes = np.dtype(dataset.dtype).itemsize * int(np.prod(dataset.chunks, dtype=np.int64))
    if n_bytes > MAX_PLANE_BYTES:
        raise source.corrupt(f"its chunks of {n_bytes} bytes are absurd")
    expected = 1
    for edge, chunk in zip(dataset.shape, dataset.chunks, strict=True):
        expected *= -(-edge // chunk)
    stored = dataset.id.get_num_chunks()
    if stored < expected:
        raise source.incomplete(f"the pixels, of which {stored} of {expected} pieces are stored")
    ranges = []
    for index in range(max(0, stored - _MAX_CHUNKS), stored):
        chunk = dataset.id.get_chunk_info(index)
        source.need(chunk.byte_offset + chunk.size, "the pixels")
        ranges.append((chunk.byte_offset, chunk.byte_offset + chunk.size))
    return ranges


class VeloxFile(_EMDFile):
    """Velox: ``Data/Image/<id>/Data`` as ``(height, width, planes)``, JSON metadata a plane.

    Of several detectors the HAADF image is taken, else the first in the file; ``note`` says so.
    """

    format = "EMD (Velox)"

    def __init__(self, source: Source, images: h5py.Group) -> None:
        super().__init__(source)
        real: list[tuple[bool, str]] = []
        n_complex = 0
        for name, group in images.items():
            data = group.get("Data") if isinstance(group, h5py.Group) else None
            if not isinstance(data, h5py.Dataset):
                continue
            if data.dtype.kind not in "buif" or data.ndim != 3:
                n_complex += 1
                continue
            # false sorts first
            real.append((self._detector(group) != "HAADF", name))
        if not real:
            if n_complex:
                raise source.unsupported("only complex images (FFT); save the real image")
            raise source.unsupported("this Velox file holds no image, only spectra")
        _, chosen = min(real)
        if len(real) > 1:
            self.note = (
                f"detector {self._detector(images[chosen]) or '?'}, "
                f"one of {len(real)} images in the file"
            )
        group = images[chosen]
        self._take(source, group["Data"], 2)
        self._group = group.name
        if not _metadata_whole(group):
            self.pending = "the metadata, which end in zeros"

    @staticmethod
    def _detector(group: h5py.Group) -> str:
        return str(_section(_velox_metadata(group, 0), "BinaryResult").get("Detector", ""))

    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        with _hdf5(self.path) as opened:
            said = _velox_metadata(opened[self._group], plane)
        result, scan = _section(said, "BinaryResult"), _section(said, "Scan")
        size = _section(result, "PixelSize")
        calibration = calibration_xy(
            number(size.get("width")),
            str(result.get("PixelUnitX", "")),
            number(size.get("height")),
            str(result.get("PixelUnitY", "")),
        )
        times = _section(said, "Acquisition")
        acquired_at = unix_time(_section(times, "AcquisitionStartDatetime").get("DateTime"))
        stage: dict[str, float] = {}
        position = _section(said, "Stage")
        for key, value, factor in (
            ("x_um", _section(position, "Position").get("x"), 1e6),
            ("y_um", _section(position, "Position").get("y"), 1e6),
            ("z_um", _section(position, "Position").get("z"), 1e6),
            ("alpha_deg", position.get("AlphaTilt"), float(np.rad2deg(1))),
            ("beta_deg", position.get("BetaTilt"), float(np.rad2deg(1))),
        ):
            stated = number(value)
            if stated is not None:
                stage[key] = stated * factor
        optics, custom = _section(said, "Optics"), _section(said, "CustomProperties")
        magnification = _section(custom, "StemMagnification").get("value")
        return calibration, Metadata(
            acquired_at,
            number(scan.get("FrameTime")) or None,
            number(optics.get("AccelerationVoltage")) or None,
            number(magnification) or number(optics.get("NominalMagnification")) or None,
            stage,
        )


def _section(said: dict[str, Any], name: str) -> dict[str, Any]:
    section = said.get(name)
    return section if isinstance(section, dict) else {}


def _metadata_whole(group: h5py.Group) -> bool:
    """Tell whether the text of each plane, padded with zeros, ends as JSON does."""
    data = group.get("Metadata")
    if not isinstance(data, h5py.Dataset) or data.ndim != 2 or data.dtype != np.uint8:
        return True
    columns = np.asarray(data[:, -_CHECKED_PLANES:])
    last = columns.shape[0] - 1 - (columns[::-1] > ord(" ")).argmax(axis=0)
    return bool((columns[last, np.arange(columns.shape[1])] == ord("}")).all())


def _velox_metadata(group: h5py.Group, plane: int) -> dict[str, Any]:
    """JSON of a plane; empty where the file has none."""
    data = group.get("Metadata")
    if not isinstance(data, h5py.Dataset) or data.ndim != 2 or not data.shape[1]:
        return {}
    column = np.asarray(data[:, min(plane, data.shape[1] - 1)], dtype=np.uint8)
    text = column.tobytes().rstrip(b"\0").decode("utf-8", "replace")
    if not text:
        return {}
    said = json.loads(text)
    return said if isinstance(said, dict) else {}


class NCEMFile(_EMDFile):
    """NCEM (Berkeley): groups with ``emd_group_type`` 1, a dataset and its ``dim1``, ``dim2`` ….

    The last two axes are the image, unless the axes' names say otherwise. Of several groups the
    first image is taken, else the first stack; ``note`` says so.
    """

    format = "EMD (NCEM)"

    def __init__(self, source: Source, groups: list[h5py.Group]) -> None:
        super().__init__(source)
        good: list[tuple[int, str, h5py.Group, h5py.Dataset]] = []
        refused: list[str] = []
        for group in groups:
            data = _ncem_data(group)
            if data is None:
                continue
            reason = _refusal(group, data)
            if reason:
                refused.append(reason)
            else:
                good.append((data.ndim, group.name, group, data))
        if not good:
            raise source.unsupported(refused[0] if refused else "this EMD file holds no data")
        _, _, group, data = min(good, key=lambda entry: entry[:2])
        if len(good) + len(refused) > 1:
            self.note = f"{group.name}, one of {len(good) + len(refused)} datasets in the file"
        image = _image_axes(group, data)
        axis = next((i for i in range(data.ndim) if i not in image), None)
        self._take(source, data, axis)
        (size_y, unit_y), (size_x, unit_x) = (_step(group, data, i) for i in image)
        self._calibration = calibration_xy(size_x, unit_x, size_y, unit_y)

    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        return self._calibration, Metadata()


def _ncem_data(group: h5py.Group) -> h5py.Dataset | None:
    for name, item in group.items():
        if isinstance(item, h5py.Dataset) and not name.startswith("dim"):
            return item
    return None


def _refusal(group: h5py.Group, data: h5py.Dataset) -> str:
    shape = " × ".join(map(str, data.shape))
    kinds: list[tuple[Callable[[], bool], str]] = [
        (lambda: data.dtype.kind == "c", f"complex data ({shape}); save the modulus"),
        (lambda: data.dtype.kind not in "buif", f"data of type {data.dtype}, not pixels"),
        (lambda: data.ndim < 2, f"a spectrum ({data.ndim}-D, {shape}), not an image"),
        (
            lambda: data.ndim > 3,
            f"{data.ndim}-D data ({shape}, as of 4D-STEM); save a virtual image of it",
        ),
        (
            lambda: (
                bool(_SPECTRAL_UNITS & {_step(group, data, i)[1] for i in range(data.ndim)})
                or _text(group.attrs.get("record_by")) == "spectrum"
            ),
            f"a spectrum image ({shape}); save a map of it",
        ),
    ]
    return next((reason for applies, reason in kinds if applies()), "")


def _image_axes(group: h5py.Group, data: h5py.Dataset) -> tuple[int, int]:
    names = [_text(_dim(group, i, "name")).lower() for i in range(data.ndim)]
    spatial = [i for i, name in enumerate(names) if name.split("_")[-1] in ("x", "y")]
    if len(spatial) == 2:
        return spatial[0], spatial[1]
    return data.ndim - 2, data.ndim - 1


def _dim(group: h5py.Group, axis: int, attribute: str) -> object:
    dim = group.get(f"dim{axis + 1}")
    return dim.attrs.get(attribute) if isinstance(dim, h5py.Dataset) else None


def _step(group: h5py.Group, data: h5py.Dataset, axis: int) -> tuple[float | None, str]:
    """Pixel size and unit along an axis; (None, "") where they are not stated."""
    unit = _text(_dim(group, axis, "units")).strip("[] ")
    unit = _UNITS.get(unit, unit)
    dim = group.get(f"dim{axis + 1}")
    if not isinstance(dim, h5py.Dataset) or dim.ndim != 1 or dim.size < 2:
        return None, unit
    if dim.dtype.kind not in "iuf":
        return None, unit
    return number(float(dim[1]) - float(dim[0])), unit


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)
