"""Programs downstream: whatever a worker puts on its topics is what `schemas/` promises, and can be followed by it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from deploy.local.kafka import LaptopKafka
from rater.engine import EngineContext, EngineSettings
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.interval import Interval
from rater.model.usage import FrameForced, QuarantinedItem, ScopePlan
from tests.integration.streams import CONTEXT, HOUR, T, collection, read, send, send_raw, working

SCHEMAS = Path(__file__).parents[2] / "schemas"


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))


@pytest.fixture
async def topics(kafka: LaptopKafka, tmp_path: Path) -> KafkaSettings:
    """Topics of this test's own."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=2)
    await create_topics(settings)
    return settings


async def test_everything_published_is_as_the_schemas_say(topics: KafkaSettings) -> None:
    # given a planned scope with a whole hour, an empty one, a missing one, half of one, and an item without a number
    context = EngineContext(EngineSettings(settle=1), CONTEXT.catalog)
    item = QuarantinedItem("NaN", "is no finite number", {"id": "vm9"}, {})
    hours = [Interval(T + n * HOUR, T + (n + 1) * HOUR) for n in range(5)]
    async with working(topics, context):
        await send(
            topics,
            ScopePlan("test", "A", T, T + 5 * HOUR, ["cpu"]),
            collection(begin=hours[0].begin, quarantined=[item]),
            collection(begin=hours[1].begin, series=[], samples=[]),
            collection(begin=hours[3].begin, covers=[Interval(hours[3].begin, hours[3].begin + 600)]),
            FrameForced("A", hours[4].begin, "an operator", "the source is gone for good"),
        )
        await send_raw(topics, (b"A", b"not json"))
        rated = await read(topics, Topic.RATED, 5)
        # when the missing hours are collected later, one of them with another quantity
        await send(topics, collection(begin=hours[2].begin), collection(begin=hours[3].begin, attempt=2))
        rated = await read(topics, Topic.RATED, 7)
        alerts = await read(topics, Topic.ALERTS, 6)
        rejected = await read(topics, Topic.REJECTED, 1)

    # then each record is valid, keyed by its scope, and in the partition of the scope's usage
    for name, records in (("rated", rated), ("alerts", alerts)):
        for record in records:
            validator(name).validate(json.loads(record.value))
            assert record.key == b"A"
            assert dict(record.headers)["content-type"] == b"application/json"
            assert dict(record.headers)["ce_source"] == f"/{topics.prefix}{name}".encode()
            assert dict(record.headers)["ce_subject"] == record.key
        assert len({record.partition for record in records}) == 1
        assert len({dict(record.headers)["ce_id"] for record in records}) == len(records)
    headers = {name: value.decode() for name, value in rejected[0].headers}
    validator("rejected-headers").validate(headers)

    # then a consumer that keeps the highest revision of each frame ends with the right bill
    assert bill(rated) == {
        hours[0].begin: ("partial", "1.5"),
        hours[1].begin: ("empty", "0"),
        hours[2].begin: ("rated", "1.5"),
        hours[3].begin: ("rated", "1.5"),
        hours[4].begin: ("missing", "0"),
    }
    # and one that follows the alerts knows which gap is still open
    assert open_gaps(alerts) == {hours[4].begin}


def bill(records: Any) -> dict[int, tuple[str, str]]:
    """What a downstream program makes of `rated`: status and quantity by hour."""
    best: dict[int, dict[str, Any]] = {}
    for record in records:
        frame = json.loads(record.value)
        known = best.get(frame["period_begin"])
        if known is None or frame["revision"] >= known["revision"]:
            best[frame["period_begin"]] = frame
    return {
        begin: (frame["status"], str(sum((Decimal(line["qty"]) for line in frame["lines"]), Decimal(0))))
        for begin, frame in best.items()
    }


def open_gaps(records: Any) -> set[int]:
    """Hours of the gaps that were opened and not resolved."""
    still: dict[str, int] = {}
    for record in records:
        alert = msgspec.json.decode(record.value)
        if alert["kind"] == "gap_opened":
            still[alert["alert_id"]] = alert["period_begin"]
        elif alert["kind"] == "gap_resolved":
            still.pop(alert["alert_id"])
    return set(still.values())
