"""Label a recorded session again after an edit: seconds for 1,000 frames of 1,024 chips.

    python -m benchmarks.relabel [--frames 1000] [--chips 32]

The record is a real one, filled through the engine's own step with embeddings of a simulated frame
plus noise (so that no two frames are alike). The baseline is what an edit would cost without
stored embeddings: the network once more over every frame, timed on a few and multiplied.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pychip_live.core.embedding import Embedding
from pychip_live.core.frame import Frame
from pychip_live.core.result import FrameIdentity, FrameTimes
from pychip_live.engine.rehearsal import make_profile
from pychip_live.engine.relabel import relabel
from pychip_live.engine.start import open_run, register
from pychip_live.engine.step import embed, prepare
from pychip_live.settings import Settings
from pychip_live.simulate.specimen import Specimen


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--chips", type=int, default=32, help="chips along an edge")
    options = parser.parse_args()
    edge = 32 * options.chips
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        place = Path(made)
        settings = Settings(runs=place / "runs")
        profile = make_profile(
            place / "profile", "crystallisation", size=1024, chip=32, seed=1, settings=settings
        )
        opened = open_run(profile.path, [place], settings)
        recipe, record = opened.recipe, opened.record
        if recipe is None:
            raise RuntimeError("the profile gave no recipe")
        with record:
            pixels, _ = Specimen((edge, edge), seed=2).frame(0.5)
            identity = FrameIdentity("frame", None)
            prepared = prepare(Frame(pixels), identity, recipe, seen_at=0.0, read_s=0.0)
            embedding = embed(prepared, recipe)
            start = time.perf_counter()
            for _ in range(5):
                embed(prepared, recipe)
            network = (time.perf_counter() - start) / 5
            now = datetime.now(UTC)
            for k in range(options.frames):
                noise = rng.normal(0, 0.02, embedding.vectors.shape).astype(np.float16)
                record.commit(
                    replace(identity, name=f"frame {k}", digest=str(k)),
                    prepared.facts,
                    FrameTimes(now, now),
                    embedding=Embedding(
                        embedding.id, embedding.vectors + noise, embedding.residual
                    ),
                    masked=None,
                    result=None,
                    thumbnail=None,
                )
            edited = recipe.profile.support.remove_example(recipe.profile.support.examples[0].place)
            recipe.profile = recipe.profile.model_copy(update={"support": edited})
            prototypes = register(record, recipe)
            if prototypes is None:
                raise RuntimeError("the profile has no examples")
            done = relabel(record, recipe, prototypes)
    print(f"{done.labelled} frames of {options.chips**2} chips: {done.seconds:.2f} s")
    again = network * options.frames
    print(f"running the network again: {again:.0f} s, {again / done.seconds:.0f} × as long")


if __name__ == "__main__":
    main()
