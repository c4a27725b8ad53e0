"""The command line: names, columns and exit codes are a contract (``docs/command-line.md``).

Exit codes: 0 done, 1 the run failed, 2 bad usage or profile.
"""

from __future__ import annotations

import io
import sys

from pychip_live.cli.app import app


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # a file name that the console cannot show must not end the program
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
