"""The file of a run as its one writer sees it: lock, connections, transactions, recovery."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pychip_live.errors import RecordBusyError, RecordError, RecordLockedError
from pychip_live.store.history import History
from pychip_live.store.schema import FILE, LOCK, check_kind, connect, primary_code, translated


def own(folder: Path) -> FileLock:
    """Take the lock of a run; the system frees it when the process dies.

    Raises
    ------
    RecordLockedError
        Another process has it.
    """
    owner = FileLock(folder / LOCK, timeout=0, thread_local=False)
    with translated(folder):
        try:
            owner.acquire()
        except Timeout as error:
            raise RecordLockedError(
                f"{folder}: another process works on this run; stop it first, or start a new run"
            ) from error
    return owner


class Database:
    """Writing access to a run. Methods may be called from any thread.

    Parameters
    ----------
    folder
        The run folder.
    owner
        Held lock of the run; released by `close`.
    """

    def __init__(self, folder: Path, owner: FileLock) -> None:
        self.folder = folder
        self._owner = owner
        self._guard = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._reader: History | None = None
        self._stamp = (0, 0)
        self._uuid = ""

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing; RecordBusyError where it can be tried again."""
        with self._guard, translated(self.folder):
            connection = self._connect()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                self._recover(connection, error)
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the writing connection for a quick look."""
        with self._guard, translated(self.folder):
            yield self._connect()

    def history(self) -> History:
        """Return a reader of its own: long reads do not hold up the writer."""
        with self._guard, translated(self.folder):
            self._connect()
            if self._reader is None:
                self._reader = History(self.folder)
            return self._reader

    def close(self) -> None:
        """Fold the log into the file, close it and let go of the run."""
        with self._guard:
            try:
                self._drop(fold=True)
            finally:
                self._owner.release()

    def _connect(self) -> sqlite3.Connection:
        """Return the connection, made again where the last one was lost.

        An open file outlives its name: without a look at the path, frames would be written into
        a file that was deleted or is on a share that went away.
        """
        try:
            status = (self.folder / FILE).stat()
        except OSError as error:
            self._drop()
            raise RecordBusyError(
                f"{self.folder / FILE} is gone ({error.strerror}); bring back the disk, share or "
                "folder, or stop the run"
            ) from error
        stamp = (status.st_dev, status.st_ino)
        if self._writer is not None and stamp == self._stamp:
            return self._writer
        self._drop()
        if self._uuid:
            # the lock may have gone with the share
            self._owner.release()
            self._owner = own(self.folder)
        connection = connect(self.folder, "rw")
        try:
            check_kind(connection, self.folder)
            connection.execute("PRAGMA journal_mode = WAL")
            # a power cut may cost the last frames, which are found again, never the database
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            (found,) = connection.execute("SELECT uuid FROM run").fetchone()
            if self._uuid and found != self._uuid:
                raise RecordError(f"{self.folder / FILE} was replaced by the record of another run")
        except BaseException:
            connection.close()
            raise
        self._writer, self._stamp, self._uuid = connection, stamp, found
        return connection

    def _recover(self, connection: sqlite3.Connection, error: BaseException) -> None:
        """Take back what was begun; a connection that met an I/O error is not used again."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()
            return
        keep = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT)
        if isinstance(error, sqlite3.Error) and primary_code(error) not in keep:
            self._drop()

    def _drop(self, *, fold: bool = False) -> None:
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if reader is not None:
            reader.close()
        if writer is not None:
            # refused while others read: the log then stays beside the file
            with suppress(sqlite3.Error):
                if fold:
                    writer.execute("PRAGMA journal_mode = DELETE")
            with suppress(sqlite3.Error):
                writer.close()
