"""One file on its way from being noticed to being complete."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from pychip_live import readers
from pychip_live.errors import CorruptError, IncompleteError, ReadError
from pychip_live.sources.order import OrderKey
from pychip_live.sources.tree import Signature, signature_of

FIRST_DELAY_S = 0.05
LAST_DELAY_S = 5.0

EvidenceOf = Callable[[Path], readers.Evidence]


class State(Enum):
    """Where a candidate is; it moves FRESH → (WAITING →) READY and may fall back to WAITING."""

    FRESH = "not examined yet"
    WAITING = "incomplete, examined again when due"
    READY = "complete, waits to be taken"


class Outcome(Enum):
    """What an examination found."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    REFUSED = "can never become a frame"
    VANISHED = "deleted or renamed"


@dataclass(slots=True, eq=False)
class Candidate:
    """A file that is not handed out yet.

    Parameters
    ----------
    path, root, name
        Absolute path, the watched folder it belongs to, and the path relative to that.
    signature
        (size in bytes, modification time in ns) when last looked at.
    key
        Place in the order of acquisition.
    noticed_at
        ``time.time()`` when it was noticed in this state of life, s.
    """

    path: str
    root: str
    name: str
    signature: Signature
    key: OrderKey
    noticed_at: float = field(default_factory=time.time)
    state: State = State.FRESH
    awaited: str = "to be examined"
    error: ReadError | None = None
    complete_at: float | None = None  # time.time() when its structure was first complete
    settling: bool = False  # a quiet time decides, however long nothing else happens
    changed_at: float = field(default_factory=time.monotonic)
    due: float = 0.0  # time.monotonic() of the next examination
    delay: float = FIRST_DELAY_S

    def examine(self, evidence: EvidenceOf, settle_s: float) -> Outcome:
        """Look for evidence that the file is complete, and plan the next look if it is not.

        Parameters
        ----------
        evidence
            Tells from the structure of a file whether it is complete.
        settle_s
            Quiet time after which a suspicious or unusable file is taken at its word, s.
        """
        was = (self.signature, self.awaited)
        self.error = None
        outcome, doubtful = self._weigh(evidence)
        now = time.monotonic()
        if was != (self.signature, self.awaited):
            self.changed_at, self.delay = now, FIRST_DELAY_S
            if was[0] != self.signature:
                self.complete_at = time.time() if self.complete_at else None
        else:
            self.delay = min(2 * self.delay, LAST_DELAY_S)
        if doubtful:
            # A preallocated file has its final size and structure before its content, and one
            # written out of order can look like nothing known: believe neither while it changes.
            quiet = now - self.changed_at
            if quiet < settle_s:
                self.settling = True
                self.due = now + min(self.delay, settle_s - quiet)
                return Outcome.INCOMPLETE
            return outcome
        if outcome is Outcome.INCOMPLETE:
            self.settling = False
            self.due = now + self.delay
        return outcome

    def _weigh(self, evidence: EvidenceOf) -> tuple[Outcome, bool]:
        """Return the outcome, and whether it is to be believed after a quiet time only."""
        path = Path(self.path)
        try:
            before = signature_of(path.stat())
            self.signature = before
            found = evidence(path)
            self.signature = signature_of(path.stat())
        except FileNotFoundError:
            if os.path.isdir(self.root):  # noqa: PTH112
                return Outcome.VANISHED, False
            self.awaited = f"its folder {self.root} to come back"
            return Outcome.INCOMPLETE, False
        except OSError as error:
            self.awaited = f"access to it ({error.strerror or error})"
            return Outcome.INCOMPLETE, False
        except IncompleteError as error:
            self.awaited = error.reason
            return Outcome.INCOMPLETE, False
        except ReadError as error:
            self.awaited, self.error = error.reason, error
            return Outcome.REFUSED, True
        except Exception as error:  # a reader's bug must not stop the source
            self.error = CorruptError(path, f"its reader failed on it ({error!r}); report this")
            self.awaited = self.error.reason
            return Outcome.REFUSED, True
        if not (found.complete or found.suspicious):
            self.complete_at = None
            self.awaited = found.awaited
            return Outcome.INCOMPLETE, False
        if self.complete_at is None:
            self.complete_at = time.time()
        if self.signature != before:
            self.awaited = "the end of a change made while it was examined"
            return Outcome.INCOMPLETE, False
        self.awaited = "" if found.complete else found.awaited
        return Outcome.COMPLETE, not found.complete
