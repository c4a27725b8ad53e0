"""What a person sees: answers on stdout; states, fractions and lag of a run on stderr."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pychip_live.core.fractions import PhaseFractions
from pychip_live.core.support import SupportSet
from pychip_live.engine.run import Done

CONSOLE = Console()
ERROR_CONSOLE = Console(stderr=True)
UNFOLDED = 1000
"""Columns of a table that goes into a file or a pipe: its lines must not be folded."""
LAG_WINDOW_S = 60.0
SATURATED = 0.05
"""Share of saturated pixels that is said; the default window itself cuts about one percent."""
PLAIN_PERIOD_S = 1.0


def progress_bar() -> Progress:
    """Return a bar that counts frames, on stderr."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=ERROR_CONSOLE,
    )


def answer(table: Table) -> None:
    """Print a table that was asked for, on stdout."""
    Console(width=None if CONSOLE.is_terminal else UNFOLDED).print(table)


def describe(fractions: PhaseFractions, names: Mapping[int, str]) -> str:
    """Return fractions as one line: ``austenite 43.1 % (40.2…46.0)  unknown 1.2 %``."""
    if fractions.n_chips == fractions.n_unknown:
        return "every chip unknown"
    parts = [
        f"{names.get(c, c)} {100 * s:.1f} % ({100 * low:.1f}…{100 * high:.1f})"
        for c, s, low, high in zip(
            fractions.class_ids, fractions.share, fractions.low, fractions.high, strict=True
        )
    ]
    if fractions.n_unknown:
        parts.append(f"unknown {100 * fractions.n_unknown / fractions.n_chips:.1f} %")
    return "  ".join(parts)


class Screen:
    """One line that follows the run; plain lines, at most one a second, where it is no terminal.

    Parameters
    ----------
    support
        Names of the classes.
    """

    def __init__(self, support: SupportSet | None) -> None:
        self._names = {c.id: c.name for c in support.classes} if support else {}
        self._lags: deque[tuple[float, float]] = deque()
        self._last_plain = 0.0
        self._live = Live(console=ERROR_CONSOLE, refresh_per_second=8, transient=True)

    def __enter__(self) -> Screen:
        if sys.stderr.isatty():
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def state(self, text: str) -> None:
        """Show another state."""
        ERROR_CONSOLE.print(Text(f"● {text}", "yellow" if text != "running" else "green"))

    def frame(self, done: Done) -> None:
        """Show a recorded frame."""
        if done.reason:
            ERROR_CONSOLE.print(
                Text(f"  skipped {done.identity.name}: {done.reason}", "yellow"), soft_wrap=True
            )
            return
        now = time.monotonic()
        self._lags.append((now, done.lag_s))
        while self._lags[0][0] < now - LAG_WINDOW_S:
            self._lags.popleft()
        line = self._line(done)
        if self._live.is_started:
            self._live.update(line)
        elif now - self._last_plain >= PLAIN_PERIOD_S:
            self._last_plain = now
            ERROR_CONSOLE.print(line, soft_wrap=True)

    def _line(self, done: Done) -> Text:
        p50, p99 = np.percentile([lag for _, lag in self._lags], [50, 99])
        line = Text(f"  {done.sequence:>6}  {done.identity.name}  ")
        if done.result is None:
            line.append("no support set yet", "yellow")
        else:
            line.append(describe(done.result.fractions, self._names))
        if done.saturated > SATURATED:
            line.append(f"  {100 * done.saturated:.0f} % saturated", "yellow")
        line.append(f"  lag {1e3 * p50:.0f}/{1e3 * p99:.0f} ms", "dim")
        return line
