"""Frames a second, and the time from a closed file to its committed result, against two baselines.

    python -m benchmarks.throughput [--frames 60] [--edges 1024 4096] [--skip-baselines]

The daemon's own run loop works on real files in a watched folder. First a backlog (throughput),
then files that arrive at half of that rate, renamed into place (latency, from the rename to the
commit). The baselines classify the same chips: the paper's way (ResNet-18, each chip alone at
224 px, in batches) and easyfsl's PrototypicalNetworks around the same ResNet-18. Its weights are
random (the time is the same; the labels mean nothing). Chips beyond ``--baseline-chips`` are not
timed but multiplied, and the table says so.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from easyfsl.methods import PrototypicalNetworks
from numpy.typing import NDArray
from torchvision.models import resnet18

from pychip_live.core.frame import Frame
from pychip_live.engine.rehearsal import make_profile
from pychip_live.engine.run import Done, Run
from pychip_live.engine.start import Opened, open_run
from pychip_live.settings import Settings
from pychip_live.simulate.files import encode
from pychip_live.simulate.specimen import Specimen
from pychip_live.sources.folder import FolderSource

CHIPS = {1024: 32, 4096: 64}
BATCH = 64


class Clock:
    """Listener that notes when each frame was committed, and its stages."""

    def __init__(self) -> None:
        self.committed: dict[str, float] = {}
        self.stages: dict[str, list[float]] = defaultdict(list)

    def frame(self, done: Done) -> None:
        """Note a frame."""
        self.committed[done.identity.name] = time.time()
        for stage, seconds in done.stages.items():
            self.stages[stage].append(seconds)

    def state(self, text: str) -> None:
        """States do not matter here."""


def daemon(opened: Opened, folder: Path) -> Clock:
    """Run the loop over a folder until it is idle."""
    clock = Clock()
    source = FolderSource([folder], done=opened.record.done())
    work = Run(source, opened.record, opened.recipe, opened.prototypes, clock)
    work.go(threading.Event(), until_idle=2.0)
    return clock


def deliver(files: list[bytes], folder: Path, rate: float, closed: dict[str, float]) -> None:
    """Rename files into a folder at a rate; note when each got its name."""
    start = time.monotonic()
    for k, data in enumerate(files):
        time.sleep(max(0.0, start + k / rate - time.monotonic()))
        part = folder / f"live_{k:05}.tif.part"
        part.write_bytes(data)
        part.replace(folder / f"live_{k:05}.tif")
        closed[f"live_{k:05}.tif"] = time.time()


def measure(edge: int, frames: int) -> tuple[float, NDArray[np.uint16]]:
    """Print the daemon's row for one frame size; return its seconds a frame and one frame."""
    chip = CHIPS[edge]
    specimen = Specimen((edge, edge), seed=3)
    files = [
        encode(Frame(specimen.frame(k / frames)[0], specimen.calibration), "tiff")
        for k in range(frames)
    ]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        place = Path(made)
        folder = place / "frames"
        folder.mkdir()
        settings = Settings(runs=place / "runs")
        profile = make_profile(
            place / "profile", "crystallisation", size=1024, chip=chip, seed=1, settings=settings
        )
        opened = open_run(profile.path, [folder], settings)
        with opened.record:
            for k, data in enumerate(files):
                (folder / f"backlog_{k:05}.tif").write_bytes(data)
            backlog = daemon(opened, folder)
            # the first frames compile the network for this size
            at = sorted(backlog.committed.values())[2:]
            seconds = (at[-1] - at[0]) / (len(at) - 1)
            closed: dict[str, float] = {}
            sender = threading.Thread(
                target=deliver, args=(files, folder, 0.5 / seconds, closed), daemon=True
            )
            sender.start()
            live = daemon(opened, folder)
            sender.join()
        lag = np.array([live.committed[name] - closed[name] for name in closed])
        total = sum(np.median(s) for s in backlog.stages.values())
        shares = "  ".join(
            f"{stage} {1e3 * np.median(s):.1f} ms ({100 * np.median(s) / total:.0f} %)"
            for stage, s in backlog.stages.items()
        )
        print(f"\n{edge}² uint16 TIFF, {(edge // chip) ** 2} chips of {chip} px, {frames} frames")
        about = opened.recipe.embedder.description if opened.recipe else {}
        print("  " + ", ".join(f"{key} {about[key]}" for key in ("runtime", "device", "precision")))
        print(f"  throughput {1 / seconds:.1f} frames/s ({1e3 * seconds:.1f} ms a frame)")
        print(
            f"  closed file → committed at {0.5 / seconds:.1f} frames/s: "
            f"p50 {1e3 * np.percentile(lag, 50):.0f} ms, p95 {1e3 * np.percentile(lag, 95):.0f} ms"
        )
        print(f"  {shares}")
    return seconds, specimen.frame(0.5)[0].astype(np.uint16)


def chips_224(pixels: NDArray[np.uint16], chip: int, count: int) -> list[torch.Tensor]:
    """Cut and enlarge chips as the paper does: 224 px, three channels, in batches."""
    values = torch.from_numpy(pixels.astype(np.float32) / pixels.max())
    cut = values.unfold(0, chip, chip).unfold(1, chip, chip).reshape(-1, 1, chip, chip)[:count]
    return [
        torch.nn.functional.interpolate(
            cut[start : start + BATCH], (224, 224), mode="bilinear"
        ).expand(-1, 3, -1, -1)
        for start in range(0, len(cut), BATCH)
    ]


def baselines(edge: int, pixels: NDArray[np.uint16], limit: int, daemon_s: float) -> None:
    """Print the baselines' rows on the same chips."""
    chip = CHIPS[edge]
    total = (edge // chip) ** 2
    count = min(total, limit)
    network = resnet18(weights=None)
    network.fc = torch.nn.Identity()
    network.eval()
    support = chips_224(pixels, chip, 10)[0]
    labels = torch.arange(10) % 2
    few_shot = PrototypicalNetworks(network).eval()
    with torch.inference_mode():
        few_shot.process_support_set(support, labels)
        means = torch.stack([network(support)[labels == c].mean(0) for c in range(2)])

        def paper() -> None:
            for batch in chips_224(pixels, chip, count):
                torch.cdist(network(batch), means).argmin(dim=1)

        def easyfsl() -> None:
            for batch in chips_224(pixels, chip, count):
                few_shot(batch).argmax(dim=1)

        for name, work in (("paper's way, ResNet-18", paper), ("easyfsl, ResNet-18", easyfsl)):
            start = time.perf_counter()
            work()
            seconds = (time.perf_counter() - start) * total / count
            scaled = f" ({count} of {total} chips timed)" if count < total else ""
            print(
                f"  {name}, 224 px, random weights: {seconds:.1f} s a frame{scaled}, "
                f"{seconds / daemon_s:.0f} × the daemon's"
            )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--edges", type=int, nargs="+", default=[1024, 4096], choices=CHIPS)
    parser.add_argument("--baseline-chips", type=int, default=1024)
    parser.add_argument("--skip-baselines", action="store_true")
    options = parser.parse_args()
    for edge in options.edges:
        frames = max(10, options.frames // (edge // 1024) ** 2)
        seconds, pixels = measure(edge, frames)
        if not options.skip_baselines:
            baselines(edge, pixels, options.baseline_chips, seconds)


if __name__ == "__main__":
    main()
