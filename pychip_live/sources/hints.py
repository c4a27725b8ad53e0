"""Events of the file system, taken as hints where to look; never as the truth.

Network shares often send none, some systems send floods of false ones, and a limit on watches
can forbid them: so nothing depends on them but how soon a file is found.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

# Not the opened and closed-without-writing events: our own reading makes those.
_WANTED: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
_MOST = 10_000

logger = logging.getLogger(__name__)


class Hints(FileSystemEventHandler):
    """Collects the paths that events name.

    Parameters
    ----------
    wake
        Called from the observer's thread when there are new hints; must not block.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._paths: dict[str, None] = {}
        self._observer: BaseObserver | None = None
        self._watches: dict[str, ObservedWatch] = {}
        self._scheduling = threading.Lock()
        # watchdog 7 warns from its own thread when directories appear faster than it follows;
        # the watch is in place all the same, and an error in its place would end that thread.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        try:
            observer = Observer()
            observer.daemon = True
            observer.start()
            self._observer = observer
        except Exception as error:  # any failure of this helper leaves the re-scan at work
            logger.warning("no file events, folders are re-scanned only: %s", error)

    def watch(self, folder: str) -> None:
        """Watch a folder, or watch it again after it was away; returns at once."""
        # Setting up watches walks the whole tree, which takes minutes on a slow share.
        threading.Thread(
            target=self._schedule, args=(folder,), name="watch-folder", daemon=True
        ).start()

    def _schedule(self, folder: str) -> None:
        with self._scheduling:
            observer = self._observer
            if observer is not None:
                self._schedule_on(observer, folder)

    def _schedule_on(self, observer: BaseObserver, folder: str) -> None:
        try:
            old = self._watches.pop(folder, None)
            if old is not None:
                observer.unschedule(old)
        except Exception as error:
            logger.debug("the old watch of %s was gone already: %s", folder, error)
        try:
            self._watches[folder] = observer.schedule(
                self, folder, recursive=True, event_filter=_WANTED
            )
        except Exception as error:  # OSError for a limit, others from platform back ends
            logger.warning("no file events from %s, it is re-scanned only: %s", folder, error)
        else:
            self._add(folder)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note the paths of an event (called by watchdog)."""
        self._add(os.fsdecode(event.src_path))
        if event.dest_path:
            self._add(os.fsdecode(event.dest_path))

    def _add(self, path: str) -> None:
        with self._lock:
            if len(self._paths) < _MOST:  # beyond, the re-scan finds the rest
                self._paths[path] = None
        self._wake()

    def drain(self) -> list[str]:
        """Return the paths named since the last call, each once."""
        with self._lock:
            paths = list(self._paths)
            self._paths.clear()
        return paths

    def stop(self) -> None:
        """Stop watching; waits at most a few seconds."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=3.0)
            self._observer = None
