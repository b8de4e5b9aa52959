"""The invariants of `rater.audit` on the logs and the store of a chaos run, as production asks them."""

from __future__ import annotations

import asyncio

from rater.audit import (
    AlertEntry,
    Commit,
    RatedEntry,
    Setup,
    UsageEntry,
    Violation,
    alert_entry,
    check_logs,
    rated_entry,
    usage_entry,
)
from rater.audit.auditor import Auditor
from rater.kafka import Topic
from rater.model.metric import Catalog, MetricSpec
from rater.reports import AuditRequest
from rater.reports.view import StoreView
from rater.store import Store, StoreSettings
from tests.chaos.logs import Logs
from tests.chaos.pushers import PERIOD
from tests.chaos.town import METRICS

SETUP = Setup(PERIOD, Catalog([MetricSpec(name, unit) for name, unit in METRICS.items()]))


async def violations(
    logs: Logs, settings: StoreSettings, commits: dict[tuple[str, str, int], list[int]], group: str, until: int
) -> list[str]:
    """What breaks an invariant, of the topics, of the commits of `group`, and of the store."""

    def ask() -> list[str]:
        return [_text(one) for one in [*_of_logs(logs, commits, group, until), *_of_store(settings)]]

    return await asyncio.to_thread(ask)


def _of_logs(logs: Logs, commits: dict[tuple[str, str, int], list[int]], group: str, until: int) -> list[Violation]:
    refused = {origin: dict(record.headers)["reason"].decode() for origin, record in logs.refused()}
    usage: list[UsageEntry] = []
    for record in logs[Topic.USAGE]:
        entry = usage_entry(
            record.value,
            record.headers,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            refused=refused,
        )
        usage += [] if entry is None else [entry]
    rated: list[RatedEntry] = [
        rated_entry(record.value, record.headers, partition=record.partition, offset=record.offset)
        for record in logs[Topic.RATED]
    ]
    alerts: list[AlertEntry] = [
        alert_entry(record.value, record.headers, partition=record.partition, offset=record.offset)
        for record in logs[Topic.ALERTS]
    ]
    made = [
        Commit(name, topic, partition, offset)
        for (name, topic, partition), offsets in commits.items()
        if name == group
        for offset in offsets
    ]
    return check_logs(usage, rated, alerts, SETUP, until, commits=made)


def _of_store(settings: StoreSettings) -> list[Violation]:
    with Store(settings) as store:
        auditor = Auditor(StoreView(store), SETUP, lambda: None, caught_up=True, prices=True)
        return list(auditor.run(AuditRequest()))


def _text(one: Violation) -> str:
    return f"{one.invariant.value}: {one.scope_id} {one.period_begin} {one.metric}: {one.found}, not {one.expected}"


__all__ = ["violations"]
