"""The run loop: a reading thread fills a short queue, the main thread embeds and records.

Two threads, one direction: source → read + window → queue → embed → classify → record → notify.
The record is written by the main thread only, and what is notified is recorded already.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Protocol, TypeVar

from pychip_live.core.frame import Frame, digest
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.result import FrameIdentity, FrameResult, FrameTimes
from pychip_live.engine.recipe import Recipe
from pychip_live.engine.step import Prepared, embed, label, prepare
from pychip_live.errors import (
    GridError,
    IncompleteError,
    PychipError,
    ReadError,
    RecordBusyError,
)
from pychip_live.readers import open_file
from pychip_live.sources import Arrival, Leftover, Source, SourceStatus
from pychip_live.sources.tree import signature_of
from pychip_live.store.record import RunRecord
from pychip_live.store.thumbnail import thumbnail

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S = 1.0
"""Pause between two tries at a record that cannot be written just now."""
STATE_PERIOD_S = 0.2
"""Pause between two looks at the state of the source."""
AWAITED_S = 10.0
"""Time after which a file that is still not complete is named in the state."""


@dataclass(frozen=True, slots=True)
class Done:
    """What is told about a frame once it is recorded.

    ``reason`` says why a frame was skipped; ``result`` is None then, and where there is no support
    set yet. ``lag_s`` runs from the complete file to the commit. ``saturated`` is the share of
    pixels outside the window.
    """

    sequence: int
    identity: FrameIdentity
    result: FrameResult | None
    reason: str
    lag_s: float
    stages: dict[str, float]
    saturated: float = 0.0


class Listener(Protocol):
    """Hears of a run; an exception it raises is logged and does not stop the run."""

    def frame(self, done: Done) -> None:
        """Hear of a frame that is recorded."""

    def state(self, text: str) -> None:
        """Hear of another state: running (and what is awaited), waiting for a folder, paused."""


@dataclass(frozen=True, slots=True)
class _Skipped:
    identity: FrameIdentity
    reason: str
    seen_at: float
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


class Run:
    """One run over one source.

    Parameters
    ----------
    source
        Started by `go` and stopped with it.
    record
        The open run record.
    recipe
        What frames are analysed with; None makes one from the first frame by ``first_frame``.
    prototypes
        Of the support set in force; None records frames unlabelled.
    listener
        Hears of frames and states.
    first_frame
        Makes the recipe of a run that was started without a profile.
    """

    def __init__(
        self,
        source: Source,
        record: RunRecord,
        recipe: Recipe | None,
        prototypes: Prototypes | None,
        listener: Listener,
        first_frame: Callable[[Frame, str], Recipe] | None = None,
    ) -> None:
        self.source = source
        self.record = record
        self.recipe = recipe
        self.prototypes = prototypes
        self.listener = listener
        self.frames = 0
        self.skipped = 0
        self._first_frame = first_frame
        self._queue: queue.Queue[Prepared | _Skipped | _Failed] = queue.Queue(maxsize=2)
        self._stop = threading.Event()
        self._reading = threading.Event()
        self._digests: dict[str, dict[int, str]] = {}
        for (path, plane), content in record.digests().items():
            self._digests.setdefault(path, {})[plane] = content
        self._places = record.places()
        self._state = ""
        self._told = -inf
        self._excused = 0.0

    def go(
        self,
        stop: threading.Event,
        until_idle: float | None = None,
        expecting: Callable[[], bool] = lambda: False,
    ) -> None:
        """Work until told to stop, or until nothing new came for ``until_idle`` seconds.

        Parameters
        ----------
        stop
            Ends the run after the frame in work; what waits is found again by ``--resume``.
        until_idle
            Quiet time that ends the run, s; None for none.
        expecting
            While it says that more is sure to come, quiet does not count.

        Raises
        ------
        PychipError
            Where the run cannot go on; everything committed stays.
        """
        reader = threading.Thread(target=self._read_all, name="reader", daemon=True)
        with self.source:
            baseline = self.source.baseline()
            self.persist(lambda: self.record.ignore(baseline, now=datetime.now(UTC)), stop)
            reader.start()
            try:
                while not stop.is_set():
                    self._tell_state()
                    try:
                        item = self._queue.get(timeout=0.05)
                    except queue.Empty:
                        if until_idle is not None and self._idle(until_idle, expecting):
                            break
                    else:
                        self._take(item, stop)
                if not stop.is_set():
                    for left in self.source.leftovers():
                        reason = f"incomplete when the run ended: {left.awaited}"
                        item = _Skipped(_identity(left), reason, time.time(), incomplete=True)
                        self._skip(item, stop)
            finally:
                self._stop.set()
                reader.join()

    def _idle(self, seconds: float, expecting: Callable[[], bool]) -> bool:
        idle = self.source.idle_s()
        if expecting():
            self._excused = idle
            return False
        if idle < self._excused:
            self._excused = 0.0
        # a frame moves from the source to the reader to the queue: ask in that order
        quiet = idle - self._excused >= max(seconds, 0.1)
        return quiet and not self._reading.is_set() and self._queue.empty()

    def _take(self, item: Prepared | _Skipped | _Failed, stop: threading.Event) -> None:
        if isinstance(item, _Failed):
            raise item.error
        if isinstance(item, _Skipped):
            self._skip(item, stop)
            return
        if self.recipe is None:
            raise RuntimeError("a prepared frame came before the recipe")
        try:
            embedding = embed(item, self.recipe)
        except MemoryError:
            height, width = item.facts.shape
            reason = f"{width} × {height} px need more memory than there is"
            self._skip(_Skipped(item.identity, reason, item.seen_at), stop)
            return
        start = time.perf_counter()
        facts, masked = item.facts, item.masked
        result = (
            label(embedding, masked, facts.rows, facts.cols, self.prototypes)
            if self.prototypes
            else None
        )
        item.stages["classify"] = time.perf_counter() - start
        start = time.perf_counter()
        picture = thumbnail(item.windowed.values)
        now = datetime.now(UTC)
        times = FrameTimes(datetime.fromtimestamp(item.seen_at, UTC), now, item.stages)
        sequence = self.persist(
            lambda: self.record.commit(
                item.identity,
                facts,
                times,
                embedding=embedding,
                masked=masked,
                result=result,
                thumbnail=picture,
            ),
            stop,
        )
        item.stages["record"] = time.perf_counter() - start
        self.frames += 1
        lag = time.time() - item.seen_at
        self._notify(Done(sequence, item.identity, result, "", lag, item.stages, facts.saturated))

    def _skip(self, item: _Skipped, stop: threading.Event) -> None:
        seen_at = datetime.fromtimestamp(item.seen_at, UTC)
        now = datetime.now(UTC)
        sequence = self.persist(
            lambda: self.record.skip(
                item.identity, item.reason, seen_at=seen_at, now=now, incomplete=item.incomplete
            ),
            stop,
        )
        self.skipped += 1
        lag = time.time() - item.seen_at
        self._notify(Done(sequence, item.identity, None, item.reason, lag, {}))

    def persist(self, write: Callable[[], T], stop: threading.Event) -> T:
        """Write, and try again for as long as the record cannot be written just now.

        Raises
        ------
        RecordBusyError
            If told to stop while it still cannot be written.
        """
        while True:
            try:
                written = write()
            except RecordBusyError as error:
                self._set_state(f"paused: {error}")
                if stop.wait(RETRY_S):
                    raise
            else:
                if self._state.startswith("paused"):
                    self._set_state("running")
                return written

    def _notify(self, done: Done) -> None:
        try:
            self.listener.frame(done)
        except Exception:
            log.exception("a listener failed at frame %d; the run goes on", done.sequence)

    def _tell_state(self) -> None:
        now = time.monotonic()
        if now < self._told + STATE_PERIOD_S:
            return
        self._told = now
        status = self.source.status()
        missing = ", ".join(str(p) for p in status.missing_folders)
        self._set_state(f"waiting for folder {missing}" if missing else self._running(status))

    def _running(self, status: SourceStatus) -> str:
        """Name the file that is awaited longest; told once a file, not with each of its bytes."""
        late = [p for p in status.pending if time.time() - p.since > AWAITED_S]
        if not late:
            return "running"
        awaits = f"running; awaits {late[0].name}: "
        return self._state if self._state.startswith(awaits) else awaits + late[0].awaited

    def _set_state(self, text: str) -> None:
        if text == self._state:
            return
        self._state = text
        try:
            self.listener.state(text)
        except Exception:
            log.exception("a listener failed at state %r; the run goes on", text)

    # -- reading thread ---------------------------------------------------------------------

    def _read_all(self) -> None:
        try:
            while not self._stop.is_set():
                self._reading.set()
                arrival = self.source.take(0.0)
                for refused in self.source.refused():
                    self._refuse(_identity(refused), refused.awaited, time.time())
                if arrival is not None:
                    self._read(arrival)
                    continue
                self._reading.clear()
                self.source.wait(0.2)
        except BaseException as error:
            self._put(_Failed(error))
        finally:
            self._reading.clear()

    def _read(self, arrival: Arrival) -> None:
        identity = _identity(arrival)
        try:
            for item in self._frames(arrival, identity):
                self._put(item)
        except IncompleteError as error:
            self.source.retry(arrival, error.reason)
        except ReadError as error:
            self._refuse(identity, error.reason, arrival.seen_at)
        except OSError as error:
            self.source.retry(arrival, f"cannot be read just now ({error.strerror or error})")
        except PychipError:
            raise
        except Exception as error:
            # one frame must not end a session, nor stop each --resume again
            log.exception("%s: the program failed on it", arrival.name)
            self._refuse(identity, f"the program failed on it ({error!r})", arrival.seen_at)

    def _refuse(self, identity: FrameIdentity, reason: str, seen_at: float) -> None:
        # its planes are superseded: if they come back as they were, they count again
        self._digests.pop(identity.path or "", None)
        self._put(_Skipped(identity, reason, seen_at))

    def _frames(self, arrival: Arrival, identity: FrameIdentity) -> Iterator[Prepared | _Skipped]:
        start = time.perf_counter()
        try:
            opened = open_file(arrival.path)
        finally:
            # the evidence was of the file as it was then; from here on the reader looks itself
            _check_unchanged(arrival)
        with opened as file:
            known = self._digests.setdefault(str(arrival.path), {})
            for plane in range(file.n_planes):
                name = f"{arrival.name}#{plane}" if file.n_planes > 1 else arrival.name
                here = replace(identity, name=name, plane=plane, n_planes=file.n_planes)
                try:
                    frame = file.read(plane)
                except IncompleteError:
                    raise
                except ReadError as error:
                    # the other planes may be sound
                    known.pop(plane, None)
                    yield _Skipped(here, error.reason, arrival.seen_at)
                    continue
                here = replace(here, digest=digest(frame.pixels))
                read_s = time.perf_counter() - start
                if known.get(plane) != here.digest and not self._renamed(here):
                    yield self._prepare(frame, here, arrival.seen_at, read_s)
                known[plane] = here.digest
                start = time.perf_counter()

    def _renamed(self, identity: FrameIdentity) -> bool:
        """Whether a recorded frame only has another name now; the record keeps the first one.

        Size, time, plane and pixels are the same, and the file it was recorded from is gone: a copy
        is a frame of its own, and so is the same picture taken again.
        """
        what = identity.signature, identity.plane, identity.digest
        before = self._places.get(what)
        self._places[what] = identity.path or ""
        if before is None or before == identity.path or Path(before).exists():
            return False
        log.info("%s was recorded as %s before it was renamed", identity.name, before)
        return True

    def _prepare(
        self, frame: Frame, identity: FrameIdentity, seen_at: float, read_s: float
    ) -> Prepared | _Skipped:
        try:
            if self.recipe is None:
                if self._first_frame is None:
                    raise RuntimeError("a run without a profile needs first_frame")
                self.recipe = self._first_frame(frame, identity.name)
            return prepare(frame, identity, self.recipe, seen_at=seen_at, read_s=read_s)
        except GridError as error:
            return _Skipped(identity, str(error), seen_at)

    def _put(self, item: Prepared | _Skipped | _Failed) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            else:
                return


def _check_unchanged(arrival: Arrival) -> None:
    if signature_of(arrival.path.stat()) != arrival.signature:
        raise IncompleteError(arrival.path, "the end of a change made while it was read")


def _identity(arrival: Arrival | Leftover) -> FrameIdentity:
    return FrameIdentity(arrival.name, str(arrival.path), signature=arrival.signature)
