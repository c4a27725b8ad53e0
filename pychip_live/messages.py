"""Everything that crosses a process boundary, one JSON line each."""

from __future__ import annotations

import json
from datetime import datetime

from pydantic import BaseModel, ConfigDict


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def line(self) -> str:
        """Return it as one line of ASCII: file names need not be text, nor consoles UTF-8."""
        return json.dumps(self.model_dump(), default=_text)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class RunSummary(_Message):
    """The last line of ``run --json`` and ``analyze --json``."""

    run: str
    frames: int
    skipped: int
    seconds: float


class Inspection(_Message):
    """One line of ``inspect --json``; ``reason`` says why a file is no frame, or awaits what."""

    path: str
    format: str | None = None
    complete: bool = False
    planes: int | None = None
    shape: tuple[int, int] | None = None
    dtype: str | None = None
    pixel_size: float | None = None
    unit: str | None = None
    acquired_at: datetime | None = None
    reason: str | None = None
