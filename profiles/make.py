"""Make the profiles of this folder again, on the project's own simulated specimens.

    python profiles/make.py

Needed after a change of the default embedding; the tests say so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pychip_live.engine.rehearsal import make_profile
from pychip_live.settings import Settings
from pychip_live.simulate.presets import PRESETS


def main() -> None:
    """Replace each profile."""
    for preset in PRESETS:
        folder = Path(__file__).parent / preset
        shutil.rmtree(folder, ignore_errors=True)
        make_profile(folder, preset, size=512, chip=32, seed=1, settings=Settings(runtime="torch"))


if __name__ == "__main__":
    main()
