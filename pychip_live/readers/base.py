"""What all readers share: the evidence, the open file, and bounded access to bytes."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pychip_live.core.frame import Calibration, Frame, Metadata
from pychip_live.errors import CorruptError, IncompleteError, ReadError, UnsupportedError

MAX_PLANE_BYTES = 1 << 29
"""Largest plane that is decoded, bytes; a header that asks for more is not believed."""

TAIL = 16
"""Zero bytes at the end of the file that make a raw container suspicious."""

BLOCK = 1 << 16
"""Zero bytes on end inside the pixels that make a raw container suspicious."""

_MAX_FILE_BYTES = 1 << 44

_PROBES = 2048
"""Most blocks looked at for holes, so that the cost does not follow the file's size."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of completeness.

    Parameters
    ----------
    complete
        The structure of the format shows that nothing is missing.
    awaited
        What is awaited, in words for the operator; empty if complete.
    suspicious
        Complete by structure, but a stretch of the pixels is zeros, as in a file that was
        preallocated and is not yet filled. A frame may really be that dark: take the file once
        it has been quiet for a while.
    """

    complete: bool
    awaited: str = ""
    suspicious: bool = False


class Source:
    """A file while its structure is read: no byte is asked for that the file does not have.

    Parameters
    ----------
    path
        The file.
    file
        Its open handle, unowned.

    Attributes
    ----------
    size
        Bytes.
    stamp
        Tells this state of the file from any other.
    whole
        Set by a reader that found the end which its format marks: filled in order, the file
        cannot look whole too early.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        status = os.fstat(file.fileno())
        self.size = status.st_size
        self.whole = False
        self.stamp = _stamp(status)

    def take(self, offset: int, count: int, what: str) -> bytes:
        """Return ``count`` bytes at ``offset``; IncompleteError that names ``what`` otherwise."""
        if offset < 0 or count < 0:
            raise self.corrupt(f"{what} lies at byte {offset} with a length of {count}")
        self.need(offset + count, what)
        self.file.seek(offset)
        data = self.file.read(count)
        if len(data) < count:
            raise self.incomplete(f"{what}: the file became shorter while it was read")
        return data

    def need(self, end: int, what: str) -> None:
        """Raise IncompleteError unless the file has ``end`` bytes."""
        if end > _MAX_FILE_BYTES:
            raise self.corrupt(f"{what} would end at byte {end}")
        if end > self.size:
            raise self.incomplete(f"{what}, up to byte {end}; the file has {self.size} so far")

    def incomplete(self, awaited: str) -> IncompleteError:
        """Return the error for a file that may still be growing."""
        return IncompleteError(self.path, awaited)

    def corrupt(self, reason: str) -> CorruptError:
        """Return the error for a file that contradicts itself."""
        return CorruptError(self.path, f"{reason}; the file is damaged, copy it again")

    def unsupported(self, reason: str) -> UnsupportedError:
        """Return the error for a sound file that is no frame."""
        return UnsupportedError(self.path, reason)

    def check_plane(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        samples: int = 1,
        most: int = MAX_PLANE_BYTES,
    ) -> None:
        """Refuse a plane that is empty, or larger than any believable frame."""
        if min(shape) < 1 or samples < 1:
            raise self.corrupt(f"the image has a shape of {' × '.join(map(str, shape))}")
        n_bytes = samples * np.dtype(dtype).itemsize
        for edge in shape:
            n_bytes *= int(edge)
        if n_bytes > most:
            raise CorruptError(
                self.path,
                f"the header asks for {' × '.join(map(str, shape))} pixels ({n_bytes >> 20} MiB); "
                f"at most {most >> 20} MiB a frame are read: bin or crop the frame",
            )


class FrameFile(ABC):
    """One file, its structure read and checked; no handle stays open between two reads.

    Attributes
    ----------
    path
        The file.
    format
        Name of the format, for example ``"DM4"``.
    n_planes
        Number of frames in it, ≥ 1.
    shape
        ``(height, width)`` of the first plane; a TIFF may hold pages of other sizes.
    dtype
        Type of the pixels as delivered (after luminance), native byte order.
    note
        What was left out on purpose, in words for the operator; mostly empty.
    pending
        What may still be added, in words for the operator, although the file is whole as it is:
        makes it suspicious. Mostly empty.
    """

    format: str
    path: Path
    n_planes: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    note: str = ""
    pending: str = ""

    def __init__(self, source: Source) -> None:
        self.path = source.path
        self._stamp = source.stamp

    def read(self, plane: int) -> Frame:
        """Read one plane.

        Parameters
        ----------
        plane
            0 … ``n_planes - 1``.

        Raises
        ------
        ReadError
            The file changed since it was opened (IncompleteError), or its pixels are damaged.
        OSError
            The file vanished or is locked.
        IndexError
            There is no such plane.
        """
        if not 0 <= plane < self.n_planes:
            raise IndexError(f"{self.path}: plane {plane} of {self.n_planes}")
        with self.path.open("rb") as file:
            self._check_unchanged(file)
            try:
                with translated(self.path):
                    pixels = self._pixels(file, plane)
                    calibration, metadata = self._about(file, plane)
            finally:
                # again: a writer that replaces bytes in place may have started meanwhile, and what
                # looks damaged may only be half replaced
                self._check_unchanged(file)
        pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
        return Frame(pixels, calibration, metadata)

    def _check_unchanged(self, file: BinaryIO) -> None:
        if _stamp(os.fstat(file.fileno())) != self._stamp:
            raise IncompleteError(self.path, "it changed since it was opened; open it again")

    @abstractmethod
    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        """Pixels of one plane, ``(height, width)``."""

    @abstractmethod
    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        """Calibration and metadata of one plane."""

    def stretches(self) -> Iterable[tuple[int, int]]:
        """Byte ranges that hold pixels in an order that zeros could fake; none by default."""
        return ()

    def close(self) -> None:  # noqa: B027  nothing to release is the usual case
        """Release what is held; no reader here holds a handle."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises on damaged bytes into CorruptError.

    ReadError passes, and so does an OSError of the system: the file vanished or is locked.
    """
    try:
        yield
    except ReadError:
        raise
    except NotImplementedError as error:
        raise UnsupportedError(path, f"{error}; convert the image") from error
    except Exception as error:
        # decoders raise bare OSErrors too, without a number of the system
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorruptError(
            path,
            f"it cannot be decoded ({type(error).__name__}: {error}); "
            "copy the file again, or convert it",
        ) from error


def read_array(
    file: BinaryIO, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Read a raw array, ``shape`` of ``dtype``; ValueError where the file ends before it."""
    out = np.empty(shape, dtype)
    file.seek(offset)
    if file.readinto(out.data.cast("B")) != out.nbytes:  # type: ignore[attr-defined]
        raise ValueError(f"the pixels at byte {offset} end early")
    return out


def find_zeros(source: Source, opened: FrameFile) -> str:
    """Look for a stretch of a file that may not have been filled yet.

    Parameters
    ----------
    source
        The file.
    opened
        The same, its structure read.

    Returns
    -------
    str
        What is awaited, or empty where nothing is suspicious.

    Notes
    -----
    A file filled in order is suspicious where its last ``TAIL`` bytes are zeros, unless the
    format marks its end; or where zeros run from the last ``TAIL`` bytes of pixels to the end.
    A file filled in blocks, in any order, is suspicious where an aligned ``BLOCK`` of the pixels
    is zeros, or a whole stretch that is shorter. At most ``_PROBES`` blocks are looked at,
    evenly spread.
    """
    if not source.whole and ends_in_zeros(source, TAIL):
        return f"the last of its {source.size} bytes are still zeros"
    stretches = sorted((start, stop) for start, stop in opened.stretches() if stop > start)
    if not stretches:
        return ""
    start, stop = max(stretches, key=lambda stretch: stretch[1])
    if ends_in_zeros(source, min(source.size - max(start, stop - TAIL), BLOCK)):
        return f"the last pixels, before byte {stop}, are still zeros"
    blocks = _blocks(stretches)
    step = max(1, -(-len(blocks) // _PROBES))
    for start, stop in blocks[::step]:
        if _is_zero(source.file, start, stop):
            return f"the pixels of bytes {start}…{stop} are still zeros"
    return ""


def ends_in_zeros(source: Source, count: int) -> bool:
    """Tell whether the last ``count`` bytes are zeros."""
    return _is_zero(source.file, max(0, source.size - count), source.size)


def _blocks(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in stretches:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    blocks: list[tuple[int, int]] = []
    for start, stop in merged:
        first = -(-start // BLOCK) * BLOCK
        inner = [(at, at + BLOCK) for at in range(first, stop - BLOCK + 1, BLOCK)]
        blocks += inner or [(start, stop)]
    return blocks


def _is_zero(file: BinaryIO, start: int, stop: int) -> bool:
    file.seek(start)
    # most blocks show a non-zero byte at once
    head = file.read(min(stop - start, 64))
    if head.strip(b"\0"):
        return False
    return not file.read(stop - start - len(head)).strip(b"\0")
