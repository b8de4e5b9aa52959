"""What must hold after any run: the output topics against the truth of the usage log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from rater.kafka import KafkaSettings, Topic, client_options
from rater.model.codec import JSON, Headers, decode_alert, decode_rated
from rater.model.rated import AlertKind, RatedFrame
from tests.chaos.content import PRICES, Prices, TrueFrame, truth


@dataclass
class Verdict:
    """What a comparison found. `ok` means nothing is wrong and everything is there."""

    frames: int = 0
    lines: int = 0
    revisions: int = 0
    repeated_messages: int = 0
    wrong: list[str] = field(default_factory=list)
    conflicting: list[str] = field(default_factory=list)
    holes_in_revisions: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.wrong or self.conflicting or self.holes_in_revisions or self.alerts)

    def __str__(self) -> str:
        return (
            f"{self.frames} frames, {self.lines} lines compared, {self.revisions} revisions, "
            f"{self.repeated_messages} repeated messages, wrong {len(self.wrong)}, "
            f"conflicting {len(self.conflicting)}, revision holes {len(self.holes_in_revisions)}, "
            f"wrong alerts {len(self.alerts)}"
            + "".join(
                f"\n  {text}" for text in [*self.wrong, *self.conflicting, *self.holes_in_revisions, *self.alerts][:8]
            )
        )


async def read_topic(kafka: KafkaSettings, topic: Topic) -> list[ConsumerRecord]:
    """Everything that the topic holds now."""
    consumer = AIOKafkaConsumer(**client_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        keys = [TopicPartition(kafka.topic(topic), p) for p in range(kafka.partitions)]
        consumer.assign(keys)
        await consumer.seek_to_beginning(*keys)
        ends = await consumer.end_offsets(keys)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(key) < ends[key] for key in keys]):
            for records in (await consumer.getmany(timeout_ms=300)).values():
                found += records
        return found
    finally:
        await consumer.stop()


async def verify(kafka: KafkaSettings) -> Verdict:
    """Compares once, as things stand now."""
    expected = truth(await read_topic(kafka, Topic.USAGE))
    return compare(expected, await read_topic(kafka, Topic.RATED), await read_topic(kafka, Topic.ALERTS))


def compare(
    expected: dict[tuple[str, int], TrueFrame],
    rated: list[ConsumerRecord],
    alerts: list[ConsumerRecord],
    prices: Mapping[int, Prices] | None = None,
) -> Verdict:
    """What was published against the truth; `prices` by version of the rules, default: `PRICES` at every version."""
    verdict = Verdict(frames=len(expected))
    revisions = _revisions(rated, verdict)
    for key, frame in expected.items():
        _check_frame(key, frame, revisions.get(key, {}), verdict, prices)
    verdict.wrong += [f"{key} is not expected at all" for key in revisions.keys() - expected.keys()]
    _check_alerts(alerts, expected, verdict)
    return verdict


async def settled(kafka: KafkaSettings, seconds: float) -> Verdict:
    """Compares until all is well, for at most `seconds`; conflicts never heal, so they end it at once."""
    async with asyncio.timeout(seconds + 60):
        ends = asyncio.get_running_loop().time() + seconds
        while True:
            verdict = await verify(kafka)
            if verdict.ok or verdict.conflicting or asyncio.get_running_loop().time() > ends:
                return verdict
            await asyncio.sleep(1)


def _revisions(records: list[ConsumerRecord], verdict: Verdict) -> dict[tuple[str, int], dict[int, list[RatedFrame]]]:
    """Parts by frame and revision; one payload per (frame, revision, part), or it is a conflict."""
    payloads: dict[tuple[str, int, int, int], tuple[bytes, Headers]] = {}
    found: dict[tuple[str, int], dict[int, list[RatedFrame]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        part = decode_rated(record.value, JSON)
        key = (part.scope_id, part.period_begin, part.revision, part.part)
        told = record.value, tuple(record.headers)
        if key not in payloads:
            payloads[key] = told
            found[part.scope_id, part.period_begin][part.revision].append(part)
            verdict.revisions += part.part == 0
        elif payloads[key] == told:
            verdict.repeated_messages += 1
        else:
            verdict.conflicting.append(f"two payloads of {key}")
    return found


def _check_frame(
    key: tuple[str, int],
    expected: TrueFrame,
    revisions: dict[int, list[RatedFrame]],
    verdict: Verdict,
    prices: Mapping[int, Prices] | None,
) -> None:
    if sorted(revisions) != list(range(len(revisions))):
        verdict.holes_in_revisions.append(f"{key}: {sorted(revisions)}")
    if not revisions:
        verdict.wrong.append(f"{key}: nothing published")
        return
    parts = revisions[max(revisions)]
    ids = [line.line_id for part in parts for line in part.lines]
    if len(ids) != len(set(ids)):
        verdict.wrong.append(f"{key} revision {max(revisions)}: {len(ids) - len(set(ids))} lines twice")
    lines = {line.line_id: (line.qty, line.price) for part in parts for line in part.lines if line.qty}
    if sorted(part.part for part in parts) != list(range(parts[0].parts)):
        verdict.wrong.append(f"{key} revision {max(revisions)}: {len(parts)} of {parts[0].parts} parts")
    wanted = expected.priced(PRICES if prices is None else prices[parts[0].rule_version])
    verdict.lines += len(wanted)
    if lines != wanted:
        differing = {i for i in lines.keys() | wanted.keys() if lines.get(i) != wanted.get(i)}
        verdict.wrong.append(f"{key} revision {max(revisions)}: {len(differing)} lines differ")
    holes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for gap in parts[0].gaps:
        holes[gap.metric].append((gap.begin, gap.end))
    if holes != expected.holes:
        verdict.wrong.append(f"{key} revision {max(revisions)}: holes {dict(holes)}, expected {expected.holes}")


def _check_alerts(records: list[ConsumerRecord], expected: dict[tuple[str, int], TrueFrame], verdict: Verdict) -> None:
    """Each gap is opened once and resolved at most once; those still open are exactly the holes of the truth."""
    opened: dict[str, tuple[str, int, str, int, int]] = {}
    resolved: set[str] = set()
    payloads: dict[tuple[str, AlertKind], tuple[bytes, Headers]] = {}
    for record in records:
        alert = decode_alert(record.value, JSON)
        told = record.value, tuple(record.headers)
        if payloads.setdefault((alert.alert_id, alert.kind), told) != told:
            verdict.conflicting.append(f"two payloads of alert {alert.alert_id} {alert.kind.value}")
        if alert.kind is AlertKind.GAP_OPENED:
            opened[alert.alert_id] = (alert.scope_id, alert.period_begin, alert.metric, alert.begin, alert.end)
        elif alert.kind is AlertKind.GAP_RESOLVED:
            resolved.add(alert.alert_id)
    verdict.alerts += [f"{identity} resolved but never opened" for identity in resolved - opened.keys()]
    still = sorted(gap for identity, gap in opened.items() if identity not in resolved)
    wanted = sorted(
        (scope, begin, metric, *hole)
        for (scope, begin), frame in expected.items()
        for metric, holes in frame.holes.items()
        for hole in holes
    )
    if still != wanted:
        verdict.alerts.append(f"open gaps differ: {set(still) ^ set(wanted)}"[:300])


async def partitions_rated_since(kafka: KafkaSettings, instant: float) -> int:
    """How many partitions of `rated` have a record written after `instant` (seconds): somebody rates them."""
    consumer = AIOKafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    await consumer.start()
    try:
        keys = [TopicPartition(kafka.topic(Topic.RATED), p) for p in range(kafka.partitions)]
        found = await consumer.offsets_for_times({key: int(instant * 1000) for key in keys})
        return sum(offset is not None for offset in found.values())
    finally:
        await consumer.stop()
