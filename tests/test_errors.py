from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

from pychip_live import errors
from pychip_live.errors import PychipError

EXAMPLES: list[PychipError] = [
    errors.UsageError("no such command"),
    errors.ProfileError("class 'a' is not known"),
    errors.GridError("a chip of 9 px does not fit"),
    errors.StaleEditError(3, 5),
    errors.EmptySupportError("no class has an example"),
    errors.ReadError(Path("a.dm4"), "no pixels"),
    errors.IncompleteError(Path("a.dm4"), "24 bytes are missing"),
    errors.UnsupportedError(Path("a.dm4"), "a spectrum"),
    errors.CorruptError(Path("a.dm4"), "claims 2 TB"),
    errors.EmbeddingError("no stage 9"),
    errors.WeightsError(Path("w.pt"), "altered"),
    errors.WeightsError(None, "not installed"),
    errors.EmbeddingMismatchError("aa", "bb"),
    errors.RecordError("damaged"),
    errors.RecordLockedError("process 7 owns it"),
    errors.RecordBusyError("disk full"),
]


def test_every_error_has_an_example_here() -> None:
    drawn = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, PychipError) and kind is not PychipError
    }
    assert {type(e) for e in EXAMPLES} == drawn
    for kind in drawn:
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_error_survives_the_way_between_processes(error: PychipError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    assert back.exit_code == error.exit_code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (PychipError, 1),
        (errors.UsageError, 2),
        (errors.StaleEditError, 2),
        (errors.CorruptError, 1),
        (errors.WeightsError, 2),
        (errors.RecordError, 1),
        (errors.RecordBusyError, 1),
        (errors.RecordLockedError, 2),
    ],
)
def test_exit_codes(kind: type[PychipError], code: int) -> None:
    assert kind.exit_code == code


def test_messages_name_file_and_values() -> None:
    read = errors.CorruptError(Path("a.dm4"), "claims 2 TB")
    assert str(read) == "a.dm4: claims 2 TB"
    assert (read.path, read.reason) == (Path("a.dm4"), "claims 2 TB")
    assert str(errors.WeightsError(None, "not installed")) == "not installed"
    assert "revision 3" in str(errors.StaleEditError(3, 5))
    assert "revision 5" in str(errors.StaleEditError(3, 5))
    assert "aa" in str(errors.EmbeddingMismatchError("aa", "bb"))
    assert "pychip-live analyze PROFILE FILES" in str(errors.EmbeddingMismatchError("aa", "bb"))
