"""Frames, alerts and collections for the store's tests, small and readable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from hashlib import blake2b

import msgspec

from rater.model.interval import Interval
from rater.model.posted import PostedLines
from rater.model.rated import (
    Alert,
    AlertKind,
    ClosedBy,
    CollectionRef,
    FrameStatus,
    Gap,
    Line,
    MetricCoverage,
    MetricTotal,
    QuarantinedPoint,
    RatedFrame,
    ReworkResult,
)
from rater.model.usage import Collection, Sample, Series
from rater.store import Batch, Store, StoreSettings, write

JANUARY = 1767225600  # 2026-01-01T00:00:00Z
HOUR = 3600


def memory_store() -> Store:
    """A store that is gone when it is closed."""
    return Store(StoreSettings("chdb://:memory:"))


def a_line(number: int, metric: str = "instance", qty: str = "1", price: str = "0.5") -> Line:
    """A line whose id follows from its number and metric."""
    identity = blake2b(f"{metric}/{number}".encode(), digest_size=16).hexdigest()
    return Line(
        identity, metric, "GiB", Decimal(qty), Decimal(price), {"id": f"r{number}", "n": number}, {"flavor": "m1"}
    )


def _sum(amounts: Sequence[Decimal]) -> Decimal:
    with localcontext(prec=100):
        return sum(amounts, Decimal(0))


def a_frame(
    scope_id: str = "alpha",
    period_begin: int = JANUARY,
    revision: int = 0,
    lines: Sequence[Line] = (),
    status: FrameStatus = FrameStatus.RATED,
    vanished: Sequence[Line] = (),
) -> RatedFrame:
    """A frame in one part, with totals that fit its lines."""
    metrics = sorted({line.metric for line in lines})
    return RatedFrame(
        scope_id=scope_id,
        period_begin=period_begin,
        period_end=period_begin + HOUR,
        revision=revision,
        status=status,
        closed_by=ClosedBy.COMPLETE,
        weak=False,
        rule_version=3,
        closed_at=period_begin + HOUR + 60,
        part=0,
        parts=1,
        lines=[*lines, *vanished],
        totals=[
            MetricTotal(
                metric,
                "GiB",
                _sum([line.qty for line in lines if line.metric == metric]),
                _sum([line.price for line in lines if line.metric == metric]),
                sum(line.metric == metric for line in lines),
            )
            for metric in metrics
        ],
        coverage=[
            MetricCoverage(
                metric,
                "prometheus",
                [Interval(period_begin, period_begin + HOUR)],
                [Interval(period_begin, period_begin + HOUR)],
                "proven",
                [CollectionRef(f"c/{metric}/{period_begin}", 0, period_begin, period_begin + HOUR, 60)],
            )
            for metric in metrics
        ],
        gaps=[],
        quarantined=[],
    )


def a_hit_frame(scope_id: str = "alpha", period_begin: int = JANUARY) -> RatedFrame:
    """A partial frame, with a gap and a point that has no price."""
    hole = Gap(
        "0f" * 16, "instance", "prometheus", period_begin + 60, period_begin + 600, "no \"answer\", 'they' said;\n"
    )
    point = QuarantinedPoint("volume", "prometheus", "NaN", "is no number", {"id": "é", "n": 1}, {"deep": None})
    frame = a_frame(scope_id, period_begin, lines=[a_line(1)], status=FrameStatus.PARTIAL)
    return msgspec.structs.replace(frame, gaps=[hole], quarantined=[point], weak=True, closed_by=ClosedBy.GRACE)


def parts_of(frame: RatedFrame, parts: int) -> Iterator[RatedFrame]:
    """The same frame as the worker would publish it in several parts."""
    size = -(-len(frame.lines) // parts)
    for part in range(parts):
        lines = frame.lines[part * size : (part + 1) * size]
        yield msgspec.structs.replace(frame, part=part, parts=parts, lines=lines)


def a_gap_alert(opened: bool, revision: int, raised_at: int = JANUARY + 7200, gap: int = 1, **changes: object) -> Alert:
    """An alert of gap number `gap`."""
    alert = Alert(
        alert_id=f"{gap:032x}",
        kind=AlertKind.GAP_OPENED if opened else AlertKind.GAP_RESOLVED,
        scope_id="alpha",
        metric="instance",
        source="prometheus",
        period_begin=JANUARY,
        begin=JANUARY + 60 * gap,
        end=JANUARY + 60 * gap + 60,
        revision=revision,
        raised_at=raised_at,
        reason="no answer" if opened else "collected",
    )
    return msgspec.structs.replace(alert, **changes)


def a_collection(samples: int = 3, **changes: object) -> Collection:
    """A part of two series; without samples it has no series either."""
    part = Collection(
        source="prometheus",
        scope_id="alpha",
        metric="instance",
        begin=JANUARY,
        end=JANUARY + HOUR,
        attempt=0,
        collection_id="c/instance/0",
        producer_id="p",
        sequence=0,
        covers=[Interval(JANUARY, JANUARY + HOUR)],
        series=[Series({"id": "a", "n": 1}, {"flavor": "m1"}), Series({"id": "b"}, {"gone": True})] if samples else [],
        samples=[Sample(i % 2, JANUARY + 60 * i, JANUARY + 60 * i + 60, Decimal(f"{i}.50")) for i in range(samples)],
    )
    return msgspec.structs.replace(part, **changes)


def store_frames(store: Store, *frames: RatedFrame) -> None:
    """Whole frames, committed."""
    batch = Batch()
    for frame in frames:
        batch.add_lines(frame)
        batch.add_frame(frame, len(frame.lines))
    write(store, batch)


def store_posts(store: Store, *posts: PostedLines) -> None:
    """Posted lines, as the sink stores them."""
    batch = Batch()
    for post in posts:
        batch.add_posted(post)
    write(store, batch)


def a_rework_alert(
    kind: AlertKind = AlertKind.REWORK_DONE, period_begin: int = JANUARY, rework_id: str = "r1", price: str = "2.5"
) -> Alert:
    """What became of a rework of a frame of `alpha` that cost 1 before and `price` after."""
    done = kind is AlertKind.REWORK_DONE
    before = [MetricTotal("instance", "GiB", Decimal(2), Decimal(1), 2)]
    after = [MetricTotal("instance", "GiB", Decimal(2), Decimal(price), 2)] if done else before
    result = ReworkResult(rework_id, "rerate", "ann", "new prices", 0, int(done), 3, 4 if done else 3, before, after)
    return Alert(
        alert_id="0c" * 16,
        kind=kind,
        scope_id="alpha",
        metric="",
        source="",
        period_begin=period_begin,
        begin=period_begin,
        end=period_begin + HOUR,
        revision=int(done),
        raised_at=JANUARY + 9 * HOUR,
        reason="rated again" if done else "another one is under way",
        rework=result,
    )
