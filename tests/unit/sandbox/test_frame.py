"""The dict that scripts change, and what is read back from it, without a process."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.sandbox.inside.frame import BadFrameError, Frame, out_points
from rater.sandbox.wire import MAX_LABELS, Done, JobPoint, OutPoint

BEGIN = 1767225600


def source(number: int, **labels: object) -> JobPoint:
    return JobPoint(
        number, "GiB", Decimal(1), Decimal(2), msgspec.Raw(msgspec.msgpack.encode(({"id": number}, labels)))
    )


@pytest.fixture
def frame() -> Frame:
    return Frame(BEGIN, BEGIN + 3600, [("a", [source(0), source(1)]), ("b", [source(2, public=True)])])


def read(frame: Frame, data: Any) -> dict[str, list[OutPoint]]:
    encoded = msgspec.msgpack.encode(("done", out_points(frame.sources(), frame.read(data))))
    return dict(msgspec.msgpack.decode(encoded, type=Done).usage)


def test_what_was_left_alone_is_not_said_again(frame: Frame) -> None:
    same = [OutPoint(number, None, None, None, None) for number in range(3)]

    assert read(frame, frame.data()) == {"a": same[:2], "b": same[2:]}


def test_what_was_changed_is_said_alone(frame: Frame) -> None:
    data = frame.data()
    data["usage"]["a"][0]["rating"]["price"] += 1
    data["usage"]["a"][1]["vol"] = {"unit": "", "qty": 0.1}
    data["usage"]["b"][0]["metadata"]["public"] = 1

    assert read(frame, data) == {
        "a": [OutPoint(0, None, None, "3", None), OutPoint(1, "undefined", "0.1", None, None)],
        "b": [OutPoint(2, None, None, None, ({"id": 2}, {"public": 1}))],
    }


def test_a_copy_of_everything_is_everything(frame: Frame) -> None:
    found = read(frame, copy.deepcopy(frame.data()))

    assert [point.index for points in found.values() for point in points] == [0, 1, 2]


def test_a_copy_beside_its_original_is_new(frame: Frame) -> None:
    data = frame.data()
    data["usage"]["a"].append(copy.deepcopy(data["usage"]["a"][0]))

    assert [point.index for point in read(frame, data)["a"]] == [0, 1, -1]


@pytest.mark.parametrize("over", [0, 1])
def test_labels_of_a_point_have_a_limit(frame: Frame, over: int) -> None:
    data = frame.data()
    metadata = data["usage"]["a"][1]["metadata"]
    metadata["x"] = "x" * 60_000
    size = len(msgspec.msgpack.encode(({"id": 1}, {**metadata, "y": "y" * 300})))
    metadata["y"] = "y" * (300 + MAX_LABELS - size + over)

    if not over:
        assert read(frame, data)["a"][1].labels == ({"id": 1}, metadata)
        return
    with pytest.raises(BadFrameError) as caught:
        frame.read(data)
    assert str(caught.value) == (
        "metric 'a', point 2: its labels have 65537 bytes: those that a script gives can have 65536"
    )


def test_labels_of_an_added_point_have_the_same_limit(frame: Frame) -> None:
    data = frame.data()
    data["usage"]["b"].append({"vol": {"unit": "x", "qty": 1}, "groupby": {}, "metadata": {"x": "x" * MAX_LABELS}})

    with pytest.raises(BadFrameError, match=r"^metric 'b', point 2: its labels have "):
        frame.read(data)


def test_labels_that_a_script_leaves_alone_may_be_larger() -> None:
    large = Frame(BEGIN, BEGIN + 3600, [("a", [source(0, x="x" * MAX_LABELS)])])
    data = large.data()
    data["usage"]["a"][0]["rating"]["price"] += 1

    assert read(large, data) == {"a": [OutPoint(0, None, None, "3", None)]}


def test_metrics_are_sorted_and_named_by_their_text(frame: Frame) -> None:
    data = frame.data()
    data["usage"] = {7: [], "b": [], "B": data["usage"]["a"]}

    assert list(read(frame, data)) == ["7", "B", "b"]


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00", "2026-01-01T01:00:00+01:00"])
def test_a_period_may_be_said_otherwise(frame: Frame, text: str) -> None:
    data = frame.data()
    data["period"]["begin"] = text

    assert read(frame, data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("data.pop('period')", "data lacks the key 'period'"),
        ("data['period'].pop('end')", "data['period'] lacks the key 'end'"),
        (
            "data['period'].update(end='x')",
            "data['period']['end'] was changed: a frame cannot be moved to another period",
        ),
        ("data.pop('usage')", "data lacks the key 'usage'"),
        ("usage.update(c=None)", "metric 'c' is None: it must be a list of points"),
        ("usage.update({'\\ud800': []})", "the name of a metric holds half of a surrogate pair, which is no character"),
        ("usage['a'].insert(0, 'x')", "metric 'a', point 1: is of type str: it must be a dict"),
        ("usage['a'][1].pop('metadata')", "metric 'a', point 2: it lacks the key 'metadata'"),
        ("usage['a'][1].update(metadata=None)", "metric 'a', point 2: metadata is None: it must be a dict"),
        (
            "usage['a'][1].update(x=usage['a'][1].pop('vol'))",
            "metric 'a', point 2: it has the key 'x': it can only have groupby, metadata, rating, vol",
        ),
        ("usage['a'][1].update(vol=None)", "metric 'a', point 2: 'vol' is None: it must be a dict"),
        ("usage['a'][1]['vol'].pop('qty')", "metric 'a', point 2: 'vol' lacks the key 'qty'"),
        ("usage['a'][1]['vol'].update(unit=7)", "metric 'a', point 2: unit is of type int: it must be text"),
        (
            "usage['a'][1]['vol'].update(unit='x' * 256)",
            "metric 'a', point 2: unit has 256 characters: it can have 255",
        ),
        ("usage['a'][1]['vol'].update(qty=None)", "metric 'a', point 2: qty is 'None': it must be a number"),
        (
            "usage['a'][1]['vol'].update(qty='x' * 99)",
            f"metric 'a', point 2: qty is {repr('x' * 99)[:57]}...: it must be a number",
        ),
        ("usage['a'][1].update(rating=None)", "metric 'a', point 2: 'rating' is None: it must be a dict"),
        (
            "usage['a'][1]['rating'].update(price='-Infinity')",
            "metric 'a', point 2: price is -Infinity: it must be a finite number",
        ),
        (
            "usage['a'][1]['groupby'].update({None: 1})",
            "metric 'a', point 2: groupby has the key None: a label's name must be text",
        ),
        (
            "usage['a'][1]['groupby'].update({'\\ud800': 1})",
            "metric 'a', point 2: a name in groupby holds half of a surrogate pair, which is no character",
        ),
        (
            "usage['a'][1]['groupby'].update(x=-2**63 - 1)",
            "metric 'a', point 2: groupby['x'] is an integer beyond 64 bits",
        ),
        (
            "usage['a'][1]['groupby'].update(x=b'')",
            "metric 'a', point 2: groupby['x'] is of type bytes: it must be text, a number, a boolean or None",
        ),
    ],
)
def test_what_is_no_frame_is_refused_with_the_place(frame: Frame, change: str, reason: str) -> None:
    data = frame.data()
    eval(change, {"data": data, "usage": data["usage"]})

    with pytest.raises(BadFrameError) as caught:
        frame.read(data)

    assert str(caught.value) == reason
