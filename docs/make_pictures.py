"""Make the picture of the README from a simulated run.

python docs/make_pictures.py
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image

from pychip_live.engine.rehearsal import make_profile
from pychip_live.settings import Settings
from pychip_live.simulate.folder import play

FRAMES, SHOWN, EDGE = 120, 45, 760


def pychip(*arguments: str | Path) -> str:
    """Run the command line; return its last line."""
    command = [sys.executable, "-m", "pychip_live", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Simulate, analyse, export, put side by side."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        make_profile(
            place / "profile", "crystallisation", size=1024, chip=32, seed=1, settings=Settings()
        )
        start = datetime(2026, 1, 1, 19, 12, tzinfo=UTC)
        taken = iter(range(FRAMES))
        play(
            place / "frames",
            frames=FRAMES,
            rate=math.inf,
            seed=2,
            behaviour="direct",
            clock=lambda: start + timedelta(seconds=6 * next(taken)),
        )
        line = pychip(
            "analyze", place / "profile", place / "frames", "--runs", place / "runs", "--json"
        )
        run = Path(json.loads(line)["run"])
        pychip("export", run, place / "overlay", "--what", "overlay")
        pychip("export", run, place / "chart.png", "--what", "chart")
        overlay = Image.open(sorted((place / "overlay").iterdir())[SHOWN])
        overlay.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
        chart = Image.open(place / "chart.png").convert("RGB")
        scale = overlay.height / chart.height
        chart = chart.resize((round(chart.width * scale), overlay.height), Image.Resampling.LANCZOS)
        both = Image.new("RGB", (overlay.width + chart.width + 24, overlay.height), "white")
        both.paste(overlay, (0, 0))
        both.paste(chart, (overlay.width + 24, 0))
        both.quantize(256).save(Path(__file__).parent / "demo.png", optimize=True)


if __name__ == "__main__":
    main()
