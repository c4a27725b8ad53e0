"""Embedding: pretrained networks and the runtimes they run on; the only room that loads torch."""

from __future__ import annotations

from pychip_live.embed.embedder import Embedder

__all__ = ["Embedder"]
