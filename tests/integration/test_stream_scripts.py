"""Rating scripts in the stream, on real Kafka, worker and sandbox: a bad script stops nothing but its own frames."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.codec import JSON, decode_alert, decode_rated
from rater.model.rated import AlertKind, FrameStatus, RatedFrame
from rater.model.rules import Change, ModuleSet, RuleEvent, Script, ScriptCreated, ScriptUpdated
from rater.model.usage import Series
from rater.sandbox import BackgroundSandbox, SandboxSettings
from rater.stream.rules_log import append_event
from tests.integration.streams import CONTEXT, T, collection, read, send, working

SCRIPT_ID = "00000000-0000-4000-8000-000000000001"
SHARE = """
from decimal import Decimal
for points in data['usage'].values():
    for point in points:
        while point['metadata']['flavor'] == 'loop':
            pass
        point['rating']['price'] = point['vol']['qty'] / Decimal(point['metadata']['flavor'])
"""
REPAIRED = """
for points in data['usage'].values():
    for point in points:
        point['rating']['price'] = 7
"""


@pytest.fixture
async def topics(kafka: LaptopKafka, tmp_path: Path) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=1)
    await create_topics(settings)
    return settings


async def change(topics: KafkaSettings, version: int, *changes: Change) -> None:
    await append_event(topics, RuleEvent(version, "test", "", T, changes))


async def revisions(topics: KafkaSettings, count: int) -> dict[tuple[str, int], RatedFrame]:
    frames = [decode_rated(record.value, JSON) for record in await read(topics, Topic.RATED, count)]
    return {(frame.scope_id, frame.revision): frame for frame in frames}


async def test_bad_scripts_fail_their_frames_alone_and_repairing_them_needs_no_new_usage(
    topics: KafkaSettings,
) -> None:
    # given a script that shares a price, and scopes it fails for: zero, text, an endless loop
    await change(topics, 0, ModuleSet("pyscripts", True), ScriptCreated(Script(SCRIPT_ID, "share", SHARE)))
    flavors = {"good": "2", "zero": "0", "text": "many", "loop": "loop", "late": "5"}
    usage = [collection(scope, series=[Series({"id": "vm1"}, {"flavor": f})]) for scope, f in flavors.items()]

    with BackgroundSandbox(SandboxSettings(cpu_seconds=1, wall_seconds=3)) as scripts:
        context = msgspec.structs.replace(CONTEXT, scripts=scripts)
        async with working(topics, context):
            # when their hours close
            await send(topics, *usage)
            first = await revisions(topics, 5)
            raised = [decode_alert(record.value, JSON) for record in await read(topics, Topic.ALERTS, 3)]

            # then only those are failed, and say where and why
            assert {scope: frame.status for (scope, _), frame in first.items()} == {
                "good": FrameStatus.RATED,
                "late": FrameStatus.RATED,
                "zero": FrameStatus.FAILED,
                "text": FrameStatus.FAILED,
                "loop": FrameStatus.FAILED,
            }
            assert str(first["good", 0].lines[0].price) == "0.75"
            assert first["zero", 0].failure.startswith("script 'share', line 7: DivisionByZero")
            assert first["text", 0].failure.startswith("script 'share', line 7: InvalidOperation")
            assert "line 5" in first["loop", 0].failure or "line 6" in first["loop", 0].failure
            assert {alert.scope_id: alert.reason for alert in raised} == {
                scope: first[scope, 0].failure for scope in ("zero", "text", "loop")
            }

        # when the worker starts anew and the script is repaired meanwhile
        await change(topics, 1, ScriptUpdated(Script(SCRIPT_ID, "share", REPAIRED)))
        async with working(topics, context):
            second = await revisions(topics, 8)
            alerts = [decode_alert(record.value, JSON) for record in await read(topics, Topic.ALERTS, 6)]

    # then the three frames are rated, without anybody collecting again
    repaired = {scope: frame for (scope, revision), frame in second.items() if revision == 1}
    assert set(repaired) == {"zero", "text", "loop"}
    assert all(frame.status is FrameStatus.RATED and frame.lines[0].price == 7 for frame in repaired.values())
    ended = {alert.alert_id for alert in alerts if alert.kind is AlertKind.RATING_REPAIRED}
    assert ended == {alert.alert_id for alert in raised}


async def test_a_frame_is_rated_when_the_script_is_repaired_while_the_worker_runs(topics: KafkaSettings) -> None:
    # given a script that always fails
    await change(topics, 0, ModuleSet("pyscripts", True), ScriptCreated(Script(SCRIPT_ID, "share", "1 / 0")))
    with BackgroundSandbox(SandboxSettings()) as scripts:
        async with working(topics, msgspec.structs.replace(CONTEXT, scripts=scripts)):
            await send(topics, collection())
            assert (await revisions(topics, 1))["A", 0].status is FrameStatus.FAILED

            # when
            await change(topics, 1, ScriptUpdated(Script(SCRIPT_ID, "share", REPAIRED)))

            # then
            found = await revisions(topics, 2)
            assert found["A", 1].status is FrameStatus.RATED
            assert found["A", 1].rule_version == 2
