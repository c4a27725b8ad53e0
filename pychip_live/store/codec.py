"""Values of `core` to rows of the record and back; arrays are stored little-endian."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.embedding import Embedding
from pychip_live.core.fractions import PhaseFractions
from pychip_live.core.frame import Calibration, Metadata
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.result import FrameFacts, FrameIdentity, FrameResult, FrameTimes
from pychip_live.core.window import Limits
from pychip_live.errors import RecordError
from pychip_live.store.schema import encode

_AS_TEXT = ("name", "path", "reason")


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One row of the record.

    ``facts`` is None and ``reason`` says why, where the frame was skipped. ``superseded_by`` is the
    sequence of the newer version of the same path and plane that counts in its place.
    """

    sequence: int
    identity: FrameIdentity
    facts: FrameFacts | None
    times: FrameTimes
    reason: str
    superseded_by: int | None = None


def insert_statement(table: str, row: Mapping[str, object]) -> str:
    """Return the statement that inserts a row by column name."""
    marks = ", ".join(f"CAST(:{c} AS TEXT)" if c in _AS_TEXT else f":{c}" for c in row)
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"


def identity_row(identity: FrameIdentity) -> dict[str, object]:
    """Columns that say which frame it is."""
    return {
        "name": encode(identity.name),
        "path": None if identity.path is None else encode(identity.path),
        "plane": int(identity.plane),
        "n_planes": int(identity.n_planes),
        "size": int(identity.signature[0]),
        "mtime_ns": int(identity.signature[1]),
        "digest": identity.digest,
    }


def facts_row(facts: FrameFacts) -> dict[str, object]:
    """Columns measured on the frame; NaN becomes NULL."""
    about = facts.metadata
    return {
        "acquired_at": about.acquired_at.isoformat() if about.acquired_at else None,
        "height": int(facts.shape[0]),
        "width": int(facts.shape[1]),
        "dtype": facts.dtype,
        "pixel_size": float(facts.calibration.pixel_size) if facts.calibration else None,
        "unit": facts.calibration.unit if facts.calibration else None,
        "exposure_s": _number(about.exposure_s),
        "voltage_v": _number(about.voltage_v),
        "magnification": _number(about.magnification),
        "stage": json.dumps({axis: float(value) for axis, value in about.stage.items()}),
        "low": float(facts.limits.low),
        "high": float(facts.limits.high),
        "saturated": float(facts.saturated),
        "n_invalid": int(facts.n_invalid),
        "chip": int(facts.chip),
        "rows": int(facts.rows),
        "cols": int(facts.cols),
        "cropped_bottom": int(facts.cropped[0]),
        "cropped_right": int(facts.cropped[1]),
    }


def read_identity(row: sqlite3.Row) -> FrameIdentity:
    """Inverse of `identity_row`."""
    return FrameIdentity(
        name=row["name"],
        path=row["path"],
        plane=row["plane"],
        n_planes=row["n_planes"],
        signature=(row["size"], row["mtime_ns"]),
        digest=row["digest"],
    )


def read_frame(row: sqlite3.Row) -> StoredFrame:
    """Frame of a complete row of the table."""
    times = FrameTimes(
        datetime.fromisoformat(row["seen_at"]),
        datetime.fromisoformat(row["recorded_at"]),
        json.loads(row["stages"] or "{}"),
    )
    facts = None if row["skipped"] else _read_facts(row)
    return StoredFrame(
        row["sequence"], read_identity(row), facts, times, row["reason"], row["superseded_by"]
    )


def _read_facts(row: sqlite3.Row) -> FrameFacts:
    nan = float("nan")
    metadata = Metadata(
        acquired_at=datetime.fromisoformat(row["acquired_at"]) if row["acquired_at"] else None,
        exposure_s=row["exposure_s"],
        voltage_v=row["voltage_v"],
        magnification=row["magnification"],
        stage=json.loads(row["stage"]),
    )
    low, high, saturated = (
        nan if row[name] is None else row[name] for name in ("low", "high", "saturated")
    )
    return FrameFacts(
        shape=(row["height"], row["width"]),
        dtype=row["dtype"],
        calibration=Calibration(row["pixel_size"], row["unit"]) if row["unit"] else None,
        metadata=metadata,
        limits=Limits(low, high),
        saturated=saturated,
        n_invalid=row["n_invalid"],
        chip=row["chip"],
        rows=row["rows"],
        cols=row["cols"],
        cropped=(row["cropped_bottom"], row["cropped_right"]),
    )


def encode_embedding(embedding: Embedding) -> bytes:
    """Vectors, then residuals, float16."""
    return _bytes(embedding.vectors, "<f2") + _bytes(embedding.residual, "<f2")


def decode_embedding(embedding_id: str, data: bytes, n_chips: int) -> Embedding:
    """Inverse of `encode_embedding`; the arrays cannot be written to."""
    values = np.frombuffer(data, "<f2")
    split = len(values) - n_chips
    return Embedding(embedding_id, values[:split].reshape(n_chips, -1), values[split:])


def encode_mask(masked: NDArray[np.bool_] | None) -> bytes | None:
    """One bit a chip, or None where no chip is masked."""
    return np.packbits(masked).tobytes() if masked is not None and masked.any() else None


def decode_mask(data: bytes | None, n_chips: int) -> NDArray[np.bool_] | None:
    """Inverse of `encode_mask`."""
    if data is None:
        return None
    return np.unpackbits(np.frombuffer(data, np.uint8), count=n_chips).astype(np.bool_)


def result_row(sequence: int, result: FrameResult) -> tuple[object, ...]:
    """Row of the narrow table: revision, frame, chips, unknown, share/low/high."""
    counted = result.fractions
    numbers = np.stack([counted.share, counted.low, counted.high])
    return (
        int(result.revision), sequence, int(counted.n_chips), int(counted.n_unknown),
        _bytes(numbers, "<f8"),
    )  # fmt: skip


def labels_row(sequence: int, result: FrameResult) -> tuple[object, ...]:
    """Row of the wide table; labels take one byte a chip where the ids allow it."""
    rows, cols = result.labels.shape
    narrow = not result.labels.size or int(result.labels.max()) <= np.iinfo(np.int8).max
    labels = _bytes(result.labels, "<i1" if narrow else "<i2")
    return (
        sequence, int(result.revision), rows, cols, labels, _bytes(result.probabilities, "<f2"),
    )  # fmt: skip


def decode_labels(data: bytes, rows: int, cols: int) -> NDArray[np.int16]:
    """Label map, ``(rows, cols)``."""
    stored = np.frombuffer(data, "<i1" if len(data) == rows * cols else "<i2")
    return stored.astype(np.int16).reshape(rows, cols)


def decode_probabilities(data: bytes, rows: int, cols: int) -> NDArray[np.float16]:
    """Probabilities, ``(rows, cols, k)``."""
    values: NDArray[np.float16] = np.frombuffer(data, "<f2").reshape(rows, cols, -1)
    return values


def decode_fractions(
    class_ids: tuple[int, ...], n_chips: int, n_unknown: int, data: bytes
) -> PhaseFractions:
    """Phase fractions of a row of the narrow table."""
    share, low, high = np.frombuffer(data, "<f8").reshape(3, len(class_ids))
    return PhaseFractions(class_ids, n_chips, n_unknown, share, low, high)


def encode_prototypes(prototypes: Prototypes) -> bytes:
    """Arrays of the prototypes as an npz archive, without pickle."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        excluded=np.array(prototypes.excluded, np.int64),
        means=prototypes.means,
        limits=np.array([prototypes.temperature, prototypes.radius]),
        resamples=prototypes.resamples,
    )
    return buffer.getvalue()


def decode_prototypes(
    number: int, embedding_id: str, class_ids: tuple[int, ...], data: bytes
) -> Prototypes:
    """Inverse of `encode_prototypes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        temperature, radius = stored["limits"].tolist()
        return Prototypes(
            embedding_id=embedding_id,
            revision=number,
            class_ids=class_ids,
            excluded=tuple(stored["excluded"].tolist()),
            means=stored["means"],
            temperature=temperature,
            radius=radius,
            resamples=stored["resamples"],
        )


def check_result(
    sequence: int, result: FrameResult, revisions: Mapping[int, tuple[int, ...]]
) -> None:
    """RecordError unless the result belongs to an entered revision and to its classes."""
    ids = revisions.get(result.revision)
    if ids is None:
        raise RecordError(
            f"frame {sequence}: its result is of revision {result.revision}, which was never "
            "entered in this run"
        )
    shape = (*result.labels.shape, len(ids))
    if result.fractions.class_ids != ids or result.probabilities.shape != shape:
        raise RecordError(
            f"frame {sequence}: its result has the classes {result.fractions.class_ids} and "
            f"probabilities of shape {result.probabilities.shape}; revision {result.revision} has "
            f"the classes {ids}, so {shape} is right"
        )


def _bytes(array: NDArray[Any], dtype: str) -> bytes:
    return np.ascontiguousarray(array, dtype).tobytes()


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
