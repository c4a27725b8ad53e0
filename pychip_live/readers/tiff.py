"""TIFF and BigTIFF: pages as planes, plain pixels directly, everything else by tifffile."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers import tiff_ifd as ifd
from pychip_live.readers.base import FrameFile, Source, read_array
from pychip_live.readers.luminance import luminance
from pychip_live.readers.mdoc import read_mdoc
from pychip_live.readers.tiff_about import about_page

# without a handler of its own, its warnings would be printed
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_COLOUR_SPACES = {
    4: "a transparency mask", 5: "CMYK print colours", 8: "CIELAB colours", 9: "ICCLAB colours",
    10: "ITULAB colours", 32803: "the colour filter array of a raw photograph",
    32844: "LogL pixels", 32845: "LogLuv colours", 34892: "a linear raw photograph",
}  # fmt: skip
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_OLD_JPEG, _JPEG = 6, 7
_MAX_RATIO = 10_000
_BELIEVED_BYTES = 64 << 20


class TIFFFile(FrameFile):
    """A TIFF; each full-resolution page, or image of an ImageJ stack, is a plane.

    White-is-zero pages are inverted, so that bright is large as everywhere else.
    """

    format = "TIFF"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        pages = ifd.read_pages(source)
        self._layouts = [ifd.read_layout(source, page) for page in pages]
        first = self._layouts[0]
        for layout in self._layouts:
            _check_kind(source, layout)
        self.shape = first.shape
        self.dtype = _delivered(first)
        description = pages[0].text(source, ifd.DESCRIPTION)
        self._in_a_row = self._count_in_a_row(source, description)
        self.n_planes = self._in_a_row or len(pages)
        if self.n_planes > 1:
            _check_axes(source, description)
        if any(layout.shape != first.shape for layout in self._layouts):
            self.note = "its pages differ in size"
        self._description = description

    def _count_in_a_row(self, source: Source, description: str) -> int:
        """Planes of a stack that has one directory for all; 0 for one directory a page."""
        first = self._layouts[0]
        if len(self._layouts) > 1 or not first.raw:
            return 0
        n_planes = 1
        # an OME description may speak of other files, and any other of pages that were removed
        if description.startswith("ImageJ=") or '"truncated": true' in description:
            n_planes = int(np.prod(list(_axes(description).values()), dtype=np.int64))
        stk = first.page.entries.get(ifd.STK_PLANES)
        if stk is not None:
            n_planes = stk[1]
        if n_planes < 2:
            return 0
        start = int(first.pieces[0, 0])
        source.need(start + n_planes * self._plane_bytes, f"the last of {n_planes} images")
        return n_planes

    @property
    def _plane_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self._layouts[0].bits // 8

    def stretches(self) -> Iterable[tuple[int, int]]:
        """Bytes of all strips and tiles."""
        if self._in_a_row:
            start = int(self._layouts[0].pieces[0, 0])
            return [(start, start + self._in_a_row * self._plane_bytes)]
        return [
            (int(start), int(stop)) for layout in self._layouts for start, stop in layout.pieces
        ]

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        layout = self._layouts[0 if self._in_a_row else plane]
        if layout.raw:
            start = int(layout.pieces[0, 0]) + (plane * self._plane_bytes if self._in_a_row else 0)
            stored = np.dtype(
                f"{layout.page.order}{_KINDS[layout.sample_format]}{layout.bits // 8}"
            )
            pixels = read_array(file, start, stored, layout.shape)
        else:
            pixels = _decode(file, layout)
        return _to_grey(Source(self.path, file), layout, pixels)

    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        layout = self._layouts[0 if self._in_a_row else plane]
        beside = read_mdoc(self.path).about(plane)
        return about_page(Source(self.path, file), layout.page, self._description, beside)


def _axes(description: str) -> dict[str, int]:
    """Sizes of the axes beyond height and width, as ImageJ, OME and tifffile state them."""
    if description.startswith("ImageJ="):
        stated = dict(
            re.findall(r"(?m)^(images|channels|slices|frames)=(\d{1,9})\s*$", description)
        )
        axes = {
            name: int(stated[name]) for name in ("channels", "slices", "frames") if name in stated
        }
        return axes or {"images": int(stated.get("images", 1))}
    if "<Pixels" in description and "OME" in description:
        pixels = description[description.index("<Pixels") :].partition(">")[0]
        sizes = re.findall(r'\bSize([CZT])="(\d{1,9})"', pixels)
        return {f"Size{name}": int(size) for name, size in sizes}
    if description.startswith('{"shape":'):
        try:
            shape = json.loads(description)["shape"]
        except (ValueError, KeyError):
            return {}
        beyond = [n for n in shape[:-2] if isinstance(n, int)]
        return {f"axis {i}": n for i, n in enumerate(beyond)} if len(shape) < 6 else {}
    return {}


def _check_axes(source: Source, description: str) -> None:
    """Refuse 4-D: with more than one axis beyond the image, the planes are no series."""
    axes = {name: size for name, size in _axes(description).items() if size > 1}
    if len(axes) > 1:
        named = ", ".join(f"{name} {size}" for name, size in axes.items())
        raise source.unsupported(
            f"a stack of {len(axes) + 2} dimensions ({named}); "
            "save one channel, slice or series a file"
        )


def _check_kind(source: Source, layout: ifd.Layout) -> None:
    if layout.compression == _OLD_JPEG:
        start = int(layout.pieces[0, 0])
        if source.take(start, 2, "the JPEG image") != b"\xff\xd8":
            raise source.unsupported("old-style JPEG in pieces; save the image uncompressed")
    if layout.sample_format in (5, 6):
        raise source.unsupported("complex pixels (as of an FFT); save the modulus")
    if layout.sample_format not in _KINDS:
        raise source.corrupt(f"its sample format {layout.sample_format} does not exist")
    if layout.bits > 64:
        raise source.unsupported(f"pixels of {layout.bits} bits; save at most 64")
    if layout.photometric in _COLOUR_SPACES:
        raise source.unsupported(
            f"{_COLOUR_SPACES[layout.photometric]}; save the image in grey or RGB"
        )
    colour = layout.photometric in (_RGB, _YCBCR)
    if colour and layout.samples < 3 and layout.compression not in (_OLD_JPEG, _JPEG):
        raise source.corrupt(f"a colour image of {layout.samples} channels does not exist")
    if not colour and layout.samples > 2:
        raise source.unsupported(
            f"{layout.samples} channels a pixel that are no colours; save one of them"
        )
    decoded = layout.shape[0] * layout.shape[1] * layout.samples * layout.bits // 8
    stored = int((layout.pieces[:, 1] - layout.pieces[:, 0]).sum())
    if decoded > _BELIEVED_BYTES and decoded > _MAX_RATIO * stored:
        raise source.corrupt(f"{stored} bytes are said to hold {decoded >> 20} MiB of pixels")


def _delivered(layout: ifd.Layout) -> np.dtype[Any]:
    kind = _KINDS[layout.sample_format]
    if layout.photometric == _PALETTE or layout.compression == _OLD_JPEG:
        return np.dtype("u1")
    if kind == "f":
        return np.dtype("f2" if layout.bits <= 16 else "f4" if layout.bits <= 32 else "f8")
    if layout.bits == 1:
        return np.dtype("?")
    n_bytes = next(n for n in (1, 2, 4, 8) if layout.bits <= 8 * n)
    return np.dtype(f"{kind}{n_bytes}")


def _decode(file: BinaryIO, layout: ifd.Layout) -> NDArray[Any]:
    """Pixels of a page by tifffile: ``(height, width)`` or ``(height, width, samples)``."""
    with tifffile.TiffFile(file) as opened:
        opened.filehandle.seek(layout.page.offset)
        page = tifffile.TiffPage(opened, 0)
        out = np.empty(page.shaped, page.dtype)
        # piece by piece: tifffile's asarray leaves what is missing at zero
        for data, (sample, depth, top, left, _), piece in page.segments(maxworkers=1):
            target = out[
                sample, depth : depth + piece[0], top : top + piece[1], left : left + piece[2]
            ]
            if sample >= 3 or (sample and layout.photometric not in (_RGB, _YCBCR)):
                continue
            if data is None or any(h < n for h, n in zip(data.shape, target.shape, strict=True)):
                raise ValueError(f"the piece at row {top}, column {left} is not whole")
            target[...] = data[: target.shape[0], : target.shape[1], : target.shape[2]]
    pixels = out[:, 0]
    if layout.planar:
        return np.moveaxis(pixels[..., 0], 0, -1)
    return pixels[0, ..., 0] if pixels.shape[-1] == 1 else pixels[0]


def _to_grey(source: Source, layout: ifd.Layout, pixels: NDArray[Any]) -> NDArray[Any]:
    if layout.photometric == _PALETTE:
        table = layout.page.values(source, 320)
        index = pixels if pixels.ndim == 2 else pixels[..., 0]
        if table is None or table.size < 3 << layout.bits:
            raise source.corrupt("its palette is missing or too short")
        # 16 bits a colour; 8 are meant
        colours = (table.reshape(3, -1).T >> 8).astype(np.uint8)
        return luminance(colours[:, None])[:, 0][index.astype(np.intp)]
    if pixels.ndim == 3:
        pixels = luminance(pixels) if pixels.shape[2] >= 3 else pixels[..., 0]
    if layout.photometric == _WHITE_IS_ZERO:
        if pixels.dtype.kind == "b":
            return ~pixels
        if pixels.dtype.kind == "u":
            white = pixels.dtype.type(2**layout.bits - 1)
            return np.asarray(white - pixels)
    return pixels
