"""Watched folders as a source of frames: every complete file once, none half written.

::

    with FolderSource([Path("D:/session")]) as source:
        while running:
            arrival = source.take(timeout=0.5)
            if arrival is None: ...             # nothing now; see status() and idle_s()
            try: frame = read(arrival.path)     # then record it
            except (IncompleteError, OSError) as error:
                source.retry(arrival, str(error))
            for refused in source.refused(): ...   # record as skipped

What is handed out
    A file is identified by its path and *signature*, (size in bytes, modification time in ns).
    Each pair is handed out once: by ``take`` when the file is complete, or by ``refused`` when
    it can never become a frame. A file replaced under its name has a new signature and is
    handed out again; so is one that was only touched or renamed, as only its pixels could tell:
    the caller compares their digest, and looks at the file's size and time again once it has
    opened it, so that its pixels belong to ``signature``.

When a file is complete
    When its reader says so from its structure. A file whose structure is complete, but whose
    end is all zeros, may be preallocated and is accepted after ``settle_s`` without a change. A
    file that looks unusable is refused after the same quiet time. Locked and vanishing files
    are tried again, with growing pauses. Names that are hidden or temporary (``.x``, ``~x``,
    ``x~``, ``.part``, ``.tmp`` …) and files that no reader knows by suffix are ignored.

In which order
    In the order of acquisition (see `pychip_live.sources.order`); but while more than
    two files wait, a file newer than all handed out so far comes first.

How changes are found
    By an incremental re-scan (`pychip_live.sources.scan`). Events only make it faster. The
    pause between scans is ``rescan_s``, or four times the duration of the last scan where that
    is longer. A folder that is missing (not made yet, share unmounted) is waited for. With
    ``existing="new"``, files found by the first scan, which ``start`` then waits for, are the
    baseline and are ignored until they change; a folder missing at that time has no baseline,
    everything in it is new.

Seconds of ``idle_s``, quiet times and pauses are of the monotonic clock; ``seen_at`` and
``since`` are ``time.time()``. Modification times are never compared with either.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pychip_live import readers
from pychip_live.errors import UsageError
from pychip_live.sources.backlog import Backlog
from pychip_live.sources.candidate import Candidate, EvidenceOf, Outcome, State
from pychip_live.sources.hints import Hints
from pychip_live.sources.order import natural
from pychip_live.sources.scan import TreeScanner
from pychip_live.sources.source import (
    SHOWN,
    Arrival,
    Leftover,
    Pending,
    SourceStatus,
)
from pychip_live.sources.tree import Changes, Sighting, Signature, is_inside, signature_of

_SLICE_S = 0.05  # of examining between two looks at hints and folders
_GAP_S = 0.01  # least time between two examinations of a file that events tell of

logger = logging.getLogger(__name__)


class FolderSource:
    """Hands out the files of folders as they become complete (see the module).

    All methods may be called from any thread.

    Parameters
    ----------
    folders
        Folders to watch, with all below them. One inside another is watched once, as part of
        the outer one.
    existing
        ``"all"``: files that are there at the start are handed out too; ``"new"``: only what
        comes or changes later.
    baseline
        For a run that is resumed: the (path, signature) that it ignored, in place of what the
        first scan finds, so that files that arrived meanwhile are handed out.
    done
        (path, signature) of files already recorded. A mapping gives one signature a path.
    settle_s
        Quiet time that decides for a file that may be preallocated, s.
    rescan_s
        Pause between scans, s.
    sweep_s
        Age at which a directory is listed again though its time did not change, s.
    events
        Use events of the file system to find files sooner.
    evidence, suffixes
        What tells whether a file is complete, and the names to look at.

    Raises
    ------
    UsageError
        No folder is given, a "folder" is a file, or a time is not positive.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        existing: Literal["all", "new"] = "all",
        baseline: Iterable[tuple[Path, Signature]] | None = None,
        done: Mapping[Path, Signature] | Iterable[tuple[Path, Signature]] = (),
        settle_s: float = 5.0,
        rescan_s: float = 0.5,
        sweep_s: float = 30.0,
        events: bool = True,
        evidence: EvidenceOf = readers.evidence,
        suffixes: frozenset[str] = readers.SUFFIXES,
    ) -> None:
        self._given = list(dict.fromkeys(os.path.abspath(folder) for folder in folders))  # noqa: PTH100
        if not self._given:
            raise UsageError("no folder to watch; name at least one")
        for folder in self._given:
            if os.path.isfile(folder):  # noqa: PTH113
                raise UsageError(f"{folder} is a file; name the folder it lies in")
        for name, value in (("settle_s", settle_s), ("rescan_s", rescan_s), ("sweep_s", sweep_s)):
            if not value > 0:
                raise UsageError(f"{name} is {value}; it must be a time above 0 s")
        self._baseline_wanted = existing == "new" and baseline is None
        self._settle_s = settle_s
        self._rescan_s = rescan_s
        self._use_events = events
        self._evidence = evidence
        self._folders = _outermost(self._given)
        self._scanner = TreeScanner(self._folders, suffixes, sweep_s=sweep_s)
        self._hints: Hints | None = None
        self._thread: threading.Thread | None = None

        # Everything below is guarded by this lock; no file is touched while it is held.
        self._changed = threading.Condition()
        self._stopping = False
        self._hinted = False
        self._backlog = Backlog()
        self._baseline = set(baseline or ())
        recorded = done.items() if isinstance(done, Mapping) else done
        for path, signature in [*recorded, *self._baseline]:
            self._backlog.finish(os.path.abspath(path), signature)  # noqa: PTH100
        self._refused: list[Leftover] = []
        self._missing: tuple[Path, ...] = ()
        self._vanished = 0
        self._last_event = ""
        self._last_change = time.monotonic()
        self._verified = -float("inf")  # start of the last scan that is accounted for

    def start(self) -> None:
        """Start watching; with ``existing="new"`` this waits for the first scan."""
        if self._thread is not None:
            raise UsageError("this source was started before; make a new one")
        if self._use_events:
            self._hints = Hints(self._wake)
        if self._baseline_wanted:
            self._scan(baseline=True)
        self._thread = threading.Thread(target=self._run, name="folder-source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; files that are ready can still be taken."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._hints is not None:
            self._hints.stop()
        # A dead share can hold the thread in a system call for minutes: do not wait for that.
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def take(self, timeout: float) -> Arrival | None:
        """Return the next complete file, or None when there is none within ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                while not self._backlog.has_ready:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0 or self._stopping:
                        return None
                    self._changed.wait(remaining)
                candidate = self._backlog.pop_ready()
            arrival = self._hand_out(candidate)
            if arrival is not None:
                return arrival

    def wait(self, timeout: float) -> None:
        """Return when there is something to take or refused, or after ``timeout`` s."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._backlog.has_ready or self._refused or self._stopping, timeout
            )

    def retry(self, arrival: Arrival, awaited: str) -> None:
        """Give back a file that could not be read after all; it comes again after a pause.

        Parameters
        ----------
        arrival
            What ``take`` returned.
        awaited
            What is missing, in the reader's words.
        """
        path = str(arrival.path)
        now = time.monotonic()
        with self._changed:
            self._backlog.reopen(path, arrival.signature)
            self._last_change = now
            if self._backlog.find(path) is not None:
                return  # it changed meanwhile, and is being looked at already
            root = next(folder for folder in self._folders if is_inside(path, folder))
            candidate = self._backlog.new(path, root, arrival.name, arrival.signature)
            candidate.awaited = awaited
            self._backlog.postpone(candidate, now)
            self._changed.notify_all()

    def refused(self) -> list[Leftover]:
        """Return the files refused since the last call; ``awaited`` says what is wrong."""
        with self._changed:
            refused, self._refused = self._refused, []
        return refused

    def leftovers(self) -> list[Leftover]:
        """Return the files that are not complete (yet), in the order of acquisition."""
        with self._changed:
            waiting = sorted(self._backlog.waiting(), key=lambda each: each.key)
            return [
                Leftover(Path(each.path), each.name, each.signature, each.awaited)
                for each in waiting
            ]

    def baseline(self) -> set[tuple[Path, Signature]]:
        """Return (path, signature) of the files ignored because of ``existing="new"``."""
        with self._changed:
            return set(self._baseline)

    def status(self) -> SourceStatus:
        """Return what the source is doing now."""
        with self._changed:
            oldest = heapq.nsmallest(
                SHOWN, self._backlog.waiting(), key=lambda each: each.noticed_at
            )
            return SourceStatus(
                waiting=len(self._backlog),
                pending=tuple(Pending(c.name, c.awaited, c.noticed_at) for c in oldest),
                pending_count=self._backlog.waiting_count,
                missing_folders=self._missing,
                vanished=self._vanished,
                last_event=self._last_event,
            )

    def idle_s(self) -> float:
        """Return for how long nothing changed, s, as far as a scan has verified it.

        It is 0 while files wait to be taken or refused ones to be asked for, and while files
        change or stand their quiet time.
        """
        with self._changed:
            if len(self._backlog) or self._refused:
                return 0.0
            if any(each.settling for each in self._backlog.waiting()):
                return 0.0
            return max(0.0, self._verified - self._last_change)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        next_scan = time.monotonic()
        while not self._stopping:
            try:
                if self._hints is not None:
                    self._hinted = False  # before draining: a hint after this wakes again
                    paths = self._hints.drain()
                    if paths:
                        self._apply(self._scanner.look(paths), hinted=paths)
                started = time.monotonic()
                if started >= next_scan:
                    self._scan()
                    ended = time.monotonic()
                    next_scan = ended + max(self._rescan_s, 4 * (ended - started))
                self._examine_due()
                self._examine_fresh()
                self._sleep_until(next_scan)
            except Exception:  # whatever happens, the source must go on looking
                logger.exception("the folder source failed; it goes on in a second")
                self._note("an internal error, see the log")
                time.sleep(1.0)

    def _sleep_until(self, next_scan: float) -> None:
        with self._changed:
            while not (self._stopping or self._hinted or self._backlog.wants_fresh):
                remaining = min(self._backlog.next_due_at(), next_scan) - time.monotonic()
                if remaining <= 0:
                    return
                self._changed.wait(remaining)

    def _wake(self) -> None:
        with self._changed:
            self._hinted = True
            self._changed.notify_all()

    def _scan(self, *, baseline: bool = False) -> None:
        started = time.monotonic()
        changes = self._scanner.scan()
        if baseline:
            with self._changed:
                for sighting in changes.seen.values():
                    self._backlog.finish(sighting.path, sighting.signature)
                    self._baseline.add((Path(sighting.path), sighting.signature))
        self._apply(changes)
        inner = [each for each in self._given if not os.path.isdir(each)]  # noqa: PTH112
        missing = tuple(Path(each) for each in dict.fromkeys([*self._scanner.missing, *inner]))
        for folder in changes.appeared:
            if self._hints is not None:
                self._hints.watch(folder)
        with self._changed:
            for path in missing:
                if path not in self._missing:
                    self._note(f"{path} is missing; waiting for it")
            for path in self._missing:
                if path not in missing:
                    self._note(f"{path} is there")
            self._missing = missing
            self._verified = started

    def _apply(self, changes: Changes, hinted: Iterable[str] = ()) -> None:
        now = time.monotonic()
        backlog = self._backlog
        with self._changed:
            for path in changes.gone:
                if (candidate := backlog.find(path)) is not None:
                    self._vanish(candidate)
            for sighting in sorted(changes.seen.values(), key=lambda each: natural(each.name)):
                self._notice(sighting, now)
            for path in hinted:
                if (candidate := backlog.find(path)) is not None:
                    backlog.hasten(candidate, now + _GAP_S)
            for candidate in list(backlog.waiting()) if changes.appeared else ():
                if candidate.root in changes.appeared:
                    backlog.hasten(candidate, now)
            self._changed.notify_all()

    def _notice(self, sighting: Sighting, now: float) -> None:
        path, signature = sighting.path, sighting.signature
        if self._backlog.is_done(path, signature):
            return
        candidate = self._backlog.find(path)
        if candidate is None:
            candidate = self._backlog.new(path, sighting.root, sighting.name, signature)
            self._backlog.put(candidate, State.FRESH)
            self._last_change = now
        elif candidate.state is State.WAITING:
            self._backlog.hasten(candidate, now + _GAP_S)
        elif candidate.state is State.READY and candidate.signature != signature:
            candidate.due = now
            self._backlog.put(candidate, State.WAITING)

    def _examine_due(self) -> None:
        until = time.monotonic() + _SLICE_S
        while (now := time.monotonic()) < until:
            with self._changed:
                candidate = self._backlog.pop_due(now)
            if candidate is None:
                return
            self._examine(candidate)

    def _examine_fresh(self) -> None:
        until = time.monotonic() + _SLICE_S
        while time.monotonic() < until:
            with self._changed:
                if not self._backlog.wants_fresh:
                    return
                candidate = self._backlog.pop_fresh()
            self._examine(candidate)

    def _examine(self, candidate: Candidate) -> None:
        outcome = candidate.examine(self._evidence, self._settle_s)
        with self._changed:
            self._last_change = max(self._last_change, candidate.changed_at)
            if outcome is Outcome.INCOMPLETE:
                self._backlog.put(candidate, State.WAITING)
            elif outcome is Outcome.VANISHED:
                self._vanish(candidate)
            elif self._backlog.is_done(candidate.path, candidate.signature):
                self._backlog.remove(candidate)  # changed back to what was handed out
            elif candidate.error is None:
                self._backlog.put(candidate, State.READY)
            else:
                path, signature = candidate.path, candidate.signature
                self._refused.append(
                    Leftover(Path(path), candidate.name, signature, candidate.error.reason)
                )
                self._backlog.finish(path, signature)
                self._backlog.remove(candidate)
                self._last_change = time.monotonic()
            self._changed.notify_all()

    def _hand_out(self, candidate: Candidate) -> Arrival | None:
        """Make sure that a file is still what was examined; None when it is not."""
        try:
            status = os.stat(candidate.path)  # noqa: PTH116
            same = signature_of(status) == candidate.signature
        except OSError:
            same = False
        with self._changed:
            self._last_change = time.monotonic()
            if candidate not in self._backlog or candidate.state is not State.READY:
                return None  # the thread found a change meanwhile, and sees to it
            if not same:
                candidate.due = time.monotonic()
                self._backlog.put(candidate, State.WAITING)
            else:
                self._backlog.hand_out(candidate)
            self._changed.notify_all()
        if not same:
            return None
        return Arrival(
            Path(candidate.path),
            candidate.name,
            candidate.signature,
            candidate.complete_at or candidate.noticed_at,
        )

    # --- bookkeeping, with the lock held ------------------------------------------------------

    def _vanish(self, candidate: Candidate) -> None:
        self._backlog.remove(candidate)
        self._vanished += 1
        self._last_change = time.monotonic()
        self._note(f"{candidate.name} was deleted or renamed before it could be read")

    def _note(self, text: str) -> None:
        self._last_event = text
        logger.info(text)


def _outermost(folders: Sequence[str]) -> list[str]:
    """Return the folders that lie in no other one (nor are another name of an earlier one)."""
    real = [os.path.realpath(folder) for folder in folders]
    return [
        folder
        for place, folder in enumerate(folders)
        if not any(
            is_inside(real[place], other) and (real[place] != other or index < place)
            for index, other in enumerate(real)
            if index != place
        )
    ]
