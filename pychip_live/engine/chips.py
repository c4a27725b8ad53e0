"""Import loose chips: one folder a class, as pyChip and torchvision's ImageFolder keep them.

A loose chip has lost its surroundings, which a dense embedding sees. It is kept as a reference
frame of three by three chips, itself in the middle and mirrored around, so that no edge shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from pychip_live.core.frame import Frame
from pychip_live.core.profile import DecisionOptions, ProfileOptions
from pychip_live.core.support import Example, SupportSet
from pychip_live.errors import ProfileError, ReadError
from pychip_live.readers import SUFFIXES, open_file
from pychip_live.sources.order import natural
from pychip_live.store.profiles import ProfileFolder

TOLERANCE = 2
"""Pixels by which a loose chip may differ from the chip size: pyChip's are not always square."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported: the profile, examples by class name, and what was left out and why."""

    folder: ProfileFolder
    counts: dict[str, int]
    notes: tuple[str, ...]


def import_chips(
    directory: Path, folder: ProfileFolder, options: ProfileOptions, *, now: datetime
) -> Imported:
    """Make a profile from loose chips; the folder of a chip names its class.

    Parameters
    ----------
    directory
        Holds one folder a class.
    folder
        New profile folder.
    options
        Of the profile; its chip size must be that of the chips. Unknown is switched off: chips that
        were prepared elsewhere lie far from any frame's, whatever they show.
    now
        Time the examples are stamped with.

    Raises
    ------
    ProfileError
        If there is no chip, or one is of another size.
    """
    if not directory.is_dir():
        raise ProfileError(f"{directory} is not a folder; name one with a folder of chips a class")
    size = options.grid.chip
    chips: list[tuple[str, Path, Frame]] = []
    notes = []
    classes = sorted((p for p in directory.iterdir() if p.is_dir()), key=lambda p: natural(p.name))
    for group in classes:
        paths = [p for p in group.iterdir() if p.suffix.lower() in SUFFIXES]
        for path in sorted(paths, key=lambda p: natural(p.name)):
            try:
                with open_file(path) as file:
                    frame = file.read(0)
            except (ReadError, OSError) as error:
                notes.append(f"left out: {error}")
                continue
            if any(abs(edge - size) > TOLERANCE for edge in frame.shape):
                height, width = frame.shape
                raise ProfileError(
                    f"{path} is {width} × {height} px, but --chip is {size}; all chips must be of "
                    f"that size (give or take {TOLERANCE} px)"
                )
            chips.append((group.name, path, frame))
    if not chips:
        raise ProfileError(
            f"{directory} holds no chip; it must hold one folder a class with images in it"
        )
    folder.create(options.model_copy(update={"decision": DecisionOptions(unknown="off")}))
    support = SupportSet()
    for group in classes:
        support = support.add_class(group.name)
    for name, path, frame in chips:
        surrounded = Frame(np.pad(frame.pixels, size, mode="symmetric"))
        reference = folder.add_reference(surrounded, f"{name}-{path.stem}")
        example = Example(
            class_id=support.named(name).id, reference=reference,
            x=size, y=size, size=min(size, *frame.shape), who="import", when=now,
        )  # fmt: skip
        support = support.add_example(example)
    folder.save_support(support)
    counts = {c.name: support.count(c.id) for c in support.classes}
    return Imported(folder, counts, tuple(notes))
