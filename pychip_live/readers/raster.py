"""PNG and JPEG, by Pillow: 16-bit PNG stays 16-bit, colour becomes luminance."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers.base import FrameFile, Source
from pychip_live.readers.luminance import luminance
from pychip_live.readers.mdoc import read_mdoc

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""By colour type, as decoded: a palette becomes three."""

_MAX_BYTES = 1 << 28
"""Largest image decoded: Pillow takes seconds for more."""
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_STANDALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_ASIDE = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""EXIF, colour profiles, previews and comments; JFIF and Adobe's note on colour stay."""


class _RasterFile(FrameFile):
    n_planes = 1

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._size = source.size

    def stretches(self) -> Iterable[tuple[int, int]]:
        """All bytes: a whole block of zeros does not occur in a compressed image."""
        return [(0, self._size)]

    def _about(self, file: BinaryIO, plane: int) -> tuple[Calibration | None, Metadata]:
        # their "pixels per metre" is a print size, so only a companion calibrates
        return read_mdoc(self.path).about(plane)


class PNGFile(_RasterFile):
    """A PNG; of an animated one the default image."""

    format = "PNG"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        header = source.take(8, 21, "the header")
        n_bytes, kind, width, height, bits, colour = struct.unpack(">I4sIIBB", header[:18])
        if kind != b"IHDR" or n_bytes != 13:
            raise source.corrupt("its first PNG chunk is not the header IHDR")
        if colour not in _PNG_CHANNELS or bits not in (1, 2, 4, 8, 16):
            raise source.corrupt(f"PNG colour type {colour} with {bits} bits does not exist")
        self.shape = (height, width)
        self._deep_colour = bits == 16 and colour != 0
        binary = bits == 1 and colour == 0
        self.dtype = np.dtype("?" if binary else "u2" if bits == 16 else "u1")
        source.check_plane(self.shape, self.dtype, _PNG_CHANNELS[colour], _MAX_BYTES)
        self._critical = self._walk(source)

    @staticmethod
    def _walk(source: Source) -> list[tuple[int, int]]:
        """Follow the chunks to IEND; where those lie that make the image."""
        at, kind, previous = 8, b"", b""
        critical: list[tuple[int, int]] = []
        while kind != b"IEND":
            n_bytes, kind = struct.unpack(">I4s", source.take(at, 8, "the next chunk"))
            if not kind.strip(b"\0"):
                raise source.incomplete(f"the chunk at byte {at}, which is still zeros")
            if not kind.isalpha():
                raise source.corrupt(f"byte {at} holds no PNG chunk ({kind!r})")
            end = at + 12 + n_bytes
            source.need(end, f"the chunk {kind.decode()}")
            if kind == b"IDAT" and previous == kind and critical[-1][1] != at:
                raise source.corrupt("its PNG pixels (chunks IDAT) are torn apart")
            if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
                previous = kind
                critical.append((at, end))
            at = end
        source.whole = True
        if len(critical) < 3:
            raise source.corrupt("the PNG has no pixels (no chunk IDAT)")
        return critical

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        # without colour profiles, animation and text: they only add ways to fail and to warn
        data = _parts(file, b"\x89PNG\r\n\x1a\n", self._critical)
        if self._deep_colour:
            # Pillow reduces these to 8 bit
            return _to_grey(imagecodecs.png_decode(data))
        # the plugin itself: Image.open would warn of, and refuse, frames that are merely large
        image: Image.Image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        if image.mode == "P":
            image = image.convert("RGB")
        pixels = np.asarray(image)
        return _to_grey(pixels.astype(np.uint16) if image.mode == "I" else pixels)


class JPEGFile(_RasterFile):
    """A JPEG, grey or colour."""

    format = "JPEG"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        source.file.seek(0)
        self.dtype = np.dtype("u1")
        self._needed = self._walk(source, source.file.read())

    def _walk(self, source: Source, data: bytes) -> list[tuple[int, int]]:
        """Follow the segments to the end-of-image marker; where those lie that make the image.

        The marker that ends an embedded thumbnail lies inside a segment and is stepped over.
        """
        at, shape, scanned, needed = 2, None, False, []
        while True:
            start = at
            if scanned:
                found = _JPEG_MARKER.search(data, at)
                if found is None:
                    raise source.incomplete("the end-of-image marker")
                at = found.start()
            while data[at : at + 2] == b"\xff\xff":
                at += 1
            if data[at : at + 2] == b"\xff\xd9":
                needed.append((start, at + 2))
                break
            if at + 4 > len(data):
                raise source.incomplete(f"the JPEG segment at byte {at}")
            if data[at] != 0xFF:
                if not data[at : at + 4].strip(b"\0"):
                    raise source.incomplete(f"the JPEG segment at byte {at}, still zeros")
                raise source.corrupt(f"byte {at} holds no JPEG segment")
            marker = data[at + 1]
            (n_bytes,) = struct.unpack_from(">H", data, at + 2)
            if marker in _FRAME_MARKERS and shape is None:
                shape = self._read_shape(source, data[at + 4 : at + 10])
            scanned |= marker == _SCAN
            at += 2 if marker in _STANDALONE else 2 + n_bytes
            if marker not in _ASIDE:
                needed.append((start, at))
        source.whole = True
        if shape is None or not scanned:
            raise source.corrupt("the JPEG has no image")
        self.shape = shape
        return needed

    @staticmethod
    def _read_shape(source: Source, header: bytes) -> tuple[int, int]:
        if len(header) < 6:
            raise source.incomplete("the JPEG header")
        bits, height, width, channels = struct.unpack(">BHHB", header)
        if bits != 8:
            raise source.unsupported(f"a JPEG of {bits} bits; save it as PNG or TIFF")
        if channels not in (1, 3):
            raise source.unsupported(
                f"a JPEG of {channels} channels (CMYK print colours); save it in grey"
            )
        source.check_plane((height, width), np.uint8, channels, _MAX_BYTES)
        return height, width

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        data = _parts(file, b"\xff\xd8", self._needed)
        return _to_grey(np.asarray(JpegImagePlugin.JpegImageFile(io.BytesIO(data))))


def _parts(file: BinaryIO, magic: bytes, where: list[tuple[int, int]]) -> bytes:
    parts = [magic]
    for start, stop in where:
        file.seek(start)
        parts.append(file.read(stop - start))
    return b"".join(parts)


def _to_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim == 2:
        return pixels
    return luminance(pixels) if pixels.shape[2] >= 3 else pixels[..., 0]
