"""For any log and any crashes: same state, same output, one payload per message, gaps opened and resolved once."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.engine import OutboxItem, encode_snapshot
from rater.model.codec import JSON, decode_alert, decode_rated
from rater.model.rated import Alert, AlertKind, RatedFrame
from tests.property.engine_logs import Fault, History, Shell, faults, histories, run


@st.composite
def histories_with_faults(draw: st.DrawFn) -> tuple[History, list[Fault]]:
    history = draw(histories())
    return history, draw(faults(history))


def frames(published: list[OutboxItem]) -> list[RatedFrame]:
    return [decode_rated(item.value, JSON) for item in published if item.topic == "rated"]


def alerts(published: list[OutboxItem]) -> list[Alert]:
    return [decode_alert(item.value, JSON) for item in published if item.topic == "alerts"]


@settings(max_examples=2 * settings().max_examples)
@given(histories_with_faults())
def test_crashes_change_neither_state_nor_output(given_case: tuple[History, list[Fault]]) -> None:
    # given
    history, some = given_case
    calm = run(history)

    # when
    stormy = Shell(history.log)
    for number, cut in enumerate(history.cuts):
        stormy.checkpoint_with(cut, [fault for fault in some if fault.cut == number])

    # then
    assert stormy.state == calm.state
    assert encode_snapshot(stormy.state) == encode_snapshot(calm.state)
    assert set(stormy.published) == set(calm.published)
    assert len(set(calm.published)) == len(calm.published), "without a crash nothing is published twice"
    payloads: dict[tuple[str, int, int, int], set[bytes]] = defaultdict(set)
    for item in stormy.published:
        if item.topic == "rated":
            frame = decode_rated(item.value, JSON)
            payloads[frame.scope_id, frame.period_begin, frame.revision, frame.part].add(item.value)
    assert all(len(values) == 1 for values in payloads.values())


@given(histories())
def test_every_record_is_taken_or_refused_whole(history: History) -> None:
    """What is refused lies in `rejected` as it came; whatever came, the log was read to its end."""
    shell = run(history)
    refused = {item.value for item in shell.published if item.topic == "rejected"}
    assert shell.state.next_offset == len(history.log)
    assert refused <= {record.value for record in history.log}
    assert {record.value for record in history.log if record.value in (b"nonsense", b"{}", b"")} <= refused


@given(histories())
def test_revisions_count_from_zero_and_each_says_something_new(history: History) -> None:
    # given
    revisions: dict[tuple[str, int], list[RatedFrame]] = defaultdict(list)
    for frame in frames(run(history).published):
        assert (frame.part, frame.parts) == (0, 1)
        revisions[frame.scope_id, frame.period_begin].append(frame)

    # then
    for of_frame in revisions.values():
        assert [frame.revision for frame in of_frame] == list(range(len(of_frame)))
        assert [f.closed_at for f in of_frame] == sorted(f.closed_at for f in of_frame)
        for before, after in pairwise(of_frame):
            assert _said(before) != _said(after)
            assert _lines(before) <= {line.line_id for line in after.lines}, "a line that vanished is repeated"


def _said(frame: RatedFrame) -> tuple[object, ...]:
    lines = [line for line in frame.lines if line.qty or line.price]
    covered = [(c.metric, c.source, c.expected, c.covered, c.proof) for c in frame.coverage]
    holes = [(gap.metric, gap.source, gap.begin, gap.end) for gap in frame.gaps]
    said = (frame.status, frame.weak, lines, covered, holes, frame.quarantined, len(frame.lines))
    return *said, frame.expected_until


def _lines(frame: RatedFrame) -> set[str]:
    """Those that are not zeros of a revision before."""
    counted = {total.metric: total.n for total in frame.totals}
    of_metric: dict[str, list[str]] = defaultdict(list)
    for line in frame.lines:
        of_metric[line.metric].append(line.line_id)
    return {identity for metric, ids in of_metric.items() for identity in ids[: counted.get(metric, 0)]}


@given(histories())
def test_a_gap_is_opened_once_and_resolved_at_most_once_after_that(history: History) -> None:
    # given
    published = run(history).published
    open_now: dict[tuple[str, int], set[str]] = defaultdict(set)
    resolved: set[str] = set()
    opened: set[str] = set()

    # then the alerts that follow a revision lead from the gaps of the one before to its own
    of_frame: dict[tuple[str, int], RatedFrame] = {}
    for item in published:
        if item.topic == "rated":
            frame = decode_rated(item.value, JSON)
            of_frame[frame.scope_id, frame.period_begin] = frame
        elif item.topic == "alerts":
            alert = decode_alert(item.value, JSON)
            key = alert.scope_id, alert.period_begin
            if alert.kind is AlertKind.GAP_OPENED:
                assert alert.alert_id not in opened
                assert alert.revision == of_frame[key].revision
                opened.add(alert.alert_id)
                open_now[key].add(alert.alert_id)
            elif alert.kind is AlertKind.GAP_RESOLVED:
                assert alert.alert_id in open_now[key]
                assert alert.alert_id not in resolved
                resolved.add(alert.alert_id)
                open_now[key].remove(alert.alert_id)
    for key, frame in of_frame.items():
        assert {gap.gap_id for gap in frame.gaps} == open_now[key]


@given(histories())
def test_other_alerts_are_raised_once_too(history: History) -> None:
    # given
    published = run(history).published
    found: dict[AlertKind, list[str]] = defaultdict(list)
    for alert in alerts(published):
        found[alert.kind].append(alert.alert_id)

    # then
    for kind in (AlertKind.QUARANTINED, AlertKind.SUSPICION):
        assert len(found[kind]) == len(set(found[kind]))
    assert len(found[AlertKind.LATE_USAGE]) == sum(_reason(item).startswith("late: ") for item in published)


def _reason(item: OutboxItem) -> str:
    return dict(item.headers)["reason"].decode() if item.topic == "rejected" else ""


@given(histories())
def test_reading_alone_decides_nothing(history: History) -> None:
    shell = Shell(history.log)
    shell.read(len(history.log))
    assert {item.topic for item in shell.state.outbox} <= {"rejected", "alerts"}  # alerts: reworks that are refused
    assert all(frame.revision == -1 for scope in shell.state.scopes.values() for frame in scope.frames.values())
