"""The support set: named, coloured classes and their example chips, edited by replacing it.

Every edit returns a new set whose revision is one higher; the old one stays valid.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from pychip_live.errors import ProfileError, StaleEditError

UNKNOWN = -1
"""Label of a chip that is far from every prototype."""

PALETTE = (
    "#56b4e9", "#e69f00", "#9b8cff", "#3ddc97", "#f0e442", "#d55e00", "#cc79a7", "#0072b2",
)  # fmt: skip
"""Default class colours, told apart by the colour-blind (after Okabe and Ito 2008)."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
Color = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PhaseClass(_Value):
    """One named, coloured label; ``id`` never changes, and no edit uses it again."""

    id: int = Field(ge=0, le=32767)
    name: Name
    color: Color


class Example(_Value):
    """One labelled chip: a square of a reference frame.

    ``x`` and ``y`` are its left and top pixel, ``size`` its edge when it was picked, px. Where the
    grid has another chip size, the chip of that size about the same centre stands for it.
    """

    class_id: int
    reference: str
    x: int = Field(ge=0)
    y: int = Field(ge=0)
    size: int = Field(ge=1)
    who: str = ""
    when: datetime | None = None

    @property
    def place(self) -> tuple[str, int, int, int]:
        """What tells two examples apart: reference, x, y, size."""
        return self.reference, self.x, self.y, self.size

    def corner(self, chip: int, height: int, width: int) -> tuple[int, int]:
        """Left and top pixel of the chip of edge ``chip`` about the centre, inside the frame.

        Raises
        ------
        ProfileError
            If the example or the chip lies outside a frame of ``height`` × ``width`` px.
        """
        if self.x + self.size > width or self.y + self.size > height:
            raise ProfileError(
                f"example at x={self.x}, y={self.y} ({self.size} px) lies outside its reference "
                f"frame {self.reference} of {width} × {height} px; remove it from support.json"
            )
        if chip > min(height, width):
            raise ProfileError(
                f"reference frame {self.reference} of {width} × {height} px is smaller than a "
                f"chip of {chip} px; choose a smaller chip"
            )
        x = self.x + (self.size - chip) // 2
        y = self.y + (self.size - chip) // 2
        return min(max(x, 0), width - chip), min(max(y, 0), height - chip)


class SupportSet(_Value):
    """All classes and examples at one revision."""

    revision: int = Field(default=0, ge=0)
    classes: tuple[PhaseClass, ...] = ()
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [c.id for c in self.classes]
        names = [c.name.casefold() for c in self.classes]
        for phase in self.classes:
            if ids.count(phase.id) > 1:
                raise ValueError(f"class id {phase.id} is used twice")
            if names.count(phase.name.casefold()) > 1:
                raise ValueError(f"class name {phase.name!r} is used twice")
        seen: set[tuple[str, int, int, int]] = set()
        for example in self.examples:
            if example.class_id not in ids:
                raise ValueError(
                    f"an example at x={example.x}, y={example.y} in {example.reference} belongs to "
                    f"class id {example.class_id}, which does not exist"
                )
            if example.place in seen:
                raise ValueError(
                    f"the chip at x={example.x}, y={example.y} in {example.reference} "
                    "is an example twice"
                )
            seen.add(example.place)
        if "unknown" in names:
            raise ValueError("a class cannot be called 'unknown': that word is taken")
        return self

    def count(self, class_id: int) -> int:
        """Return the number of examples of a class."""
        return sum(e.class_id == class_id for e in self.examples)

    def named(self, name: str) -> PhaseClass:
        """Return the class of that name; ProfileError, naming the known ones, if there is none."""
        for phase in self.classes:
            if phase.name.casefold() == name.strip().casefold():
                return phase
        known = ", ".join(c.name for c in self.classes) or "none yet"
        raise ProfileError(f"there is no class {name!r}; known classes: {known}")

    def by_id(self, class_id: int) -> PhaseClass:
        """Return the class of that id; ProfileError if there is none."""
        for phase in self.classes:
            if phase.id == class_id:
                return phase
        raise ProfileError(f"there is no class of id {class_id}")

    def check_revision(self, based_on: int) -> None:
        """Raise StaleEditError unless an edit based on that revision may go on."""
        if based_on != self.revision:
            raise StaleEditError(based_on, self.revision)

    def add_class(self, name: str, color: str | None = None) -> SupportSet:
        """Add a class; the colour defaults to the next unused one of the palette."""
        used = {c.color.lower() for c in self.classes}
        free = next((c for c in PALETTE if c not in used), PALETTE[len(used) % len(PALETTE)])
        # a revision comes once, so the id of a removed class does not come back
        new_id = max((c.id + 1 for c in self.classes), default=0)
        new_id = max(new_id, self.revision)
        phase = {"id": new_id, "name": name, "color": free if color is None else color}
        return self._replace(classes=(*self.classes, phase))

    def change_class(
        self, class_id: int, *, name: str | None = None, color: str | None = None
    ) -> SupportSet:
        """Rename or recolour a class."""
        old = self.by_id(class_id)
        new = {
            "id": old.id,
            "name": old.name if name is None else name,
            "color": old.color if color is None else color,
        }
        return self._replace(classes=tuple(new if c.id == class_id else c for c in self.classes))

    def remove_class(self, class_id: int) -> SupportSet:
        """Remove a class and its examples."""
        self.by_id(class_id)
        return self._replace(
            classes=tuple(c for c in self.classes if c.id != class_id),
            examples=tuple(e for e in self.examples if e.class_id != class_id),
        )

    def add_example(self, example: Example) -> SupportSet:
        """Label a chip; one that is an example already changes its class."""
        others = tuple(e for e in self.examples if e.place != example.place)
        return self._replace(examples=(*others, example))

    def remove_example(self, place: tuple[str, int, int, int]) -> SupportSet:
        """Remove the example at a place; ProfileError where there is none."""
        left = tuple(e for e in self.examples if e.place != place)
        if len(left) == len(self.examples):
            raise ProfileError(f"there is no example at x={place[1]}, y={place[2]} in {place[0]}")
        return self._replace(examples=left)

    def _replace(self, **changes: object) -> SupportSet:
        fields: dict[str, object] = {"classes": self.classes, "examples": self.examples}
        fields |= changes
        try:
            return SupportSet.model_validate({**fields, "revision": self.revision + 1})
        except ValueError as error:
            raise ProfileError(f"the edit is refused: {_first_message(error)}") from error


def _first_message(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    if not first["loc"]:  # a rule of ours, which names the value itself
        return first["msg"].removeprefix("Value error, ")
    return f"{first['loc'][-1]} {first['input']!r}: {first['msg']}"
