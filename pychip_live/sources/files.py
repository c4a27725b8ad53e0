"""A finite source: the files and folders given to ``analyze``, once, in natural order.

Nothing is waited for: a file that is incomplete now is left over. One that is complete in
structure is taken at its word, since its owner says that it is done.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Self

from pychip_live.errors import ReadError, UsageError
from pychip_live.readers import SUFFIXES, evidence
from pychip_live.sources.order import natural
from pychip_live.sources.source import Arrival, Leftover, SourceStatus
from pychip_live.sources.tree import signature_of


class FileSource:
    """Hands out given files in order.

    Parameters
    ----------
    paths
        Files, and folders that are searched with all below them.

    Raises
    ------
    UsageError
        If a path does not exist, or no file is found.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = list(dict.fromkeys(file for path in paths for file in _expand(path)))
        if not self._files:
            raise UsageError(
                f"no frame in {', '.join(str(p) for p in paths)}; files end in "
                f"{' '.join(sorted(SUFFIXES))}"
            )
        self._lock = threading.Lock()
        self._next = 0
        self._exhausted = False
        self._refusals: list[Leftover] = []
        self._leftovers: list[Leftover] = []

    @property
    def total(self) -> int:
        """Number of files."""
        return len(self._files)

    @property
    def taken(self) -> int:
        """Number of files handed out or put aside so far."""
        return self._next

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def take(self, timeout: float) -> Arrival | None:
        """Return the next complete file, None after the last one."""
        while self._next < len(self._files):
            path, name = self._files[self._next]
            self._next += 1
            signature = (0, 0)
            try:
                signature = signature_of(path.stat())
                shown = evidence(path)
            except ReadError as error:
                with self._lock:
                    self._refusals.append(Leftover(path, name, signature, error.reason))
            except OSError as error:
                self._leave(path, name, signature, f"cannot be read ({error.strerror or error})")
            else:
                if shown.complete or shown.suspicious:
                    return Arrival(path, name, signature, time.time())
                self._leave(path, name, signature, shown.awaited)
        self._exhausted = True
        return None

    def wait(self, timeout: float) -> None:
        """Sleep: after the last file nothing comes any more."""
        time.sleep(timeout)

    def retry(self, arrival: Arrival, awaited: str) -> None:
        """Leave a file over that could not be read after all."""
        self._leave(arrival.path, arrival.name, arrival.signature, awaited)

    def refused(self) -> list[Leftover]:
        """Return the files refused since the last call."""
        with self._lock:
            refusals, self._refusals = self._refusals, []
        return refusals

    def leftovers(self) -> list[Leftover]:
        """Return the files that were not complete."""
        with self._lock:
            return list(self._leftovers)

    def baseline(self) -> set[tuple[Path, tuple[int, int]]]:
        """Return nothing: every given file counts."""
        return set()

    def status(self) -> SourceStatus:
        """Return how many files are to come."""
        return SourceStatus(self.total - self._next, (), 0, (), 0, "")

    def idle_s(self) -> float:
        """Return infinity once a caller came back after the last file, else 0."""
        return inf if self._exhausted else 0.0

    def _leave(self, path: Path, name: str, signature: tuple[int, int], awaited: str) -> None:
        with self._lock:
            self._leftovers.append(Leftover(path, name, signature, awaited))


def _expand(path: Path) -> Iterator[tuple[Path, str]]:
    """Absolute paths, and names relative to the given folder (or to the file's own)."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow links)
    if absolute.is_dir():
        names = (
            (file, file.relative_to(absolute).as_posix())
            for file in absolute.rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
        yield from sorted(names, key=lambda each: natural(each[1]))
    elif absolute.exists():
        yield absolute, absolute.name
    else:
        raise UsageError(f"{path} does not exist")
