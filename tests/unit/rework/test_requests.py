"""What was asked for through the API folds to the same for every reader, however often a record comes."""

from __future__ import annotations

from rater.model.codec import JSON, encode_json
from rater.model.requests import (
    FramesAsked,
    FramesOver,
    InactiveTime,
    RequestKind,
    RequestRecord,
    ScopeAdded,
    ScopeOutcome,
    ScopeSwitched,
    SwitchesSent,
)
from rater.rework import RequestBook, decode_request

HOUR = 3600
T = 1_767_225_600  # 2026-01-01T00:00:00Z


def asked(request_id: str, begin: int = 0, end: int = 3, *scopes: str, kind: RequestKind = "reprocess") -> FramesAsked:
    """A request of hours `[begin, end)` of scope A, or of others."""
    return FramesAsked(request_id, kind, scopes or ("A",), T + begin * HOUR, T + end * HOUR, "ann", "why", T)


def over(request_id: str, *scopes: str) -> FramesOver:
    """The end of a request."""
    return FramesOver(request_id, tuple(ScopeOutcome(scope, done=2) for scope in scopes), T + HOUR)


def folded(*records: RequestRecord) -> RequestBook:
    """The book of records that were written and read."""
    book = RequestBook()
    for record in records:
        book.take(decode_request(encode_json(record), JSON), T)
    return book


def test_a_request_is_a_task_for_each_of_its_scopes_until_it_is_over() -> None:
    book = folded(asked("r1", 0, 3, "A", "B"), asked("r2", 5, 6, "B"), over("r1", "A"))
    assert [task.key for task in book.open_tasks()] == [("r1", "B"), ("r2", "B")]
    assert book.tasks["r1", "A"].outcome == ScopeOutcome("A", done=2)
    assert (book.tasks["r2", "B"].begin, book.tasks["r2", "B"].end) == (T + 5 * HOUR, T + 6 * HOUR)


def test_a_reprocess_of_what_is_asked_for_already_is_refused_as_a_whole() -> None:
    # given hours 0 to 2 of A under way; hour 2 is its last one
    book = folded(asked("r1", 0, 3), asked("r2", 2, 4, "B", "A"), asked("r3", 3, 4))
    assert book.refusal("r2") == "reprocess r1 of scope 'A' is under way"
    assert book.refusal("r3") == ""
    assert [task.key for task in book.open_tasks()] == [("r1", "A"), ("r3", "A")]

    # once it is over the same may be asked for
    book = folded(asked("r1", 0, 3), over("r1", "A"), asked("r2", 2, 4, "B", "A"))
    assert book.refusal("r2") == ""
    assert [task.key for task in book.open_tasks()] == [("r2", "B"), ("r2", "A")]


def test_resets_wait_for_each_other() -> None:
    book = folded(asked("r1", 0, 3, kind="reset"), asked("r2", 1, 3, kind="reset"), asked("r3", 2, 3))
    assert [task.key for task in book.open_tasks()] == [("r1", "A"), ("r2", "A")]
    assert "reset r1" in book.refusal("r3")


def test_records_that_are_repeated_or_of_nothing_change_nothing() -> None:
    once = folded(asked("r1"), asked("r2", 1, 2), over("r1", "A"))
    again = folded(
        asked("r1"), asked("r1"), asked("r2", 1, 2), over("r1", "A"), asked("r1"), asked("r2", 1, 2), over("r1", "A"),
        over("r9", "A"), over("r1", "B"),
    )  # fmt: skip
    assert again.tasks == once.tasks
    assert again.open_tasks() == []
    assert again.refusal("r2") == once.refusal("r2") != ""


def a_switch(active: bool, scope_id: str = "A", inactive_time: InactiveTime = "bill") -> ScopeSwitched:
    return ScopeSwitched(scope_id, active, T, "ann", T, inactive_time)


def test_switches_are_numbered_by_scope_and_those_that_change_nothing_are_not() -> None:
    book = folded(
        a_switch(True), a_switch(False), a_switch(False), a_switch(False, "B"), SwitchesSent(1),
        a_switch(True, inactive_time="skip"),
    )  # fmt: skip
    assert [(s.scope_id, s.number, s.active, s.inactive_time) for s in book.switches.switches] == [
        ("A", 1, False, "bill"),
        ("B", 1, False, "bill"),
        ("A", 2, True, "skip"),
    ]
    assert book.unsent() == book.switches.switches[1:]
    assert [book.switches.is_active(scope) for scope in "ABC"] == [True, False, True]
    assert book.switches.last("C") is None
    assert book.switches.last("B") == a_switch(False, "B")


def test_a_switch_begins_no_later_than_its_record_came() -> None:
    """By the broker's clock: the engine refuses one that is far ahead, and everybody else would believe it."""
    book = RequestBook()
    for active, begin in ((False, T + 48 * HOUR), (True, T - HOUR)):
        book.take(ScopeSwitched("A", active, begin, "ann", begin), T)
    assert [switch.begin for switch in book.unsent()] == [T, T - HOUR]


def test_a_scope_is_added_as_it_was_said_last() -> None:
    book = folded(ScopeAdded("A", T, "ann", T), ScopeAdded("A", T + HOUR, "bob", T))
    assert book.added == {"A": ScopeAdded("A", T + HOUR, "bob", T)}
