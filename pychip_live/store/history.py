"""Reading a run record, while the run goes on or long after; never writes."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.embedding import Embedding
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.result import FrameResult
from pychip_live.core.support import SupportSet
from pychip_live.errors import RecordBusyError, RecordError
from pychip_live.store.codec import (
    StoredFrame,
    decode_embedding,
    decode_fractions,
    decode_labels,
    decode_mask,
    decode_probabilities,
    decode_prototypes,
    read_frame,
)
from pychip_live.store.schema import check_kind, connect, require_run, translated

_COUNTS = "frame NOT IN (SELECT sequence FROM frames WHERE superseded_by IS NOT NULL)"
"""The list is of an index that is nearly empty, so curves need not look into ``frames``."""
_CHUNK = 64
"""Frames read in one statement: no snapshot is held while the caller works on them."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run was done with, and how it ended (``status`` is None while it goes on)."""

    uuid: str
    profile_name: str
    profile_hash: str
    description: dict[str, str]
    sources: tuple[str, ...]
    started_at: datetime
    finished_at: datetime | None
    status: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Revision:
    """A support set that was in force; ``class_ids`` are its classes with examples."""

    number: int
    made_at: datetime
    profile_hash: str
    support: SupportSet
    class_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Phase fractions of all frames that have a result at one revision, by sequence.

    Parameters
    ----------
    revision, class_ids
        What they were counted with; ``k`` classes.
    sequence, n_chips, n_unknown
        ``(n,)`` int64.
    share, low, high
        ``(n, k)`` float64 with the 95 % interval; NaN where no chip is classified.
    """

    revision: int
    class_ids: tuple[int, ...]
    sequence: NDArray[np.int64]
    n_chips: NDArray[np.int64]
    n_unknown: NDArray[np.int64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StoredEmbedding:
    """A frame as it is labelled again; ``masked`` is ``(n_chips,)`` or None for no chip."""

    sequence: int
    embedding: Embedding
    masked: NDArray[np.bool_] | None
    rows: int
    cols: int


class History:
    """A run record, read only. Use it from any thread; close it or use it as a context.

    Raises
    ------
    RecordError
        The folder holds no run, or one of another schema version.
    RecordBusyError
        The record cannot be read just now.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = threading.RLock()
        require_run(folder)
        with translated(folder):
            self._connection = connect(folder, "ro")
            self._connection.row_factory = sqlite3.Row
            try:
                check_kind(self._connection, folder)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the record."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the run ----------------------------------------------------------------------------

    @property
    def info(self) -> RunInfo:
        """What the run was done with, and how it ended."""
        row = self._rows("SELECT * FROM run")[0]
        return RunInfo(
            uuid=row["uuid"],
            profile_name=row["profile_name"],
            profile_hash=row["profile_hash"],
            description=json.loads(row["description"]),
            sources=tuple(json.loads(row["sources"])),
            started_at=datetime.fromisoformat(row["started_at"]),
            finished_at=(
                datetime.fromisoformat(row["finished_at"]) if row["finished_at"] else None
            ),
            status=row["status"],
            reason=row["reason"],
        )

    def count(self) -> tuple[int, int]:
        """Return the number of frames that were analysed, and of those that were skipped."""
        n, skipped = self._rows(
            "SELECT count(*), coalesce(sum(skipped), 0) FROM frames WHERE superseded_by IS NULL"
        )[0]
        return n - skipped, skipped

    def superseded(self) -> int:
        """Return the number of recorded versions that a newer one has taken the place of."""
        rows = self._rows("SELECT count(*) FROM frames WHERE superseded_by IS NOT NULL")
        return int(rows[0][0])

    def revisions(self) -> list[Revision]:
        """Return all revisions, in the order in which they came into force."""
        return [
            Revision(
                row["number"],
                datetime.fromisoformat(row["made_at"]),
                row["profile_hash"],
                SupportSet.model_validate_json(row["support"]),
                tuple(json.loads(row["class_ids"])),
            )
            for row in self._rows("SELECT * FROM revisions ORDER BY entered")
        ]

    def revision(self, number: int) -> Revision:
        """Return one revision; RecordError where there is none."""
        for revision in self.revisions():
            if revision.number == number:
                return revision
        raise RecordError(f"{self.folder} has no revision {number}")

    def prototypes(self, number: int) -> Prototypes | None:
        """Return what frames were classified with at a revision; None without examples."""
        rows = self._rows(
            "SELECT embedding_id, class_ids, prototypes FROM revisions WHERE number = ?", number
        )
        if not rows or rows[0]["prototypes"] is None:
            return None
        class_ids = tuple(json.loads(rows[0]["class_ids"]))
        return decode_prototypes(number, rows[0]["embedding_id"], class_ids, rows[0]["prototypes"])

    def current_revision(self) -> int | None:
        """Return the revision a curve is drawn at; None before the first result.

        The latest one that is complete: every frame with a stored embedding of its id has a
        result. While frames are still being labelled again, that with the most results.
        """
        counted = dict(
            tuple(row)
            for row in self._rows(
                f"SELECT revision, count(*) FROM results WHERE {_COUNTS} GROUP BY 1"
            )
        )
        if not counted:
            return None
        entered = [
            row["number"]
            for row in self._rows("SELECT number FROM revisions ORDER BY entered DESC")
            if row["number"] in counted
        ]
        for number in entered:
            lacking = self._rows(
                "SELECT 1 FROM embeddings e JOIN revisions v USING (embedding_id)"
                " LEFT JOIN results r ON r.revision = v.number AND r.frame = e.frame"
                f" WHERE v.number = ? AND r.frame IS NULL AND e.{_COUNTS} LIMIT 1",
                number,
            )
            if not lacking:
                return int(number)
        return int(max(entered, key=lambda number: counted[number]))

    # -- all frames -------------------------------------------------------------------------

    def frames(self, after: int = 0) -> Iterator[StoredFrame]:
        """Yield all that is recorded, skipped and superseded too, by sequence."""
        while rows := self._rows(
            "SELECT * FROM frames WHERE sequence > ? ORDER BY sequence LIMIT 1000", after
        ):
            yield from map(read_frame, rows)
            after = rows[-1]["sequence"]

    def index(self) -> list[tuple[int, str, str | None, str]]:
        """Return sequence, name, acquired_at, recorded_at (ISO 8601) of the frames that count."""
        rows = self._rows(
            "SELECT sequence, name, acquired_at, recorded_at FROM frames WHERE NOT skipped"
            " AND superseded_by IS NULL ORDER BY sequence"
        )
        return [tuple(row) for row in rows]

    def curve(self, revision: int) -> Curve:
        """Return the phase fractions of all frames at a revision."""
        rows = self._rows(
            "SELECT frame, n_chips, n_unknown, fractions FROM results WHERE revision = ?"
            f" AND {_COUNTS} ORDER BY frame",
            revision,
        )
        class_ids = self.revision(revision).class_ids
        counts = np.array([tuple(row)[:3] for row in rows], np.int64).reshape(-1, 3)
        blobs = b"".join(row[3] for row in rows)
        numbers = np.frombuffer(blobs, "<f8").reshape(-1, 3, len(class_ids))
        return Curve(revision, class_ids, *counts.T, *numbers.transpose(1, 0, 2))

    def shares(
        self, revision: int | None = None
    ) -> Iterator[tuple[str, dict[str, tuple[float, float, float]]]]:
        """Yield the frame's name and share, low and high by class name, by sequence.

        ``revision`` is the current one if not given.
        """
        number = self.current_revision() if revision is None else revision
        if number is None:
            return
        with self.snapshot():
            support = self.revision(number).support
            curve = self.curve(number)
            names = {sequence: name for sequence, name, *_ in self.index()}
        classes = [support.by_id(class_id).name for class_id in curve.class_ids]
        numbers = np.stack([curve.share, curve.low, curve.high], axis=2).tolist()
        for sequence, frame in zip(curve.sequence.tolist(), numbers, strict=True):
            yield names[sequence], dict(zip(classes, map(tuple, frame), strict=True))

    def embeddings(self, without_result_at: int | None = None) -> Iterator[StoredEmbedding]:
        """Yield stored embeddings of the frames that count, newest first.

        Parameters
        ----------
        without_result_at
            Only of frames that have no result at that revision yet.
        """
        before = 2**62
        while rows := self._rows(
            "SELECT frame, rows, cols, embedding_id, masked, data FROM embeddings e"
            " JOIN frames f ON f.sequence = e.frame WHERE e.frame < ?1"
            " AND f.superseded_by IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM results r WHERE r.revision = ?2 AND r.frame = e.frame)"
            f" ORDER BY e.frame DESC LIMIT {_CHUNK}",
            before,
            without_result_at,
        ):
            for sequence, n_rows, n_cols, embedding_id, masked, data in rows:
                n = n_rows * n_cols
                yield StoredEmbedding(
                    sequence,
                    decode_embedding(embedding_id, data, n),
                    decode_mask(masked, n),
                    n_rows,
                    n_cols,
                )
            before = rows[-1]["frame"]

    def frames_without_embedding(
        self, without_result_at: int | None = None
    ) -> Iterator[StoredFrame]:
        """Yield analysed frames whose embedding was not kept, newest first."""
        rows = self._rows(
            "SELECT * FROM frames f WHERE NOT skipped AND superseded_by IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM embeddings e WHERE e.frame = f.sequence) AND NOT EXISTS"
            " (SELECT 1 FROM results r WHERE r.revision = ? AND r.frame = f.sequence)"
            " ORDER BY sequence DESC",
            without_result_at,
        )
        yield from map(read_frame, rows)

    # -- one frame --------------------------------------------------------------------------

    def frame(self, sequence: int) -> StoredFrame:
        """Return one frame; RecordError where there is none."""
        rows = self._rows("SELECT * FROM frames WHERE sequence = ?", sequence)
        if not rows:
            raise RecordError(f"{self.folder} has no frame {sequence}")
        return read_frame(rows[0])

    def result(self, sequence: int, revision: int) -> FrameResult | None:
        """Return a frame's result at a revision, or None where it has none."""
        rows = self._rows(
            "SELECT rows, cols, labels, probabilities, n_chips, n_unknown, fractions, class_ids"
            " FROM labels l JOIN results r USING (frame, revision)"
            " JOIN revisions v ON v.number = r.revision WHERE l.frame = ? AND l.revision = ?",
            sequence,
            revision,
        )
        if not rows:
            return None
        n_rows, n_cols, labels, probabilities, n_chips, n_unknown, fractions, ids = rows[0]
        return FrameResult(
            revision,
            decode_labels(labels, n_rows, n_cols),
            decode_probabilities(probabilities, n_rows, n_cols),
            decode_fractions(tuple(json.loads(ids)), n_chips, n_unknown, fractions),
        )

    def thumbnail(self, sequence: int) -> bytes | None:
        """Return the encoded thumbnail of a frame, if it has one."""
        rows = self._rows("SELECT image FROM thumbnails WHERE frame = ?", sequence)
        return rows[0][0] if rows else None

    def events(self, kind: str | None = None) -> list[tuple[datetime, str, int | None, Any]]:
        """Return when, kind, frame and content of all events, or of those of one kind."""
        rows = self._rows(
            "SELECT at, kind, frame, content FROM events WHERE ?1 IS NULL OR kind = ?1 ORDER BY id",
            kind,
        )
        return [(datetime.fromisoformat(r[0]), r[1], r[2], json.loads(r[3])) for r in rows]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment; other threads wait, so be quick."""
        with self._guard, translated(self.folder):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def _rows(self, sql: str, *values: object) -> list[Any]:
        with self._guard, translated(self.folder):
            return self._connection.execute(sql, values).fetchall()


def open_history(folder: Path) -> History:
    """Open the record of a run folder for reading (see `History`)."""
    return History(folder)


def newest_unfinished(runs: Path, profile_name: str) -> Path | None:
    """Return the run folder to go on with: the latest of that profile that did not end as done.

    A run that was stopped or failed counts as unfinished; an analysis of given files, and what is
    no readable run, is passed over.
    """
    found: list[tuple[datetime, Path]] = []
    for folder in runs.iterdir() if runs.is_dir() else ():
        try:
            with History(folder) as history:
                info = history.info
        except RecordBusyError:
            raise  # it may be the one: starting another run beside it would split the session
        except RecordError:
            continue
        watched = info.description.get("command") != "analyze"
        if watched and info.profile_name == profile_name and info.status != "done":
            found.append((info.started_at, folder))
    return max(found)[1] if found else None
