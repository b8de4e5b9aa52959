"""The audit's own reckoning and the engine agree on any log: no invariant is broken without a fault."""

from __future__ import annotations

from hypothesis import given, settings

from rater.audit import (
    AlertEntry,
    RatedEntry,
    Setup,
    UsageEntry,
    alert_entry,
    check_logs,
    rated_entry,
    usage_entry,
)
from tests.property.engine_logs import Cut, History, Shell, histories, run
from tests.unit.engine.builders import CATALOG, HOUR

SETUP = Setup(HOUR, CATALOG, frozenset({"twin"}), clock_skew=24 * HOUR)


def logs_of(shell: Shell) -> tuple[list[UsageEntry], list[RatedEntry], list[AlertEntry]]:
    refused = {}
    for item in shell.published:
        if item.topic == "rejected":
            headers = {name: value.decode() for name, value in item.headers}
            refused[0, int(headers["origin-offset"])] = headers["reason"]
    usage = [
        usage_entry(
            record.value,
            record.headers,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            refused=refused,
        )
        for record in shell.log
    ]
    rated = [rated_entry(item.value, item.headers) for item in shell.published if item.topic == "rated"]
    alerts = [alert_entry(item.value, item.headers) for item in shell.published if item.topic == "alerts"]
    return [entry for entry in usage if entry is not None], rated, alerts


@settings(max_examples=2 * settings().max_examples)
@given(histories())
def test_a_log_without_faults_breaks_no_invariant(history: History) -> None:
    # given
    shell = run(history)
    # when nothing more comes, and all of it is over: reworks too
    now = max(shell.state.decided_at, shell.log[-1].timestamp_ms // 1000) + 12 * HOUR
    shell.checkpoint(Cut(len(shell.log), now))
    usage, rated, alerts = logs_of(shell)
    found = check_logs(usage, rated, alerts, SETUP, until=now - 6 * HOUR)
    # then
    assert [violation.text() for violation in found] == []
