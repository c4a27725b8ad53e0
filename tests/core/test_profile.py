from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from pychip_live.core.profile import Profile, ProfileOptions
from pychip_live.core.support import Example, SupportSet
from pychip_live.core.window import Limits

MINIMAL: dict[str, Any] = {"schema": 1, "name": "sto-ge", "grid": {"chip": 95}}


def options(**sections: Any) -> ProfileOptions:
    return ProfileOptions.model_validate(MINIMAL | sections)


def test_defaults() -> None:
    made = options()
    assert made.window.mode == "steady"
    assert made.window.percentiles == (0.1, 99.9)
    assert made.window.fixed is None
    assert (made.embedding.method, made.embedding.chip_px) == ("dense", 16)
    assert made.decision.unknown == "lenient"
    assert made.classes == ()


def test_fixed_window() -> None:
    assert options(window={"mode": "fixed", "low": -5, "high": 9.5}).window.fixed == Limits(-5, 9.5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": 1}, "colour"),
        ({"grid": {"chip": 95, "chips": 3}}, "grid.chips"),
        ({"grid": {"chip": 0}}, "grid.chip"),
        ({"grid": {}}, "grid.chip"),
        ({"schema": 2}, "schema"),
        ({"name": " "}, "name"),
        ({"window": {"mode": "auto"}}, "window.mode"),
        ({"window": {"mode": "fixed"}}, "low and high"),
        ({"window": {"mode": "fixed", "low": 1}}, "low and high"),
        ({"window": {"mode": "frozen", "low": 1}}, "low and high"),
        ({"window": {"mode": "frame", "low": 1, "high": 2}}, "low and high"),
        ({"window": {"mode": "fixed", "low": 2, "high": 2}}, "must be below"),
        ({"window": {"mode": "fixed", "low": float("nan"), "high": 2}}, "window.low"),
        ({"window": {"mode": "fixed", "low": 0, "high": float("inf")}}, "window.high"),
        ({"window": {"percentiles": [99, 1]}}, "must rise"),
        ({"window": {"percentiles": [float("nan"), 1]}}, "window.percentiles"),
        ({"window": {"percentiles": [0, 101]}}, "window.percentiles"),
        ({"embedding": {"stages": []}}, "stages"),
        ({"embedding": {"stages": [2, 1]}}, "stages"),
        ({"embedding": {"stages": [1, 1]}}, "stages"),
        ({"embedding": {"stages": [6]}}, "embedding.stages"),
        ({"embedding": {"chip_px": 2}}, "embedding.chip_px"),
        ({"embedding": {"backbone": ""}}, "embedding.backbone"),
        ({"decision": {"unknown": "maybe"}}, "decision.unknown"),
        ({"classes": [{"id": 0, "name": "a", "color": "red"}]}, "classes.0.color"),
        ({"classes": [{"id": 40000, "name": "a", "color": "#ffffff"}]}, "classes.0.id"),
    ],
    ids=lambda v: json.dumps(v) if isinstance(v, dict) else "",
)
def test_wrong_options_are_refused_by_key(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**change)
    assert says in str(caught.value)


def test_round_trip() -> None:
    made = options(
        window={"mode": "fixed", "low": 0, "high": 1},
        classes=[{"id": 3, "name": "γ′", "color": "#00ff00"}],
    )
    assert ProfileOptions.model_validate_json(made.model_dump_json(by_alias=True)) == made


def profile(support: SupportSet, **sections: Any) -> Profile:
    return Profile(options=options(**sections), support=support)


def test_hash_changes_with_every_option_class_and_example() -> None:
    support = SupportSet().add_class("a")
    chip = Example(class_id=0, reference="a.tif", x=0, y=0, size=95)
    hashes = {
        profile(support).hash,
        profile(support, grid={"chip": 96}).hash,
        profile(support, decision={"unknown": "off"}).hash,
        profile(support, window={"clahe": True}).hash,
        profile(support.change_class(0, name="b")).hash,
        profile(support.change_class(0, color="#000000")).hash,
        profile(support.add_example(chip)).hash,
        profile(support.add_example(chip.model_copy(update={"x": 1}))).hash,
    }
    assert len(hashes) == 8
    assert profile(support).hash == profile(SupportSet().add_class("a")).hash
