"""Both clients against a service that fails in every way: repeated as the same bytes, told what is lost, bounded."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rater.client import (
    AsyncClient,
    Client,
    ClosedError,
    Collection,
    InvalidItemError,
    NotAcknowledgedError,
    Plan,
    RefusedError,
    Sample,
    SpoolError,
)
from rater.client.wire import Accepted, AcceptedScope
from rater.model.codec import encode_json
from tests.unit.client.service import Service, cut, plain, status

T = 1_767_225_600
NOWHERE = "http://127.0.0.1:1"


def samples(count: int, scope: str = "A") -> list[Sample]:
    return [Sample(scope, "net", T + n, Decimal(n), groupby={"id": n}) for n in range(count)]


def client(url: str, **options: Any) -> AsyncClient:
    return AsyncClient(url, **{"source": "meter", "close_seconds": 20, **options})


@pytest.mark.parametrize(
    "failure",
    [
        cut,
        status(429, {"Retry-After": "0"}),
        status(429, {"Retry-After": "soon"}),
        status(503, {"Retry-After": "0"}),
        status(500),
        status(401),
        plain(404, "no such page"),
        plain(413, "<html>a proxy</html>"),
        plain(202, "not ours"),
    ],
)
async def test_what_fails_is_sent_again_as_the_same_bytes(failure: Any) -> None:
    async with Service(failure, failure).running() as service:
        async with client(service.url) as pusher:
            await pusher.push(samples(10))
        assert len(service.bodies) == 3
        assert len(set(service.bodies)) == 1


async def test_retry_after_is_waited_for() -> None:
    async with Service(status(429, {"Retry-After": "1"})).running() as service:
        async with client(service.url) as pusher:
            began = asyncio.get_running_loop().time()
            await pusher.push(samples(1))
        assert asyncio.get_running_loop().time() - began >= 1
        assert len(service.bodies) == 2


@pytest.mark.parametrize("number", [400, 403, 413, 415, 422])
async def test_what_is_refused_is_told_and_the_rest_goes_on(number: int) -> None:
    async with Service(status(number, detail="because")).running() as service:
        pusher = client(service.url, batch_samples=5)
        await pusher.start()
        await pusher.push(samples(10))
        with pytest.raises(RefusedError, match=f"request 1 .*refused with {number}: because") as told:
            await pusher.flush(20)
        assert told.value.refused[0][0].scopes == {"A": (0, 1)}
        await pusher.close()
        assert len(service.bodies) == 2


async def test_a_service_that_counts_otherwise_is_not_believed() -> None:
    wrong = encode_json(Accepted("u", 1, 1, 0, 0, [AcceptedScope("A", 0, 2, 2)]))
    service = Service(lambda _: web.Response(status=202, body=wrong))
    async with service.running(), client(service.url) as pusher:
        await pusher.push(samples(1))
        with pytest.raises(NotAcknowledgedError):
            await pusher.flush(0)
        async with asyncio.timeout(10):
            while "counts {'A': 2} where this library counts {'A': 1}" not in pusher.trouble:
                await asyncio.sleep(0.01)


async def test_the_token_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with Service(status(401)).running() as service:
        async with client(service.url, token="sesame") as pusher:
            await pusher.push(samples(1))
        assert service.headers[0]["Authorization"] == "Bearer sesame"
    assert "sesame" not in caplog.text


async def test_time_sends_what_is_gathered() -> None:
    async with Service().running() as service, client(service.url, max_delay=0.05) as pusher:
        await pusher.push(samples(3))
        async with asyncio.timeout(10):
            while not service.bodies:
                await asyncio.sleep(0.01)


async def test_what_is_not_acknowledged_is_named() -> None:
    pusher = client(NOWHERE, batch_samples=5, close_seconds=0.2)
    await pusher.start()
    await pusher.push(samples(8))
    with pytest.raises(NotAcknowledgedError, match=r"2 requests .*\(1, 2\)") as told:
        await pusher.flush(0.3)
    assert [batch.samples for batch in told.value.batches] == [5, 3]
    assert "cannot be reached" in pusher.trouble
    with pytest.raises(NotAcknowledgedError, match="cannot be reached"):
        await pusher.close()
    with pytest.raises(ClosedError):
        await pusher.push(samples(1))


async def test_an_error_of_the_program_is_not_hidden(caplog: pytest.LogCaptureFixture) -> None:
    async def program() -> None:
        async with client(NOWHERE, close_seconds=0.1) as pusher:
            await pusher.push(samples(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await program()
    assert "1 requests are not acknowledged" in caplog.text


async def test_memory_is_bounded() -> None:
    # given a service that is away, and a client that may hold 20 kB
    pusher = client(NOWHERE, max_bytes=20_000, batch_samples=50, close_seconds=0.1)
    await pusher.start()
    # when a program pushes much more
    pushing = asyncio.create_task(pusher.push(samples(10_000)))
    async with asyncio.timeout(10):
        while not pusher.trouble:
            await asyncio.sleep(0.01)
    # then it waits
    assert not pushing.done()
    assert sum(batch.samples for batch in await pusher.unacknowledged()) < 1000
    # and is told when the client is closed
    with pytest.raises(NotAcknowledgedError):
        await pusher.close()
    with pytest.raises(ClosedError):
        await pushing


async def test_back_pressure_ends_when_the_service_takes_it() -> None:
    async with Service(*[status(503)] * 2).running() as service:
        async with client(service.url, max_bytes=5_000, max_delay=60) as pusher:
            await pusher.push(samples(2_000))
        assert sum(Service.taken(body).samples for body in set(service.bodies)) == 2_000


async def test_a_bad_sample_is_told_at_once_and_spoils_no_other() -> None:
    async with Service().running() as service:
        async with client(service.url) as pusher:
            with pytest.raises(InvalidItemError, match="qty must be a Decimal"):
                await pusher.push([*samples(2), Sample("A", "net", T, 1.5)])  # type: ignore[arg-type]  # that is the test
        assert [Service.taken(body).samples for body in service.bodies] == [2]


async def test_what_is_no_item_at_all_is_told() -> None:
    async with Service().running() as service, client(service.url) as pusher:
        with pytest.raises(InvalidItemError, match=r"'scope_id': is no Sample: give a rater\.client\.Sample"):
            await pusher.push({"scope_id": "A"})  # type: ignore[arg-type]  # that is the test
        with pytest.raises(InvalidItemError, match="is no Collection"):
            await pusher.push_collection(samples(1)[0])  # type: ignore[arg-type]  # the test
        with pytest.raises(InvalidItemError, match="is no Value"):
            await pusher.push_collection(Collection("A", "cpu", T, T + 60, [], 1, samples=samples(1)))  # type: ignore[arg-type]  # the test
        with pytest.raises(InvalidItemError, match="is no Plan"):
            await pusher.push_plan("A")  # type: ignore[arg-type]  # the test


async def test_trouble_with_the_connection_reads_like_a_sentence(tmp_path: Path) -> None:
    # given a service whose certificate nobody here knows
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    # when / then
    async with server:
        for url, said in (
            (f"https://127.0.0.1:{port}", "its certificate is not trusted ([SSL: CERTIFICATE_VERIFY_FAILED] "),
            (NOWHERE, "cannot be reached: Cannot connect to host "),
        ):
            pusher = client(url, close_seconds=0.1)
            await pusher.start()
            await pusher.push(samples(1))
            with pytest.raises(NotAcknowledgedError) as told:
                await pusher.flush(0.5)
            with suppress(NotAcknowledgedError):
                await pusher.close()
            assert said in str(told.value)
            assert "ConnectionKey" not in str(told.value)


async def test_order_and_kinds() -> None:
    async with Service(cut).running() as service:
        async with client(service.url) as pusher:
            await pusher.push_plan(Plan("A", T, T + 3600, ["net", "cpu"]))
            await pusher.push(samples(3))
            await pusher.push_collection(Collection("A", "cpu", T, T + 3600, [(T, T + 3600)], 1))
            await pusher.push_plan(Plan("A", T + 3600))
        kinds = [Service.taken(body) for body in service.bodies]
    assert [(one.plans, one.samples, one.collections) for one in kinds] == [
        (1, 0, 0),
        (1, 0, 0),
        (0, 3, 0),
        (0, 0, 1),
        (1, 0, 0),
    ]
    assert [scope.next_sequence for one in kinds for scope in one.scopes if scope.next_sequence] == [1, 2]


async def test_a_spool_goes_on_with_what_waits_and_with_the_numbers(tmp_path: Path) -> None:
    # given a client whose service is away, closed in order
    async with client(NOWHERE, spool=tmp_path, batch_samples=5, close_seconds=0.1) as pusher:
        await pusher.push(samples(7))
    # when another one starts at a service that is there
    async with Service().running() as service:
        async with client(service.url, spool=tmp_path, batch_samples=5) as pusher:
            await pusher.push(samples(1))
        # then all of it comes, in order, and the numbers go on
        taken = [Service.taken(body) for body in service.bodies]
    assert [(one.samples, one.scopes[0].next_sequence) for one in taken] == [(5, 1), (2, 2), (1, 3)]
    assert not list(tmp_path.glob("*.batch"))


async def test_save_needs_a_spool_and_says_when_the_disk_fails(tmp_path: Path) -> None:
    async with Service().running() as service, client(service.url) as pusher:
        with pytest.raises(SpoolError, match="no spool"):
            await pusher.save()
    directory = tmp_path / "spool"
    pusher = client(NOWHERE, spool=directory, close_seconds=0.1)
    await pusher.start()
    await pusher.push(samples(1))
    await pusher.save()
    (directory / "000000000002.batch.tmp").mkdir()  # in the way of the next request's file
    await pusher.push(samples(1))
    with pytest.raises(SpoolError, match=r"requests \[2\] are in memory only"):
        await pusher.save()
    with pytest.raises(NotAcknowledgedError):  # closing would lose it
        await pusher.close()


async def test_much_in_a_spool_is_not_in_memory(tmp_path: Path) -> None:
    async with Service(*[status(503)] * 3).running() as service:
        async with client(service.url, spool=tmp_path, max_bytes=10_000, batch_samples=50, max_delay=60) as pusher:
            await pusher.push(samples(3_000))  # does not wait: the disk takes it
            assert len(await pusher.unacknowledged()) > 20
        assert sum(Service.taken(body).samples for body in set(service.bodies)) == 3_000


@pytest.mark.parametrize("arguments", [{"url": "rater:1"}, {"source": ""}])
def test_what_is_wrong_with_its_arguments_is_told(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidItemError):
        AsyncClient(**{"url": NOWHERE, "source": "m", **arguments})


async def test_the_synchronous_client_from_many_threads() -> None:
    async with Service(cut, status(503)).running() as service:

        def work() -> None:
            with Client(service.url, source="meter", batch_samples=100) as pusher:
                pusher.push_plan(Plan("A", T, T + 3600, ["net"]))
                threads = [threading.Thread(target=pusher.push, args=(samples(300, s),)) for s in "ABCD"]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                pusher.push_collection(Collection("A", "cpu", T, T + 3600, [], 1))
                pusher.flush(20)
                assert pusher.unacknowledged() == []
                assert pusher.trouble == ""
            with pytest.raises(ClosedError):
                pusher.push(samples(1))
            pusher.close()

        await asyncio.to_thread(work)
        assert sum(Service.taken(body).samples for body in set(service.bodies)) == 1_200


def test_the_synchronous_client_tells_what_is_lost(tmp_path: Path) -> None:
    with (
        pytest.raises(NotAcknowledgedError),
        Client(NOWHERE, source="m", close_seconds=0.1) as pusher,
    ):
        pusher.push(samples(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError):
        Client(NOWHERE, source="m", spool=tmp_path / "file").start()
