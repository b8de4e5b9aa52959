"""Usage pushed over HTTP on a real Kafka, worker, sink and ClickHouse: all of it is there once, whatever is lost."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec
import pytest

from deploy.local.kafka import LaptopKafka
from rater.client import AsyncClient, Client, Collection, Plan, RefusedError, Sample, Value
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.codec import JSON, decode_alert, decode_usage
from rater.model.rated import AlertKind, FrameStatus
from rater.store import Store, StoreSettings, frames
from tests.conftest import OwnKafka
from tests.integration.pushing import CONTEXT, HOUR, LossyProxy, T, closed, expected, held, serving, usage, written
from tests.integration.sinks import own_topics, sinking, until
from tests.integration.streams import read, working

SCOPES = ["A", "B", "C"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(StoreSettings(f"chdb://{tmp_path}/clickhouse")) as opened:
        yield opened


@pytest.fixture
async def topics(kafka: LaptopKafka) -> KafkaSettings:
    return await own_topics(kafka)


@asynccontextmanager
async def rating(topics: KafkaSettings, store: Store) -> AsyncIterator[None]:
    """Worker and sink, ready."""
    async with working(topics, CONTEXT), sinking(topics, store) as sink:
        await until(lambda: not sink.red())
        yield


def plans(hours: int) -> list[Plan]:
    return [Plan(scope, T, T + hours * HOUR, ["net"]) for scope in SCOPES]


async def consumed(topics: KafkaSettings) -> list[tuple[str, int]]:
    """(scope, sequence) of each collection in topic usage."""
    found = []
    for record in await read(topics, Topic.USAGE, 1_000_000, seconds=1):
        form = dict(record.headers).get("content-type", JSON.encode()).decode()
        entry = decode_usage(record.value, form)
        if hasattr(entry, "sequence"):
            found.append((entry.scope_id, entry.sequence))
    return found


async def test_both_clients_and_every_line_is_in_the_store(topics: KafkaSettings, store: Store, tmp_path: Path) -> None:
    # given
    samples = usage(SCOPES, hours=3)
    half = len(samples) // 2
    async with rating(topics, store), serving(written(tmp_path, topics)) as api:
        # when one half comes by the synchronous client, the other by the asynchronous one
        def push() -> None:
            with Client(api.url, source="meter", batch_samples=100) as client:
                for plan in plans(3):
                    client.push_plan(plan)
                client.push(samples[:half])
                client.push(samples[half - 1 : half])  # pushed twice by the program: that is usage twice

        await asyncio.to_thread(push)
        async with AsyncClient(api.url, source="meter", max_delay=0.1) as client:
            await client.push(samples[half:])
            await client.flush()
            assert await client.unacknowledged() == []
        # then
        wanted = expected([*samples, samples[half - 1]])
        await until(lambda: held(store) == wanted)
        assert {row.status for row in frames(store)} == {FrameStatus.RATED}
        assert await api.end() == 0


async def test_lost_answers_two_replicas_and_kills_count_once(
    topics: KafkaSettings, store: Store, tmp_path: Path
) -> None:
    # given two replicas behind a proxy that loses every third answer after the request was taken
    samples = usage(SCOPES, hours=3, seed=2)
    config = written(tmp_path, topics)
    proxy = LossyProxy([], range(0, 10_000, 3))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(rating(topics, store))
        first, second = [await stack.enter_async_context(serving(config)) for _ in range(2)]
        proxy.targets[:] = [first.port, second.port]
        url = await stack.enter_async_context(proxy.running())
        # when usage comes while one of them is killed and started again
        async with AsyncClient(url, source="meter", batch_samples=60, timeout=10) as client:
            for plan in plans(3):
                await client.push_plan(plan)
            for part in range(4):
                await client.push(samples[part::4])
                if part == 1:
                    await client.flush(60)
                    await first.end(signal.SIGKILL)
                    proxy.targets[:] = [second.port]
                if part == 2:
                    await first.start()
                    proxy.targets[:] = [first.port, second.port]
            await client.flush(60)
        # then there are repetitions in the log, and each sample counts once
        await until(lambda: held(store) == expected(samples))
    taken = await consumed(topics)
    assert len(taken) > len(set(taken))
    assert {scope: {n for s, n in taken if s == scope} for scope in SCOPES} == {
        scope: set(range(max(n for s, n in taken if s == scope) + 1)) for scope in SCOPES
    }
    rejected = await read(topics, Topic.REJECTED, 1, seconds=1)
    assert rejected == []


async def test_a_key_repeated_gets_the_same_answer_and_counts_once(
    topics: KafkaSettings, store: Store, tmp_path: Path
) -> None:
    # given a batch of several scopes and metrics, without numbers
    body = {
        "source": "meter",
        "plans": [{"scope_id": s, "begin": T, "until": T + HOUR, "metrics": ["net", "calls"]} for s in "AB"],
        "samples": [
            {"scope_id": s, "metric": m, "begin": T, "end": T + HOUR, "qty": "1.5", "groupby": {"id": "r1"}}
            for s in "AB"
            for m in ("net", "calls")
        ],
    }
    config = written(tmp_path, topics)
    async with rating(topics, store), aiohttp.ClientSession() as http:
        answers = []
        for form, encode in (("json", msgspec.json.encode), ("msgpack", msgspec.msgpack.encode)):
            # when it is sent as JSON to one process and as msgpack to its successor, twice each
            async with serving(config) as api:
                for _ in range(2):
                    headers = {"Content-Type": f"application/{form}", "Idempotency-Key": "hour-0"}
                    async with http.post(f"{api.url}/v3/usage", data=encode(body), headers=headers) as answer:
                        answers.append((answer.status, await answer.json()))
        # then
        assert answers[0][0] == 202
        assert answers[0][1]["records"] == 6
        assert answers == [answers[0]] * 4
        wanted = {(s, T, m, "r1"): Decimal("1.5") for s in "AB" for m in ("net", "calls")}
        await until(lambda: held(store) == wanted)
        # and the same key with other content is not added, and does not vanish either
        body["samples"][0]["qty"] = "7"  # type: ignore[index]  # a plain mapping
        async with serving(config) as api:
            headers = {"Content-Type": JSON, "Idempotency-Key": "hour-0"}
            async with http.post(f"{api.url}/v3/usage", data=msgspec.json.encode(body), headers=headers) as answer:
                assert answer.status == 202
        rejected = await read(topics, Topic.REJECTED, 1)
        assert b"was used before for other content" in dict(rejected[0].headers)["reason"]
        assert held(store) == wanted


async def test_collections_say_what_they_cover(topics: KafkaSettings, store: Store, tmp_path: Path) -> None:
    # given four planned hours
    hours = [T + n * HOUR for n in range(4)]

    def collected(begin: int, seconds: int, qty: str, attempt: int) -> Collection:
        values = [Value(begin, Decimal(qty), begin + 60, {"id": "r1"})] if qty else []
        covers = [(begin, begin + seconds)] if seconds else []
        return Collection("A", "cpu", begin, begin + HOUR, covers, attempt=attempt, samples=values)

    async with rating(topics, store), serving(written(tmp_path, topics)) as api:
        async with AsyncClient(api.url, source="meter") as client:
            await client.push_plan(Plan("A", T, T + 4 * HOUR, ["cpu"]))
            # when one is whole, one is known to be empty, one is half, and of one nothing is known
            await client.push_collection(collected(hours[0], HOUR, "2", 1))
            await client.push_collection(collected(hours[1], HOUR, "", 1))
            await client.push_collection(collected(hours[2], HOUR // 2, "3", 1))
            await client.push_collection(collected(hours[3], 0, "", 1))
            await client.flush()
            # then each frame says so
            wanted = ["rated", "empty", "partial", "missing"]
            await until(lambda: [row.status.value for row in frames(store)] == wanted)
            (gap,) = next(row.gaps for row in frames(store) if row.period_begin == hours[2])
            assert (gap.begin, gap.end) == (hours[2] + HOUR // 2, hours[3])
            # when the half one is collected again, whole, it replaces the first one
            await client.push_collection(collected(hours[2], HOUR, "5", 2))
        await until(lambda: ("A", hours[2], "cpu", "r1") in held(store))
        await until(lambda: held(store)["A", hours[2], "cpu", "r1"] == 5)


async def test_a_hole_in_the_numbers_is_alerted(topics: KafkaSettings, store: Store, tmp_path: Path) -> None:
    # given a producer of which request 1 never comes
    def request(sequence: int) -> bytes:
        sample = {"scope_id": "A", "metric": "net", "begin": T + sequence, "qty": 1}
        plan = {"scope_id": "A", "begin": T, "until": T + HOUR, "metrics": ["net"]}
        return msgspec.json.encode(
            {"source": "m", "producer_id": "p1", "sequences": {"A": sequence}, "samples": [sample], "plans": [plan]}
        )

    async with rating(topics, store), serving(written(tmp_path, topics)) as api, aiohttp.ClientSession() as http:
        for sequence in (0, 2, 2):
            async with http.post(
                f"{api.url}/v3/usage", data=request(sequence), headers={"Content-Type": JSON}
            ) as answer:
                assert answer.status == 202
                scopes = (await answer.json())["scopes"]
                assert [(scope["scope_id"], scope["next_sequence"]) for scope in scopes] == [("A", sequence + 1)]
        # then
        async with asyncio.timeout(60):
            while True:
                alerts = [decode_alert(r.value, JSON) for r in await read(topics, Topic.ALERTS, 100, seconds=1)]
                lost = [alert for alert in alerts if alert.kind is AlertKind.BATCHES_LOST]
                if lost:
                    break
    assert "p1" in lost[0].reason
    assert len(lost) == 1


async def test_a_client_that_dies_loses_nothing_of_its_spool(
    topics: KafkaSettings, store: Store, tmp_path: Path
) -> None:
    # given a service that is away, and a program that saves and dies: a client that is never closed
    samples = usage(SCOPES, hours=2, seed=3)
    config, spool = written(tmp_path, topics), tmp_path / "spool"
    async with rating(topics, store):
        async with serving(config) as api:
            url = api.url
            async with AsyncClient(url, source="meter", spool=spool) as client:
                for plan in plans(2):
                    await client.push_plan(plan)
                await client.push(samples[:100])
            assert list(spool.glob("*.batch")) == []
        script = (
            "import sys, os, msgspec\nfrom rater.client import Client, Sample\n"
            "client = Client(sys.argv[1], source='meter', spool=sys.argv[2], batch_samples=50)\nclient.start()\n"
            "client.push(msgspec.json.decode(sys.stdin.buffer.read(), type=list[Sample]))\n"
            "client.save()\nos.kill(os.getpid(), 9)\n"
        )
        died = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, url, str(spool), stdin=asyncio.subprocess.PIPE
        )
        await died.communicate(msgspec.json.encode(samples[100:300]))
        assert died.returncode == -signal.SIGKILL
        assert len(list(spool.glob("*.batch"))) >= 4
        # when it is started again, and the service is there
        api_port = int(url.rpartition(":")[2])
        async with serving(config) as api:
            assert api.port != api_port
            async with AsyncClient(api.url, source="meter", spool=spool) as client:
                await client.push(samples[300:])
        # then
        await until(lambda: held(store) == expected(samples))


async def test_kafka_away_is_503_and_later_all_is_there_once(own_kafka: OwnKafka, store: Store, tmp_path: Path) -> None:
    # given a service that is started before there is a Kafka
    broker = own_kafka()
    topics = KafkaSettings(bootstrap=broker.bootstrap, prefix="away.", partitions=2)
    await create_topics(topics)
    await asyncio.to_thread(broker.stop)
    samples = usage(SCOPES, hours=2, seed=4)
    config = written(tmp_path, topics, "{listen: '127.0.0.1:0', confirm_seconds: 2}")
    async with serving(config, ready=False) as api, aiohttp.ClientSession() as http:
        async with http.post(f"{api.url}/v3/usage", data=b"{}", headers={"Content-Type": JSON}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        async with AsyncClient(api.url, source="meter", batch_samples=50, close_seconds=120) as client:
            for plan in plans(2):
                await client.push_plan(plan)
            await client.push(samples[:240])
            # when Kafka comes, goes away in the middle, and comes again
            await asyncio.to_thread(broker.start)
            await client.flush(60)
            await asyncio.to_thread(broker.kill)
            await client.push(samples[240:])
            async with asyncio.timeout(60):
                while "503" not in client.trouble:
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(broker.start)
        assert await api.end() == 0
    # then
    async with rating(topics, store):
        await until(lambda: held(store) == expected(samples), seconds=120)


async def test_a_refused_request_is_told_and_the_others_go_on(
    topics: KafkaSettings, store: Store, tmp_path: Path
) -> None:
    # given
    good = usage(["A"], hours=1)
    async with rating(topics, store), serving(written(tmp_path, topics)) as api:
        client = AsyncClient(api.url, source="meter", spool=tmp_path / "spool")
        await client.start()
        await client.push_plan(Plan("A", T, T + HOUR, ["net"]))
        # when
        await client.push(Sample("B", "nett", T, Decimal(1)))
        with pytest.raises(RefusedError, match=r"samples\[0\].metric: 'nett' is unknown: use calls, cpu, net"):
            await client.flush()
        await client.push(good)
        await client.close()
        # then
        await until(lambda: held(store) == expected(good))
        assert closed(store) == 1
    assert len(list((tmp_path / "spool" / "refused").glob("*.batch"))) == 1


async def test_a_slow_kafka_is_429_and_a_stop_answers_what_was_taken(own_kafka: OwnKafka, tmp_path: Path) -> None:
    # given a service that works on two requests at a time, and a Kafka that stands still
    broker = own_kafka()
    topics = KafkaSettings(bootstrap=broker.bootstrap, prefix="slow.", partitions=2)
    await create_topics(topics)
    config = written(tmp_path, topics, "{listen: '127.0.0.1:0', max_in_flight: 2, confirm_seconds: 60}")
    body = msgspec.json.encode({"source": "m", "samples": [{"scope_id": "A", "metric": "net", "begin": T, "qty": 1}]})
    async with serving(config) as api, aiohttp.ClientSession() as http:

        async def ask(key: str) -> tuple[int, str | None]:
            headers = {"Content-Type": JSON, "Idempotency-Key": key}
            async with http.post(f"{api.url}/v3/usage", data=body, headers=headers) as answer:
                return answer.status, answer.headers.get("Retry-After")

        assert await ask("first") == (202, None)
        broker.pause()
        await until(lambda: stands_still(broker.pid))
        asked = [asyncio.create_task(ask(f"later {n}")) for n in range(5)]
        # when more come than it works on, then they are told to come again
        async with asyncio.timeout(30):
            while sum(task.done() for task in asked) < 3:
                await asyncio.sleep(0.05)
        assert [task.result() for task in asked if task.done()] == [(429, "1")] * 3
        waiting = [task for task in asked if not task.done()]
        # when it is told to stop and Kafka goes on, then what it had taken is answered
        ending = asyncio.create_task(api.end())
        async with asyncio.timeout(30):
            while await listens(api.port):
                await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        broker.resume()
        assert await asyncio.gather(*waiting) == [(202, None)] * 2
        assert await ending == 0
    assert len(await consumed(topics)) >= 3


def stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped: under load that takes a moment."""
    states = [file.read_text().rpartition(")")[2].split()[0] for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


async def listens(port: int) -> bool:
    """Whether something still listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def test_a_token_limits_what_is_pushed_and_the_doctor_knows_who_may(
    topics: KafkaSettings, tmp_path: Path
) -> None:
    # given a service that anybody could reach, and no token
    open_to_all = written(tmp_path, topics, "{listen: '0.0.0.0:0'}")
    refused = await rater(open_to_all, "api")
    assert (refused[0], "asks for no token: set api.token_file" in refused[1]) == (1, True)
    told = (await rater(open_to_all, "doctor"))[1]
    assert "RED  api         api.listen 0.0.0.0:0 can be reached by other machines" in told
    # when there is a token for scope A
    tokens = "tokens: [{name: meters, token: 0123456789-of-the-meters, scopes: [A], sources: [meter]}]"
    (tmp_path / "tokens.yaml").write_text(tokens)
    config = written(tmp_path, topics, "{listen: '127.0.0.1:0', token_file: tokens.yaml}")
    told = (await rater(config, "doctor"))[1]
    assert "ok   api         127.0.0.1:0 asks for a token, which travels without TLS" in told
    async with serving(config) as api:
        # then its owner may push that scope, and no other
        async with AsyncClient(api.url, source="meter", token="0123456789-of-the-meters") as client:
            await client.push(Sample("A", "net", T, Decimal(1)))
            await client.flush()
            await client.push(Sample("B", "net", T, Decimal(1)))
            with pytest.raises(RefusedError, match=r"403.*\n  samples\[0\]: the token may not push scope 'B'"):
                await client.flush()
        assert "0123456789" not in api.log
    assert await consumed(topics) == [("A", 0)]


async def rater(config: Path, *arguments: str) -> tuple[int | None, str]:
    """Exit status and all output of a command."""
    command = [sys.executable, "-m", "rater", "--config", str(config), *arguments]
    done = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await done.communicate()
    return done.returncode, output.decode()
