"""Child of ``test_hostile``: reads every file it is given, one JSON line a file on stdout.

A process of its own, so that a crash, a hang or a blow-up of memory harms nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import psutil

from pychip_live.errors import ReadError
from pychip_live.readers import evidence, open_file


def peak_bytes() -> int:
    if os.name == "nt":
        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    if status.exists():
        # not ru_maxrss: on Linux it starts with what the parent had when it forked
        (line,) = (text for text in status.read_text().splitlines() if text.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcome(path: Path) -> str:
    with contextlib.suppress(ReadError):
        evidence(path)
    try:
        with open_file(path) as opened:
            for plane in range(min(opened.n_planes, 50)):
                opened.read(plane)
    except ReadError as error:
        return type(error).__name__ if error.reason else "no reason"
    return "read"


def main() -> None:
    for name in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        start = time.perf_counter()
        result = outcome(Path(name))
        line = {
            "file": name,
            "outcome": result,
            "seconds": time.perf_counter() - start,
            "peak": peak_bytes(),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
