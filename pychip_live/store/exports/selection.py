"""What an export shows: one revision of a run, its classes and its frames."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pychip_live.core.result import FrameResult
from pychip_live.core.support import PhaseClass
from pychip_live.store.codec import StoredFrame
from pychip_live.store.history import Curve, History


class Selection:
    """Frames of a run at the current revision.

    Parameters
    ----------
    history
        The run.

    Attributes
    ----------
    classes
        All classes of the support set, in its order; those without examples too.
    curve
        Phase fractions, or None before the first result.
    index
        Sequence, name, acquired_at and recorded_at of all analysed frames; those of the curve are
        among them.
    notes
        What a reader of the export should know.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.notes: list[str] = []
        with history.snapshot():
            number = history.current_revision()
            self.revision = None if number is None else history.revision(number)
            self.curve: Curve | None = None if number is None else history.curve(number)
            self.index = history.index()
            self._tell()
        self.classes: tuple[PhaseClass, ...] = (
            self.revision.support.classes if self.revision else ()
        )

    @property
    def column(self) -> dict[int, int]:
        """Column in ``curve`` and in probabilities, by class id; excluded classes have none."""
        ids = self.revision.class_ids if self.revision else ()
        return {class_id: column for column, class_id in enumerate(ids)}

    def labelled(self) -> Iterator[tuple[StoredFrame, FrameResult]]:
        """Yield the frames that have a result at the revision, by sequence."""
        if self.curve is None:
            return
        for sequence in self.curve.sequence.tolist():  # a run that goes on may have more by now
            result = self.history.result(sequence, self.curve.revision)
            if result is not None:
                yield self.history.frame(sequence), result

    def _tell(self) -> None:
        n, skipped = self.history.count()
        if skipped:
            self.notes.append(f"{skipped} skipped files or planes are left out")
        if older := self.history.superseded():
            self.notes.append(f"{older} older versions of files that were replaced are left out")
        labelled = 0 if self.curve is None else len(self.curve.sequence)
        if self.revision is None:
            if n:
                self.notes.append("no frame is labelled yet: the run has no support set")
        elif labelled < n:
            self.notes.append(
                f"{n - labelled} of {n} frames have no result at revision "
                f"{self.revision.number}; 'pychip-live relabel RUN' gives them one"
            )


def printable(text: str) -> str:
    """Text that every encoding and file format takes: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


def one_line(text: str) -> str:
    """Printable text for a picture, on one line and of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in printable(text)).split())
    return line if len(line) <= 40 else f"{line[:39]}…"


def file_stem(sequence: int, name: str) -> str:
    """Name for the file of one frame: sequence, then what is harmless of the frame's name."""
    plain = re.sub(r"[^\w.#-]+", "_", printable(name)).strip("._")[-80:]
    return f"{sequence:06d}_{plain}"
