from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydantic import ValidationError

from pychip_live.core.support import PALETTE, Example, PhaseClass, SupportSet
from pychip_live.errors import ProfileError, StaleEditError

NAMES = st.text(min_size=1, max_size=8).filter(lambda s: s.strip() != "")


def example(class_id: int, x: int = 0, y: int = 0, **others: object) -> Example:
    fields = {"class_id": class_id, "reference": "a.tif", "x": x, "y": y, "size": 10}
    return Example.model_validate(fields | others)


def two_classes() -> SupportSet:
    return SupportSet().add_class("austenite").add_class("martensite")


class Edits(RuleBasedStateMachine):
    """Any sequence of edits, accepted or refused, keeps the set sound."""

    def __init__(self) -> None:
        super().__init__()
        self.support = SupportSet()
        self.ids: set[int] = set()

    def edit(self, method: str, *args: object, **kwargs: object) -> None:
        before = self.support
        dump = before.model_dump_json()
        try:
            after = getattr(before, method)(*args, **kwargs)
        except ProfileError:
            after = before
        else:
            assert after.revision == before.revision + 1
        assert before.model_dump_json() == dump
        self.support = after

    @rule(name=NAMES, color=st.sampled_from([None, "#ABCDEF", "red", ""]))
    def add_class(self, name: str, color: str | None) -> None:
        known = {c.id for c in self.support.classes}
        self.edit("add_class", name, color)
        new = {c.id for c in self.support.classes} - known
        assert not new & self.ids
        self.ids |= new

    @rule(pick=st.integers(0, 4), name=NAMES)
    def rename(self, pick: int, name: str) -> None:
        self.edit("change_class", self.class_id(pick), name=name)

    @rule(pick=st.integers(0, 4))
    def remove_class(self, pick: int) -> None:
        gone = self.class_id(pick)
        self.edit("remove_class", gone)
        assert self.support.count(gone) == 0

    @rule(pick=st.integers(0, 4), x=st.integers(0, 2), when=st.none() | st.datetimes())
    def label(self, pick: int, x: int, when: datetime | None) -> None:
        self.edit("add_example", example(self.class_id(pick), x, when=when))

    @precondition(lambda self: self.support.examples)
    @rule(pick=st.integers(0, 9))
    def remove_example(self, pick: int) -> None:
        places = [e.place for e in self.support.examples]
        self.edit("remove_example", places[pick % len(places)])

    def class_id(self, pick: int) -> int:
        """Mostly a class there is, at times one there is not."""
        ids = [c.id for c in self.support.classes]
        return ids[pick] if pick < len(ids) else 9999

    @invariant()
    def sound(self) -> None:
        ids = [c.id for c in self.support.classes]
        names = [c.name.casefold() for c in self.support.classes]
        places = [e.place for e in self.support.examples]
        assert len(set(ids)) == len(ids)
        assert len(set(names)) == len(names)
        assert len(set(places)) == len(places)
        assert {e.class_id for e in self.support.examples} <= set(ids)

    @invariant()
    def round_trip(self) -> None:
        assert SupportSet.model_validate_json(self.support.model_dump_json()) == self.support


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_id_of_a_removed_class_does_not_come_back() -> None:
    support = two_classes()
    last = support.classes[-1].id
    assert support.remove_class(last).add_class("ferrite").classes[-1].id > last


def test_id_stays_when_the_class_is_renamed_and_recoloured() -> None:
    support = two_classes().change_class(1, name="α′", color="#123456")
    assert support.by_id(1) == PhaseClass(id=1, name="α′", color="#123456")


def test_colours_come_from_the_palette_in_turn() -> None:
    support = SupportSet()
    for k in range(len(PALETTE) + 2):
        support = support.add_class(f"class {k}")
    colors = [c.color for c in support.classes]
    assert tuple(colors[: len(PALETTE)]) == PALETTE
    assert set(colors) == set(PALETTE)
    freed = two_classes().remove_class(0).add_class("ferrite")
    assert freed.classes[-1].color == PALETTE[0]


def test_labelling_a_chip_again_changes_its_class() -> None:
    support = two_classes().add_example(example(0)).add_example(example(1))
    assert [e.class_id for e in support.examples] == [1]
    assert (support.count(0), support.count(1)) == (0, 1)


def test_classes_are_found_by_name_whatever_the_case() -> None:
    support = two_classes()
    assert support.named(" AUSTENITE ").id == 0
    with pytest.raises(ProfileError, match=r"'ferrite'.*austenite, martensite"):
        support.named("ferrite")
    with pytest.raises(ProfileError, match="none yet"):
        SupportSet().named("ferrite")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda s: s.add_class("Austenite"), "'Austenite'|'austenite'"),
        (lambda s: s.add_class("Unknown"), "unknown"),
        (lambda s: s.add_class("   "), "name '   '"),
        (lambda s: s.add_class("ferrite", "red"), "color 'red'"),
        (lambda s: s.add_class("ferrite", ""), "color ''"),
        (lambda s: s.change_class(0, name="martensite"), "twice"),
        (lambda s: s.change_class(0, name=""), "name ''"),
        (lambda s: s.change_class(5, name="x"), "id 5"),
        (lambda s: s.remove_class(5), "id 5"),
        (lambda s: s.add_example(example(5)), "class id 5"),
        (lambda s: s.remove_example(("a.tif", 3, 4, 10)), "x=3, y=4 in a.tif"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_refused_edits_name_what_is_wrong(edit: object, says: str) -> None:
    assert callable(edit)
    with pytest.raises(ProfileError, match=says):
        edit(two_classes())


def test_stale_edit_is_refused_with_both_revisions() -> None:
    support = two_classes()
    support.check_revision(2)
    with pytest.raises(StaleEditError) as caught:
        support.check_revision(1)
    assert (caught.value.based_on, caught.value.current) == (1, 2)


def test_file_with_an_unknown_key_or_the_same_chip_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        SupportSet.model_validate({"colour": 1})
    phase = {"id": 0, "name": "a", "color": "#000000"}
    chip = example(0).model_dump()
    with pytest.raises(ValidationError, match="is an example twice"):
        SupportSet.model_validate({"classes": [phase], "examples": [chip, chip]})
    with pytest.raises(ValidationError, match="class id 0 is used twice"):
        SupportSet.model_validate({"classes": [phase, phase | {"name": "b"}]})


def test_when_and_who_survive_the_round_trip() -> None:
    support = two_classes().add_example(
        example(1, who="MK", when=datetime(2024, 5, 1, 12, tzinfo=UTC))
    )
    assert SupportSet.model_validate_json(support.model_dump_json()) == support


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 80), st.integers(1, 80), st.data())
def test_corner_of_the_chip_that_stands_for_an_example(
    height: int, width: int, size: int, chip: int, data: st.DataObject
) -> None:
    x, y = data.draw(st.integers(0, 80)), data.draw(st.integers(0, 80))
    picked = example(0, x, y, size=size)
    if x + size > width or y + size > height or chip > min(height, width):
        with pytest.raises(ProfileError, match=r"a\.tif"):
            picked.corner(chip, height, width)
        return
    left, top = picked.corner(chip, height, width)
    assert 0 <= left <= width - chip
    assert 0 <= top <= height - chip
    if chip <= size:  # same centre, to half a pixel, and inside the example
        assert x <= left <= left + chip <= x + size
        assert abs((left + chip / 2) - (x + size / 2)) <= 0.5
    if chip == size:
        assert (left, top) == (x, y)
