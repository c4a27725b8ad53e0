"""Everything that crosses a process boundary, one JSON line each."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
