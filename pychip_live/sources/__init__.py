"""Where frames come from: watched folders, given files."""

from pychip_live.sources.source import Arrival, Leftover, Pending, Source, SourceStatus

__all__ = ["Arrival", "Leftover", "Pending", "Source", "SourceStatus"]
