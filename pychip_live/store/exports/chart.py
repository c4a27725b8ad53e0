"""The chart of a run: phase fractions with their intervals, over time or frame number."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pychip_live.store.atomic import replacing
from pychip_live.store.exports.selection import Selection, one_line, printable
from pychip_live.store.history import Curve

MOST_POINTS = 2000
"""More frames than this are drawn as means of neighbours."""
_FEW = 60
_LETTERS = 118  # that fit beside each other over the axes
_UNKNOWN_COLOR = "#555555"


@dataclass(frozen=True, slots=True)
class _Axis:
    values: NDArray[np.float64]
    label: str
    is_time: bool


def write_chart(selection: Selection, path: Path, format: str) -> list[Path]:
    """Draw the chart; svg, or png at 300 dots per inch."""
    figure = draw_chart(selection)
    with replacing(path) as temporary, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        canvas = FigureCanvasSVG(figure) if format == "svg" else FigureCanvasAgg(figure)
        # a fixed salt and no date: the same run gives the same bytes
        with mpl.rc_context({"svg.hashsalt": "pychip-live"}):
            about = {"Date": None} if format == "svg" else {}
            figure.savefig(temporary, format=format, dpi=300, metadata=about)
        del canvas
    if any("Glyph" in str(each.message) for each in heard):
        selection.notes.append("the chart's font lacks a character of a class name")
    return [path]


def draw_chart(selection: Selection) -> Figure:
    """Draw phase fractions (lines, 95 % bands) and the share of unknown chips (dashed)."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    handles: list[Artist] = []
    labels: list[str] = []
    curve = selection.curve
    if curve is not None and len(curve.sequence):
        axis = _axis(selection, curve)
        order = np.argsort(axis.values, kind="stable")
        bins = _bins(len(order))
        x = _mean(axis.values[order], bins)
        for phase in selection.classes:
            column = selection.column.get(phase.id)
            if column is None:
                continue
            share, low, high = (
                100 * _mean(values[order, column], bins)
                for values in (curve.share, curve.low, curve.high)
            )
            # a single frame: one beside the other, or the intervals would hide each other
            beside = 0.05 * (len(handles) - (len(selection.column) - 1) / 2) if len(x) == 1 else 0
            handles.append(_draw(axes, x + beside, share, low, high, phase.color))
            labels.append(one_line(phase.name))
        if curve.n_unknown.any():
            unknown = 100 * _mean((curve.n_unknown / curve.n_chips)[order], bins)
            (line,) = axes.plot(x, unknown, "--", color=_UNKNOWN_COLOR, lw=1.2, zorder=2)
            handles.append(line)
            labels.append("unknown (of all chips)")
        every = -(-len(order) // len(x))
        axes.set_xlabel(axis.label + (f" (means of {every} frames)" if every > 1 else ""))
        _date_axis(axes, axis)
        axes.margins(x=0.02)
        if len(x) == 1:
            axes.set_xlim(x[0] - 0.7, x[0] + 0.7)
    else:
        axes.set_xlabel("Frame")
        axes.text(0.5, 0.5, "no labelled frames", ha="center", transform=axes.transAxes)
    _dress(figure, axes, selection)
    if handles:
        # as many columns as the longest name leaves room for
        columns = max(1, min(4, _LETTERS // (max(map(len, labels)) + 7)))
        figure.set_figheight(4.0 + 0.2 * -(-len(labels) // columns))
        legend = axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns,
            frameon=False, fontsize=9, borderaxespad=0.3, handlelength=1.6,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)  # a $ in a name is a $
    return figure


def _draw(
    axes: Axes,
    x: NDArray[np.float64],
    share: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    color: str,
) -> Artist:
    if len(x) == 1:
        # a band has no width here
        axes.vlines(x, low, high, color=color, lw=1.5, alpha=0.6)
    else:
        axes.fill_between(x, low, high, color=color, alpha=0.22, lw=0, zorder=1)
    marker: dict[str, Any] = {"marker": "o", "ms": 3.5} if len(x) <= _FEW else {}
    (line,) = axes.plot(x, share, color=color, lw=1.6, zorder=3, **marker)
    return line


def _dress(figure: Figure, axes: Axes, selection: Selection) -> None:
    axes.set_ylim(-2, 102)
    axes.set_ylabel("Phase fraction (%)")
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if selection.revision is not None:
        words = (
            f"{selection.history.folder.name} · revision {selection.revision.number} "
            "· 95 % intervals"
        )
        # in the layout, unlike a free text: it never lies on the date below the axis
        figure.supxlabel(
            printable(words), x=0.995, ha="right", fontsize=6, color="#777777", parse_math=False
        )


def _axis(selection: Selection, curve: Curve) -> _Axis:
    """Time of acquisition where most frames have one of their own, else the frame number."""
    acquired = {sequence: time for sequence, _, time, _ in selection.index}
    texts = [acquired[s] for s in curve.sequence.tolist()]
    stated = [datetime.fromisoformat(t) for t in texts if t]
    if len(stated) < len(texts) or len(set(stated)) < max(2, 0.5 * len(texts)):
        return _Axis(curve.sequence.astype(np.float64), "Frame", False)
    offsets = {time.utcoffset() for time in stated}
    if len(offsets) > 1:
        stated = [time.astimezone(UTC) for time in stated]
    zone = " (UTC)" if len(offsets) > 1 or stated[0].tzinfo is UTC else ""
    values = np.array([t.replace(tzinfo=None) for t in stated], "datetime64[us]")
    days = values.astype(np.int64) / 86_400e6  # what matplotlib counts dates in
    return _Axis(days, f"Acquisition time{zone}", True)


def _date_axis(axes: Axes, axis: _Axis) -> None:
    if axis.is_time:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(
            ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        )
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _bins(n: int) -> NDArray[np.int64]:
    """Return the starts of at most MOST_POINTS runs of neighbours."""
    every = -(-n // MOST_POINTS)
    return np.arange(0, n, every)


def _mean(values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of each run, leaving out NaN; NaN where there is nothing else."""
    there = ~np.isnan(values)
    total = np.add.reduceat(np.where(there, values, 0.0), starts)
    count = np.add.reduceat(there.astype(np.float64), starts)
    mean: NDArray[np.float64] = np.divide(
        total, count, out=np.full(len(starts), np.nan), where=count > 0
    )
    return mean
