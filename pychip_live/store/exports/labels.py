"""Label maps as arrays: one pixel a chip, class ids, −1 for unknown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageColor
from PIL.PngImagePlugin import PngInfo

from pychip_live.core.support import UNKNOWN
from pychip_live.errors import UsageError
from pychip_live.store.atomic import replacing
from pychip_live.store.codec import StoredFrame
from pychip_live.store.exports.selection import Selection, file_stem, printable
from pychip_live.store.exports.tables import write_classes

_UNKNOWN_COLOR = (128, 128, 128)


def write_labels_tif(selection: Selection, path: Path, format: str = "tif") -> list[Path]:
    """Write one stack, int16, a page a frame; a folder of files where the grids differ.

    The description of the first page is JSON: classes, label of unknown, names of the frames.
    """
    frames = _known(selection)
    shapes = {_shape(frame) for frame in frames}
    if len(shapes) == 1:
        (shape,) = shapes
        pages = (result.labels for _, result in selection.labelled())
        _write_tif(path, pages, (len(frames), *shape), _about(selection, frames))
        return [path]
    folder = path.with_suffix("") if path.suffix else path
    if frames:
        selection.notes.append(f"the grids of the frames differ: one file a frame, in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for frame, result in selection.labelled():
        target = folder / f"{file_stem(frame.sequence, frame.identity.name)}.tif"
        about = _about(selection, [frame])
        _write_tif(target, iter([result.labels]), (1, *result.labels.shape), about)
        paths.append(target)
    return paths


def write_labels_h5(selection: Selection, path: Path, format: str = "h5") -> list[Path]:
    """Write ``labels`` and ``confidence``, ``(frames, rows, cols)``; a group a frame otherwise.

    Beside them the classes, and sequence and name of each frame.
    """
    frames = _known(selection)
    shapes = {_shape(frame) for frame in frames}
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        write_classes(file, selection)
        file["sequence"] = np.array([f.sequence for f in frames], np.int64)
        names = [printable(f.identity.name) for f in frames]
        file.create_dataset("frame", data=names, dtype=h5py.string_dtype())
        if selection.revision is not None:
            file.attrs["revision"] = selection.revision.number
        if len(shapes) == 1:
            (shape,) = shapes
            stack = {"chunks": (1, *shape), "compression": "gzip", "compression_opts": 1}
            full = (len(frames), *shape)
            labels = file.create_dataset("labels", full, np.int16, **stack)
            confidence = file.create_dataset("confidence", full, np.float16, **stack)
            for i, (_, result) in enumerate(selection.labelled()):
                labels[i] = result.labels
                confidence[i] = result.probabilities.max(axis=2)
        else:
            for frame, result in selection.labelled():
                group = file.create_group(f"frames/{frame.sequence:06d}")
                group["labels"] = result.labels
                group["confidence"] = result.probabilities.max(axis=2)
    return [path]


def write_labels_png(selection: Selection, path: Path, format: str = "png") -> list[Path]:
    """Write a folder of pictures, one pixel a chip, in the colours of the classes, unknown grey."""
    if len(selection.classes) > 255:
        raise UsageError(
            f"{len(selection.classes)} classes do not fit in the palette of a png; export tif or h5"
        )
    palette = [*_UNKNOWN_COLOR]
    for phase in selection.classes:
        palette += ImageColor.getrgb(phase.color)[:3]
    path.mkdir(parents=True, exist_ok=True)
    paths = []
    for frame, result in selection.labelled():
        target = path / f"{file_stem(frame.sequence, frame.identity.name)}.png"
        index = np.zeros(result.labels.shape, np.uint8)
        for i, phase in enumerate(selection.classes, start=1):
            index[result.labels == phase.id] = i
        picture = Image.fromarray(index)
        picture.putpalette(palette)
        about = PngInfo()
        about.add_itxt("Description", json.dumps(_about(selection, [frame])))
        with replacing(target) as temporary:
            picture.save(temporary, pnginfo=about)
        paths.append(target)
    return paths


def _known(selection: Selection) -> list[StoredFrame]:
    if selection.curve is None:
        return []
    labelled = set(selection.curve.sequence.tolist())
    return [frame for frame in selection.history.frames() if frame.sequence in labelled]


def _shape(frame: StoredFrame) -> tuple[int, int]:
    return (frame.facts.rows, frame.facts.cols) if frame.facts else (0, 0)


def _about(selection: Selection, frames: list[StoredFrame]) -> dict[str, Any]:
    return {
        "content": "class id of each chip",
        "unknown": UNKNOWN,
        "classes": [
            {"id": c.id, "name": printable(c.name), "color": c.color} for c in selection.classes
        ],
        "revision": selection.revision.number if selection.revision else None,
        "chip_px": sorted({f.facts.chip for f in frames if f.facts}),
        "sequence": [f.sequence for f in frames],
        "frames": [printable(f.identity.name) for f in frames],
    }


def _write_tif(
    path: Path,
    pages: Iterator[NDArray[np.int16]],
    shape: tuple[int, int, int],
    about: dict[str, Any],
) -> None:
    n_bytes = 2 * int(np.prod(shape))
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            pages,
            shape=shape,
            dtype=np.int16,
            bigtiff=n_bytes > 1 << 31,
            photometric="minisblack",
            metadata=about,
        )
