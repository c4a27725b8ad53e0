"""The directories (IFD) of a TIFF or BigTIFF, and proof that what they name is in the file.

Written for this project: the walk is the evidence of completeness, is done for each frame twice,
and tifffile's own takes no notice of strips that pass the end of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pychip_live.readers.base import Source

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
FILL_ORDER, DESCRIPTION, STRIP_OFFSETS, SAMPLES, ROWS, STRIP_COUNTS = 266, 270, 273, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, DATE_TIME = 282, 283, 284, 296, 306
PREDICTOR, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS = 317, 322, 323, 324, 325
SAMPLE_FORMAT, JPEG_OFFSET, JPEG_LENGTH, DEPTH, STK_PLANES = 339, 513, 514, 32997, 33629

_MAX_PAGES = 100_000
_MAX_ENTRIES = 4096
_TYPES = {
    1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u4,u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4",
    10: "i4,i4", 11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
_REDUCED_OR_MASK = 1 | 4


@dataclass(frozen=True, slots=True)
class Page:
    """One directory.

    Parameters
    ----------
    offset
        Where it lies in the file.
    order
        ``"<"`` or ``">"``.
    entries
        By code: type, number of values, and where they lie.
    """

    offset: int
    order: Literal["<", ">"]
    entries: dict[int, tuple[int, int, int]]

    def values(self, source: Source, code: int) -> NDArray[Any] | None:
        """Values of a tag, or None where the page does not have it."""
        entry = self.entries.get(code)
        if entry is None:
            return None
        kind, count, at = entry
        dtype = np.dtype(_TYPES[kind]).newbyteorder(self.order)
        data = source.take(at, count * dtype.itemsize, f"the TIFF tag {code}")
        return np.frombuffer(data, dtype)

    def value(self, source: Source, code: int, default: int) -> int:
        """First value of an integer tag."""
        values = self.values(source, code)
        if values is None or not values.size:
            return default
        if values.dtype.kind not in "iu":
            raise source.corrupt(f"its TIFF tag {code} is no integer")
        return int(values[0])

    def text(self, source: Source, code: int) -> str:
        """Text of a tag; empty where the page does not have it."""
        values = self.values(source, code)
        if values is None or values.dtype.itemsize != 1:
            return ""
        return values.tobytes().partition(b"\0")[0].decode("utf-8", "replace")

    def ratio(self, source: Source, code: int) -> float | None:
        """First value of a rational tag; None where missing or divided by zero."""
        values = self.values(source, code)
        if values is None or not values.size:
            return None
        if values.dtype.names is None:
            return float(values[0])
        above, below = (int(part) for part in values[0])
        return above / below if below else None


def read_pages(source: Source) -> list[Page]:
    """Directories of the main chain, in order, without reduced copies and masks.

    Raises
    ------
    IncompleteError
        A directory, or the values of a tag, lie past the end of the file or are still zeros.
    CorruptError
        The chain runs in a circle or a directory is absurd.
    """
    head = source.take(0, 8, "the header")
    order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    pointer, n_entries_type, entry = (
        (struct.Struct(f"{order}Q"), struct.Struct(f"{order}Q"), struct.Struct(f"{order}HHQ"))
        if big
        else (struct.Struct(f"{order}I"), struct.Struct(f"{order}H"), struct.Struct(f"{order}HHI"))
    )
    (at,) = pointer.unpack(source.take(8 if big else 4, pointer.size, "the header"))
    if not at:
        raise source.incomplete("the first directory, whose place is not yet written")
    pages: list[Page] = []
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) >= _MAX_PAGES:
            raise source.corrupt(f"its directories run in a circle (at byte {at})")
        seen.add(at)
        (count,) = n_entries_type.unpack(source.take(at, n_entries_type.size, "a directory"))
        if not count:
            raise source.incomplete(f"the directory at byte {at}, which is still empty")
        if count > _MAX_ENTRIES:
            raise source.corrupt(f"the directory at byte {at} claims {count} entries")
        size = entry.size + pointer.size
        start = at + n_entries_type.size
        data = source.take(start, count * size + pointer.size, "a directory")
        page = Page(at, order, {})
        for number in range(count):
            code, kind, n_values = entry.unpack_from(data, number * size)
            if kind not in _TYPES:
                # unknown types are to be skipped, says the specification
                continue
            inline = start + number * size + entry.size
            n_bytes = (
                n_values * np.dtype(_TYPES[kind]).itemsize
                if kind in (5, 10)
                else (n_values * _SIZES[kind])
            )
            where = inline
            if n_bytes > pointer.size:
                (where,) = pointer.unpack_from(data, number * size + entry.size)
                source.need(where + n_bytes, f"the values of the TIFF tag {code}")
            page.entries.setdefault(code, (kind, n_values, where))
        pages.append(page)
        (at,) = pointer.unpack_from(data, count * size)
    wanted = [
        page
        for page in pages
        if not page.value(source, SUBFILE, 0) & _REDUCED_OR_MASK
        and {WIDTH, LENGTH} <= page.entries.keys()
    ]
    if not wanted:
        raise source.corrupt("none of its directories describes an image")
    return wanted


_SIZES = {kind: np.dtype(name).itemsize for kind, name in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a page is made of.

    Parameters
    ----------
    page
        The directory.
    shape
        ``(height, width)``.
    samples, bits, sample_format
        Values a pixel, bits a value, and 1 unsigned, 2 signed, 3 float, 5 or 6 complex.
    compression, photometric
        As in the TIFF tags.
    planar
        The samples lie in separate planes.
    pieces
        Byte ranges of the strips or tiles, ``(n, 2)`` start and stop.
    raw
        Uncompressed, unpredicted, one sample of whole bytes in strips that lie in a row.
    """

    page: Page
    shape: tuple[int, int]
    samples: int
    bits: int
    sample_format: int
    compression: int
    photometric: int
    planar: bool
    pieces: NDArray[np.int64]
    raw: bool


def read_layout(source: Source, page: Page) -> Layout:
    """Read what a page is made of, and check that all of it is in the file.

    Raises
    ------
    IncompleteError
        A strip or tile passes the end of the file, or has no place yet.
    CorruptError
        The page is absurd or contradicts itself.
    UnsupportedError
        A volume in one page, or samples of different kinds.
    """
    shape = (page.value(source, LENGTH, 0), page.value(source, WIDTH, 0))
    if not any(shape) and not page.entries.keys() & {STRIP_OFFSETS, TILE_OFFSETS}:
        raise source.incomplete("the size of the image")
    samples = page.value(source, SAMPLES, 1)
    bits = page.values(source, BITS)
    depths = {1} if bits is None or not bits.size else {int(b) for b in bits}
    formats = page.values(source, SAMPLE_FORMAT)
    kinds = {1} if formats is None or not formats.size else {int(f) for f in formats}
    if len(depths) > 1 or len(kinds) > 1:
        raise source.unsupported(
            f"its channels differ (bits {sorted(depths)}, formats {sorted(kinds)}); save one"
        )
    if page.value(source, DEPTH, 1) > 1:
        raise source.unsupported("a volume in one TIFF page; save one page a slice")
    n_bits = depths.pop()
    if not 1 <= n_bits <= 128:
        raise source.corrupt(f"it claims {n_bits} bits a pixel")
    source.check_plane(shape, f"V{-(-n_bits // 8)}", samples)
    compression = page.value(source, COMPRESSION, 1)
    planar = page.value(source, PLANAR, 1) == 2 and samples > 1
    pieces = _pieces(source, page, shape, samples, n_bits, compression, planar)
    raw = (
        compression == 1
        and samples == 1
        and n_bits in (8, 16, 32, 64)
        and page.value(source, PREDICTOR, 1) == 1
        and page.value(source, FILL_ORDER, 1) == 1
        and TILE_OFFSETS not in page.entries
        and bool((pieces[1:, 0] == pieces[:-1, 1]).all())
        and int(pieces[-1, 1] - pieces[0, 0]) >= shape[0] * shape[1] * n_bits // 8
    )
    return Layout(
        page,
        shape,
        samples,
        n_bits,
        kinds.pop(),
        compression,
        page.value(source, PHOTOMETRIC, 1),
        planar,
        pieces,
        raw,
    )


def _pieces(
    source: Source,
    page: Page,
    shape: tuple[int, int],
    samples: int,
    bits: int,
    compression: int,
    planar: bool,
) -> NDArray[np.int64]:
    height, width = shape
    inside = 1 if planar else samples
    if TILE_OFFSETS in page.entries:
        tile_w, tile_l = page.value(source, TILE_WIDTH, 0), page.value(source, TILE_LENGTH, 0)
        if tile_w < 1 or tile_l < 1:
            raise source.corrupt(f"its tiles are {tile_w} × {tile_l} pixels")
        source.check_plane((tile_l, tile_w), f"V{-(-bits // 8)}", samples)
        n_pieces = -(-height // tile_l) * -(-width // tile_w)
        piece_bytes = tile_l * -(-tile_w * inside * bits // 8)
        plane_bytes = n_pieces * piece_bytes
        offsets, counts = page.values(source, TILE_OFFSETS), page.values(source, TILE_COUNTS)
    else:
        rows = page.value(source, ROWS, height)
        rows = height if rows < 1 else min(rows, height)
        n_pieces = -(-height // rows)
        row_bytes = -(-width * inside * bits // 8)
        piece_bytes, plane_bytes = rows * row_bytes, height * row_bytes
        offsets, counts = page.values(source, STRIP_OFFSETS), page.values(source, STRIP_COUNTS)
    # of separate planes, red, green and blue are looked at, or else the first
    colour = page.value(source, PHOTOMETRIC, 1) in (2, 6)
    n_planes = 1 if not planar else min(samples, 3) if colour else 1
    n_needed, n_bytes = n_pieces * n_planes, plane_bytes * n_planes
    if offsets is None or not offsets.size:
        if JPEG_OFFSET in page.entries:
            start = page.value(source, JPEG_OFFSET, 0)
            stop = start + page.value(source, JPEG_LENGTH, 0)
            source.need(stop, "the JPEG image")
            return np.array([[start, stop]], np.int64)
        raise source.corrupt("an image has no strips and no tiles")
    if offsets.dtype.kind not in "iu" or (counts is not None and counts.dtype.kind not in "iu"):
        raise source.corrupt("the places of its strips are no integers")
    if offsets.size < n_needed:
        raise source.corrupt(f"an image has {offsets.size} of the {n_needed} strips it needs")
    # the rest of the planes is decoded with them where it is there
    n_all = min(offsets.size, n_pieces * (samples if planar else 1))
    starts = offsets[:n_all].astype(np.int64)
    if counts is None or counts.size < n_all:
        if compression != 1 or n_all > 1:
            raise source.corrupt("the lengths of its strips are missing")
        lengths = np.array([min(piece_bytes, plane_bytes)], np.int64)
    else:
        lengths = counts[:n_all].astype(np.int64)
    if (starts < 0).any() or (lengths < 0).any():
        raise source.corrupt("a strip has an absurd place or length")
    missing = int(((starts == 0) | (lengths == 0))[:n_needed].sum())
    if missing:
        raise source.incomplete(f"{missing} of {n_needed} strips, which have no place yet")
    ends = starts + lengths
    beyond = int((ends > source.size).sum())
    if beyond:
        raise source.incomplete(
            f"{beyond} of {n_all} strips, up to byte {int(ends.max())}; "
            f"the file has {source.size} so far"
        )
    # a strip may hold more or less than its share; what counts is that nothing is missing
    if compression == 1 and int(lengths[:n_needed].sum()) < n_bytes:
        raise source.corrupt(
            f"an image needs {n_bytes} bytes, but its strips hold {int(lengths[:n_needed].sum())}"
        )
    return np.stack([starts, ends], axis=1)
