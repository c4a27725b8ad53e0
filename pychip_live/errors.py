"""Every error this package raises on purpose, as one tree.

::

    PychipError
    ├── UsageError             a command or option that cannot be carried out         exit 2
    ├── ProfileError           profile, support set or example that is wrong          exit 2
    │   ├── GridError          chip size that does not fit the frame
    │   ├── StaleEditError     edit based on another revision than the current one
    │   └── EmptySupportError  nothing to classify with
    ├── ReadError              one file (or plane of it) that cannot be used
    │   ├── IncompleteError    still being written: wait, then try again
    │   ├── UnsupportedError   readable, but not a frame (spectrum, complex, 4-D, …)
    │   └── CorruptError       damaged or hostile
    ├── EmbeddingError         backbone, weights or embeddings that do not fit        exit 2
    │   ├── WeightsError       weights file missing, altered or of another shape
    │   └── EmbeddingMismatchError  embeddings of two different ids were compared
    └── RecordError            the run record                                         exit 1
        ├── RecordLockedError  another process owns this run                          exit 2
        └── RecordBusyError    disk full, share gone, database locked: retry

Each message names the file, the value and the remedy; attributes carry the same for programs.
"""

from __future__ import annotations

from pathlib import Path


class PychipError(Exception):
    """Root of the tree; ``exit_code`` is what the command line returns for it."""

    exit_code = 1

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle message and attributes: workers of a pool send their errors home."""
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[PychipError], args: tuple[object, ...]) -> PychipError:
    return kind.__new__(kind, *args)


class UsageError(PychipError):
    """A command or option that cannot be carried out."""

    exit_code = 2


class ProfileError(PychipError):
    """Profile, support set or example that is wrong."""

    exit_code = 2


class GridError(ProfileError):
    """A chip size that does not fit the frame."""


class StaleEditError(ProfileError):
    """An edit based on another revision than the current one.

    Parameters
    ----------
    based_on, current
        Revision the edit started from, and the one in force.
    """

    def __init__(self, based_on: int, current: int) -> None:
        super().__init__(
            f"the edit was based on revision {based_on}, but the support set is at revision "
            f"{current}; look at the current set and repeat the edit"
        )
        self.based_on = based_on
        self.current = current


class EmptySupportError(ProfileError):
    """No class has an example."""


class ReadError(PychipError):
    """A file (or plane of it) that cannot be used as a frame.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it, and what would help, without the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class IncompleteError(ReadError):
    """The file is still being written; ``reason`` says what is awaited."""


class UnsupportedError(ReadError):
    """The file is sound, but holds no real-valued 2-D frame."""


class CorruptError(ReadError):
    """The file is damaged, contradicts itself or asks for absurd resources."""


class EmbeddingError(PychipError):
    """Backbone, weights or embeddings that do not fit."""

    exit_code = 2


class WeightsError(EmbeddingError):
    """A weights file that is missing, altered or of another shape.

    Parameters
    ----------
    path
        The weights file, or None where none was found.
    reason
        What is wrong, and the remedy.
    """

    def __init__(self, path: Path | None, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class EmbeddingMismatchError(EmbeddingError):
    """Embeddings of two different embedding ids were compared."""

    def __init__(self, have: str, need: str) -> None:
        super().__init__(
            f"embeddings of id {have} cannot be compared with a support set of id {need}; "
            "analyse the files with that profile ('pychip-live analyze PROFILE FILES')"
        )
        self.have = have
        self.need = need


class RecordError(PychipError):
    """The run record cannot be used."""


class RecordLockedError(RecordError):
    """Another process owns this run."""

    exit_code = 2


class RecordBusyError(RecordError):
    """The record cannot be written just now (disk full, share gone, database locked); retry."""
