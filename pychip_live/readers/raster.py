"""PNG and JPEG, by Pillow: 16-bit PNG stays 16-bit, colour becomes luminance."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin, PngImagePlugin

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers.base import FrameFile, Source
from pychip_live.readers.luminance import luminance
from pychip_live.readers.mdoc import read_mdoc

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_STANDALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


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
        self._sixteen_bit_colour = bits == 16 and colour != 0
        self._binary = bits == 1 and colour == 0
        self.dtype = np.dtype("?" if self._binary else "u2" if bits == 16 else "u1")
        source.check_plane(self.shape, self.dtype, max(_PNG_CHANNELS[colour], 3))
        self._walk(source)

    @staticmethod
    def _walk(source: Source) -> None:
        """Follow the chunks to IEND."""
        at, has_pixels = 33, False
        while True:
            n_bytes, kind = struct.unpack(">I4s", source.take(at, 8, "the next chunk"))
            if not kind.strip(b"\0"):
                raise source.incomplete(f"the chunk at byte {at}, which is still zeros")
            if not kind.isalpha():
                raise source.corrupt(f"byte {at} holds no PNG chunk ({kind!r})")
            at += 12 + n_bytes
            source.need(at, f"the chunk {kind.decode()}")
            has_pixels |= kind == b"IDAT"
            if kind == b"IEND":
                break
        if not has_pixels:
            raise source.corrupt("the PNG has no pixels (no chunk IDAT)")

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        if self._sixteen_bit_colour:
            # Pillow reduces these to 8 bit
            return _to_grey(imagecodecs.png_decode(file.read()))
        # the plugin itself: Image.open would warn of, and refuse, frames that are merely large
        image = PngImagePlugin.PngImageFile(file)
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")  # type: ignore[assignment]
        pixels = np.asarray(image)
        if image.mode == "I":
            pixels = pixels.astype(np.uint16)
        return _to_grey(pixels)


class JPEGFile(_RasterFile):
    """A JPEG, grey or colour."""

    format = "JPEG"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        source.file.seek(0)
        self.dtype = np.dtype("u1")
        self._walk(source, source.file.read())

    def _walk(self, source: Source, data: bytes) -> None:
        """Follow the segments to the end-of-image marker, the thumbnail's own one skipped."""
        at, shape, scanned = 2, None, False
        while True:
            if scanned:
                found = _JPEG_MARKER.search(data, at)
                if found is None:
                    raise source.incomplete("the end-of-image marker")
                at = found.start()
            while data[at : at + 2] == b"\xff\xff":
                at += 1
            if at + 4 > len(data) and data[at : at + 2] != b"\xff\xd9":
                raise source.incomplete(f"the JPEG segment at byte {at}")
            marker = data[at + 1]
            if data[at] != 0xFF:
                if not data[at : at + 4].strip(b"\0"):
                    raise source.incomplete(f"the JPEG segment at byte {at}, still zeros")
                raise source.corrupt(f"byte {at} holds no JPEG segment")
            if marker == _END:
                break
            if marker in _STANDALONE:
                at += 2
                continue
            (n_bytes,) = struct.unpack_from(">H", data, at + 2)
            if marker in _FRAME_MARKERS and shape is None:
                bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
                if bits != 8:
                    raise source.unsupported(f"a JPEG of {bits} bits; save it as PNG or TIFF")
                if channels not in (1, 3):
                    raise source.unsupported(
                        f"a JPEG of {channels} channels (CMYK print colours); save it in grey"
                    )
                shape = (height, width)
                source.check_plane(shape, np.uint8, channels)
            scanned |= marker == _SCAN
            at += 2 + n_bytes
        if shape is None or not scanned:
            raise source.corrupt("the JPEG has no image")
        self.shape = shape

    def _pixels(self, file: BinaryIO, plane: int) -> NDArray[Any]:
        return _to_grey(np.asarray(JpegImagePlugin.JpegImageFile(file)))


def _to_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim == 2:
        return pixels
    return luminance(pixels) if pixels.shape[2] >= 3 else pixels[..., 0]
