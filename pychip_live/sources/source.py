"""What a source of files is, what it hands out, and how it says what it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from pychip_live.sources.tree import Signature

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


class Leftover(NamedTuple):
    """A file that gave no frame, and what is awaited of it or wrong with it."""

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


class Source(Protocol):
    """What the run loop asks of a source of files; entered to start it, left to stop it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def take(self, timeout: float) -> Arrival | None:
        """Return the next complete file, or None when there is none within ``timeout`` s."""

    def wait(self, timeout: float) -> None:
        """Return when there is something to take or refused, or after ``timeout`` s."""

    def retry(self, arrival: Arrival, awaited: str) -> None:
        """Give back a file that could not be read after all."""

    def refused(self) -> list[Leftover]:
        """Return the files that can never become frames, each once."""

    def leftovers(self) -> list[Leftover]:
        """Return the files that are not complete (yet)."""

    def status(self) -> SourceStatus:
        """Return what the source is doing now."""

    def idle_s(self) -> float:
        """Return for how long nothing changed, s; infinite for a source that is exhausted."""

    def baseline(self) -> set[tuple[Path, Signature]]:
        """Return (path, signature) of the files that are ignored since they were there before."""
