from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pychip_live.core.fractions import PhaseFractions
from pychip_live.core.result import FrameIdentity, FrameResult
from pychip_live.errors import RecordError
from pychip_live.store.history import newest_unfinished, open_history
from pychip_live.store.record import RunRecord
from tests.store.making import (
    COLS,
    ID,
    NOW,
    ROWS,
    commit,
    embedding,
    enter,
    facts,
    identity,
    mask,
    new_record,
    prototypes,
    result,
    same_result,
    support,
    times,
)


def test_a_frame_comes_back_as_it_was_committed(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        assert [commit(record, i, revision) for i in range(3)] == [1, 2, 3]
        with open_history(record.folder) as history:  # while the writer is open
            stored = history.frame(2)
            assert stored.identity == identity(1)
            assert stored.facts == facts(1)
            assert stored.times == times(1)
            assert stored.reason == ""
            assert same_result(history.result(2, revision), result(1, revision))
            assert history.result(2, revision + 1) is None
            assert history.thumbnail(2) == b"picture 1"
            assert history.thumbnail(99) is None
            with pytest.raises(RecordError, match="no frame 99"):
                history.frame(99)


def test_embeddings_come_newest_first_and_bit_for_bit(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        for i in range(150):  # more than a chunk
            commit(record, i, revision if i % 3 else None)
        stored = list(record.embeddings())
        assert [s.sequence for s in stored] == list(range(150, 0, -1))
        for s in (stored[0], stored[77], stored[149]):
            i = s.sequence - 1
            assert np.array_equal(s.embedding.vectors, embedding(i).vectors)
            assert np.array_equal(s.embedding.residual, embedding(i).residual)
            assert s.embedding.id == ID
            assert (s.rows, s.cols) == (ROWS, COLS)
            expected = mask(i)
            if expected is None or s.masked is None:
                assert s.masked is expected
            else:
                assert np.array_equal(s.masked, expected)
        lacking = [s.sequence for s in record.embeddings(without_result_at=revision)]
        assert lacking == [i + 1 for i in range(149, -1, -1) if i % 3 == 0]


def test_odd_values_survive(tmp_path: Path) -> None:
    """Undecodable names, NaN shares, wide class ids, masks, no metadata at all."""
    name = b"caf\xe9 \xff\n.tif".decode("utf-8", "surrogateescape")
    classes = support()
    wide = classes.model_copy(
        update={"classes": (*classes.classes, classes.classes[0].model_copy(
            update={"id": 300, "name": "late"}))}
    )  # fmt: skip
    none = np.full(4, np.nan)
    labels = np.full((ROWS, COLS), 300, np.int16)
    odd = FrameResult(
        wide.revision,
        labels,
        np.zeros((ROWS, COLS, 4), np.float16),
        PhaseFractions((0, 1, 2, 300), 35, 35, none, none, none),
    )
    with new_record(tmp_path) as record:
        assert enter(record, wide) == wide.revision
        who = FrameIdentity(name, f"/data/{name}", 2, 5, (1, 2), "d")
        record.commit(
            who, facts(0), times(0), embedding=None, masked=None, result=odd, thumbnail=None
        )
        record.skip(FrameIdentity(name, "/x"), f"{name}: bad", seen_at=NOW, now=NOW)
        assert record.digests() == {(f"/data/{name}", 2): "d"}
        with open_history(record.folder) as history:
            assert history.frame(1).identity == who
            assert history.frame(2).reason == f"{name}: bad"
            assert history.frame(2).facts is None
            assert same_result(history.result(1, wide.revision), odd)
            assert np.isnan(history.curve(wide.revision).share).all()


def test_the_same_file_is_recorded_once(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        assert commit(record, 0, revision) == 1
        assert commit(record, 0, revision) == 1
        bad = FrameIdentity("b.tif", "/data/b.tif", signature=(1, 1))
        assert record.skip(bad, "why", seen_at=NOW, now=NOW) == 2
        assert record.skip(bad, "why", seen_at=NOW, now=NOW) == 2
        again = FrameIdentity("b.tif", "/data/b.tif", signature=(1, 2))
        assert record.skip(again, "why", seen_at=NOW, now=NOW) == 3
        # frames of a stream have no path that could tell them apart
        stream = FrameIdentity("1/0", None, digest="d")
        assert record.skip(stream, "gap", seen_at=NOW, now=NOW) == 4
        assert record.skip(stream, "gap", seen_at=NOW, now=NOW) == 5
        assert (record.n_frames, record.n_skipped) == (1, 3)


def test_done_names_files_of_which_nothing_is_left_to_record(tmp_path: Path) -> None:
    def plane(k: int, n: int, signature: tuple[int, int], path: str) -> FrameIdentity:
        return FrameIdentity(f"s#{k}", path, k, n, signature, f"{path}{k}{signature}")

    def put(record: RunRecord, who: FrameIdentity) -> None:
        record.commit(
            who, facts(0), times(0), embedding=None, masked=None, result=None, thumbnail=None
        )

    with new_record(tmp_path) as record:
        for k in range(3):
            put(record, plane(k, 3, (9, 9), "/whole"))
        for k in range(2):
            put(record, plane(k, 3, (9, 9), "/part"))
        put(record, plane(0, 3, (9, 9), "/broken"))
        record.skip(
            FrameIdentity("b", "/broken", signature=(9, 9)), "plane 1", seen_at=NOW, now=NOW
        )
        # one plane too small for a chip is a plane that was dealt with, not a whole file
        record.skip(plane(0, 2, (9, 9), "/half"), "grid", seen_at=NOW, now=NOW)
        assert sorted(record.done()) == [(Path("/broken"), (9, 9)), (Path("/whole"), (9, 9))]
        put(record, plane(1, 2, (9, 9), "/half"))
        put(record, plane(0, 1, (9, 10), "/whole"))
        assert set(record.done()) == {
            (Path("/broken"), (9, 9)),
            (Path("/half"), (9, 9)),
            (Path("/whole"), (9, 9)),
            (Path("/whole"), (9, 10)),
        }
        assert record.digests()["/whole", 0] == "/whole0(9, 10)"


def test_ignored_files_are_remembered(tmp_path: Path) -> None:
    items = [(Path(f"/a/{i}.tif"), (i, 2**60 + i)) for i in range(1000)]
    with new_record(tmp_path) as record:
        record.ignore(items, now=NOW)
        record.ignore(items[:10], now=NOW)
        assert sorted(record.ignored()) == sorted(items)


def test_revisions_are_numbered_once_for_each_profile_hash(tmp_path: Path) -> None:
    three = support()
    with new_record(tmp_path) as record:
        assert enter(record, three, "a") == three.revision == 3
        assert enter(record, three, "a") == 3
        assert enter(record, three, "b") == 4  # another recipe at the same revision
        assert enter(record, three, "b") == 4
        assert enter(record, three.add_class("x"), "c") == 5  # 4 is taken
        assert enter(record, three, "a") == 3  # in force again
        with open_history(record.folder) as history:
            found = history.revisions()
            assert [r.number for r in found] == [4, 5, 3]
            assert found[2].support == three
            back, made = history.prototypes(3), prototypes(three)
            assert back is not None
            assert back.class_ids == made.class_ids
            assert (back.temperature, back.radius) == (made.temperature, made.radius)
            for name in ("means", "resamples"):
                assert np.array_equal(getattr(back, name), getattr(made, name))


def test_results_that_do_not_fit_their_revision_are_refused_whole(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        with pytest.raises(RecordError, match="revision 3, which was never entered"):
            commit(record, 0, 3)
        revision = enter(record, support())
        wrong = result(0, revision, ids=(0, 1))
        with pytest.raises(RecordError, match="classes"):
            record.commit(
                identity(0), facts(0), times(0),
                embedding=embedding(0), masked=None, result=wrong, thumbnail=None,
            )  # fmt: skip
        with pytest.raises(RecordError, match="7 chips are embedded"):
            record.commit(
                identity(0), facts(0), times(0),
                embedding=embedding(0, 7), masked=None, result=None, thumbnail=None,
            )  # fmt: skip
        assert record.n_frames == 0
        assert commit(record, 0, revision) == 1


def test_the_curve_switches_when_a_revision_is_complete(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        assert record.current_revision() is None
        first = enter(record, support(), "a")
        for i in range(10):
            commit(record, i, first)
        assert record.current_revision() == first
        second = enter(record, support().change_class(0, name="ferrite"), "b")
        assert record.current_revision() == first  # nothing at the second yet
        commit(record, 10, second)  # a frame that comes while the others are labelled again
        record.add_results([(s, result(s - 1, second)) for s in range(10, 5, -1)])
        assert record.current_revision() == first
        record.add_results([(s, result(s - 1, second)) for s in range(5, 0, -1)])
        assert record.current_revision() == second
        with open_history(record.folder) as history:
            assert len(history.curve(second).sequence) == 11
            assert len(history.curve(first).sequence) == 10  # old results stay
            named = dict(history.shares())
            assert set(named["day/f0003.tif"]) == {"ferrite", "martensite", "void"}
            share = result(3, second).fractions.share[0]
            assert named["day/f0003.tif"]["ferrite"][0] == share
        # the first is in force again and complete but for one frame
        enter(record, support(), "a")
        assert record.current_revision() == second
        record.add_results([(11, result(10, first))])
        assert record.current_revision() == first


def test_a_result_once_recorded_stays(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        commit(record, 0, revision)
        record.add_results([(1, result(5, revision))])
        with open_history(record.folder) as history:
            assert same_result(history.result(1, revision), result(0, revision))


def test_embeddings_stop_at_the_budget(tmp_path: Path) -> None:
    one = ROWS * COLS * 9 * 2
    record = new_record(tmp_path, budget=2 * one + 5)
    with record:
        revision = enter(record, support())
        commit(record, 0, revision)
        commit(record, 1, revision)
        assert not list(record.frames_without_embedding())
        commit(record, 2, revision)
        assert [f.sequence for f in record.frames_without_embedding()] == [3]
    with RunRecord.resume(record.folder, now=NOW) as record:  # counted again after a restart
        commit(record, 3, revision)
        assert [s.sequence for s in record.embeddings()] == [2, 1]
        assert [f.sequence for f in record.frames_without_embedding()] == [4, 3]
        later = enter(record, support().add_class("x"), "h2")
        missing = record.frames_without_embedding(without_result_at=later)
        assert [f.identity for f in missing] == [identity(3), identity(2)]
        ids = (0, 1, 2, 3)
        record.add_results([(s, result(s, later, ids)) for s in (1, 2)])
        # frames that cannot be labelled again do not hold the curve back
        assert record.current_revision() == later


def test_how_a_run_ends_and_which_one_is_resumed(tmp_path: Path) -> None:
    assert newest_unfinished(tmp_path / "none", "a profile") is None
    first = new_record(tmp_path)
    second = new_record(tmp_path)  # in the same second
    other = new_record(tmp_path, name="another/../profile: *?")
    assert first.folder.name.endswith("_a-profile")
    assert second.folder.name == f"{first.folder.name}-2"
    assert other.folder.parent == tmp_path
    (tmp_path / "stray").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.sqlite").write_bytes(b"no database" * 100)
    for record in (first, second, other):
        record.close()
    assert newest_unfinished(tmp_path, "a profile") == second.folder
    with RunRecord.resume(second.folder, now=NOW) as record:
        record.finish("done", now=NOW + timedelta(hours=1))
    assert newest_unfinished(tmp_path, "a profile") == first.folder
    with RunRecord.resume(first.folder, now=NOW) as record:
        record.finish("failed", "no network", now=NOW)
        assert record.profile_hash == "hash"
    assert newest_unfinished(tmp_path, "a profile") == first.folder
    with open_history(first.folder) as history:
        info = history.info
        assert (info.status, info.reason, info.sources) == ("failed", "no network", ("/data/αβ",))
        assert [kind for _, kind, _, _ in history.events()] == ["resumed"]
    with RunRecord.resume(first.folder, now=NOW) as record, open_history(first.folder) as history:
        assert history.info.status is None
        record.add_event("annotation", {"text": "heating on"}, now=NOW)
        assert history.events("annotation") == [(NOW, "annotation", None, {"text": "heating on"})]


def test_a_closed_run_is_one_file_beside_its_lock(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        commit(record, 0, enter(record, support()))
        list(record.embeddings())
    assert sorted(p.name for p in record.folder.iterdir()) == ["run.lock", "run.sqlite"]
    with open_history(record.folder) as history:
        assert history.count() == (1, 0)
    assert sorted(p.name for p in record.folder.iterdir()) == ["run.lock", "run.sqlite"]


def test_readers_and_writer_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        for i in range(200):
            commit(record, i, revision)
        failures: list[BaseException] = []

        def write() -> None:
            try:
                for i in range(200, 400):
                    commit(record, i, revision)
            except BaseException as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        with open_history(record.folder) as history:
            while writer.is_alive():
                seen = [s.sequence for s in record.embeddings()]
                assert seen == list(range(seen[0], 0, -1))
                assert history.curve(revision).sequence.tolist()[:200] == list(range(1, 201))
        writer.join()
        assert not failures
        assert record.n_frames == 400
