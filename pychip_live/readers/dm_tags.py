"""The tag directory of DM3 and DM4 files (Gatan DigitalMicrograph).

Written for this project because a directory has hundreds to thousands of tags and is parsed for
every frame twice (evidence, then reading). The layout follows the public descriptions by
C. Boothroyd ("Description of the dm3 format", "… dm4 format").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from pychip_live.readers.base import Source

_SIMPLE = {
    2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "?", 9: "b", 10: "B", 11: "q", 12: "Q",
}  # fmt: skip
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_GROUP_ENTRY, _DATA_ENTRY = 20, 21
_CLOSING = 8
"""Zeros after the last tag: seen in every file, but they tell nothing."""
_MAX_DEPTH = 64
_MAX_TAGS = 1_000_000
_WINDOW = 1 << 17
_TEXT_LIMIT = 4096
"""Longest array of 16-bit integers taken for text, bytes."""


@dataclass(frozen=True, slots=True)
class TagArray:
    """Where an array lies that is not read with the directory.

    Parameters
    ----------
    offset, n_bytes
        Position in the file.
    """

    offset: int
    n_bytes: int


class TagReader:
    """Reads the whole directory in one pass; no pixel is read.

    Parameters
    ----------
    source
        The file.

    Attributes
    ----------
    version
        3 or 4.
    order
        ``"<"`` or ``">"``, byte order of the values.
    end
        Byte after the last tag.
    pending
        What may still be added.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._window = b""
        self._base = 0
        header = source.take(0, 12, "the header")
        self.version: int = int.from_bytes(header[:4], "big")
        if self.version == 4:
            header = source.take(0, 16, "the header")
            length, little, start = (*struct.unpack(">QI", header[4:]), 16)
            self._count = struct.Struct(">Q")
        else:
            length, little, start = (*struct.unpack(">II", header[4:]), 12)
            self._count = struct.Struct(">I")
        if little not in (0, 1):
            raise source.corrupt(f"the byte order of the DM file is {little}, not 0 or 1")
        self.order = "<" if little else ">"
        self._values = {code: struct.Struct(self.order + c) for code, c in _SIMPLE.items()}
        self._n_tags = 0
        self._length = length
        self.end = start
        self.pending = ""

    def read(self) -> dict[str, Any]:
        """Tags by path, as ``"ImageList.1.ImageData.DataType"``; unnamed tags count from 0.

        Raises
        ------
        IncompleteError
            The directory or an array in it passes the end of the file, or is still zeros.
        CorruptError
            The directory contradicts itself.
        """
        tags: dict[str, Any] = {}
        start = self.end
        self.end = self._group(start, "", tags, 0)
        # the writer may set the length first, so it is looked at only beside the full parse
        self._source.need(max(self.end, start + self._length), "the tag directory")
        # DM3 counts up to 4 bytes differently
        if not tags or self.end + 4 < start + self._length:
            raise self._source.incomplete(f"the tags after byte {self.end}")
        if self._source.size < self.end + _CLOSING:
            self.pending = f"the {_CLOSING} bytes that close a DM file"
        return tags

    def _at(self, position: int, count: int) -> int:
        """Index in the window of ``count`` bytes at ``position``, moving it if need be."""
        index = position - self._base
        if index < 0 or index + count > len(self._window):
            self._source.need(position + count, "the tag directory")
            span = min(max(count, _WINDOW), self._source.size - position)
            self._window = self._source.take(position, span, "the tag directory")
            self._base = position
            return 0
        return index

    def _group(self, at: int, prefix: str, tags: dict[str, Any], depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise self._source.corrupt(f"its tags are nested more than {_MAX_DEPTH} deep")
        wide = self._count.size
        index = self._at(at, 2 + wide)
        (n_entries,) = self._count.unpack_from(self._window, index + 2)
        at += 2 + wide
        self._n_tags += n_entries
        if self._n_tags > _MAX_TAGS:
            raise self._source.corrupt(f"it claims to have {self._n_tags} tags")
        extra = 8 if self.version == 4 else 0
        for number in range(n_entries):
            index = self._at(at, 3)
            kind = self._window[index]
            n_label = self._window[index + 1] << 8 | self._window[index + 2]
            index = self._at(at, 3 + n_label + extra)
            if n_label:
                label = self._window[index + 3 : index + 3 + n_label].decode("latin-1")
            else:
                label = str(number)
            position = at + 3 + n_label + extra
            if kind == _DATA_ENTRY:
                at = self._data(position, prefix + label, tags)
            elif kind == _GROUP_ENTRY:
                at = self._group(position, f"{prefix}{label}.", tags, depth + 1)
            elif kind == 0:
                raise self._source.incomplete(f"the tags from byte {at} on are still zeros")
            else:
                raise self._source.corrupt(f"byte {at} holds a tag of unknown kind {kind}")
        return at

    def _data(self, at: int, path: str, tags: dict[str, Any]) -> int:
        wide = self._count.size
        index = self._at(at, 4 + wide)
        mark = self._window[index : index + 4]
        if mark != b"%%%%":
            if not mark.strip(b"\0"):
                raise self._source.incomplete(f"the tag {path} at byte {at} is still zeros")
            raise self._source.corrupt(f"the tag {path} at byte {at} lacks its mark %%%%")
        (n_info,) = self._count.unpack_from(self._window, index + 4)
        if not 0 < n_info <= 1024:
            raise self._source.corrupt(f"the tag {path} has a description of {n_info} words")
        at += 4 + wide
        index = self._at(at, n_info * wide)
        at += n_info * wide
        if n_info == 1:
            (code,) = self._count.unpack_from(self._window, index)
            value = self._values.get(code)
            if value is None:
                raise self._source.corrupt(f"the tag {path} is of unknown type {code}")
            index = self._at(at, value.size)
            (tags[path],) = value.unpack_from(self._window, index)
            return at + value.size
        letter = "Q" if wide == 8 else "I"
        info = struct.unpack_from(f">{n_info}{letter}", self._window, index)
        code, n_bytes = self._layout(path, info)
        if info[0] == _STRUCT:
            tags[path] = self._structure(at, info)
        elif code in (4, 10) and n_bytes <= _TEXT_LIMIT and info[0] == _ARRAY:
            index = self._at(at, n_bytes)
            text = self._window[index : index + n_bytes]
            coding = "latin-1" if code == 10 else "utf-16-le" if self.order == "<" else "utf-16-be"
            tags[path] = TagText(text.decode(coding, "replace"), at, n_bytes)
        else:
            self._source.need(at + n_bytes, f"the tag {path}")
            tags[path] = TagArray(at, n_bytes)
        return at + n_bytes

    def _layout(self, path: str, info: tuple[int, ...]) -> tuple[int, int]:
        """Type code and bytes of a described value; arrays of arrays do not occur."""
        try:
            if info[0] == _STRUCT:
                return _STRUCT, sum(self._values[c].size for c in info[4::2])
            if info[0] == _STRING:
                return _STRING, info[1]
            if info[0] == _ARRAY and info[1] == _STRUCT:
                return _STRUCT, info[-1] * sum(self._values[c].size for c in info[5:-1:2])
            if info[0] == _ARRAY:
                return info[1], info[2] * self._values[info[1]].size
        except (KeyError, IndexError):
            pass
        raise self._source.corrupt(f"the tag {path} has an unknown description {info[:4]}")

    def _structure(self, at: int, info: tuple[int, ...]) -> tuple[float, ...]:
        fields: list[float] = []
        for code in info[4::2]:
            value = self._values[code]
            index = self._at(at, value.size)
            fields += value.unpack_from(self._window, index)
            at += value.size
        return tuple(fields)


class TagText(str):
    """Text, which is also a short array: 16-bit pixels of a tiny image look the same.

    Attributes
    ----------
    array
        Where it lies.
    """

    array: TagArray

    def __new__(cls, text: str, offset: int, n_bytes: int) -> TagText:
        """Make the text and note where it came from."""
        self = super().__new__(cls, text)
        self.array = TagArray(offset, n_bytes)
        return self


def as_array(tag: Any) -> TagArray | None:
    """Return the array behind a tag, or None where the tag is no array."""
    if isinstance(tag, TagText):
        return tag.array
    return tag if isinstance(tag, TagArray) else None


PIXEL_TYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(name)
    for code, name in {
        1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "?",
        39: "i8", 40: "u8",
    }.items()
}  # fmt: skip
"""Real pixel types by DM's code of an image."""

COMPLEX_TYPES = frozenset({3, 5, 13, 27, 28})
COLOUR_TYPES = frozenset({8, 23})
