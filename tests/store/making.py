"""Frames and results to record, made from a seed: what was committed can be made again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from pychip_live.core.embedding import Embedding
from pychip_live.core.fractions import PhaseFractions
from pychip_live.core.frame import Calibration, Metadata
from pychip_live.core.prototypes import Prototypes, fit_prototypes
from pychip_live.core.result import FrameFacts, FrameIdentity, FrameResult, FrameTimes
from pychip_live.core.support import UNKNOWN, SupportSet
from pychip_live.core.window import Limits
from pychip_live.store.record import RunRecord

NOW = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
ID = "0123456789abcdef"
ROWS, COLS, CHIP = 5, 7, 10


def support(*names: str) -> SupportSet:
    made = SupportSet()
    for name in names or ("austenite", "martensite", "void"):
        made = made.add_class(name)
    return made


def prototypes(classes: SupportSet, *, empty: tuple[int, ...] = ()) -> Prototypes:
    """Of two examples a class; the classes in ``empty`` have none."""
    ids = [c.id for c in classes.classes if c.id not in empty for _ in range(2)]
    rng = np.random.default_rng(classes.revision)
    return fit_prototypes(
        rng.normal(size=(len(ids), 8)).astype(np.float16),
        np.ones(len(ids), np.float16),
        ids,
        all_classes=[c.id for c in classes.classes],
        embedding_id=ID,
        revision=classes.revision,
    )


def new_record(runs: Path, *, budget: int = 10**9, name: str = "a profile") -> RunRecord:
    return RunRecord.create(
        runs,
        profile_name=name,
        profile_hash="hash",
        description={"pychip-live": "0", "backbone": "none"},
        sources=["/data/αβ"],
        now=NOW,
        embedding_budget=budget,
    )


def enter(record: RunRecord, classes: SupportSet, profile_hash: str = "h1") -> int:
    return record.add_revision(
        support=classes, profile_hash=profile_hash, prototypes=prototypes(classes), now=NOW
    )


def identity(i: int, name: str | None = None) -> FrameIdentity:
    name = name or f"day/f{i:04d}.tif"
    return FrameIdentity(name, f"/data/{name}", signature=(1000 + i, 7 * i), digest=f"{i:064x}")


def facts(i: int, rows: int = ROWS, cols: int = COLS) -> FrameFacts:
    return FrameFacts(
        shape=(rows * CHIP + 3, cols * CHIP + 4),
        dtype="uint16",
        calibration=Calibration(0.25, "nm"),
        metadata=Metadata(
            acquired_at=NOW + timedelta(seconds=10 * i),
            exposure_s=0.1,
            voltage_v=2e5,
            magnification=None,
            stage={"x_um": 1.5, "alpha_deg": -20.0},
        ),
        limits=Limits(12.0, 4000.5),
        saturated=0.002,
        n_invalid=3,
        chip=CHIP,
        rows=rows,
        cols=cols,
        cropped=(3, 4),
    )


def times(i: int) -> FrameTimes:
    return FrameTimes(NOW + timedelta(seconds=i), NOW + timedelta(seconds=i + 0.5), {"read": 0.01})


def embedding(i: int, n: int = ROWS * COLS) -> Embedding:
    rng = np.random.default_rng(i)
    vectors = rng.normal(size=(n, 8)).astype(np.float16)
    return Embedding(ID, vectors, rng.random(n).astype(np.float16))


def mask(i: int, n: int = ROWS * COLS) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    return np.arange(n) % 5 == 1 if i % 2 else None


def result(
    i: int, revision: int, ids: tuple[int, ...] = (0, 1, 2), rows: int = ROWS, cols: int = COLS
) -> FrameResult:
    rng = np.random.default_rng([i, revision])
    p = rng.dirichlet(np.ones(len(ids)), (rows, cols))
    labels = np.array(ids, np.int16)[p.argmax(axis=2)]
    labels[0, : i % cols] = UNKNOWN
    known = max(1, np.count_nonzero(labels != UNKNOWN))
    share = np.array([np.count_nonzero(labels == c) for c in ids]) / known
    n_unknown = int(np.count_nonzero(labels == UNKNOWN))
    low, high = np.clip(share - 0.05, 0, 1), np.clip(share + 0.07, 0, 1)
    fractions = PhaseFractions(ids, rows * cols, n_unknown, share, low, high)
    return FrameResult(revision, labels, p.astype(np.float16), fractions)


def commit(record: RunRecord, i: int, revision: int | None, name: str | None = None) -> int:
    return record.commit(
        identity(i, name),
        facts(i),
        times(i),
        embedding=embedding(i),
        masked=mask(i),
        result=None if revision is None else result(i, revision),
        thumbnail=b"picture %d" % i,
    )


def same_result(a: FrameResult | None, b: FrameResult) -> bool:
    return (
        a is not None
        and a.revision == b.revision
        and a.labels.dtype == np.int16
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.probabilities, b.probabilities)
        and a.fractions.class_ids == b.fractions.class_ids
        and (a.fractions.n_chips, a.fractions.n_unknown)
        == (b.fractions.n_chips, b.fractions.n_unknown)
        and all(
            np.array_equal(getattr(a.fractions, x), getattr(b.fractions, x), equal_nan=True)
            for x in ("share", "low", "high")
        )
    )


def write_until_killed(folder: Path, start: int) -> None:
    """Body of a process that is going to be killed."""
    record = RunRecord.resume(folder, now=NOW)
    revision = enter(record, support())
    i = start
    while True:
        commit(record, i, revision)
        i += 1
