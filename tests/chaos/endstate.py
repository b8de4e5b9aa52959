"""What must hold at the end of a chaos run: topics, store and committed offsets against the truth of the usage log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from rater.kafka import Topic
from rater.model.codec import JSON, decode_alert, decode_rated
from rater.model.rated import AlertKind
from rater.store import Store, StoreSettings, frames, gaps, lines
from rater.store import totals as store_totals
from tests.chaos.cloud import METRICS, PERIOD, SCOPES, Cloud
from tests.chaos.content import Prices, TrueFrame, truth
from tests.chaos.logs import POISON, Logs
from tests.chaos.offsets import WORKER, Groups, backward
from tests.chaos.town import ENGINE
from tests.chaos.verify import Verdict, compare

Expected = dict[tuple[str, int], TrueFrame]
SHOWN = 8


async def verdict_of(logs: Logs, prices: Mapping[int, Prices], until: int) -> tuple[Expected, Verdict]:
    """What the accepted usage means up to `until`, and how what was published differs from it."""

    def judge() -> tuple[Expected, Verdict]:
        expected = truth(logs.accepted(), PERIOD, until)
        return expected, compare(expected, logs[Topic.RATED], logs[Topic.ALERTS], prices)

    await logs.refresh(Topic.USAGE, Topic.RATED, Topic.ALERTS, Topic.REJECTED)
    return await asyncio.to_thread(judge)  # the proxies live in this loop


def not_collected(logs: Logs, cloud: Cloud, until: int) -> list[str]:
    """How what was collected up to `until` differs from what the cloud is made of."""
    names = {scope.encode() for scope in SCOPES}
    expected = truth((record for record in logs[Topic.USAGE] if record.key in names), PERIOD, until)
    wrong = []
    for scope in SCOPES:
        for begin in range(cloud.begin, until, PERIOD):
            frame = expected.get((scope, begin), TrueFrame({}, {}))
            for metric in METRICS:
                found = [qty for (name, _), qty in frame.quantities.items() if name == metric]
                wanted = cloud.quantity(scope, metric, begin)
                if found != ([] if wanted is None else [wanted]):
                    wrong.append(f"{scope} {metric} {begin}: {found} and not {wanted}")
                holes = cloud.holes(scope, metric, begin)
                if frame.holes.get(metric, []) != holes:
                    wrong.append(f"{scope} {metric} {begin}: holes {frame.holes.get(metric)} and not {holes}")
    return wrong


def refusals(logs: Logs) -> tuple[Counter[str], list[str]]:
    """What was refused: by kind, and what should not have been, or was refused twice in different words."""
    counts: Counter[str] = Counter()
    closed = _closed_at(logs)
    wrong: list[str] = []
    reasons: dict[tuple[int, int], tuple[bytes, bytes]] = {}
    horizon = int(ENGINE["late_horizon_periods"]) * PERIOD
    repeated = _repeated(logs)
    for origin, record in logs.refused():
        headers = dict(record.headers)
        said = headers["reason"], record.value
        if origin in reasons:
            wrong += [f"usage {origin} was refused twice, in different words"] * (reasons[origin] != said)
            continue
        reasons[origin] = said
        if record.value.startswith(POISON):
            continue
        reason = headers["reason"].decode()
        if "too long ago to tell" in reason and origin in repeated:
            counts["repeated long after"] += 1
            continue
        counts["late"] += 1
        begins = [begin for (scope, begin) in closed if scope.encode() == record.key and f" {begin} " in reason]
        if not reason.startswith("late:") or not begins:
            wrong.append(f"usage {origin} was refused: {reason[:200]}")
        elif record.timestamp / 1000 < closed[record.key.decode(), begins[0]] + horizon:
            wrong.append(f"usage {origin} was refused before the horizon: {reason[:200]}")
    unread = {(r.partition, r.offset) for r in logs[Topic.USAGE] if r.value.startswith(POISON)}
    counts["unreadable"] = len(unread)
    wrong += [f"usage {origin} cannot be read, and was not refused" for origin in unread - reasons.keys()]
    return counts, wrong


def _repeated(logs: Logs) -> set[tuple[int, int]]:
    """Records of `usage` whose very bytes stand before them."""
    seen: set[tuple[int, bytes]] = set()
    found: set[tuple[int, int]] = set()
    for record in sorted(logs[Topic.USAGE], key=lambda record: (record.partition, record.offset)):
        bytes_of = record.partition, record.value
        if bytes_of in seen:
            found.add((record.partition, record.offset))
        seen.add(bytes_of)
    return found


def _closed_at(logs: Logs) -> dict[tuple[str, int], int]:
    """When each frame was closed first."""
    found: dict[tuple[str, int], int] = {}
    for record in logs[Topic.RATED]:
        part = decode_rated(record.value, JSON)
        if part.revision == 0:
            found[part.scope_id, part.period_begin] = part.closed_at
    return found


def lost_batches(logs: Logs) -> list[str]:
    """Alerts of lost batches: nobody lost any."""
    alerts = (decode_alert(record.value, JSON) for record in logs[Topic.ALERTS])
    return sorted({f"{a.scope_id}: {a.reason[:200]}" for a in alerts if a.kind is AlertKind.BATCHES_LOST})


def in_store(settings: StoreSettings, expected: Expected, prices: Mapping[int, Prices]) -> list[str]:
    """How what readers of the store see differs from the truth."""
    with Store(settings) as store:
        return _frames_in_store(store, expected, prices) + _gaps_in_store(store, expected)


def _frames_in_store(store: Store, expected: Expected, prices: Mapping[int, Prices]) -> list[str]:
    wrong: list[str] = []
    versions: dict[tuple[str, int], int] = {}
    for row in frames(store):
        key = row.scope_id, row.period_begin
        if key in versions:
            wrong.append(f"{key} stands twice")
        versions[key] = row.rule_version
    held: dict[tuple[str, int], dict[str, tuple[Decimal, Decimal]]] = {}
    for line in lines(store):
        of_frame = held.setdefault((line.scope_id, line.period_begin), {})
        if line.line_id in of_frame:
            wrong.append(f"{line.scope_id} {line.period_begin}: line {line.line_id} stands twice")
        if line.qty:
            of_frame[line.line_id] = (line.qty, line.price)
    wrong += [f"{key} is not in the store" for key in expected.keys() - versions.keys()]
    wrong += [f"{key} is in the store, and nobody expects it" for key in versions.keys() - expected.keys()]
    total = Decimal(0)
    for key in expected.keys() & versions.keys():
        wanted = expected[key].priced(prices[versions[key]])
        total += sum(price for _, price in wanted.values())
        if held.get(key, {}) != wanted:
            wrong.append(f"{key}: {len(held.get(key, {}))} lines in the store differ from {len(wanted)}")
    if expected:
        begins = [begin for _, begin in expected]
        found = sum(t.price for t in store_totals(store, begin=min(begins), end=max(begins) + PERIOD))
        if found != total:
            wrong.append(f"the totals come to {found} and not to {total}")
    return wrong


def _gaps_in_store(store: Store, expected: Expected) -> list[str]:
    still = Counter((gap.scope_id, gap.metric, gap.begin, gap.end) for gap in gaps(store, open_only=True))
    wanted = Counter(
        (scope, metric, *hole)
        for (scope, _), frame in expected.items()
        for metric, holes in frame.holes.items()
        for hole in holes
    )
    return [] if still == wanted else [f"open gaps in the store differ: {list((still - wanted) + (wanted - still))}"]


def offsets(groups: Groups, commits: dict[tuple[str, str, int], list[int]]) -> tuple[list[str], list[str]]:
    """Commits that went back: of the workers, where none may, and of the sinks, which repeat what they insert."""
    worker = f"{groups.kafka.prefix}{WORKER}"
    others = {name for name, _, _ in commits} - {worker}
    polled = [text for text in groups.went_back if text.startswith(f"{WORKER} ")]
    return backward(commits, worker) + polled, [text for name in sorted(others) for text in backward(commits, name)]


def shown(wrong: list[str]) -> str:
    """The first of them."""
    return "\n  ".join([str(len(wrong)), *(text[:400] for text in wrong[:SHOWN])])


__all__ = ["Expected", "in_store", "lost_batches", "not_collected", "offsets", "refusals", "shown", "verdict_of"]
