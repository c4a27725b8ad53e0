"""Label recorded frames again after an edit, from their stored embeddings; the network rests."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pychip_live.core.frame import digest
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.result import FrameResult
from pychip_live.engine.recipe import Recipe
from pychip_live.engine.step import embed, label, prepare
from pychip_live.errors import EmbeddingMismatchError, ReadError, RecordBusyError
from pychip_live.readers import open_file
from pychip_live.store.record import RunRecord, StoredEmbedding, StoredFrame

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Pause between two tries at a record that cannot be written just now."""
BATCH = 32
"""Frames a task and a transaction."""
T = TypeVar("T")
Labelled = list[tuple[int, FrameResult]]


@dataclass(frozen=True, slots=True)
class Relabelled:
    """How it went.

    ``labelled`` frames have a result at the new revision, ``embedded`` of them were read again
    from their files; ``lost`` names those that have neither a stored embedding nor their file any
    more. ``complete`` is False where it was told to stop.
    """

    labelled: int
    embedded: int
    lost: tuple[str, ...]
    complete: bool
    seconds: float


def relabel(
    record: RunRecord,
    recipe: Recipe,
    prototypes: Prototypes,
    progress: Callable[[int], None] = lambda done: None,
    stop: Callable[[], bool] = lambda: False,
) -> Relabelled:
    """Give every recorded frame a result at the prototypes' revision, newest first.

    Frames that have one already are left alone, so that it can be interrupted and repeated.

    Parameters
    ----------
    record
        Open for writing.
    recipe
        Of the same embedding id; reads frames again whose embedding was not kept.
    prototypes
        Of the new revision.
    progress
        Called with the number of frames done, after each transaction.
    stop
        Asked after each transaction; True ends it early.

    Raises
    ------
    EmbeddingMismatchError
        If stored embeddings have another id than the prototypes.
    """
    start = time.perf_counter()

    def work(batch: list[StoredEmbedding]) -> Labelled:
        labelled = []
        for item in batch:
            if item.embedding.id != prototypes.embedding_id:
                raise EmbeddingMismatchError(item.embedding.id, prototypes.embedding_id)
            labelled.append(
                (
                    item.sequence,
                    label(item.embedding, item.masked, item.rows, item.cols, prototypes),
                )
            )
        return labelled

    done = embedded = 0
    lost: list[str] = []
    stopped = False
    stored = record.embeddings(without_result_at=prototypes.revision)
    for labelled in _in_order(work, _batches(stored, BATCH)):
        _persist(record, labelled, stop)
        done += len(labelled)
        progress(done)
        if stopped := stop():
            break
    for missing in record.frames_without_embedding(without_result_at=prototypes.revision):
        if stopped := stopped or stop():
            break
        result = _from_file(missing, recipe, prototypes)
        if result is None:
            lost.append(missing.identity.name)
            continue
        _persist(record, [(missing.sequence, result)], stop)
        embedded += 1
        progress(done + embedded)
    seconds = time.perf_counter() - start
    return Relabelled(done + embedded, embedded, tuple(lost), not stopped, seconds)


def _from_file(missing: StoredFrame, recipe: Recipe, prototypes: Prototypes) -> FrameResult | None:
    """Read and embed a frame again; None where its file is gone or holds something else now."""
    if missing.identity.path is None:
        return None
    try:
        with open_file(Path(missing.identity.path)) as file:
            frame = file.read(missing.identity.plane)
    except (OSError, ReadError, IndexError):
        return None
    if digest(frame.pixels) != missing.identity.digest:
        return None
    prepared = prepare(frame, missing.identity, recipe, seen_at=0.0, read_s=0.0)
    grid = prepared.grid
    return label(embed(prepared, recipe), prepared.masked, grid.rows, grid.cols, prototypes)


def _persist(record: RunRecord, labelled: Labelled, stop: Callable[[], bool]) -> None:
    """Write results, and try again for as long as the record cannot be written just now."""
    while True:
        try:
            record.add_results(labelled)
        except RecordBusyError as error:
            if stop():
                raise
            log.warning("paused: %s", error)
            time.sleep(RETRY_S)
        else:
            return


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _in_order(
    work: Callable[[list[StoredEmbedding]], Labelled], batches: Iterable[list[StoredEmbedding]]
) -> Iterator[Labelled]:
    """Work on a few batches at once, but hand the results on in their order; memory is bounded."""
    workers = os.cpu_count() or 1
    waiting: deque[Future[Labelled]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
