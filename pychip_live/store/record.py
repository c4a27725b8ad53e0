"""Writing a run record: one SQLite file a run, one writer, one transaction a frame."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pychip_live.core.embedding import Embedding
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.result import FrameFacts, FrameIdentity, FrameResult, FrameTimes
from pychip_live.core.support import SupportSet
from pychip_live.errors import RecordError
from pychip_live.store.codec import (
    StoredFrame,
    check_result,
    encode_embedding,
    encode_mask,
    encode_prototypes,
    facts_row,
    identity_row,
    insert_statement,
    labels_row,
    result_row,
)
from pychip_live.store.database import Database, own
from pychip_live.store.history import StoredEmbedding
from pychip_live.store.schema import SCHEMA, connect, encode, require_run, translated

__all__ = ["RunRecord", "StoredEmbedding", "StoredFrame"]

Signature = tuple[int, int]


class RunRecord:
    """The only writer of a run. Methods may be called from any thread.

    Made by `create`, `resume` or `reopen`; close it, or use it as a context. Every method may raise
    RecordBusyError (disk full, share gone, database locked): nothing of the call is written then,
    and the same call can be repeated until it succeeds. Other errors of the database are
    RecordError.

    Parameters
    ----------
    folder
        The run folder.
    owner
        Held lock of the run.
    """

    def __init__(self, folder: Path, owner: FileLock) -> None:
        self.folder = folder
        self._database = Database(folder, owner)
        with self._database.reading() as connection:
            self.profile_hash: str
            self.profile_hash, self._budget = connection.execute(
                "SELECT profile_hash, embedding_budget FROM run"
            ).fetchone()
            (self._embedded,) = connection.execute(
                "SELECT coalesce(sum(length(data)), 0) FROM embeddings"
            ).fetchone()

    @classmethod
    def create(
        cls,
        runs: Path,
        *,
        profile_name: str,
        profile_hash: str,
        description: Mapping[str, str],
        sources: Sequence[str],
        now: datetime,
        embedding_budget: int,
    ) -> Self:
        """Make a run folder with an empty record in it.

        Parameters
        ----------
        runs
            Folder of the run folders; made if missing.
        profile_name, profile_hash
            Of the profile the run starts with.
        description
            Versions, backbone, hash of the weights, device.
        sources
            Where the frames come from.
        now
            Aware; its local time names the folder.
        embedding_budget
            Bytes of embeddings to store at most.
        """
        with translated(runs):
            runs.mkdir(parents=True, exist_ok=True)
            folder = _new_folder(runs, f"{now.astimezone():%Y%m%d-%H%M%S}_{_slug(profile_name)}")
        owner = own(folder)
        try:
            with translated(folder):
                connection = connect(folder, "rwc")
                try:
                    connection.executescript(SCHEMA)
                    connection.execute(
                        "INSERT INTO run (id, uuid, profile_name, profile_hash, description,"
                        " sources, embedding_budget, started_at)"
                        " VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            str(uuid.uuid4()), profile_name, profile_hash,
                            json.dumps(dict(description)), json.dumps(list(sources)),
                            int(embedding_budget), now.isoformat(),
                        ),
                    )  # fmt: skip
                    connection.execute("COMMIT")
                finally:
                    connection.close()
            return cls(folder, owner)
        except BaseException:
            owner.release()
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @classmethod
    def resume(cls, folder: Path, *, now: datetime) -> Self:
        """Go on with a run, whatever its end; the same errors as `reopen`."""
        record = cls.reopen(folder)
        try:
            record.restart(now)
        except BaseException:
            record.close()
            raise
        return record

    @classmethod
    def reopen(cls, folder: Path) -> Self:
        """Open a run to label it again; how it ended stays as it is.

        Raises
        ------
        RecordLockedError
            Another process works on it.
        RecordError
            The folder is no run, or of another schema version.
        """
        require_run(folder)
        owner = own(folder)
        try:
            return cls(folder, owner)
        except BaseException:
            owner.release()
            raise

    def restart(self, now: datetime) -> None:
        """Take back that the run ended."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE run SET status = NULL, finished_at = NULL, reason = ''")
            _add_event(connection, now, "resumed", None, {})

    # -- the run ----------------------------------------------------------------------------

    def add_revision(
        self,
        *,
        support: SupportSet,
        profile_hash: str,
        prototypes: Prototypes | None,
        now: datetime,
    ) -> int:
        """Enter the support set in force and return the number its results are recorded under.

        That is the set's own revision, or the next free number where the run has used it for
        another profile hash. A hash that was entered before keeps its number and is in force
        again.
        """
        with self._database.transaction() as connection:
            (entered,) = connection.execute(
                "SELECT coalesce(max(entered), 0) + 1 FROM revisions"
            ).fetchone()
            hashes = dict(connection.execute("SELECT profile_hash, number FROM revisions"))
            if profile_hash in hashes:
                number = int(hashes[profile_hash])
                connection.execute(
                    "UPDATE revisions SET entered = ? WHERE number = ? AND entered < ?",
                    (entered, number, entered - 1),
                )
                return number
            number = support.revision
            if number in hashes.values():
                number = max(hashes.values()) + 1
            connection.execute(
                "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    number, entered, now.isoformat(), profile_hash, support.model_dump_json(),
                    json.dumps(prototypes.class_ids if prototypes else []),
                    prototypes.embedding_id if prototypes else None,
                    encode_prototypes(prototypes) if prototypes else None,
                ),
            )  # fmt: skip
            return number

    def adopt(self, profile_hash: str) -> None:
        """Note that the run took over an edited profile."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE run SET profile_hash = ?", (profile_hash,))
        self.profile_hash = profile_hash

    def ignore(self, items: Iterable[tuple[Path, Signature]], *, now: datetime) -> None:
        """Remember files that are not to be analysed: what ``--existing new`` found.

        That it was told, even of no file, is remembered too: see `watched`.
        """
        rows = [(encode(str(path)), *signature) for path, signature in items]
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO ignored VALUES (CAST(? AS TEXT), ?, ?)", rows
            )
            _add_event(connection, now, "watching", None, {"ignored": len(rows)})

    def add_event(
        self, kind: str, content: object, *, now: datetime, frame: int | None = None
    ) -> None:
        """Keep what happened beside the frames: edit, alert, annotation, pause, drop.

        ``content`` is anything JSON can hold.
        """
        with self._database.transaction() as connection:
            _add_event(connection, now, kind, frame, content)

    def finish(
        self, status: Literal["done", "failed", "stopped"], reason: str = "", *, now: datetime
    ) -> None:
        """Write how the run ended."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE run SET status = ?, reason = CAST(? AS TEXT), finished_at = ?",
                (status, encode(reason), now.isoformat()),
            )

    def close(self) -> None:
        """Let go of the run. The log is folded in, so that it is one file to copy or mail."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- frames -----------------------------------------------------------------------------

    def commit(
        self,
        identity: FrameIdentity,
        facts: FrameFacts,
        times: FrameTimes,
        *,
        embedding: Embedding | None,
        masked: NDArray[np.bool_] | None,
        result: FrameResult | None,
        thumbnail: bytes | None,
    ) -> int:
        """Record a frame with all that belongs to it, in one transaction.

        A file (path, plane, signature, digest) that is recorded already stays as it is. An earlier
        version of the path and plane, skipped or not, is superseded: it stays in the record, but
        counts no more. So are planes that the new version of the file does not have.

        Parameters
        ----------
        identity, facts, times
            Of the frame.
        embedding, masked
            Of its chips, ``(n_chips, …)``; stored within the budget.
        result
            None for a frame without a support set.
        thumbnail
            Encoded image.

        Returns
        -------
        int
            Sequence: 1, 2, 3, … without a gap.
        """
        n_chips = facts.rows * facts.cols
        if embedding is not None and len(embedding.vectors) != n_chips:
            raise RecordError(
                f"{identity.name}: {len(embedding.vectors)} chips are embedded, but the grid has "
                f"{facts.rows} × {facts.cols}"
            )
        data = b"" if embedding is None else encode_embedding(embedding)
        fits = self._embedded + len(data) <= self._budget
        row = {
            **identity_row(identity),
            **facts_row(facts),
            "seen_at": times.seen_at.isoformat(),
            "recorded_at": times.recorded_at.isoformat(),
            "stages": json.dumps({name: float(s) for name, s in times.stages.items()}),
            "skipped": 0,
            "reason": b"",
        }
        with self._database.transaction() as connection:
            sequence, is_new = _insert_frame(connection, row)
            if not is_new:
                return sequence
            if result is not None:
                _insert_results(connection, [(sequence, result)])
            if embedding is not None and fits:
                connection.execute(
                    "INSERT INTO embeddings VALUES (?, ?, ?, ?)",
                    (sequence, embedding.id, encode_mask(masked), data),
                )
            if thumbnail is not None:
                connection.execute("INSERT INTO thumbnails VALUES (?, ?)", (sequence, thumbnail))
        if fits:
            self._embedded += len(data)
        return sequence

    def skip(
        self,
        identity: FrameIdentity,
        reason: str,
        *,
        seen_at: datetime,
        now: datetime,
        incomplete: bool = False,
    ) -> int:
        """Record that a file (or plane) was not analysed, and why; returns the sequence.

        It supersedes as in `commit`, unless it is ``incomplete``: then it is no version of a frame
        (yet), and the last complete one still counts.
        """
        row = {
            **identity_row(identity),
            "seen_at": seen_at.isoformat(),
            "recorded_at": now.isoformat(),
            "skipped": 1,
            "reason": encode(reason),
        }
        with self._database.transaction() as connection:
            return _insert_frame(connection, row, incomplete=incomplete)[0]

    def add_results(self, items: Sequence[tuple[int, FrameResult]]) -> None:
        """Record results of frames that are there, in one transaction.

        A frame that has a result at that revision keeps it.
        """
        with self._database.transaction() as connection:
            _insert_results(connection, items)

    # -- looking back -----------------------------------------------------------------------

    @property
    def n_frames(self) -> int:
        """Frames that were analysed."""
        return self._database.history().count()[0]

    @property
    def n_skipped(self) -> int:
        """Files and planes that were skipped."""
        return self._database.history().count()[1]

    def digests(self) -> dict[tuple[str, int], str]:
        """Return the digest of the version that counts of each path and plane."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT path, plane, digest FROM frames WHERE path IS NOT NULL AND digest != ''"
                " AND superseded_by IS NULL"
            )
            return {(path, plane): digest for path, plane, digest in rows}

    def places(self) -> dict[tuple[Signature, int, str], str]:
        """Return the path of each frame by signature, plane and digest: what a rename leaves."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT size, mtime_ns, plane, digest, path FROM frames WHERE path IS NOT NULL"
                " AND digest != '' AND NOT skipped"
            )
            return {
                ((size, mtime), plane, digest): path for size, mtime, plane, digest, path in rows
            }

    def done(self) -> list[tuple[Path, Signature]]:
        """Return path and signature of each file of which nothing is left to record."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT path, size, mtime_ns FROM frames WHERE path IS NOT NULL GROUP BY 1, 2, 3"
                # a skipped row without digest or planes speaks for the whole file
                " HAVING count(DISTINCT plane) >= max(n_planes)"
                " OR max(skipped AND digest = '' AND n_planes = 1)"
            )
            return [(Path(path), (size, mtime)) for path, size, mtime in rows]

    def ignored(self) -> list[tuple[Path, Signature]]:
        """Return what `ignore` was told."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT path, size, mtime_ns FROM ignored")
            return [(Path(path), (size, mtime)) for path, size, mtime in rows]

    @property
    def watched(self) -> bool:
        """Whether an earlier process came as far as `ignore`: all that came later is new."""
        return bool(self._database.history().events("watching"))

    def current_revision(self) -> int | None:
        """Return the revision a curve is drawn at (see `History.current_revision`)."""
        return self._database.history().current_revision()

    def embeddings(self, without_result_at: int | None = None) -> Iterator[StoredEmbedding]:
        """Yield stored embeddings, newest first (see `History.embeddings`)."""
        return self._database.history().embeddings(without_result_at)

    def frames_without_embedding(
        self, without_result_at: int | None = None
    ) -> Iterator[StoredFrame]:
        """Yield frames whose embedding was not kept (see `History.frames_without_embedding`)."""
        return self._database.history().frames_without_embedding(without_result_at)


def _insert_frame(
    connection: sqlite3.Connection, row: dict[str, object], *, incomplete: bool = False
) -> tuple[int, bool]:
    """Insert a frame; returns its sequence, and False where it was there already."""
    there = connection.execute(
        "SELECT sequence FROM frames WHERE path = CAST(:path AS TEXT) AND plane = :plane"
        " AND size = :size AND mtime_ns = :mtime_ns AND digest = :digest AND skipped = :skipped"
        " AND superseded_by IS NULL",
        row,
    ).fetchone()
    if there:
        return int(there[0]), False
    (last,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM frames").fetchone()
    row = {"sequence": last + 1, **row}
    older = "plane = :plane AND skipped" if incomplete else "(plane = :plane OR plane >= :n_planes)"
    connection.execute(
        "UPDATE frames SET superseded_by = :sequence WHERE path = CAST(:path AS TEXT)"
        f" AND superseded_by IS NULL AND {older}",
        row,
    )
    connection.execute(insert_statement("frames", row), row)
    return last + 1, True


def _insert_results(
    connection: sqlite3.Connection, items: Sequence[tuple[int, FrameResult]]
) -> None:
    rows = connection.execute("SELECT number, class_ids FROM revisions")
    revisions = {number: tuple(json.loads(ids)) for number, ids in rows}
    for sequence, result in items:
        check_result(sequence, result, revisions)
    connection.executemany(
        "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?)",
        (result_row(sequence, result) for sequence, result in items),
    )
    connection.executemany(
        "INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?, ?)",
        (labels_row(sequence, result) for sequence, result in items),
    )


def _add_event(
    connection: sqlite3.Connection, now: datetime, kind: str, frame: int | None, content: object
) -> None:
    connection.execute(
        "INSERT INTO events (at, kind, frame, content) VALUES (?, ?, ?, ?)",
        (now.isoformat(), kind, frame, json.dumps(content)),
    )


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-._")[:60] or "run"


def _new_folder(runs: Path, name: str) -> Path:
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
