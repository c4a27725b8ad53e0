from __future__ import annotations

import csv
import os
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from pychip_live.core.frame import Metadata
from pychip_live.core.result import FrameFacts
from pychip_live.core.support import SupportSet
from pychip_live.errors import RecordError, UsageError
from pychip_live.store.exports import export
from pychip_live.store.record import RunRecord
from tests.store.making import (
    CHIP,
    COLS,
    NOW,
    ROWS,
    commit,
    embedding,
    enter,
    facts,
    identity,
    new_record,
    prototypes,
    result,
    support,
    times,
)

HOSTILE = ("=1+1|'calc'!A0", 'a,"b"\nc', "frame", "$x_{", "_hidden\0", "../über/γ′ 相", "@x")


def a_run(runs: Path, n: int = 4, classes: SupportSet | None = None) -> tuple[Path, int]:
    """n labelled frames and, last, a skipped one."""
    classes = classes or support()
    ids = tuple(c.id for c in classes.classes)
    with new_record(runs) as record:
        revision = enter(record, classes)
        for i in range(n):
            put(record, i, revision, ids)
        record.skip(identity(n), "damaged", seen_at=NOW, now=NOW)
    return record.folder, revision


def put(
    record: RunRecord,
    i: int,
    revision: int | None,
    ids: tuple[int, ...] = (0, 1, 2),
    about: FrameFacts | None = None,
) -> None:
    about = about or facts(i)
    record.commit(
        identity(i),
        about,
        times(i),
        embedding=embedding(i, about.rows * about.cols),
        masked=None,
        result=(None if revision is None else result(i, revision, ids, about.rows, about.cols)),
        thumbnail=None,
    )


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_fractions_csv_keeps_the_contract(tmp_path: Path) -> None:
    folder, revision = a_run(tmp_path)
    done = export(folder, tmp_path / "f.csv")
    assert done.paths == (tmp_path / "f.csv",)
    assert done.notes == ("1 skipped files or planes are left out",)
    text = (tmp_path / "f.csv").read_bytes().decode()
    assert text.splitlines()[0] == (
        "sequence,frame,acquired_at,recorded_at,revision,n_chips,unknown,"
        "austenite,austenite_low,austenite_high,martensite,martensite_low,martensite_high,"
        "void,void_low,void_high"
    )
    assert "\r" not in text
    rows = rows_of(tmp_path / "f.csv")[1:]
    assert len(rows) == 4
    for i, row in enumerate(rows):
        counted = result(i, revision).fractions
        assert row[:2] == [str(i + 1), identity(i).name]
        assert row[2] == (NOW + timedelta(seconds=10 * i)).isoformat()
        assert row[3] == times(i).recorded_at.isoformat()
        assert row[4:6] == [str(revision), "35"]
        assert float(row[6]) == counted.n_unknown / 35
        numbers = np.array([float(v) for v in row[7:]]).reshape(3, 3)
        expected = np.stack([counted.share, counted.low, counted.high], axis=1)
        assert np.array_equal(numbers, expected)  # every digit


def test_fractions_are_the_same_in_every_format(tmp_path: Path) -> None:
    folder, revision = a_run(tmp_path)
    export(folder, tmp_path / "f.csv")
    export(folder, tmp_path / "f.parquet")
    export(folder, tmp_path / "f.h5")
    header, *rows = rows_of(tmp_path / "f.csv")
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.column_names == header
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        column = table[name].to_pylist()
        assert [type(v)(c) for v, c in zip(column, cells, strict=True)] == column
    with h5py.File(tmp_path / "f.h5") as file:
        assert file.attrs["revision"] == revision
        assert file["class_name"].asstr()[:].tolist() == ["austenite", "martensite", "void"]
        assert file["sequence"][:].tolist() == [1, 2, 3, 4]
        shares = np.stack([file["share"], file["low"], file["high"]], axis=2).reshape(4, 9)
    assert np.array_equal(shares, np.array([[float(v) for v in row[7:]] for row in rows]))


def test_chips_csv_keeps_the_contract(tmp_path: Path) -> None:
    folder, revision = a_run(tmp_path, 3)
    export(folder, tmp_path / "chips.csv", "chips")
    export(folder, tmp_path / "chips.parquet", "chips")
    header, *rows = rows_of(tmp_path / "chips.csv")
    assert ",".join(header) == (
        "sequence,frame,row,col,x,y,prediction,confidence,p_austenite,p_martensite,p_void"
    )
    assert len(rows) == 3 * ROWS * COLS
    names = {-1: "unknown", 0: "austenite", 1: "martensite", 2: "void"}
    for number, row in enumerate(rows):
        i, chip = divmod(number, ROWS * COLS)
        r, c = divmod(chip, COLS)
        expected = result(i, revision)
        assert row[:6] == [str(v) for v in (i + 1, identity(i).name, r, c, c * CHIP, r * CHIP)]
        assert row[6] == names[int(expected.labels[r, c])]
        p = np.array([float(v) for v in row[8:]], np.float16)
        assert np.array_equal(p, expected.probabilities[r, c])
        assert np.float16(row[7]) == p.max()
    table = pq.read_table(tmp_path / "chips.parquet")
    assert table.column_names == header
    assert table["prediction"].to_pylist() == [row[6] for row in rows]
    assert table["y"].to_pylist() == [int(row[5]) for row in rows]


def test_one_curve_never_mixes_revisions(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        old = enter(record, support(), "a")
        for i in range(3):
            put(record, i, old)
        new = enter(record, support().change_class(1, name="bainite"), "b")
        put(record, 3, new)
        put(record, 4, None)
    done = export(record.folder, tmp_path / "f.csv")
    header, *rows = rows_of(tmp_path / "f.csv")
    assert "martensite" in header
    assert [row[4] for row in rows] == [str(old)] * 3 + ["", ""]
    assert all(cell == "" for row in rows[3:] for cell in row[4:])
    assert any("2 of 5 frames have no result at revision 3" in note for note in done.notes)
    export(record.folder, tmp_path / "c.csv", "chips")
    assert {row[0] for row in rows_of(tmp_path / "c.csv")[1:]} == {"1", "2", "3"}


def test_classes_without_examples_have_empty_columns(tmp_path: Path) -> None:
    classes = support()
    with new_record(tmp_path) as record:
        revision = record.add_revision(
            support=classes, profile_hash="h", prototypes=prototypes(classes, empty=(1,)), now=NOW
        )
        put(record, 0, revision, (0, 2))
    export(record.folder, tmp_path / "f.csv")
    header, row = rows_of(tmp_path / "f.csv")
    cells = dict(zip(header, row, strict=True))
    assert cells["martensite"] == cells["martensite_high"] == ""
    assert float(cells["void"]) == result(0, revision, (0, 2)).fractions.share[1]
    export(record.folder, tmp_path / "c.csv", "chips")
    header, row = rows_of(tmp_path / "c.csv")[:2]
    cells = dict(zip(header, row, strict=True))
    assert cells["p_martensite"] == ""
    assert cells["p_void"] != ""


@pytest.mark.parametrize("frames", [0, 2], ids=["no frame", "unlabelled frames"])
@pytest.mark.parametrize(
    ("what", "format"),
    [
        ("fractions", "csv"), ("fractions", "parquet"), ("fractions", "h5"), ("chips", "csv"),
        ("chips", "parquet"), ("labels", "tif"), ("labels", "h5"), ("labels", "png"),
        ("overlay", "png"), ("chart", "svg"), ("chart", "png"),
    ],
)  # fmt: skip
def test_a_run_without_results_exports_nothing_but_says_so(
    tmp_path: Path, frames: int, what: str, format: str
) -> None:
    with new_record(tmp_path) as record:
        for i in range(frames):
            commit(record, i, None)
    done = export(record.folder, tmp_path / "out", what, format)
    assert (len(done.notes) == 1) == bool(frames)
    if (what, format) == ("fractions", "csv"):
        header, *rows = rows_of(done.paths[0])
        assert header[-1] == "unknown"
        assert [row[1] for row in rows] == [identity(i).name for i in range(frames)]


def test_hostile_class_names(tmp_path: Path) -> None:
    folder, revision = a_run(tmp_path, 2, support(*HOSTILE))
    done = export(folder, tmp_path / "f.csv")
    header, *rows = rows_of(tmp_path / "f.csv")
    assert len(rows) == 2
    assert all(len(row) == len(header) == 7 + 3 * len(HOSTILE) for row in rows)
    assert header[7] == "'=1+1|'calc'!A0"  # no formula for a spreadsheet
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in header)
    assert header[10] == 'a,"b"\nc'
    assert header[13:16] == ["frame (2)", "frame_low", "frame_high"]
    assert any("formula" in note for note in done.notes)
    assert any("'frame (2)'" in note for note in done.notes)
    share = result(0, revision, tuple(range(7))).fractions.share
    assert [float(v) for v in rows[0][7::3]] == share.tolist()

    export(folder, tmp_path / "c.csv", "chips")
    chips = rows_of(tmp_path / "c.csv")
    assert {len(row) for row in chips} == {8 + len(HOSTILE)}
    assert {row[6] for row in chips[1:]} <= {
        "unknown", "'=1+1|'calc'!A0", 'a,"b"\nc', "frame", "$x_{", "_hidden\\0", "../über/γ′ 相",
        "'@x",
    }  # fmt: skip
    parquet = export(folder, tmp_path / "c.parquet", "chips")
    assert pq.read_schema(parquet.paths[0]).names[8] == "p_=1+1|'calc'!A0"
    for what, name in [("labels", "l.tif"), ("labels", "l.h5"), ("fractions", "f.h5")]:
        assert export(folder, tmp_path / name, what).paths == (tmp_path / name,)
    with h5py.File(tmp_path / "l.h5") as file:
        assert file["class_name"].asstr()[5] == "../über/γ′ 相"
    drawn = export(folder, tmp_path / "chart.svg", "chart")
    ET.parse(tmp_path / "chart.svg")
    assert "the chart's font lacks a character of a class name" in drawn.notes
    assert len(export(folder, tmp_path / "overlay", "overlay").paths) == 2


def test_hostile_frame_names_stay_inside_the_folder(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "=cmd()|x.tif", b"\xff\xfe".decode("utf-8", "surrogateescape")]
    with new_record(tmp_path / "runs") as record:
        revision = enter(record, support())
        for i, name in enumerate(names):
            commit(record, i, revision, name)
    out = tmp_path / "out"
    done = export(record.folder, out, "labels", "png")
    assert all(path.parent == out and path.is_file() for path in done.paths)
    assert len(set(done.paths)) == 3
    export(record.folder, tmp_path / "f.csv")
    assert [row[1] for row in rows_of(tmp_path / "f.csv")[1:]] == [
        "../../etc/passwd", "'=cmd()|x.tif", "\\udcff\\udcfe",
    ]  # fmt: skip


def test_labels_tif_is_one_documented_stack(tmp_path: Path) -> None:
    folder, revision = a_run(tmp_path, 3)
    export(folder, tmp_path / "labels.tif", "labels")
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        stack = file.asarray()
        (about,) = file.shaped_metadata or ()
    assert stack.dtype == np.int16
    assert np.array_equal(stack, [result(i, revision).labels for i in range(3)])
    assert about["unknown"] == -1
    assert [(c["id"], c["name"]) for c in about["classes"]] == [
        (0, "austenite"), (1, "martensite"), (2, "void"),
    ]  # fmt: skip
    assert about["frames"] == [identity(i).name for i in range(3)]


def test_labels_of_differing_grids_are_one_file_a_frame(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        put(record, 0, revision)
        put(record, 1, revision, about=facts(1, 3, 4))
    done = export(record.folder, tmp_path / "labels.tif", "labels")
    assert [p.parent for p in done.paths] == [tmp_path / "labels"] * 2
    assert "differ" in done.notes[-1]
    for i, shape in enumerate([(ROWS, COLS), (3, 4)]):
        labels = tifffile.imread(done.paths[i]).reshape(shape)
        assert np.array_equal(labels, result(i, revision, (0, 1, 2), *shape).labels)
    export(record.folder, tmp_path / "labels.h5", "labels")
    with h5py.File(tmp_path / "labels.h5") as file:
        assert file["frames/000002/labels"].shape == (3, 4)


def test_labels_h5_and_png_hold_the_labels(tmp_path: Path) -> None:
    folder, revision = a_run(tmp_path, 3)
    export(folder, tmp_path / "labels.h5", "labels")
    with h5py.File(tmp_path / "labels.h5") as file:
        for i in range(3):
            expected = result(i, revision)
            assert np.array_equal(file["labels"][i], expected.labels)
            assert np.array_equal(file["confidence"][i], expected.probabilities.max(axis=2))
        assert file.attrs["unknown_label"] == -1
        assert file["frame"].asstr()[1] == identity(1).name
    done = export(folder, tmp_path / "maps", "labels", "png")
    for i, path in enumerate(done.paths):
        with Image.open(path) as picture:
            colors = np.asarray(picture.convert("RGB"))
        labels = result(i, revision).labels
        for phase in support().classes:
            there = {tuple(c) for c in colors[labels == phase.id].tolist()}
            assert there == {tuple(bytes.fromhex(phase.color[1:]))}
        assert {tuple(c) for c in colors[labels == -1].tolist()} <= {(128, 128, 128)}


@pytest.mark.parametrize(
    ("out", "what", "format", "written"),
    [
        ("there", "fractions", None, "there/fractions.csv"),
        ("there", "chips", "parquet", "there/chips.parquet"),
        ("new/", "labels", None, "new/labels.tif"),
        ("new/", "chart", None, "new/chart.svg"),
        ("deep/er/x.PNG", "chart", None, "deep/er/x.PNG"),
        ("x.parquet", "fractions", None, "x.parquet"),
        ("x.dat", "fractions", "h5", "x.dat"),
        ("plain", "fractions", None, "plain/fractions.csv"),
    ],
)
def test_where_it_goes(
    tmp_path: Path, out: str, what: str, format: str | None, written: str
) -> None:
    folder, _ = a_run(tmp_path / "runs", 2)
    (tmp_path / "there").mkdir()
    ending = os.sep if out.endswith("/") else ""
    done = export(folder, f"{tmp_path / out}{ending}", what, format)
    assert done.paths == (tmp_path / written,)
    assert (tmp_path / written).stat().st_size > 0
    assert not [p for p in (tmp_path / written).parent.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("what", "format", "out", "message"),
    [
        ("fraction", None, "x", "choose one of: fractions, chips, labels, overlay, chart"),
        ("fractions", "png", "x", "choose one of: csv, parquet, h5"),
        ("fractions", None, "x.png", "choose one of: csv, parquet, h5"),
        ("chips", "h5", "x", "choose one of: csv, parquet"),
        ("overlay", "svg", "x", "choose one of: png, tif"),
        ("chart", "csv", "x", "choose one of: svg, png"),
        ("labels", "exe", "x", "choose one of: tif, h5, png"),
        ("fractions", None, "x.xyz", "does not tell a format; end it in one of .csv"),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, what: str, format: str | None, out: str, message: str
) -> None:
    folder, _ = a_run(tmp_path, 1)
    with pytest.raises(UsageError, match=message):
        export(folder, tmp_path / out, what, format)
    assert not (tmp_path / out).exists()


def test_an_export_never_replaces_the_record(tmp_path: Path) -> None:
    folder, _ = a_run(tmp_path, 1)
    before = (folder / "run.sqlite").read_bytes()
    for name in ("run.sqlite", "run.sqlite-wal", "run.lock"):
        with pytest.raises(UsageError, match="record of the run itself"):
            export(folder, folder / name, "fractions", "csv")
    assert (folder / "run.sqlite").read_bytes() == before
    assert export(folder, folder / "fractions.csv").paths


def test_what_fails_midway_leaves_the_old_file(tmp_path: Path) -> None:
    folder, _ = a_run(tmp_path, 1)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RecordError, match="cannot be written"):
        export(folder, tmp_path / "file" / "x.csv")
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(RecordError, match="is not a run folder"):
        export(tmp_path, tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_a_running_run_is_exported_too(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        for i in range(3):
            put(record, i, revision)
        export(record.folder, tmp_path / "f.csv")
        assert len(rows_of(tmp_path / "f.csv")) == 4
        put(record, 3, revision)
        export(record.folder, tmp_path / "f.csv")
        assert len(rows_of(tmp_path / "f.csv")) == 5


def axis_label(tmp_path: Path, acquired: list[Any]) -> str:
    from pychip_live.store.exports.chart import draw_chart
    from pychip_live.store.exports.selection import Selection
    from pychip_live.store.history import open_history

    with new_record(tmp_path) as record:
        revision = enter(record, support())
        for i, time in enumerate(acquired):
            base = facts(i)
            about = FrameFacts(
                base.shape, base.dtype, None, Metadata(acquired_at=time), base.limits, 0.0, 0,
                base.chip, base.rows, base.cols, base.cropped,
            )  # fmt: skip
            put(record, i, revision, about=about)
    with open_history(record.folder) as history:
        axes = draw_chart(Selection(history)).axes[0]
    line = axes.lines[0]
    x = np.asarray(line.get_xdata(), float)
    assert (np.diff(x) >= 0).all()
    y = np.asarray(line.get_ydata(), float)
    order = np.argsort([t.timestamp() for t in acquired]) if axes.get_xlabel()[0] == "A" else None
    expected = np.array(
        [100 * result(i, revision).fractions.share[0] for i in range(len(acquired))]
    )
    assert np.allclose(y, expected if order is None else expected[order])
    return str(axes.get_xlabel())


def test_the_chart_runs_over_time_where_frames_have_one(tmp_path: Path) -> None:
    aware = [NOW + timedelta(seconds=7 * k) for k in (3, 0, 1, 2)]  # the backlog came later
    assert axis_label(tmp_path / "a", aware) == "Acquisition time (UTC)"
    naive = [time.replace(tzinfo=None) for time in aware]
    assert axis_label(tmp_path / "b", naive) == "Acquisition time"
    assert axis_label(tmp_path / "c", [*aware[:3], None]) == "Frame"
    assert axis_label(tmp_path / "d", [NOW] * 6) == "Frame"  # planes of one stack
    assert axis_label(tmp_path / "e", [NOW]) == "Frame"


def test_long_runs_are_drawn_as_means(tmp_path: Path) -> None:
    from pychip_live.store.exports.chart import _bins, _mean

    values = np.arange(4001.0)
    values[::2] = np.nan
    starts = _bins(4001)
    mean = _mean(values, starts)
    assert len(starts) == 1334
    assert np.allclose(mean[:2], [1, 4])
    assert np.isnan(_mean(np.full(5, np.nan), _bins(5))).all()
