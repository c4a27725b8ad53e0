"""The layout of a run record, and how its file is opened: one SQLite database in WAL mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pychip_live.errors import RecordBusyError, RecordError

FILE = "run.sqlite"
LOCK = "run.lock"
APPLICATION_ID = 0x70634C76  # "pcLv"
VERSION = 1
TIMEOUT_S = 1.0
"""How long a statement waits for another connection before it counts as busy."""

# Large blobs (labels, embeddings, thumbnails) live apart from the narrow tables that curves and
# lists are read from: a scan must not step over them. 16 KiB pages keep their chains short.
SCHEMA = f"""
PRAGMA page_size = 16384;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE run (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    uuid TEXT NOT NULL, profile_name TEXT NOT NULL, profile_hash TEXT NOT NULL,
    description TEXT NOT NULL, sources TEXT NOT NULL, embedding_budget INTEGER NOT NULL,
    started_at TEXT NOT NULL, finished_at TEXT, status TEXT, reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE revisions (
    number INTEGER PRIMARY KEY, entered INTEGER NOT NULL UNIQUE, made_at TEXT NOT NULL,
    profile_hash TEXT NOT NULL UNIQUE, support TEXT NOT NULL, class_ids TEXT NOT NULL,
    embedding_id TEXT, prototypes BLOB
);
CREATE TABLE frames (
    sequence INTEGER PRIMARY KEY, name TEXT NOT NULL, path TEXT,
    plane INTEGER NOT NULL, n_planes INTEGER NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL,
    acquired_at TEXT, seen_at TEXT NOT NULL, recorded_at TEXT NOT NULL,
    height INTEGER, width INTEGER, dtype TEXT, pixel_size REAL, unit TEXT,
    exposure_s REAL, voltage_v REAL, magnification REAL, stage TEXT,
    low REAL, high REAL, saturated REAL, n_invalid INTEGER,
    chip INTEGER, rows INTEGER, cols INTEGER, cropped_bottom INTEGER, cropped_right INTEGER,
    stages TEXT, skipped INTEGER NOT NULL, reason TEXT NOT NULL,
    superseded_by INTEGER REFERENCES frames DEFERRABLE INITIALLY DEFERRED
);
-- one version of a path and plane counts; streams have no path
CREATE UNIQUE INDEX frame_once ON frames (path, plane, skipped)
    WHERE path IS NOT NULL AND superseded_by IS NULL;
CREATE INDEX superseded ON frames (sequence) WHERE superseded_by IS NOT NULL;
CREATE TABLE results (
    revision INTEGER NOT NULL REFERENCES revisions, frame INTEGER NOT NULL REFERENCES frames,
    n_chips INTEGER NOT NULL, n_unknown INTEGER NOT NULL, fractions BLOB NOT NULL,
    PRIMARY KEY (revision, frame)
) WITHOUT ROWID;
CREATE TABLE labels (
    frame INTEGER NOT NULL REFERENCES frames, revision INTEGER NOT NULL REFERENCES revisions,
    rows INTEGER NOT NULL, cols INTEGER NOT NULL, labels BLOB NOT NULL,
    probabilities BLOB NOT NULL, PRIMARY KEY (frame, revision)
);
CREATE TABLE embeddings (
    frame INTEGER PRIMARY KEY REFERENCES frames, embedding_id TEXT NOT NULL,
    masked BLOB, data BLOB NOT NULL
);
CREATE TABLE thumbnails (frame INTEGER PRIMARY KEY REFERENCES frames, image BLOB NOT NULL);
CREATE TABLE ignored (
    path TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    PRIMARY KEY (path, size, mtime_ns)
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL,
    frame INTEGER REFERENCES frames, content TEXT NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""

_RETRY = {
    sqlite3.SQLITE_BUSY: "another program keeps the database locked; close it",
    sqlite3.SQLITE_LOCKED: "another program keeps the database locked; close it",
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_IOERR: "the disk or share reports an error; check that it is there",
    sqlite3.SQLITE_READONLY: "it cannot be written to; check disk, share and permissions",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check disk, share and permissions",
    sqlite3.SQLITE_PERM: "access is denied; check the permissions",
    sqlite3.SQLITE_PROTOCOL: "another program keeps the database locked; close it",
    sqlite3.SQLITE_NOMEM: "memory is exhausted; close other programs",
}


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's result code without its extension; 255 where Python itself complains."""
    return int(getattr(error, "sqlite_errorcode", -1)) & 0xFF


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into RecordBusyError or RecordError."""
    try:
        yield
    except sqlite3.Error as error:
        remedy = _RETRY.get(primary_code(error))
        if remedy:
            raise RecordBusyError(f"{folder / FILE}: {error}: {remedy}") from error
        raise RecordError(
            f"{folder / FILE}: {error}; keep a copy of the folder and start a new run"
        ) from error
    except OSError as error:
        raise RecordBusyError(
            f"{folder}: {error.strerror or error}; check that disk or share is there"
        ) from error


def connect(folder: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """Open the database of a run folder in autocommit mode, for any thread.

    Raises
    ------
    sqlite3.Error
        As SQLite has it; use it inside `translated`.
    """
    connection = _open(folder, f"mode={mode}")
    if mode != "ro":
        return connection
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        # WAL needs a writable folder even to read; without a log the file is all there is
        log = folder / f"{FILE}-wal"
        retry = primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not retry or (log.exists() and log.stat().st_size):
            raise
        return _open(folder, "mode=ro&immutable=1")
    return connection


def _open(folder: Path, options: str) -> sqlite3.Connection:
    path = (folder.absolute() / FILE).as_posix()
    start = "file://" if path.startswith("/") else "file:///"
    connection = sqlite3.connect(
        f"{start}{quote(path)}?{options}",
        uri=True,
        timeout=TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = _decode
    return connection


def check_kind(connection: sqlite3.Connection, folder: Path) -> None:
    """RecordError unless the database is a run record of this version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise RecordError(f"{folder / FILE} is not the record of a run; name a run folder")
    if version != VERSION:
        raise RecordError(
            f"{folder / FILE} has schema version {version}, this program knows {VERSION}; "
            "use the version of pychip-live that wrote it, or a newer one"
        )


def require_run(folder: Path) -> None:
    """RecordError where the folder holds no record at all."""
    if not (folder / FILE).is_file():
        raise RecordError(f"{folder} is not a run folder: it has no {FILE}; name a run folder")


# File names need not be text: on Linux undecodable bytes become lone surrogates, on Windows names
# may hold them. They are bound as bytes (CAST(? AS TEXT)) and survive the way there and back.
def encode(text: str) -> bytes:
    """Bytes to bind where a text may hold lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
