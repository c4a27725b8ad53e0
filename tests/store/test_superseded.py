"""A newer version of a path and plane takes the place of the older one, which stays recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pychip_live.core.result import FrameIdentity
from pychip_live.store.exports import export
from pychip_live.store.history import open_history
from pychip_live.store.record import RunRecord
from tests.store.making import (
    NOW,
    embedding,
    enter,
    facts,
    mask,
    new_record,
    result,
    same_result,
    support,
    times,
)

PATH = "/data/a.tif"


def version(k: int, plane: int = 0, n_planes: int = 1, path: str = PATH) -> FrameIdentity:
    name = f"a.tif#{plane}" if n_planes > 1 else "a.tif"
    return FrameIdentity(name, path, plane, n_planes, (100 + k, k), f"{path} {k} {plane}")


def put(record: RunRecord, who: FrameIdentity, revision: int) -> int:
    i = who.signature[1]
    return record.commit(
        who,
        facts(i),
        times(i),
        embedding=embedding(i),
        masked=mask(i),
        result=result(i, revision),
        thumbnail=b"",
    )


def skip(record: RunRecord, who: FrameIdentity, *, incomplete: bool = False) -> int:
    return record.skip(who, "why", seen_at=NOW, now=NOW, incomplete=incomplete)


def counting(record: RunRecord) -> list[int]:
    with open_history(record.folder) as history:
        return [f.sequence for f in history.frames() if f.superseded_by is None]


def test_the_newer_version_counts_and_the_older_one_stays(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        assert [put(record, version(k), revision) for k in (1, 2, 3)] == [1, 2, 3]
        assert put(record, version(8, path="/data/b.tif"), revision) == 4
        assert (record.n_frames, record.n_skipped) == (2, 0)
        assert record.digests()[PATH, 0] == version(3).digest
        assert set(record.done()) >= {(Path(PATH), (103, 3)), (Path(PATH), (101, 1))}
        with open_history(record.folder) as history:
            assert [f.superseded_by for f in history.frames()] == [2, 3, None, None]
            assert [row[0] for row in history.index()] == [3, 4]
            assert history.curve(revision).sequence.tolist() == [3, 4]
            assert history.superseded() == 2
            assert [name for name, _ in history.shares()] == ["a.tif", "a.tif"]
            assert same_result(history.result(1, revision), result(1, revision))
        exported = export(record.folder, tmp_path / "f.csv")
        lines = (tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()
        assert [line.split(",")[0] for line in lines[1:]] == ["3", "4"]
        assert any("2 older versions" in note for note in exported.notes)


def test_only_what_counts_is_labelled_again(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        first = enter(record, support())
        put(record, version(1), first)
        put(record, version(2), first)
        second = enter(record, support("a", "b", "c", "d"), "h2")
        assert [s.sequence for s in record.embeddings(without_result_at=second)] == [2]
        record.add_results([(2, result(2, second, (0, 1, 2, 3)))])
        assert record.current_revision() == second  # though frame 1 has no result there


def test_frames_without_embedding_count_as_well(tmp_path: Path) -> None:
    with new_record(tmp_path, budget=0) as record:
        revision = enter(record, support())
        put(record, version(1), revision)
        put(record, version(2), revision)
        assert [f.sequence for f in record.frames_without_embedding()] == [2]


CASES: dict[str, tuple[list[FrameIdentity], list[int]]] = {
    "planes of one version stand side by side": ([version(1, k, 3) for k in range(3)], [1, 2, 3]),
    "a grown stack keeps its planes": (
        [version(1, 0, 2), version(1, 1, 2), version(2, 2, 3)],
        [1, 2, 3],
    ),
    "a shrunk stack loses what it has no more": (
        [version(1, 0, 3), version(1, 1, 3), version(1, 2, 3), version(2, 0, 2)],
        [2, 4],
    ),
    "a single frame takes the place of a stack": (
        [version(1, 0, 2), version(1, 1, 2), version(2)],
        [3],
    ),
    "changed back, the first version counts again": ([version(1), version(2), version(1)], [3]),
    "other files have nothing to do with it": (
        [version(1), version(1, path="/data/A.tif"), version(1, path="/data/b.tif")],
        [1, 2, 3],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_counts_after(case: str, tmp_path: Path) -> None:
    versions, expected = CASES[case]
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        for who in versions:
            put(record, who, revision)
        assert counting(record) == expected


def unread(k: int) -> FrameIdentity:
    return replace(version(k), digest="")


def test_a_skipped_version_supersedes_and_is_superseded(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        skip(record, unread(1))
        assert counting(record) == [1]
        put(record, version(2, 0, 2), revision)
        put(record, version(2, 1, 2), revision)
        assert counting(record) == [2, 3]
        assert (record.n_frames, record.n_skipped) == (2, 0)
        skip(record, unread(3))  # it speaks for the whole file
        assert counting(record) == [4]
        assert (record.n_frames, record.n_skipped) == (0, 1)
        assert record.digests() == {}
        skip(record, unread(4))
        assert counting(record) == [5]


def test_an_incomplete_file_is_no_version(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        put(record, version(1, 0, 2), revision)
        put(record, version(1, 1, 2), revision)
        skip(record, unread(2), incomplete=True)
        skip(record, unread(3), incomplete=True)
        assert counting(record) == [1, 2, 4]
        assert (record.n_frames, record.n_skipped) == (2, 1)
        put(record, version(4, 0, 2), revision)
        assert counting(record) == [2, 5]
