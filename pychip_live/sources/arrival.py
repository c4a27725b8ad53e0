"""What a source of files hands out, and how it says what it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pychip_live.errors import ReadError
from pychip_live.sources.scan import Signature

SHOWN = 20
"""Pending files named in a status."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A complete file, ready to be read.

    Parameters
    ----------
    path
        Absolute path.
    name
        Path relative to its watched folder, with ``/`` as separator.
    signature
        (size in bytes, modification time in ns) when the evidence said complete.
    seen_at
        ``time.time()`` when its structure was first seen complete in this state, s. A quiet time
        after that counts as lag.
    """

    path: Path
    name: str
    signature: Signature
    seen_at: float


class Refusal(NamedTuple):
    """A file that can never become a frame as it is, and why."""

    path: Path
    name: str
    signature: Signature
    error: ReadError


class Leftover(NamedTuple):
    """A file that is not complete, and what is awaited."""

    path: Path
    name: str
    signature: Signature
    awaited: str


class Pending(NamedTuple):
    """A file that is not complete, what is awaited, and since when (``time.time()``, s)."""

    name: str
    awaited: str
    since: float


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What the source is doing.

    Parameters
    ----------
    waiting
        Files not handed out yet that are complete or not examined yet.
    pending, pending_count
        The oldest incomplete files, at most ``SHOWN``, and the number of all.
    missing_folders
        Watched folders that are not there or cannot be read; they are waited for.
    vanished
        Files that were deleted or renamed before they were taken.
    last_event
        The last thing worth a word, or "".
    """

    waiting: int
    pending: tuple[Pending, ...]
    pending_count: int
    missing_folders: tuple[Path, ...]
    vanished: int
    last_event: str
