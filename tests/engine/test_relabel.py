"""Labelling again from stored embeddings equals analysing again; old results stay."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from pychip_live.engine.relabel import BATCH, relabel
from pychip_live.engine.start import open_edited, open_own, open_run, register
from pychip_live.errors import EmbeddingMismatchError, ProfileError, RecordLockedError
from pychip_live.settings import Settings
from pychip_live.store.history import open_history
from pychip_live.store.profiles import ProfileFolder
from pychip_live.store.record import RunRecord
from tests.engine.playing import (
    add_example,
    analysed,
    assert_same,
    copy_profile,
    labelled_again,
    picture,
    recorded,
    results,
    simulate,
    watched,
    write_tiff,
)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    simulate(tmp_path / "frames", 6)
    return tmp_path / "frames"


@pytest.fixture
def edited(simulated_profile: Path, tmp_path: Path) -> Path:
    profile = copy_profile(simulated_profile, tmp_path / "edited")
    add_example(profile, "crust", 5, 7)
    add_example(profile, "crust", 105, 70)
    return profile


def edit_chip(profile: Path, chip: int) -> None:
    path = profile / "profile.toml"
    text = path.read_text(encoding="utf-8")
    assert "chip = 16" in text
    path.write_text(text.replace("chip = 16", f"chip = {chip}"), encoding="utf-8")


def test_equals_a_fresh_analysis(
    simulated_profile: Path, edited: Path, frames: Path, place: Settings
) -> None:
    run = watched(simulated_profile, frames, place)
    before = results(run)
    done = labelled_again(run, place, edited)
    assert (done.labelled, done.embedded, done.lost, done.complete) == (6, 0, (), True)
    after = results(run)
    assert_same(after, results(analysed(edited, [frames], place)))
    with open_history(run) as history:
        old, new = history.revisions()
        assert history.current_revision() == new.number
        assert [c.name for c in new.support.classes][-1] == "crust"
        assert history.info.status == "done"
    assert_same(results(run, old.number), before)
    changed = [n for n in before if before[n].labels.tobytes() != after[n].labels.tobytes()]
    assert changed
    # and back again, to the run's own copy
    assert labelled_again(run, place).labelled == 0
    with open_history(run) as history:
        assert history.current_revision() == old.number


@pytest.mark.parametrize("budget", [0, 12_000])
def test_frames_whose_embedding_was_not_kept_are_read_again(
    budget: int, simulated_profile: Path, edited: Path, frames: Path, place: Settings
) -> None:
    write_tiff(frames / "stack.tif", picture(1, (3, 128, 128)))
    poor = place.model_copy(update={"embedding_budget_gb": budget / 1e9})
    run = watched(simulated_profile, frames, poor)
    with RunRecord.reopen(run) as record:
        kept = sum(1 for _ in record.embeddings())
    assert (kept == 0) == (budget == 0) and kept < 9
    done = labelled_again(run, place, edited)
    assert (done.labelled, done.embedded, done.lost) == (9, 9 - kept, ())
    assert_same(results(run), results(analysed(edited, [frames], place)))


def test_lost_and_changed_files_are_named_and_keep_their_labels(
    simulated_profile: Path, edited: Path, frames: Path, place: Settings
) -> None:
    poor = place.model_copy(update={"embedding_budget_gb": 0})
    run = watched(simulated_profile, frames, poor)
    first, second, *rest = sorted(frames.glob("*.tif"))
    before = results(run)
    first.unlink()
    write_tiff(second, picture(9))
    done = labelled_again(run, place, edited)
    assert set(done.lost) == {first.name, second.name}
    assert done.labelled == len(rest) == 4
    with open_history(run) as history:
        old, new = (revision.number for revision in history.revisions())
    assert set(results(run, new)) == {path.name for path in rest}
    assert_same(results(run, old), before)


def test_goes_on_where_it_was_interrupted(
    simulated_profile: Path, edited: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "many"
    write_tiff(frames / "stack.tif", picture(1, (2 * BATCH + 5, 48, 48)))
    run = watched(simulated_profile, frames, place)
    with RunRecord.reopen(run) as record:
        recipe = open_edited(run, edited, place)
        prototypes = register(record, recipe)
        assert prototypes is not None
        done = relabel(record, recipe, prototypes, stop=lambda: True)
        assert (done.labelled, done.complete) == (BATCH, False)
        with open_history(run) as history:  # the curve does not switch half-way
            assert history.current_revision() != prototypes.revision
            newest = history.curve(prototypes.revision).sequence.tolist()
        assert newest == list(range(BATCH + 6, 2 * BATCH + 6))
    rest = labelled_again(run, place, edited)
    assert (rest.labelled, rest.complete) == (BATCH + 5, True)
    assert_same(results(run), results(analysed(edited, [frames], place)))


def test_another_embedding_is_refused_and_changes_nothing(
    simulated_profile: Path, frames: Path, place: Settings, tmp_path: Path
) -> None:
    run = watched(simulated_profile, frames, place)
    other = copy_profile(simulated_profile, tmp_path / "other")
    edit_chip(other, 20)
    before = results(run)
    with pytest.raises(EmbeddingMismatchError) as caught:
        labelled_again(run, place, other)
    assert caught.value.exit_code == 2
    with open_history(run) as history:
        assert len(history.revisions()) == 1
        assert history.info.status == "done"
    assert_same(results(run), before)


def test_a_run_in_progress_is_refused(
    simulated_profile: Path, frames: Path, place: Settings
) -> None:
    opened = open_run(simulated_profile, [frames], place)
    with opened.record as record, pytest.raises(RecordLockedError) as caught:
        labelled_again(record.folder, place)
    assert caught.value.exit_code == 2


# -- a run without a profile --------------------------------------------------------------------


def test_frames_before_the_first_example_are_labelled_when_it_arrives(
    place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    simulate(frames, 5)
    run = watched(None, frames, place, done=False)
    assert results(run) == {}
    assert len(recorded(run)) == 5
    with RunRecord.reopen(run) as record:
        assert sum(1 for _ in record.embeddings()) == 5
    own = run / "profile"
    assert ProfileFolder(own).load().options.grid.chip == 50
    with pytest.raises(AssertionError):
        labelled_again(run, place)  # nothing to label with yet
    add_example(own, "dark", 0, 0)
    add_example(own, "bright", 50, 50)
    assert labelled_again(run, place).labelled == 5
    assert set(results(run)) == {f.identity.name for f in recorded(run)}
    assert_same(results(run), results(analysed(own, [frames], place)))
    # and the run goes on with them
    write_tiff(frames / "late.tif", picture(3))
    assert watched(None, frames, place, resume=True) == run
    assert len(results(run)) == 6
    assert_same(results(run), results(analysed(own, [frames], place)))


def test_own_profile_with_another_grid_is_refused_until_it_is_put_back(
    place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    simulate(frames, 3)
    run = watched(None, frames, place, done=False)
    options = run / "profile" / "profile.toml"
    good = options.read_text(encoding="utf-8")
    add_example(run / "profile", "dark", 0, 0)
    options.write_text(
        options.read_text(encoding="utf-8").replace("chip = 50", "chip = 40"), encoding="utf-8"
    )
    for action in (
        lambda: labelled_again(run, place),
        lambda: watched(None, frames, place, resume=True),
    ):
        with pytest.raises(ProfileError, match=r"chip changed from 50 to 40.*put that back"):
            action()
    assert "chip = 50" in good
    options.write_text(
        options.read_text(encoding="utf-8").replace("chip = 40", "chip = 50"), encoding="utf-8"
    )
    assert labelled_again(run, place).labelled == 3


# -- resuming with an edited profile ----------------------------------------------------------


def test_resume_with_an_edited_profile_labels_earlier_frames_again(
    simulated_profile: Path, frames: Path, place: Settings, tmp_path: Path
) -> None:
    profile = copy_profile(simulated_profile, tmp_path / "mine")
    run = watched(profile, frames, place, done=False)
    add_example(profile, "crust", 5, 7)
    write_tiff(frames / "late.tif", picture(3))
    opened = open_run(profile, [frames], place, resume=True)
    opened.record.close()
    assert opened.record.folder == run
    assert labelled_again(run, place).labelled == 6  # from its own copy, which was replaced
    assert watched(profile, frames, place, resume=True, done=False) == run
    assert_same(results(run), results(analysed(profile, [frames], place)))
    # edits of the run's own copy survive the next resume, as the original did not change
    add_example(run / "profile", "rim", 33, 44)
    assert watched(profile, frames, place, resume=True, done=False) == run
    names = [c.name for c in open_own(run, place).profile.support.classes]
    assert names[-2:] == ["crust", "rim"]


def test_resume_with_another_grid_is_refused(
    simulated_profile: Path, frames: Path, place: Settings, tmp_path: Path
) -> None:
    profile = copy_profile(simulated_profile, tmp_path / "mine")
    run = watched(profile, frames, place, done=False)
    edit_chip(profile, 24)
    with pytest.raises(ProfileError, match=r"chip changed from 16 to 24.*run without --resume"):
        open_run(profile, [frames], place, resume=True)
    with open_history(run) as history:
        assert len(history.revisions()) == 1
    assert watched(profile, frames, place) != run  # a new run


def test_an_analysis_is_not_gone_on_with(
    simulated_profile: Path, frames: Path, place: Settings
) -> None:
    opened = open_run(simulated_profile, [frames], place, command="analyze")
    opened.record.close()  # as if it was killed
    assert watched(simulated_profile, frames, place, resume=True) != opened.record.folder


def test_killed_while_the_profile_was_copied(
    simulated_profile: Path, frames: Path, place: Settings
) -> None:
    opened = open_run(simulated_profile, [frames], place)
    opened.record.close()
    run = opened.record.folder
    (run / "profile").rename(run / ".profile.4711")
    assert watched(simulated_profile, frames, place, resume=True) == run
    assert len(results(run)) == 6


def test_a_locked_record_is_waited_for(
    simulated_profile: Path, edited: Path, frames: Path, place: Settings
) -> None:
    run = watched(simulated_profile, frames, place)
    with RunRecord.reopen(run) as record:
        recipe = open_edited(run, edited, place)
        prototypes = register(record, recipe)
        assert prototypes is not None
        blocker = sqlite3.connect(run / "run.sqlite", isolation_level=None, check_same_thread=False)
        blocker.execute("BEGIN IMMEDIATE")
        # longer than the record itself waits, so that it is refused at least once
        release = threading.Timer(2.5, blocker.execute, ["ROLLBACK"])
        release.start()
        try:
            done = relabel(record, recipe, prototypes)
        finally:
            release.join()
            blocker.close()
    assert (done.labelled, done.complete) == (6, True)
