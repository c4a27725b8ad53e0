"""Readers: one file a format; each gives completeness evidence, pixels and metadata.

``open_file`` and ``evidence`` are the whole interface; the format is told from the first bytes,
not from the name.
"""

from __future__ import annotations
