"""The books of a source: which files are done, which are not, and which of these is next.

No file is touched here, and nothing is locked: the owner does both.
"""

from __future__ import annotations

import heapq
import itertools
import os
from bisect import bisect_left, insort
from collections.abc import Iterator

from pychip_live.sources.candidate import FIRST_DELAY_S, LAST_DELAY_S, Candidate, State
from pychip_live.sources.order import AcquisitionOrder, OrderKey
from pychip_live.sources.tree import Signature

BEHIND = 2
"""With more files than this waiting, the newest is handed out first."""

LOOKAHEAD = 64
"""Complete files kept ready; more are examined only as these are taken."""


def _key(candidate: Candidate) -> OrderKey:
    return candidate.key


class Backlog:
    """Candidates by state: fresh and ready ones in order, waiting ones by when they are due.

    Beside them, the signatures of files that are done. All operations are logarithmic in the
    number of files, but for moving pointers within a list.
    """

    def __init__(self) -> None:
        self._order = AcquisitionOrder()
        self._done: dict[str, tuple[Signature, ...]] = {}
        self._retries: dict[tuple[str, Signature], int] = {}
        self._by_path: dict[str, Candidate] = {}
        self._fresh: list[Candidate] = []
        self._ready: list[Candidate] = []
        self._waiting: dict[str, Candidate] = {}
        self._agenda: list[tuple[float, int, Candidate]] = []  # heap; stale where due differs
        self._ticket = itertools.count()
        self._newest: OrderKey | None = None  # of all handed out

    def __contains__(self, candidate: Candidate) -> bool:
        return self._by_path.get(candidate.path) is candidate

    def __len__(self) -> int:
        return len(self._fresh) + len(self._ready)

    def find(self, path: str) -> Candidate | None:
        """Return the candidate of a path."""
        return self._by_path.get(path)

    def waiting(self) -> Iterator[Candidate]:
        """Yield the candidates known to be incomplete."""
        yield from self._waiting.values()

    @property
    def waiting_count(self) -> int:
        """Number of candidates known to be incomplete."""
        return len(self._waiting)

    @property
    def has_ready(self) -> bool:
        """Whether a candidate can be taken."""
        return bool(self._ready)

    def is_done(self, path: str, signature: Signature) -> bool:
        """Whether a file in this state was handed out, refused or is to be ignored."""
        return signature in self._done.get(path, ())

    def finish(self, path: str, signature: Signature) -> None:
        """Note that a file in this state is done."""
        if not self.is_done(path, signature):
            self._done[path] = (*self._done.get(path, ()), signature)

    def reopen(self, path: str, signature: Signature) -> None:
        """Note that a file in this state is not done after all."""
        rest = tuple(each for each in self._done.get(path, ()) if each != signature)
        if rest:
            self._done[path] = rest
        else:
            self._done.pop(path, None)

    def new(self, path: str, root: str, name: str, signature: Signature) -> Candidate:
        """Make a candidate, with its place in the order of acquisition; it is not put yet."""
        replaced = path in self._done
        key = self._order.key(path.replace(os.sep, "/"), signature[1], replaced=replaced)
        return Candidate(path, root, name, signature, key)

    def postpone(self, candidate: Candidate, now: float) -> None:
        """Put a candidate that was complete but could not be read, for longer every time."""
        state = (candidate.path, candidate.signature)
        count = self._retries[state] = self._retries.get(state, 0) + 1
        candidate.delay = min(FIRST_DELAY_S * 2 ** min(count, 20), LAST_DELAY_S)
        candidate.due = now + candidate.delay
        self.put(candidate, State.WAITING)

    def put(self, candidate: Candidate, state: State) -> None:
        """Add a candidate, or move it to another state; a waiting one is due at its ``due``."""
        self._leave(candidate)
        self._by_path[candidate.path] = candidate
        candidate.state = state
        if state is State.WAITING:
            self._waiting[candidate.path] = candidate
            heapq.heappush(self._agenda, (candidate.due, next(self._ticket), candidate))
        else:
            insort(self._fresh if state is State.FRESH else self._ready, candidate, key=_key)

    def remove(self, candidate: Candidate) -> None:
        """Forget a candidate."""
        self._leave(candidate)
        if candidate in self:
            del self._by_path[candidate.path]

    def hasten(self, candidate: Candidate, due: float) -> None:
        """Examine a waiting candidate at ``due`` (monotonic, s) if it was due later."""
        if candidate.state is State.WAITING and due < candidate.due:
            candidate.due = due
            self.put(candidate, State.WAITING)

    def next_due_at(self) -> float:
        """Return the monotonic time of the next examination, s; infinite if there is none."""
        return self._agenda[0][0] if self._agenda else float("inf")

    def pop_due(self, now: float) -> Candidate | None:
        """Return a waiting candidate whose examination is due; it stays in the backlog."""
        while self._agenda and self._agenda[0][0] <= now:
            due, _, candidate = heapq.heappop(self._agenda)
            if self._waiting.get(candidate.path) is candidate and candidate.due == due:
                return candidate
        return None

    @property
    def wants_fresh(self) -> bool:
        """Whether a fresh candidate should be examined now."""
        return bool(self._fresh) and (len(self._ready) < LOOKAHEAD or self._fresh_is_newest())

    def pop_fresh(self) -> Candidate:
        """Return the fresh candidate to examine, by the same rule as the one to hand out."""
        newest = len(self) > BEHIND and self._fresh_is_newest()
        return self._fresh.pop(-1 if newest else 0)

    def pop_ready(self) -> Candidate:
        """Return the candidate to hand out, still in the backlog until it is removed."""
        last = self._ready[-1]
        newest = self._newest is None or last.key > self._newest
        return self._ready.pop(-1 if newest and len(self) > BEHIND else 0)

    def hand_out(self, candidate: Candidate) -> None:
        """Note that a candidate is handed out."""
        self.remove(candidate)
        self.finish(candidate.path, candidate.signature)
        if self._newest is None or candidate.key > self._newest:
            self._newest = candidate.key

    def _fresh_is_newest(self) -> bool:
        newest = self._fresh[-1].key
        return (self._newest is None or newest > self._newest) and (
            not self._ready or newest > self._ready[-1].key
        )

    def _leave(self, candidate: Candidate) -> None:
        if self._waiting.get(candidate.path) is candidate:
            del self._waiting[candidate.path]
        for line in (self._fresh, self._ready):
            place = bisect_left(line, candidate.key, key=_key)
            if place < len(line) and line[place] is candidate:
                del line[place]
