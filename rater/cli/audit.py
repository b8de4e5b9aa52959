"""`rater audit`: what must hold of everything that is stored, and the rows that break it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.output import Cell, Column, Moment, instant, out_option, progress, remark, rows
from rater.cli.times import chosen_span, span_options
from rater.cli.work import run
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.audit import Violation
    from rater.audit.auditor import Counts
    from rater.audit.topics import PartitionLogs
    from rater.config import Config
    from rater.model.codec import Headers
    from rater.reports import AuditRequest, View

__all__ = ["UnknownScopeError", "audit"]

_ROWS = [
    Column("invariant", "Invariant"),
    Column("scope_id", "Scope"),
    Column("period_begin", "Period (UTC)"),
    Column("metric", "Metric"),
    Column("table", "Table"),
    Column("key", "Row", prose=True),
    Column("expected", "Expected", prose=True),
    Column("found", "Found", prose=True),
]
_LATE_SHOWN = 10


class UnknownScopeError(RaterError):
    """A scope that nothing is stored of: an audit of it would find nothing, whatever is wrong."""


@click.command()
@span_options
@click.option(
    "--topics", is_flag=True, help="Also read topics rated and alerts, and the committed offsets, from Kafka."
)
@click.option("--prices", is_flag=True, help="Also rate every line again by the rules of its frame.")
@out_option
@click.pass_context
def audit(
    context: click.Context,
    scope_id: str | None,
    month: str | None,
    begin: int | None,
    end: int | None,
    topics: bool,
    prices: bool,
    out: str,
) -> int:
    """Check the stored frames, lines, usage and gaps against each other, and name every row that is wrong.

    Changes nothing. Exit status 1 if something is wrong; docs/audit.md says what each invariant means and what to do.
    What looks wrong is looked at again after some seconds, since a sink may be writing meanwhile.

    \b
    Examples:
      rater audit
      rater audit --scope projA --month 2026-01 --prices
      rater audit --topics --out json
    """
    from rater.reports import AuditRequest, open_view

    config = session(context).config
    request = AuditRequest(scope_id, *chosen_span(month, begin, end))
    with open_view(config.settings.store) as view:
        return _audit(config, view, request, out, topics=topics, prices=prices)


def _audit(config: Config, view: View, request: AuditRequest, out: str, *, topics: bool, prices: bool) -> int:
    from rater.audit import Setup
    from rater.audit.auditor import PAUSE_SECONDS, Auditor

    setup = Setup(config.settings.engine.period, config.catalog)
    read = _Topics(config, view, request) if topics else None
    auditor = Auditor(
        view,
        setup,
        lambda: time.sleep(PAUSE_SECONDS),
        usage_stored=config.settings.sink.usage,
        caught_up=read.caught_up if read else None,
        prices=prices,
    )
    with progress("audit", "frames") as advance:
        found = list(auditor.run(request, advance))
        if read:
            found += read.violations(found)
    if not auditor.counts.frames and not auditor.counts.waiting and not found:
        _nothing_seen(view, request)
    rows(out, _ROWS, (row for violation in found for row in _cells(violation)))
    _tell(auditor.counts, read.checked if read else (), found, prices=prices)
    return exits.FAILED if found else exits.OK


def _cells(violation: Violation) -> Iterable[tuple[Cell, ...]]:
    for row in violation.rows:
        yield (
            violation.invariant.value,
            violation.scope_id,
            None if violation.period_begin < 0 else Moment(violation.period_begin),
            violation.metric,
            row.table,
            ", ".join(f"{name}={value}" for name, value in row.key),
            violation.expected,
            violation.found,
        )


class _Topics:
    """What `--topics` adds. Records that came after a sink's last commit are not compared with the store."""

    checked = ("revisions_contiguous", "offsets_never_go_back", "store_is_best_of_rated", "posted_once")

    def __init__(self, config: Config, view: View, request: AuditRequest) -> None:
        from rater.kafka import Topic
        from rater.stream.audit_log import read_positions

        self._kafka = config.settings.kafka
        self._view = view
        self._request = request
        self._before = run(read_positions(self._kafka))
        self.caught_up = self._before.is_caught_up("sink-usage", Topic.USAGE)

    def violations(self, known: Sequence[Violation]) -> list[Violation]:
        """Those that the topics show, and that the store alone did not."""
        from rater.audit import offsets_never_go_back
        from rater.kafka import Topic
        from rater.stream.audit_log import read_positions

        ends = self._before.ends  # of topics that need not have as many partitions
        partitions = sorted({partition for topic, partition in ends if topic in (Topic.RATED.value, Topic.USAGE.value)})
        found: list[Violation] = []
        with progress("topics", "partitions") as advance:
            for number, partition in enumerate(partitions):
                found += self._of_partition(partition) if (Topic.RATED.value, partition) in ends else ()
                found += self._posted(partition) if (Topic.USAGE.value, partition) in ends else ()
                advance(number + 1, len(partitions))
        after = run(read_positions(self._kafka))
        found += offsets_never_go_back([*self._before.commits, *after.commits])
        named = {row for violation in known for row in violation.rows}
        return [violation for violation in found if not named.issuperset(violation.rows)]

    def _of_partition(self, partition: int) -> list[Violation]:
        from rater.audit.auditor import PAUSE_SECONDS
        from rater.audit.topics import check_partition, differs_from_rated
        from rater.kafka import Topic

        logs = self._logs(partition)
        if not (logs.is_rated_whole and logs.is_alerts_whole):
            remark(
                f"partition {partition}: records of rated or alerts are gone (retention): gaps_alerted_once not checked"
            )
        stored_until = self._before.committed("sink", Topic.RATED, partition)
        stored = [entry for entry in logs.rated if entry.offset < stored_until]
        different = list(differs_from_rated(self._view, stored))
        if different:
            time.sleep(PAUSE_SECONDS)
            before = {violation.identity for violation in different}
            keys = {(violation.scope_id, violation.period_begin) for violation in different}
            again = [entry for entry in stored if (entry.frame.scope_id, entry.frame.period_begin) in keys]
            different = [one for one in differs_from_rated(self._view, again) if one.identity in before]
        broken = check_partition(logs)
        if broken:  # the topics are read one after the other, up to where they end just then, maybe within a revision
            time.sleep(PAUSE_SECONDS)
            still = {violation.identity for violation in check_partition(self._logs(partition))}
            broken = [violation for violation in broken if violation.identity in still]
        return [*broken, *different]

    def _posted(self, partition: int) -> Iterator[Violation]:
        """Of the posted lines in `usage` that the sink has said to have stored."""
        from rater.audit import usage_entry
        from rater.audit.posted import differs_from_posted
        from rater.kafka import Topic
        from rater.stream.audit_log import read_part

        stored_until = self._before.committed("sink-usage", Topic.USAGE, partition)
        entries = [
            (usage_entry(record.value, record.headers, partition=partition, offset=record.offset), record.key)
            for record in run(read_part(self._kafka, Topic.USAGE, partition, _holds_posted)).records
            if record.offset < stored_until
        ]
        taken = [entry for entry, key in entries if entry is not None and key == entry.record.scope_id.encode()]
        for violation in differs_from_posted(self._view, taken):  # under another key nobody takes it
            if self._is_asked(violation.scope_id, violation.period_begin):
                yield violation

    def _logs(self, partition: int) -> PartitionLogs:
        from rater.audit import alert_entry, rated_entry
        from rater.audit.topics import PartitionLogs
        from rater.kafka import Topic
        from rater.model.errors import RejectedError
        from rater.stream.audit_log import read_part

        rated = run(read_part(self._kafka, Topic.RATED, partition))
        alerts = run(read_part(self._kafka, Topic.ALERTS, partition))
        entries, told = [], []
        for record in rated.records:
            with suppress(RejectedError):  # what nobody can read stands in `rejected`, with the reason
                entry = rated_entry(record.value, record.headers, partition=partition, offset=record.offset)
                if self._is_asked(entry.frame.scope_id, entry.frame.period_begin):
                    entries.append(entry)
        for record in alerts.records:
            with suppress(RejectedError):
                alert = alert_entry(record.value, record.headers, partition=partition, offset=record.offset)
                if self._is_asked(alert.alert.scope_id, alert.alert.period_begin):
                    told.append(alert)
        return PartitionLogs(entries, told, not rated.begin, not alerts.begin)

    def _is_asked(self, scope_id: str, period_begin: int) -> bool:
        asked = self._request
        return (
            asked.scope_id in (None, scope_id)
            and (asked.begin is None or period_begin >= asked.begin)
            and (asked.end is None or period_begin < asked.end)
        )


def _holds_posted(value: bytes, headers: Headers) -> bool:
    from rater.model.codec import content_type, is_posted

    return is_posted(value, content_type(headers))


def _nothing_seen(view: View, request: AuditRequest) -> None:
    """Says that there was nothing to look at. Raises UnknownScopeError for a scope that may be a slip of the pen."""
    from rater.reports import UsageRequest

    scope_id = request.scope_id
    if scope_id is not None and all(scope.scope_id != scope_id for scope in view.scopes()):
        if view.posted_totals(UsageRequest(scope_id, 0, 2**32 - 1)):
            remark(f"scope {scope_id} has posted lines and no frames: only --topics has something to check of it")
            return
        raise UnknownScopeError(
            f"nothing was checked: there are no frames of scope {request.scope_id!r}: see `rater frames list`"
        )
    remark("nothing was checked: there are no frames of that time")


def _tell(counts: Counts, also: Sequence[str], found: Sequence[Violation], *, prices: bool) -> None:
    """What was looked at, and what could not be."""
    from rater.audit.timer import IN_STORE

    names = [one.value for one in IN_STORE if prices or one.value != "prices_follow_rules"]
    checked = ", ".join([*names, *also])
    broken = ", ".join(dict.fromkeys(violation.invariant.value for violation in found))
    remark(
        f"{counts.frames} frames, {counts.lines} lines, {counts.samples} samples checked ({counts.rated} rated, "
        f"{counts.dropped} dropped by rules, {counts.quarantined} quarantined, {counts.failed} in failed frames, "
        f"{counts.waiting} late and waiting): {len(found)} violations of "
        + (f"{broken}; checked: {checked}" if found else checked)
    )
    for reason, frames in sorted(counts.unchecked.items()):
        remark(f"not checked in every respect: {frames} frames: {reason}")
    for (scope_id, period_begin), samples in list(counts.late.items())[:_LATE_SHOWN]:
        remark(f"late: {scope_id} {instant(period_begin)} UTC: {samples} samples wait: `rater rerate` takes them in")
    if len(counts.late) > _LATE_SHOWN:
        remark(f"late: and {len(counts.late) - _LATE_SHOWN} more frames")
