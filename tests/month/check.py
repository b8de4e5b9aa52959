"""Whether rater says what is true: which gaps there are, which reports are refused, and every figure in the end.

All of it is asked as an operator asks (`rater report`, `gaps`, `export`, topic `alerts`), and compared as text.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rater.kafka import Topic
from rater.model.codec import JSON, decode_alert
from rater.model.interval import Interval, union
from rater.model.rated import Alert, AlertKind
from rater.reports import RemoteView, Selection, socket_of
from rater.stream.operate import read_values
from tests.month.content import BEGIN, END, HOUR, HOURS, MONTH, Month
from tests.month.publish import Late, Manifest
from tests.month.reference import Reference, Total
from tests.month.stage import Stage

Key = tuple[str, str, str]
"""Scope, metric and source."""
Advance = Callable[[int, int], None]

_HOLE = re.compile(r"  (\S+): (\S+) from (\S+): (\S+ \S+) to (\S+ \S+) UTC \(.*\): .*")


def wait_until_settled(
    stage: Stage, month: Month, manifest: Manifest, advance: Advance, *, mended: bool, patience: float = 1800
) -> None:
    """Until the store has what comes of everything that was published. Raises AssertionError with what is not there."""
    view = RemoteView(socket_of(stage.directory / "clickhouse"))
    wanted = len(month.scopes) * HOURS
    deadline = time.monotonic() + patience
    while True:
        stage.check()
        asked_at = time.monotonic()
        there = sum(scope.frames for scope in view.scopes())
        advance(there, wanted)
        unsettled = f"{there} of {wanted} frames" if there < wanted else _unsettled(view, manifest, mended=mended)
        if not unsettled:
            return
        assert time.monotonic() < deadline, f"after {patience:.0f} s in the store: {unsettled}"
        time.sleep(max(1, 3 * (time.monotonic() - asked_at)))  # reading all frames must not hold up the sink


def _unsettled(view: RemoteView, manifest: Manifest, *, mended: bool) -> str:
    """What of the last revisions and the gaps is not as it must be in the end; empty if nothing."""
    late: dict[tuple[str, int], list[Late]] = defaultdict(list)
    for item in manifest.late:
        late[item.scope_id, item.period_begin].append(item)
    wanted = {} if mended else Counter((scope, begin // HOUR * HOUR) for scope, *_, begin, _ in manifest.gaps)
    wrong = []
    for frame in view.frames(Selection()):
        key = (frame.scope_id, frame.period_begin)
        if len(frame.gaps) != wanted.get(key, 0):
            wrong.append(f"{key} has {len(frame.gaps)} gaps, not {wanted.get(key, 0)}")
        for item in late[key]:
            held = {ref.attempt for of in frame.coverage if of.metric == item.metric for ref in of.collections}
            if item.attempt and held != {item.attempt}:
                wrong.append(f"{key} does not know yet what came late of {item.metric}")
    open_gaps = sum(1 for _ in view.gaps(Selection(open_only=True)))
    if open_gaps != (0 if mended else len(manifest.gaps)):
        wrong.append(f"{open_gaps} gaps are open, not {0 if mended else len(manifest.gaps)}")
    return f"{len(wrong)} faults, the first: {'; '.join(wrong[:5])}" if wrong else ""


def check_outages(stage: Stage, month: Month, manifest: Manifest) -> None:
    """The three outages are named to the minute, for exactly those they took something of, by gaps and by reports."""
    true = outages(month)
    assert merged((s, m, f, b, e) for s, m, f, b, e in manifest.gaps) == true
    told = [json.loads(text) for text in stage.rater("gaps", "--out", "json").stdout.splitlines()]
    assert {gap["state"] for gap in told} == {"open"}
    assert merged((g["scope_id"], g["metric"], g["source"], _at(g["begin"]), _at(g["end"])) for g in told) == true
    for scope in month.scopes:
        refused = stage.rater("report", "--scope", scope, "--month", MONTH, status=3)
        assert refused.stdout == ""
        holes = [found.groups() for text in refused.stderr.splitlines() if (found := _HOLE.fullmatch(text))]
        assert f"it has {len(holes)} hole(s):" in refused.stderr, refused.stderr
        spans = merged((of, metric, source, _at(begin), _at(end)) for of, metric, source, begin, end in holes)
        assert spans == {key: parts for key, parts in true.items() if key[0] == scope}


def outages(month: Month) -> dict[Key, list[Interval]]:
    """What the outages took, by scope, metric and source."""
    return merged(
        (scope, metric, month.metrics[metric].source, outage.begin, outage.end)
        for outage in month.outages
        for scope in outage.scopes
        for metric in outage.metrics
    )


def merged(holes: Iterable[tuple[str, str, str, int, int]]) -> dict[Key, list[Interval]]:
    """Adjoining holes of one scope, metric and source as one."""
    found: dict[Key, list[Interval]] = defaultdict(list)
    for scope, metric, source, begin, end in holes:
        found[scope, metric, source].append(Interval(begin, end))
    return {key: union(parts) for key, parts in found.items()}


def _at(text: str) -> int:
    """Of `2026-01-05T09:10:00Z` and of `2026-01-05 09:10`."""
    digits = [int(number) for number in re.findall(r"\d+", text)]
    return calendar.timegm((*digits, *[0] * (6 - len(digits))))


async def check_alerts(stage: Stage, manifest: Manifest, *, mended: bool) -> int:
    """Topic `alerts` tells of each hole once when it opens and once when it is filled, and of nothing else; how many.

    And nothing was rejected.
    """
    kafka = stage.config.settings.kafka
    alerts = [decode_alert(value, JSON) for value in await read_values(kafka, Topic.ALERTS)]
    late = Counter((item.scope_id, item.metric, *item.gap) for item in manifest.late if item.gap)
    lost = Counter((scope, metric, begin, end) for scope, metric, _, begin, end in manifest.gaps)
    opened, resolved = (_holes(alerts, kind) for kind in (AlertKind.GAP_OPENED, AlertKind.GAP_RESOLVED))
    assert opened == late + lost, _difference(opened, late + lost)
    assert resolved == late + (lost if mended else Counter()), _difference(resolved, late)
    ids = {kind: {alert.alert_id for alert in alerts if alert.kind is kind} for kind in AlertKind}
    assert ids[AlertKind.GAP_RESOLVED] <= ids[AlertKind.GAP_OPENED]
    others = [alert for alert in alerts if alert.kind not in {AlertKind.GAP_OPENED, AlertKind.GAP_RESOLVED}]
    assert others == []
    assert await read_values(kafka, Topic.REJECTED) == []
    return len(alerts)


def _holes(alerts: list[Alert], kind: AlertKind) -> Counter[tuple[Any, ...]]:
    return Counter((alert.scope_id, alert.metric, alert.begin, alert.end) for alert in alerts if alert.kind is kind)


def _difference(found: Counter[tuple[Any, ...]], wanted: Counter[tuple[Any, ...]]) -> str:
    more, less = found - wanted, wanted - found
    return f"{more.total()} too many, such as {list(more)[:3]}; {less.total()} too few, such as {list(less)[:3]}"


def check_figures(stage: Stage, month: Month, rules: Path, advance: Advance) -> int:
    """Every line in the store and figure of a report is that of the reference, to the last digit; how many lines."""
    gaps = stage.rater("gaps")
    assert "no open gaps" in gaps.stderr, gaps.stderr
    exported = stage.directory / "lines.jsonl"
    stage.rater("export", "lines", "--out", "jsonl", "--file", str(exported))
    reference = Reference(month, rules)
    count = 0
    with exported.open() as lines:
        for count, line in enumerate(reference.lines(), 1):
            got = json.loads(lines.readline() or "null")
            wanted = {**line._asdict(), "period_begin": _text(line.period_begin)}
            found = got and {name: got[name] for name in wanted}
            assert found == wanted, f"line {count}\nfound:  {found}\nwanted: {wanted}"
            if count % 1000 == 0:
                advance(count, 0)
        assert lines.readline() == "", "the store has more lines than there are"
    exported.unlink()
    for scope, totals in reference.totals.items():
        report = stage.rater("report", "--scope", scope, "--month", MONTH, "--out", "json")
        rows = [json.loads(text) for text in report.stdout.splitlines()]
        assert {(row["scope_id"], row["from"], row["to"]) for row in rows} == {(scope, _text(BEGIN), _text(END))}
        assert [Total(*(row[n] for n in ("metric", "quantity", "unit", "lines", "price"))) for row in rows] == totals
        assert f"{HOURS} frames from 2026-01-01 00:00 to 2026-02-01 00:00 UTC, all complete" in report.stderr
    return count


def check_invariants(stage: Stage, month: Month) -> None:
    """`rater audit` finds nothing, in the store and in the topics, prices included, and has looked at everything."""
    done = stage.rater("audit", "--topics", "--prices")
    assert done.stdout == ""
    assert re.search(rf"\b{HOURS * len(month.scopes)} frames, ", done.stderr), done.stderr
    assert ": 0 violations of " in done.stderr, done.stderr
    assert "not checked" not in done.stderr, done.stderr


def _text(instant: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))
