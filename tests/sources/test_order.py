from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pychip_live.sources.order import AcquisitionOrder, natural, series_and_counter

TIMES = st.integers(min_value=0, max_value=5)
COUNTERS = st.lists(st.integers(0, 2000), unique=True, min_size=1, max_size=30)
MOMENTS = st.tuples(st.integers(0, 30), st.integers(0, 59), st.integers(0, 59), st.integers(0, 99))


def gatan(moment: tuple[int, int, int, int], tree: str = "/data/run 7") -> str:
    hour, minute, second, frame = moment
    name = tree.rpartition("/")[2]
    return (
        f"{tree}/Hour_{hour:02}/Minute_{minute:02}/Second_{second:02}/{name}_Hour_{hour:02}"
        f"_Minute_{minute:02}_Second_{second:02}_Frame_{frame:04}.dm4"
    )


def test_natural_order_compares_numbers_as_numbers() -> None:
    names = ["frame_10.tif", "Frame_2.tif", "frame_1.tif", "a.tif", "10.tif", "9.tif"]
    assert sorted(names, key=natural) == [
        "9.tif",
        "10.tif",
        "a.tif",
        "frame_1.tif",
        "Frame_2.tif",
        "frame_10.tif",
    ]


@pytest.mark.parametrize(
    ("path", "series", "counter"),
    [
        ("/a/frame_010.dm4", "/a/frame_#.dm4", (10,)),
        ("/a/b2/x_1_HAADF.tif", "/a/b2/x_#_HAADF.tif", (1,)),
        ("/a/s3_f07.mrc", "/a/s3_f#.mrc", (7,)),
        ("/a/live.tif", "/a/live.tif", ()),
        ("/a/12", "/a/#", (12,)),
        (
            gatan((1, 2, 3, 4)),
            "/data/run 7/#/run #_Hour_#_Minute_#_Second_#_Frame_#.dm4",
            (1, 2, 3, 4),
        ),
        ("Hour_00/Minute_01/Second_02/x.dm4", "#/x.dm4", (0, 1, 2, 0)),
    ],
)
def test_series_and_counter(path: str, series: str, counter: tuple[int, ...]) -> None:
    assert series_and_counter(path) == (series, counter)


@given(moments=st.lists(st.tuples(MOMENTS, TIMES), min_size=1, unique_by=lambda pair: pair[0]))
def test_gatan_tree_is_ordered_by_time_of_day_whatever_the_files_say(
    moments: list[tuple[tuple[int, int, int, int], int]],
) -> None:
    order = AcquisitionOrder()
    keys = {order.key(gatan(moment), time): moment for moment, time in moments}
    assert [keys[key] for key in sorted(keys)] == sorted(moment for moment, _ in moments)


@given(counters=COUNTERS, times=st.data())
def test_numbers_win_over_times_in_a_series_among_others(
    counters: list[int], times: st.DataObject
) -> None:
    order = AcquisitionOrder()
    keys = {}
    for counter in counters:
        keys[order.key(f"/a/frame_{counter}.tif", times.draw(TIMES))] = counter
        order.key(f"/a/other_{counter}.tif", times.draw(TIMES))
    assert [keys[key] for key in sorted(keys)] == sorted(counters)


@given(times=st.lists(st.integers(0, 10**6), unique=True, min_size=2, max_size=20))
def test_series_are_merged_by_time(times: list[int]) -> None:
    order = AcquisitionOrder()
    keys = {}
    for place, time in enumerate(sorted(times)):
        path = f"/a/{'haadf' if time % 2 else 'bf'}_{place}.tif"
        keys[order.key(path, time)] = time
    assert [keys[key] for key in sorted(keys)] == sorted(times)


def test_a_key_never_changes_and_no_two_files_share_one() -> None:
    order = AcquisitionOrder()
    first = order.key("/a/frame_5.tif", 50)
    other = order.key("/a/frame_05.tif", 50)
    order.key("/a/frame_4.tif", 99)
    order.key("/a/frame_6.tif", 1)
    assert order.key("/a/frame_5.tif", 7) == first != other


def test_a_replaced_file_is_ordered_by_its_time_alone() -> None:
    order = AcquisitionOrder()
    ring = [order.key(f"/a/{place}.tif", 10 + place) for place in range(3)]
    again = order.key("/a/0.tif", 20, replaced=True)
    assert max(*ring, again) == again
