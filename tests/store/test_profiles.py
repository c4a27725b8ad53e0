"""Profile folders: round trips, comments that survive, and what bad content is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pychip_live.core.embedding import fit_features
from pychip_live.core.frame import Calibration, Frame
from pychip_live.core.profile import GridOptions, ProfileOptions
from pychip_live.core.support import Example, SupportSet
from pychip_live.core.window import Limits
from pychip_live.errors import ProfileError
from pychip_live.readers import open_file
from pychip_live.store.profiles import KEPT_REVISIONS, ProfileFolder

PIXELS = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


@pytest.fixture
def profile(tmp_path: Path) -> ProfileFolder:
    folder = ProfileFolder(tmp_path / "steel")
    folder.create(ProfileOptions(schema=1, name="steel", grid=GridOptions(chip=16)))
    return folder


def supported(profile: ProfileFolder) -> SupportSet:
    reference = profile.add_reference(Frame(PIXELS), "first frame")
    support = profile.load().support.add_class("ferrite").add_class("perlite")
    support = support.add_example(Example(class_id=0, reference=reference, x=0, y=16, size=16))
    profile.save_support(support)
    return support


def test_what_was_saved_is_loaded(profile: ProfileFolder) -> None:
    support = supported(profile)
    assert profile.load().support == support
    assert profile.load().options.grid.chip == 16


def test_a_folder_that_exists_is_refused(profile: ProfileFolder) -> None:
    with pytest.raises(ProfileError, match="exists already"):
        profile.create(ProfileOptions(schema=1, name="steel", grid=GridOptions(chip=16)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "float16", "float64"])
def test_a_reference_is_kept_exactly(profile: ProfileFolder, dtype: str) -> None:
    pixels = (PIXELS % 251).astype(dtype)
    name = profile.add_reference(Frame(pixels), "a frame/with: odd name")
    kept = profile.read_reference(name).pixels
    assert np.array_equal(kept, pixels)
    assert profile.add_reference(Frame(pixels), "again") == name


def test_a_reference_keeps_its_calibration(profile: ProfileFolder) -> None:
    name = profile.add_reference(Frame(PIXELS, Calibration(0.25, "nm")), "frame")
    with open_file(profile.path / "reference" / name) as file:
        assert file.read(0).calibration == Calibration(0.25, "nm")


def test_comments_of_people_survive_a_new_class(profile: ProfileFolder) -> None:
    options = profile.path / "profile.toml"
    options.write_text("# heating holder, 2026\n" + options.read_text("utf-8"), "utf-8")
    supported(profile)
    assert "# heating holder, 2026" in options.read_text("utf-8")


def test_a_class_may_be_written_by_hand_without_an_id(profile: ProfileFolder) -> None:
    options = profile.path / "profile.toml"
    text = options.read_text("utf-8")
    options.write_text(f'{text}\n[[classes]]\nname = "oxide"\ncolor = "#ff0000"\n', "utf-8")
    assert profile.load().support.named("Oxide").id == 0


def test_a_class_that_is_removed_leaves_both_files(profile: ProfileFolder) -> None:
    support = supported(profile).remove_class(0)
    profile.save_support(support)
    assert profile.load().support == support
    assert "ferrite" not in (profile.path / "profile.toml").read_text("utf-8")


def test_the_last_revisions_are_kept(profile: ProfileFolder) -> None:
    support = supported(profile)
    for k in range(KEPT_REVISIONS + 5):
        support = support.change_class(0, name=f"phase {k}")
        profile.save_support(support)
    kept = sorted((profile.path / "history").iterdir())
    assert len(kept) == KEPT_REVISIONS
    assert json.loads(kept[-1].read_text("utf-8"))["revision"] == support.revision - 1


def test_a_fit_keeps_its_id(profile: ProfileFolder) -> None:
    features = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    fit = fit_features([features], limits=Limits(3.5, 900.25), recipe='{"a":1}', components=4)
    profile.save_fit(fit)
    loaded = profile.load_fit()
    assert loaded is not None
    assert loaded.embedding_id == fit.embedding_id
    assert loaded.limits == fit.limits


def test_no_fit_yet_is_none(profile: ProfileFolder) -> None:
    assert profile.load_fit() is None


def test_a_damaged_fit_says_what_to_do(profile: ProfileFolder) -> None:
    (profile.path / "fit.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ProfileError, match=r"fit\.safetensors: damaged .* delete it"):
        profile.load_fit()


BAD_OPTIONS = {
    "unknown key": (
        "[grid]\nchip = 16\nchipp = 3",
        r"unknown key 'chipp' in \[grid\]; did you mean",
    ),
    "unknown section": ("[grid]\nchip = 16\n[windw]\nmode='frame'", r"unknown key 'windw'.*window"),
    "missing key": ("[grid]", r"key 'chip' is missing in \[grid\]"),
    "value out of range": ("[grid]\nchip = 0", r"chip in \[grid\] = 0"),
    "unknown window": (
        "[grid]\nchip = 16\n[window]\nmode = 'auto'",
        r"mode in \[window\] = 'auto'",
    ),
    "not TOML": ("[grid", r"not valid TOML"),
    "two classes of one name": (
        "[grid]\nchip=16\n[[classes]]\nname='a'\ncolor='#000000'\n"
        "[[classes]]\nname='A'\ncolor='#000001'",
        r"class name 'a' is used twice",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_name_file_key_and_value(
    profile: ProfileFolder, text: str, message: str
) -> None:
    (profile.path / "profile.toml").write_text(f'schema = 1\nname = "x"\n{text}\n', "utf-8")
    with pytest.raises(ProfileError, match=message) as caught:
        profile.load()
    assert "profile.toml" in str(caught.value)


BAD_SUPPORT = {
    "not JSON": ("{", r"support\.json: not valid JSON"),
    "class that does not exist": (
        '{"revision":1,"examples":[{"class_id":7,"reference":"first_frame.tif",'
        '"x":0,"y":0,"size":16}]}',
        r"class id 7, which does not exist",
    ),
    "reference that is gone": (
        '{"revision":1,"examples":[{"class_id":0,"reference":"gone.tif","x":0,"y":0,"size":16}]}',
        r"refers to gone\.tif, but reference/ holds first_frame\.tif",
    ),
    "unknown key": (
        '{"revision":1,"example":[]}',
        r"unknown key 'example'; did you mean 'examples'",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_SUPPORT.values(), ids=BAD_SUPPORT)
def test_bad_support_says_what_and_where(profile: ProfileFolder, text: str, message: str) -> None:
    supported(profile)
    (profile.path / "support.json").write_text(text, "utf-8")
    with pytest.raises(ProfileError, match=message):
        profile.load()


def test_a_folder_without_a_profile_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="is not a profile"):
        ProfileFolder(tmp_path).load()
