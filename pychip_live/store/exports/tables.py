"""Tables: phase fractions of all frames, and all chips of all frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from pychip_live.core.grid import Grid
from pychip_live.core.support import UNKNOWN
from pychip_live.store.atomic import replacing
from pychip_live.store.exports.selection import Selection, printable

_CHIPS_A_GROUP = 1 << 18


def write_fractions(selection: Selection, path: Path, format: str) -> list[Path]:
    """Write a row a frame: ``sequence,frame,acquired_at,…`` then share, low, high of each class."""
    table = _fractions(selection, guard=format == "csv")
    _write(selection, path, format, table.schema, table.to_batches())
    return [path]


def write_fractions_h5(selection: Selection, path: Path, format: str = "h5") -> list[Path]:
    """Write a dataset a column; share, low and high are ``(frames, classes)``."""
    table = _fractions(selection, guard=False)
    shares = _shares(selection)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        if selection.revision is not None:
            file.attrs["revision"] = selection.revision.number
        for name in ("sequence", "n_chips", "unknown"):
            column = table[name].to_numpy()
            file[name] = column.astype(np.float64) if name == "unknown" else _filled(column)
        for name in ("frame", "acquired_at", "recorded_at"):
            _write_text(file, name, [value or "" for value in table[name].to_pylist()])
        for number, name in enumerate(("share", "low", "high")):
            file[name] = shares[:, :, number]
        write_classes(file, selection)
    return [path]


def write_chips(selection: Selection, path: Path, format: str) -> list[Path]:
    """Write a row a chip: ``sequence,frame,row,col,x,y,prediction,confidence`` then ``p_NAME``."""
    fixed = ["sequence", "frame", "row", "col", "x", "y", "prediction", "confidence"]
    types = [pa.int64(), pa.string(), *4 * [pa.int32()], pa.string(), pa.float32()]
    wanted = [f"p_{printable(c.name)}" for c in selection.classes]
    names = [*fixed, *_unlike(wanted, fixed, selection)]
    types += [pa.float32()] * len(wanted)
    schema = pa.schema(list(zip(names, types, strict=True)))
    _write(selection, path, format, schema, _chips(selection, schema, guard=format == "csv"))
    return [path]


def write_classes(file: h5py.Group, selection: Selection) -> None:
    """Ids, names and colours of the classes, beside what they label."""
    file["class_id"] = np.array([c.id for c in selection.classes], np.int16)
    _write_text(file, "class_name", [c.name for c in selection.classes])
    _write_text(file, "class_color", [c.color for c in selection.classes])
    file.attrs["unknown_label"] = UNKNOWN


def _fractions(selection: Selection, *, guard: bool) -> pa.Table:
    index = selection.index
    curve = selection.curve
    row = {sequence: i for i, (sequence, *_) in enumerate(index)}
    counts = np.full((len(index), 3), np.nan)
    if curve is not None and selection.revision is not None:
        rows = [row[s] for s in curve.sequence.tolist()]
        counts[rows, 0] = selection.revision.number
        counts[rows, 1] = curve.n_chips
        counts[rows, 2] = curve.n_unknown / curve.n_chips
    shares = _shares(selection)
    columns: dict[str, pa.Array] = {
        "sequence": pa.array([r[0] for r in index], pa.int64()),
        "frame": pa.array([_text(r[1], guard=guard) for r in index], pa.string()),
        "acquired_at": pa.array([r[2] for r in index], pa.string()),
        "recorded_at": pa.array([r[3] for r in index], pa.string()),
        "revision": pa.array(counts[:, 0], from_pandas=True).cast(pa.int64()),
        "n_chips": pa.array(counts[:, 1], from_pandas=True).cast(pa.int64()),
        "unknown": pa.array(counts[:, 2], from_pandas=True),
    }
    wanted = [
        f"{printable(c.name)}{end}" for c in selection.classes for end in ("", "_low", "_high")
    ]
    names = _unlike(wanted, list(columns), selection)
    for i, name in enumerate(names):
        columns[name] = pa.array(shares[:, i // 3, i % 3], from_pandas=True)
    return pa.table(columns)


def _shares(selection: Selection) -> NDArray[np.float64]:
    """Share, low and high, ``(frames, classes, 3)``; NaN where there is none."""
    row = {sequence: i for i, (sequence, *_) in enumerate(selection.index)}
    shares = np.full((len(row), len(selection.classes), 3), np.nan)
    curve = selection.curve
    if curve is not None:
        rows = [row[s] for s in curve.sequence.tolist()]
        for i, phase in enumerate(selection.classes):
            column = selection.column.get(phase.id)
            if column is not None:
                for number, values in enumerate((curve.share, curve.low, curve.high)):
                    shares[rows, i, number] = values[:, column]
    return shares


def _chips(selection: Selection, schema: pa.Schema, *, guard: bool) -> Iterator[pa.RecordBatch]:
    classes = selection.classes
    words = pa.array(["unknown", *(_text(c.name, guard=guard) for c in classes)], pa.string())
    for frame, result in selection.labelled():
        if frame.facts is None:
            continue
        facts = frame.facts
        n = result.labels.size
        corners = Grid(facts.chip, *facts.shape).corners().astype(np.int32)
        rows, cols = np.divmod(np.arange(n, dtype=np.int32), np.int32(facts.cols))
        labels = result.labels.reshape(-1)
        word = np.zeros(n, np.int32)
        for i, phase in enumerate(classes, start=1):
            word[labels == phase.id] = i
        p = result.probabilities.reshape(n, -1).astype(np.float32)
        places = [selection.column.get(c.id) for c in classes]
        yield pa.record_batch(
            [
                pa.array(np.full(n, frame.sequence, np.int64)),
                pa.repeat(pa.scalar(_text(frame.identity.name, guard=guard), pa.string()), n),
                pa.array(rows), pa.array(cols), pa.array(corners[:, 0]), pa.array(corners[:, 1]),
                words.take(pa.array(word)), pa.array(p.max(axis=1)),
                *(pa.nulls(n, pa.float32()) if i is None else pa.array(p[:, i]) for i in places),
            ],
            schema=schema,
        )  # fmt: skip


def _write(
    selection: Selection,
    path: Path,
    format: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
) -> None:
    with replacing(path) as temporary:
        if format == "parquet":
            with pa.parquet.ParquetWriter(temporary, schema) as writer:
                for group in _groups(batches):
                    writer.write_table(pa.Table.from_batches(group, schema))
            return
        with temporary.open("wb") as file:
            file.write(_header(schema.names, selection))
            for batch in batches:
                file.write(_csv(batch))


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        if rows >= _CHIPS_A_GROUP:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _header(names: Sequence[str], selection: Selection) -> bytes:
    cells = [_text(name, guard=True) for name in names]
    if cells != list(names):
        selection.notes.append(
            "class names that a spreadsheet would run as a formula are written with a ' before them"
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _csv(batch: pa.RecordBatch) -> bytes:
    """Rows without header; quotes only where a value in the batch needs them."""
    for style in ("none", "needed"):
        buffer = io.BytesIO()
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=style)
        try:
            pyarrow.csv.write_csv(batch, buffer, options)
        except pa.ArrowInvalid:
            if style == "needed":
                raise
        else:
            break
    return buffer.getvalue()


def _text(text: str, *, guard: bool) -> str:
    """Printable text; guarded against spreadsheets that run cells as formulas (CWE-1236).

    A leading minus is left alone: names such as ``-20C_001.tif`` must stay joinable.
    """
    plain = printable(text)
    return f"'{plain}" if guard and plain.startswith(("=", "+", "@", "\t", "\r")) else plain


def _unlike(wanted: Sequence[str], taken: Sequence[str], selection: Selection) -> list[str]:
    """Column names that occur once: a class may be called ``frame``, or ``A`` and ``A_low``."""
    used = set(taken)
    names = []
    for name in wanted:
        number, unique = 1, name
        while unique in used:
            number += 1
            unique = f"{name} ({number})"
        if unique != name:
            selection.notes.append(f"the column {name!r} is taken; this one is called {unique!r}")
        used.add(unique)
        names.append(unique)
    return names


def _write_text(file: h5py.Group, name: str, texts: Sequence[str]) -> None:
    file.create_dataset(name, data=[printable(t) for t in texts], dtype=h5py.string_dtype())


def _filled(column: NDArray[Any]) -> NDArray[np.int64]:
    """Integers with 0 for missing."""
    filled: NDArray[np.int64] = np.nan_to_num(column).astype(np.int64)
    return filled
