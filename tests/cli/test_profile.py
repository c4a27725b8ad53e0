"""``profile`` makes, extends, shows and checks; what is wrong is named with file and remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pychip_live.settings import Settings
from pychip_live.store.profiles import ProfileFolder
from tests.cli.calling import call, flat
from tests.engine.playing import copy_profile, picture, simulate, write_tiff


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    return tmp_path / "frames" / simulate(tmp_path / "frames", 1)[0]


def test_new_add_show_check(place: Settings, frame: Path, tmp_path: Path) -> None:
    profile = tmp_path / "made"
    made = call("profile", "new", profile, "--frame", frame, "--chip", 16)
    assert made.stdout.strip() == str(profile)
    assert "records frames unlabelled" in call("profile", "check", profile).stdout
    added = call(
        "profile", "add", profile, "--class", "crust", "--frame", frame, "--chips", "0,0 7,7",
        "--color", "#ff0000",
    )  # fmt: skip
    assert added.stdout.strip() == "crust: 2 examples"
    # another class, another frame, and a class by another spelling
    other = write_tiff(tmp_path / "other.tif", picture(1))
    call("profile", "add", profile, "--class", "Rim", "--frame", other, "--chips", "3,4")
    again = call("profile", "add", profile, "--class", "rim ", "--frame", other, "--chips", "4,4")
    assert again.stdout.strip() == "Rim: 2 examples"
    loaded = ProfileFolder(profile).load()
    assert loaded.support.classes[0].color == "#ff0000"
    assert loaded.support.revision == 3
    assert [(e.x, e.y) for e in loaded.support.examples][:2] == [(0, 0), (112, 112)]
    assert len(ProfileFolder(profile).references()) == 2
    shown = call("profile", "show", profile)
    assert "chip 16 px" in shown.stdout
    assert "crust" in shown.stdout and "Rim" in shown.stdout
    checked = call("profile", "check", profile)
    assert "made: ready; embedding " in checked.stdout
    assert checked.stderr == ""


def test_a_chip_that_moves_to_another_class_is_said(
    place: Settings, frame: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "made"
    call("profile", "new", profile, "--frame", frame, "--chip", 16)
    call("profile", "add", profile, "--class", "rim", "--frame", frame, "--chips", "0,0 1,1")
    moved = call("profile", "add", profile, "--class", "core", "--frame", frame, "--chips", "1,1")
    assert "1 of them moved here from 'rim'" in flat(moved.stderr)
    assert ProfileFolder(profile).load().support.count(0) == 1


def test_a_fit_is_kept_when_examples_are_added(
    simulated_profile: Path, place: Settings, frame: Path, tmp_path: Path
) -> None:
    profile = copy_profile(simulated_profile, tmp_path / "mine")
    before = (profile / "fit.safetensors").read_bytes()
    call("profile", "add", profile, "--class", "crust", "--frame", frame, "--chips", "1,1")
    call("profile", "check", profile)
    assert (profile / "fit.safetensors").read_bytes() == before


def test_import_of_loose_chips(place: Settings, tmp_path: Path) -> None:
    chips = tmp_path / "chips"
    for number, name in enumerate(["a", "b"]):
        for k in range(3):
            (chips / name).mkdir(parents=True, exist_ok=True)
            pixels = picture(10 * number + k, (20, 20), "uint8")
            Image.fromarray(pixels).save(chips / name / f"{k}.png")
    (chips / "b" / "notes.png").write_text("no picture")
    done = call("profile", "import", chips, tmp_path / "made", "--chip", 20, "--name", "loose")
    assert done.stdout.splitlines() == ["a: 3 examples", "b: 3 examples"]
    assert "notes.png" in flat(done.stderr)
    assert "loose: ready" in call("profile", "check", tmp_path / "made").stdout
    refused = call("profile", "import", chips, tmp_path / "two", "--chip", 30, code=2)
    assert "20 × 20 px, but --chip is 30" in flat(refused.stderr)
    assert not (tmp_path / "two").exists()


def test_import_of_the_papers_chips(shared_data: Path, place: Settings, tmp_path: Path) -> None:
    source = shared_data / "pychip" / "sto_ge" / "support_set"
    done = call("profile", "import", source, tmp_path / "sto", "--chip", 95, "--clahe")
    assert len(done.stdout.splitlines()) == 3
    assert "ready" in call("profile", "check", tmp_path / "sto").stdout


# -- what is wrong ----------------------------------------------------------------------------


def unknown_key(profile: Path) -> None:
    path = profile / "profile.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("chip = 16", "chip = 16\nchpi = 3"))


def example_outside(profile: Path) -> None:
    path = profile / "support.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["examples"][0]["x"] = 5000
    path.write_text(json.dumps(content), encoding="utf-8")


def no_reference(profile: Path) -> None:
    shutil.rmtree(profile / "reference")


def damaged_fit(profile: Path) -> None:
    (profile / "fit.safetensors").write_bytes(b"nonsense")


def altered_fit(profile: Path) -> None:
    path = profile / "fit.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 0x40
    path.write_bytes(data)


def damaged_reference(profile: Path) -> None:
    first = min((profile / "reference").glob("*.tif"))
    first.write_bytes(first.read_bytes()[:300])


def not_json(profile: Path) -> None:
    (profile / "support.json").write_text("{")


def unknown_backbone(profile: Path) -> None:
    path = profile / "profile.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("efficientnet_lite0", "resnet1million"), encoding="utf-8")


WRONG: dict[Callable[[Path], None], str] = {
    unknown_key: r"profile.toml: unknown key 'chpi' in [grid]; did you mean 'chip'?",
    example_outside: "example at x=5000",
    no_reference: "put the file back or remove the example",
    damaged_fit: "delete it, and it is made again",
    altered_fit: "delete it, and it is made again",
    damaged_reference: "the reference frame cannot be read",
    not_json: "not valid JSON",
    unknown_backbone: "resnet1million",
}


@pytest.mark.parametrize("spoil", WRONG)
def test_a_wrong_profile_is_named_and_no_run_begins(
    spoil: Callable[[Path], None],
    simulated_profile: Path,
    place: Settings,
    frame: Path,
    tmp_path: Path,
) -> None:
    profile = copy_profile(simulated_profile, tmp_path / "mine")
    spoil(profile)
    for command in (
        ["profile", "check", profile],
        ["analyze", profile, frame],
        ["run", profile, "--watch", frame.parent, "--until-idle", 0.5],
    ):
        refused = call(*command, code=2)
        assert WRONG[spoil] in flat(refused.stderr), refused.stderr
        assert refused.stdout == ""
        assert "Traceback" not in refused.stderr
    left = list(place.runs.iterdir()) if place.runs.exists() else []
    assert left == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["new", "NEW", "--frame", "FRAME", "--chip", "129"], "129"),
        (["new", "OLD", "--frame", "FRAME", "--chip", "16"], "exists already"),
        (["new", "NEW", "--frame", "GONE", "--chip", "16"], "cannot be read"),
        (["new", "NEW", "--frame", "TEXT", "--chip", "16"], "belong to no format"),
        (["new", "NEW", "--frame", "FRAME", "--chip", "0"], "--chip"),
        (["new", "NEW", "--frame", "FRAME", "--chip", "16", "--method", "magic"],
         "error: --method 'magic': Input should be 'dense' or 'chip'"),
        (["new", "NEW", "--frame", "FRAME", "--chip", "16", "--chip-px", "0"],
         "error: --chip-px 0: Input should be greater than or equal to 4"),
        (["new", "NEW", "--frame", "FRAME", "--chip", "16", "--backbone", "nothing"], "nothing"),
        (["add", "OLD", "--class", "a", "--frame", "FRAME", "--chips", "1;2"], "not ROW,COL"),
        (["add", "OLD", "--class", "a", "--frame", "FRAME", "--chips", ""], "--chips is empty"),
        (["add", "OLD", "--class", "a", "--frame", "FRAME", "--chips", "8,0"], "8"),
        (["add", "OLD", "--class", "unknown", "--frame", "FRAME", "--chips", "1,1"], "unknown"),
        (["add", "OLD", "--class", "a", "--frame", "FRAME", "--chips", "1,1", "--color", "red"],
         "red"),
        (["add", "NEW", "--class", "a", "--frame", "FRAME", "--chips", "1,1"], "not a profile"),
        (["import", "NEW", "NEW", "--chip", "16"], "is not a folder"),
        (["import", "EMPTY", "NEW", "--chip", "16"], "holds no chip"),
        (["show", "NEW"], "not a profile"),
        (["check", "EMPTY"], "not a profile"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2_and_leaves_nothing(
    arguments: list[str],
    says: str,
    simulated_profile: Path,
    place: Settings,
    frame: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tif").write_text("not a picture")
    names = {
        "NEW": tmp_path / "new",
        "OLD": copy_profile(simulated_profile, tmp_path / "old"),
        "FRAME": frame,
        "GONE": tmp_path / "gone.tif",
        "TEXT": tmp_path / "text.tif",
        "EMPTY": tmp_path / "empty",
    }
    before = ProfileFolder(names["OLD"]).load().hash
    refused = call("profile", *(names.get(a, a) for a in arguments), code=2)
    assert says in flat(refused.stderr), refused.stderr
    assert refused.stdout == ""
    assert not names["NEW"].exists()
    assert ProfileFolder(names["OLD"]).load().hash == before


@pytest.mark.parametrize("which", ["missing", "altered"])
def test_wrong_weights(
    which: str,
    simulated_profile: Path,
    place: Settings,
    frame: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tmp_path / "weights.pth"
    if which == "altered":
        weights.write_bytes(np.random.default_rng(0).bytes(5000))
    monkeypatch.setenv("PYCHIP_WEIGHTS", str(weights))
    refused = call("analyze", simulated_profile, frame, code=2)
    assert str(weights) in flat(refused.stderr).replace(" ", "") or weights.name in refused.stderr
    refused = call("profile", "new", tmp_path / "new", "--frame", frame, "--chip", 16, code=2)
    assert weights.name in refused.stderr
    assert not (tmp_path / "new").exists()


def test_wrong_settings(
    simulated_profile: Path, place: Settings, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYCHIP_THREADS", "many")
    refused = call("analyze", simulated_profile, frame, code=2)
    assert "PYCHIP_THREADS" in flat(refused.stderr)
    monkeypatch.setenv("PYCHIP_THREADS", "1")
    monkeypatch.setenv("PYCHIP_DEVICE", "toaster")
    refused = call("analyze", simulated_profile, frame, code=2)
    assert "toaster" in flat(refused.stderr)


@pytest.mark.parametrize("content", [b"runs = ", b"runs = '\xff'"])
def test_a_pychip_toml_that_cannot_be_parsed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pychip.toml").write_bytes(content)
    refused = call("doctor", code=2)
    assert "error: pychip.toml: not valid TOML (" in flat(refused.stderr)
