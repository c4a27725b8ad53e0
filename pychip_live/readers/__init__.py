"""Readers: one file a format; each gives completeness evidence, pixels and metadata.

``open_file`` and ``evidence`` are the whole interface; the format is told from the first bytes,
not from the name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pychip_live.errors import CorruptError, IncompleteError, UnsupportedError
from pychip_live.readers.base import (
    Evidence,
    FrameFile,
    Source,
    ends_in_zeros,
    find_zeros,
    translated,
)
from pychip_live.readers.dm import DMFile
from pychip_live.readers.emd import open_emd
from pychip_live.readers.mrc import MRCFile
from pychip_live.readers.raster import JPEGFile, PNGFile
from pychip_live.readers.ser import SERFile
from pychip_live.readers.tiff import TIFFFile

__all__ = ["SUFFIXES", "Evidence", "FrameFile", "evidence", "open_file"]

SUFFIXES = frozenset({
    ".dm3", ".dm4", ".tif", ".tiff", ".btf", ".tf8", ".png", ".jpg", ".jpeg",
    ".mrc", ".mrcs", ".rec", ".st", ".ser", ".emd",
})  # fmt: skip
"""Lower-case suffixes that a folder watcher should look at."""

_MAGIC: dict[bytes, Callable[[Source], FrameFile]] = {
    b"\0\0\0\x03": DMFile,
    b"\0\0\0\x04": DMFile,
    b"II*\0": TIFFFile,
    b"MM\0*": TIFFFile,
    b"II+\0": TIFFFile,
    b"MM\0+": TIFFFile,
    b"\x89PNG\r\n\x1a\n": PNGFile,
    b"\xff\xd8\xff": JPEGFile,
    b"\x89HDF\r\n\x1a\n": open_emd,
    b"II\x97\x01": SERFile,
}
_MRC_SUFFIXES = frozenset((".mrc", ".mrcs", ".rec", ".st"))
_SNIFFED = 212
"""Bytes that tell the format: up to the stamp of MRC, which has none at its start."""


def evidence(path: Path) -> Evidence:
    """Tell from its structure whether a file is complete; pixels are not decoded.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    CorruptError, UnsupportedError
        It can never become a frame, for a reason that shows already. Where the file ends in
        zeros that may only be a stage of filling it: then it is suspicious, and ``open_file``
        raises.
    OSError
        The file vanished or is locked.
    """
    with path.open("rb") as file:
        source = Source(path, file)
        try:
            with translated(path):
                opened = _open(source)
                awaited = opened.pending or find_zeros(source, opened)
        except IncompleteError as error:
            return Evidence(False, error.reason)
        except (CorruptError, UnsupportedError) as error:
            # half-filled, a file looks damaged, or like something else
            if source.whole or not ends_in_zeros(source, 1):
                raise
            awaited = f"its end is still zeros ({error.reason})"
    return Evidence(not awaited, awaited, suspicious=bool(awaited))


def open_file(path: Path) -> FrameFile:
    """Open a file of frames; the handle is closed again before this returns.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ReadError
        IncompleteError, UnsupportedError or CorruptError, with the reason.
    OSError
        The file vanished or is locked.
    """
    with path.open("rb") as file, translated(path):
        return _open(Source(path, file))


def _open(source: Source) -> FrameFile:
    if not source.size:
        raise source.incomplete("the file is still empty")
    head = source.take(0, min(_SNIFFED, source.size), "the header")
    if not head.strip(b"\0"):
        raise source.incomplete("the header is still zeros")
    for magic, reader in _MAGIC.items():
        if head.startswith(magic):
            return reader(source)
    # writers before MRC2014 put no stamp: the name has to tell
    if head[208:211] == b"MAP" or source.path.suffix.lower() in _MRC_SUFFIXES:
        return MRCFile(source)
    written = head.rstrip(b"\0")
    if any(magic.startswith(written) for magic in _MAGIC):
        raise source.incomplete(f"the header, of which {len(written)} bytes are there")
    raise source.unsupported(
        f"its first bytes ({head[:8].hex(' ')}) belong to no format that is read; "
        "save the frame as DM3, DM4, TIFF, PNG, JPEG, MRC, SER or EMD"
    )
