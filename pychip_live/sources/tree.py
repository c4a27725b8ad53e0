"""What is remembered of watched directory trees.

Paths are strings here: with 50,000 files, ``pathlib`` would cost more than the file system.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

Signature = tuple[int, int]
"""(size in bytes, modification time in ns): what a file is known by."""

_TEMPORARY = (".part", ".partial", ".filepart", ".crdownload", ".tmp", ".temp", "~")


def signature_of(status: os.stat_result) -> Signature:
    """Return (size in bytes, modification time in ns)."""
    return status.st_size, status.st_mtime_ns


def is_temporary(name: str) -> bool:
    """Whether a file or directory name is hidden, temporary or the system's own."""
    return name.startswith((".", "~", "$")) or name.lower().endswith(_TEMPORARY)


def is_inside(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies in it."""
    path, folder = os.path.normcase(path), os.path.normcase(folder)
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file that is new or has another signature than before.

    Parameters
    ----------
    root, path
        The watched folder and the absolute path of the file.
    name
        Path relative to ``root``, with ``/`` as separator.
    signature
        (size in bytes, modification time in ns).
    """

    root: str
    path: str
    name: str
    signature: Signature


@dataclass(slots=True)
class Changes:
    """What one look found.

    Parameters
    ----------
    seen
        New and changed files by path.
    gone
        Paths of files that are not there any more (never files of a missing folder).
    appeared
        Watched folders that are there now, and were not or were others before.
    """

    seen: dict[str, Sighting] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    appeared: list[str] = field(default_factory=list)


class Root:
    """A watched folder."""

    __slots__ = ("directory", "path", "real", "trusted")

    def __init__(self, path: str) -> None:
        self.path = path
        self.real = path
        self.directory: Directory | None = None  # None while the folder is missing
        self.trusted = True  # directory times show changes


class Directory:
    """What is known of one directory; ``entries`` maps a name to what it is (None: ignored)."""

    __slots__ = (
        "alive",
        "changed_at",
        "entries",
        "inode",
        "listed_at",
        "mtime_ns",
        "parent",
        "path",
        "prefix",
        "real_link",
        "restless",
        "root",
        "visit",
    )

    def __init__(self, path: str, prefix: str, root: Root, parent: Directory | None) -> None:
        self.path = path
        self.prefix = prefix  # relative to the root, "" or ending in "/"
        self.root = root
        self.parent = parent
        self.real_link: str | None = None  # where it leads, if it is a link
        self.entries: dict[str, Signature | Directory | None] = {}
        self.inode = (0, 0)
        self.mtime_ns = -1
        self.changed_at = -float("inf")
        self.listed_at = -float("inf")
        self.restless = False  # a name in it could not be examined: list again
        self.alive = True
        self.visit = 0
