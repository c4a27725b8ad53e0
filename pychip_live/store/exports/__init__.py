"""Exports: what leaves a run record as tables, label maps and pictures.

Every export is drawn at one revision, `History.current_revision`; frames that lack a result there
get empty cells or are left out, and a note says how many.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pychip_live.errors import RecordError, UsageError
from pychip_live.store.atomic import replace
from pychip_live.store.exports.chart import write_chart
from pychip_live.store.exports.labels import (
    write_labels_h5,
    write_labels_png,
    write_labels_tif,
)
from pychip_live.store.exports.overlay import write_overlay
from pychip_live.store.exports.selection import Selection
from pychip_live.store.exports.tables import (
    write_chips,
    write_fractions,
    write_fractions_h5,
)
from pychip_live.store.history import open_history
from pychip_live.store.schema import FILE, LOCK

What = Literal["fractions", "chips", "labels", "overlay", "chart"]
Format = Literal["csv", "parquet", "tif", "png", "svg", "h5"]
Writer = Callable[[Selection, Path, str], list[Path]]

# the first format of each is the default; one in FOLDERS makes a file a frame
_WRITERS: dict[str, dict[str, Writer]] = {
    "fractions": {
        "csv": write_fractions, "parquet": write_fractions, "h5": write_fractions_h5,
    },
    "chips": {"csv": write_chips, "parquet": write_chips},
    "labels": {"tif": write_labels_tif, "h5": write_labels_h5, "png": write_labels_png},
    "overlay": {"png": write_overlay, "tif": write_overlay},
    "chart": {"svg": write_chart, "png": write_chart},
}  # fmt: skip
_FOLDERS = {("labels", "png"), ("overlay", "png"), ("overlay", "tif")}
_SUFFIXES = {
    ".csv": "csv", ".parquet": "parquet", ".tif": "tif", ".tiff": "tif", ".png": "png",
    ".svg": "svg", ".h5": "h5", ".hdf5": "h5",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exported:
    """Files (or the folder of them) that were written, and what a reader of them should know."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def export(
    run_folder: Path,
    out: str | os.PathLike[str],
    what: str = "fractions",
    format: str | None = None,
) -> Exported:
    """Write results of a run.

    Parameters
    ----------
    run_folder
        The run, going on or over; it is only read.
    out
        File, or folder (one that exists, or has no suffix) for a file named after ``what``.
        Pictures go into a folder, one a frame; that of a lone frame may be a file.
    what
        fractions, chips, labels, overlay or chart.
    format
        By the suffix of ``out`` if None, else the first one possible.

    Raises
    ------
    UsageError
        There is no such combination.
    RecordError
        The run cannot be read, or ``out`` cannot be written.
    """
    chosen = _format(what, format, out)
    target = _target(out, what, chosen)
    _refuse_record(run_folder, target)
    with open_history(run_folder) as history:
        selection = Selection(history)
        try:
            if (what, chosen) in _FOLDERS and not _is_folder(out):
                paths = [_lone(_WRITERS[what][chosen], selection, target, chosen)]
            else:
                paths = _WRITERS[what][chosen](selection, target, chosen)
        except OSError as error:
            raise RecordError(
                f"{target} cannot be written: {error.strerror or error}; make room, close programs "
                "that have it open, or name another place"
            ) from error
    return Exported(tuple(paths), tuple(selection.notes))


def _lone(write: Writer, selection: Selection, target: Path, format: str) -> Path:
    """Write the picture of the only frame into a file."""
    n_frames = len(selection.curve.sequence) if selection.curve else 0
    if n_frames != 1:
        raise UsageError(
            f"{target} is one file, but there are {n_frames} pictures; name a folder (no suffix)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as made:
        (picture,) = write(selection, Path(made), format)
        replace(picture, target)
    return target


def _format(what: str, format: str | None, out: str | os.PathLike[str]) -> str:
    possible = _WRITERS.get(what)
    if possible is None:
        raise UsageError(f"there is no export of {what!r}; choose one of: {', '.join(_WRITERS)}")
    by_name = None if _is_folder(out) else _SUFFIXES.get(Path(out).suffix.lower())
    if not (format or by_name or _is_folder(out)):
        raise UsageError(
            f"the name {Path(out).name} does not tell a format; end it in one of "
            f"{' '.join(_SUFFIXES)}, or choose with --format"
        )
    chosen = format or by_name or next(iter(possible))
    if chosen not in possible:
        raise UsageError(
            f"{what} cannot be exported as {chosen!r}; choose one of: {', '.join(possible)}"
        )
    return chosen


def _is_folder(out: str | os.PathLike[str]) -> bool:
    separators = tuple(s for s in ("/", os.sep, os.altsep) if s)
    path = Path(out)
    named = bool(path.suffix) or path.is_file()
    return os.fspath(out).endswith(separators) or path.is_dir() or not named


def _target(out: str | os.PathLike[str], what: str, format: str) -> Path:
    path = Path(out)
    if (what, format) in _FOLDERS:
        return path
    return path / f"{what}.{format}" if _is_folder(out) else path


def _refuse_record(run_folder: Path, target: Path) -> None:
    inside = target.absolute().parent == run_folder.absolute()
    if inside and (target.name.startswith(FILE) or target.name == LOCK):
        raise UsageError(f"{target} is the record of the run itself; name another file")
