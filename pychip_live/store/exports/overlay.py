"""Pictures: each frame with its label map over it, legend and scale bar."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from pychip_live.core.frame import Calibration, digest
from pychip_live.core.result import FrameFacts, FrameResult
from pychip_live.core.support import UNKNOWN
from pychip_live.core.window import apply_window
from pychip_live.errors import ReadError
from pychip_live.readers import open_file
from pychip_live.store.atomic import replacing
from pychip_live.store.codec import StoredFrame
from pychip_live.store.exports.selection import Selection, file_stem, one_line
from pychip_live.store.thumbnail import decode_thumbnail

LONGEST, SHORTEST = 2048, 640
"""Bounds of a picture's longer edge, px; frames outside are scaled."""
_FAINT, _STRONG = 0.10, 0.45  # opacity of a class colour without and with full confidence
_REMAINDER = 0.4  # brightness of the pixels that no chip covers
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_LENGTHS = ("pm", "nm", "µm", "mm")

Picture = NDArray[np.float32]


def write_overlay(selection: Selection, path: Path, format: str) -> list[Path]:
    """Write a folder with one picture a frame; pixels from the file, else from the thumbnail."""
    path.mkdir(parents=True, exist_ok=True)
    paths = []
    reduced = bare = 0
    for frame, result in selection.labelled():
        if frame.facts is None:
            continue
        grey = _from_file(frame, frame.facts)
        if grey is None:
            stored = selection.history.thumbnail(frame.sequence)
            reduced += stored is not None
            bare += stored is None
            grey = (
                np.full(frame.facts.shape, 128, np.uint8)
                if stored is None
                else decode_thumbnail(stored)
            )
        target = path / f"{file_stem(frame.sequence, frame.identity.name)}.{format}"
        with replacing(target) as temporary:
            options: dict[str, Any] = (
                {"compression": "tiff_adobe_deflate"} if format == "tif" else {"compress_level": 4}
            )
            draw_overlay(grey, frame.facts, result, selection).save(temporary, **options)
        paths.append(target)
    if reduced:
        selection.notes.append(
            f"{reduced} pictures are drawn from thumbnails: their files are gone or hold other "
            "pixels now"
        )
    if bare:
        selection.notes.append(f"{bare} pictures are grey: neither file nor thumbnail is there")
    return paths


def draw_overlay(
    grey: NDArray[np.uint8], facts: FrameFacts, result: FrameResult, selection: Selection
) -> Image.Image:
    """Draw one picture.

    Parameters
    ----------
    grey
        The frame, at any scale.
    facts, result
        Of the frame.
    selection
        For classes and colours.
    """
    height, width = facts.shape
    longest = max(height, width)
    scale = min(max(longest, SHORTEST), LONGEST) / longest
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrinks = size[0] < grey.shape[1]
    base = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    picture: Picture = np.repeat(base[:, :, None].astype(np.float32), 3, axis=2)
    _color(picture, facts, result, selection, scale)
    image = Image.fromarray((picture + 0.5).astype(np.uint8))
    if facts.calibration is not None:
        _scale_bar(image, facts.calibration, scale)
    return _with_legend(image, result, selection)


def scale_bar(calibration: Calibration, width: float) -> tuple[float, str]:
    """Length in pixels and words of a bar of round length, about a fifth of ``width`` px."""
    at_most = width * calibration.pixel_size / 4
    power = 10.0 ** math.floor(math.log10(at_most))
    length = next(step * power for step in (5, 2, 1) if step * power <= at_most)
    value, unit = length, calibration.unit.replace("μ", "µ")
    unit = "µm" if unit == "um" else unit
    if unit in _LENGTHS:
        place = _LENGTHS.index(unit)
        while value >= 1000 * (1 - 1e-9) and place + 1 < len(_LENGTHS):
            value, place = value / 1000, place + 1
        while value < 1 - 1e-9 and place > 0:
            value, place = value * 1000, place - 1
        unit = _LENGTHS[place]
    return length / calibration.pixel_size, f"{value:.6g} {one_line(unit)}"


def _from_file(frame: StoredFrame, facts: FrameFacts) -> NDArray[np.uint8] | None:
    """Return the windowed frame, or None where the file is gone or holds other pixels now."""
    identity = frame.identity
    if identity.path is None:
        return None
    path = Path(identity.path)
    try:
        if path.stat().st_size != identity.signature[0]:
            return None
        with open_file(path) as file:
            pixels = file.read(identity.plane).pixels
    except (OSError, ReadError, IndexError):
        return None
    if digest(pixels) != identity.digest:
        return None
    values = apply_window(pixels, facts.limits).values
    return (values * 255 + 0.5).astype(np.uint8)


def _color(
    picture: Picture, facts: FrameFacts, result: FrameResult, selection: Selection, scale: float
) -> None:
    height, width = picture.shape[:2]
    rows, cols = result.labels.shape
    row = ((np.arange(height) + 0.5) / scale / facts.chip).astype(int)
    col = ((np.arange(width) + 0.5) / scale / facts.chip).astype(int)
    picture[row >= rows] *= _REMAINDER
    picture[: int((row < rows).sum()), col >= cols] *= _REMAINDER
    row, col = row[row < rows], col[col < cols]
    inside = picture[: len(row), : len(col)]
    colors = np.zeros((rows, cols, 3), np.float32)
    for phase in selection.classes:
        colors[result.labels == phase.id] = ImageColor.getrgb(phase.color)[:3]
    k = result.probabilities.shape[2]
    best = result.probabilities.max(axis=2).astype(np.float32)
    sure = np.clip((best - 1 / k) / (1 - 1 / k), 0, 1) if k > 1 else np.ones_like(best)
    opacity = np.where(result.labels == UNKNOWN, 0, _FAINT + (_STRONG - _FAINT) * sure)
    spread = np.ix_(row, col)
    tint, alpha = colors[spread], opacity[spread][:, :, None]
    inside += alpha * (tint - inside)
    label = result.labels[spread]
    # the border of a region in its own colour: it shows where a faint region ends
    border = np.zeros(label.shape, bool)
    border[:, 1:] |= label[:, 1:] != label[:, :-1]
    border[1:] |= label[1:] != label[:-1]
    border &= label != UNKNOWN
    inside[border] += 0.8 * (tint[border] - inside[border])
    _hatch(inside, label == UNKNOWN)


def _hatch(inside: Picture, where: NDArray[np.bool_]) -> None:
    """Diagonal white lines: no class colour looks like that."""
    y, x = np.ogrid[: where.shape[0], : where.shape[1]]
    inside[where & ((x + y) % 12 < 2)] = 245
    inside[where & ((x + y - 2) % 12 < 1)] *= 0.3


def _scale_bar(image: Image.Image, calibration: Calibration, scale: float) -> None:
    length, words = scale_bar(calibration, image.width / scale)
    length *= scale
    unit = _text_size(image)
    font = _font(unit)
    draw = ImageDraw.Draw(image, "RGBA")
    wide = max(length, draw.textlength(words, font))
    right, bottom = image.width - unit * 0.8, image.height - unit * 0.8
    box = (right - wide - unit, bottom - unit * 2.3, right, bottom)
    draw.rounded_rectangle(box, radius=unit // 4, fill=(0, 0, 0, 160))
    middle = (box[0] + box[2]) / 2
    draw.text((middle, box[1] + unit * 0.8), words, _PAPER, font, anchor="mm")
    bar = (middle - length / 2, bottom - unit * 0.8, middle + length / 2, bottom - unit * 0.5)
    draw.rectangle(bar, fill=_PAPER)


def _with_legend(image: Image.Image, result: FrameResult, selection: Selection) -> Image.Image:
    """Add a strip below: class, colour, share of the classified chips, share of unknown."""
    unit = _text_size(image)
    font = _font(unit)
    share = dict(zip(result.fractions.class_ids, result.fractions.share.tolist(), strict=True))
    entries: list[tuple[tuple[int, ...] | None, str]] = []
    for phase in selection.classes:
        if phase.id in share and not math.isnan(share[phase.id]):
            words = f"{one_line(phase.name)}  {100 * share[phase.id]:.1f} %"
            entries.append((ImageColor.getrgb(phase.color), words))
    counted = result.fractions
    if counted.n_unknown:
        share_unknown = 100 * counted.n_unknown / counted.n_chips
        entries.append((None, f"unknown  {share_unknown:.1f} % of all chips"))
    places, rows = _lay_out([font.getlength(words) for _, words in entries], image.width, unit)
    strip = Image.new("RGB", (image.width, round((1.7 * rows + 0.6) * unit)), _PAPER)
    draw = ImageDraw.Draw(strip)
    for (color, words), (x, line) in zip(entries, places, strict=True):
        y = (0.6 + 1.7 * line) * unit
        box = (x, y, x + 1.6 * unit, y + 1.1 * unit)
        draw.rectangle(box, fill=color or (130, 130, 130), outline=_INK)
        if color is None:
            for step in range(1, 6):
                at = x + step * 0.27 * unit
                draw.line((at, y + 1.1 * unit, at + 0.27 * unit, y), _PAPER, 2)
        draw.text((x + 2.1 * unit, y + 0.55 * unit), words, _INK, font, anchor="lm")
    whole = Image.new("RGB", (image.width, image.height + strip.height), _PAPER)
    whole.paste(image, (0, 0))
    whole.paste(strip, (0, image.height))
    return whole


def _lay_out(lengths: list[float], width: int, unit: int) -> tuple[list[tuple[float, int]], int]:
    """Places (x, line) of legend entries, line by line, and the number of lines."""
    places: list[tuple[float, int]] = []
    x, line = unit * 0.8, 0
    for length in lengths:
        needed = length + 3.6 * unit
        if places and x + needed > width:
            x, line = unit * 0.8, line + 1
        places.append((x, line))
        x += needed
    return places, line + 1


def _text_size(image: Image.Image) -> int:
    return max(12, round(max(image.size) / 50))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu Sans, which has Greek, primes and µ
    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size
    )
