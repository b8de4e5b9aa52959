"""The audit log: every write of somebody known is in it before it is answered, whatever came of it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rater.api.audit_file import AuditFile, AuditFileError
from rater.api.audit_log import MAX_VALUE_BYTES, AuditLog, Trail, current_trail
from rater.api.cloudkitty import service as service_module
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.config import ObserveSettings
from rater.observe import setup_logging
from rater.rating import RuleBook
from rater.reports import StoreView
from rater.stream.usage_log import UsageWriter
from tests.unit.api import test_http
from tests.unit.api.cloudkitty.world import ANN, BOSS, World, serving
from tests.unit.store.builders import memory_store


async def change(backend: Backend, call: Call) -> Answer:
    """A write as others are: what it says of `before` and `after` stands in the audit log."""
    backend.policy.authorize(call.identity, "rating:update_module")
    if call.path["name"] == "wrong":
        raise ApiFaultError(409, "somebody was faster")
    if call.path["name"] == "crash":
        raise RuntimeError("a defect")
    return Answer({"said": "new"}, 201, before={"cost": 1}, after={"cost": 2} if call.path["name"] == "both" else None)


async def look(backend: Backend, call: Call) -> Answer:
    return Answer({"read": True})


@pytest.fixture
def view() -> Iterator[StoreView]:
    with memory_store() as store:
        yield StoreView(store)


@asynccontextmanager
async def audited(
    view: StoreView, directory: Path, monkeypatch: pytest.MonkeyPatch, **api: Any
) -> AsyncIterator[tuple[World, Path]]:
    """The service with a route that writes, and the file of its audit log."""
    routes = (Route("rating/things/{name}", change, "PUT"), Route("rating/things/{name}", look))
    monkeypatch.setattr(service_module, "ROUTES", {1: routes, 2: ()})
    path = directory / "audit.jsonl"
    async with serving(view, RuleBook.empty(), directory, api={"audit_file": str(path), **api}) as world:
        yield world, path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_write_of_somebody_known_is_recorded_and_nothing_else(
    view: StoreView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    things = "/v1/rating/things"
    async with audited(view, tmp_path, monkeypatch) as (world, path):
        # when two are done, one is refused by the handler and one by the policy, and one fails
        done = await world.ask(f"{things}/a?force=true&x_token=abc", token=BOSS, method="PUT", json={})
        found = records(path)  # before anything else: it is there when the answer is
        both = await world.ask(f"{things}/both", token=BOSS, method="PUT", json={}, headers={"X-Request-ID": "mine.1"})
        for thing, token in (("wrong", BOSS), ("a", ANN), ("crash", BOSS)):
            await world.ask(f"{things}/{thing}", token=token, method="PUT", json={})
        # and somebody reads, nobody knows who writes, or there is no such path
        await world.get(f"{things}/a", token=ANN)
        assert (await world.ask(f"{things}/a", method="PUT", json={})).status == 401
        assert (await world.ask("/v1/rating/nothing/a", token=BOSS, method="PUT", json={})).status == 404

    # then
    [first] = found
    assert done.status == 201
    assert done.headers["X-OpenStack-Request-ID"] == done.headers["X-Request-ID"] == first.pop("request_id")
    assert first.pop("written_at").endswith("Z")
    assert first == {
        "status": 201,
        "user": "boss",
        "roles": ["admin"],
        "auth": first["auth"],
        "address": "127.0.0.1",
        "action": "PUT /v1/rating/things/{name}",
        "path": "/v1/rating/things/a",
        "query": "force=true&x_token=(hidden)",
        "before": {"cost": 1},
        "after": {"said": "new"},
        "refused": "",
    }
    others = records(path)[1:]
    assert [(line["status"], line["user"], line["refused"]) for line in others] == [
        (201, "boss", ""),
        (409, "boss", "somebody was faster"),
        (403, "ann", "Policy doesn't allow rating:update_module to be performed."),
        (500, "boss", ""),
    ]
    assert (others[0]["request_id"], others[0]["before"], others[0]["after"]) == ("mine.1", {"cost": 1}, {"cost": 2})
    assert both.headers["X-Request-ID"] == "mine.1"
    logged = [json.loads(record.getMessage()) for record in caplog.records if record.name == "rater.api.audit"]
    assert logged == records(path)


async def test_while_the_file_cannot_be_written_every_write_is_refused_and_reading_goes_on(
    view: StoreView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a disk that is full from the second line on
    real, full = os.fsync, [False]

    def fsync(descriptor: int) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    things = "/v1/rating/things"
    async with audited(view, tmp_path, monkeypatch) as (world, path):
        await world.ask(f"{things}/first", token=BOSS, method="PUT", json={})
        full[0] = True
        # when
        done = await world.ask(f"{things}/second", token=BOSS, method="PUT", json={})
        refused = await world.ask(f"{things}/third", token=BOSS, method="PUT", json={})
        read = await world.ask(f"{things}/a", token=ANN)
        full[0] = False
        after = await world.ask(f"{things}/fourth", token=BOSS, method="PUT", json={})

    # then
    assert (done.status, refused.status, read.status, after.status) == (201, 503, 200, 201)
    assert refused.headers["Retry-After"] == "5"
    paths = [line["path"].rpartition("/")[2] for line in records(path)]
    assert list(dict.fromkeys(paths)) == ["first", "second", "fourth"]


async def test_pushed_usage_is_recorded_without_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def written(*_: object) -> None:
        pass

    monkeypatch.setattr(UsageWriter, "red", lambda self: "")
    monkeypatch.setattr(UsageWriter, "write", written)
    path = tmp_path / "audit.jsonl"
    sample = {
        "scope_id": "s",
        "metric": "net",
        "begin": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T01:00:00Z",
        "qty": 8,
    }
    async with test_http.served(audit_file=str(path)) as url, aiohttp.ClientSession() as http:
        body = {"source": "meters", "samples": [{**sample, "groupby": {"id": "who-knows"}}]}
        async with http.post(f"{url}/v3/usage", json=body, headers={"Idempotency-Key": "1"}) as answer:
            assert answer.status == 202, await answer.text()
        async with http.get(f"{url}/v3/openapi.json", headers={"X-Request-ID": "in\tvalid"}) as answer:
            assert answer.headers["X-Request-ID"].startswith("req-")

    [line] = records(path)
    assert (line["action"], line["status"], line["after"]) == ("POST /v3/usage", 202, {"records": 1, "samples": 1})
    assert "who-knows" not in path.read_text()


async def test_a_line_that_broke_off_swallows_no_other_and_the_file_may_be_renamed(tmp_path: Path) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    path.write_text('{"half')
    file = AuditFile(str(path))
    await asyncio.gather(*(file.append(str(number).encode()) for number in range(3)))
    path.rename(old)
    await file.append(b"3")
    await file.close()

    assert old.read_text() == '{"half\n0\n1\n2\n'
    assert path.read_text() == "3\n"
    assert path.stat().st_mode & 0o777 == 0o600


async def test_lines_that_come_together_are_synced_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synced = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        synced[0] += 1
        real(descriptor)

    file = AuditFile(str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(os, "fsync", fsync)
    await asyncio.gather(*(file.append(b"line") for _ in range(50)))
    await file.close()

    assert (tmp_path / "audit.jsonl").read_text() == "line\n" * 50
    assert synced[0] <= 2


async def test_a_request_that_is_given_up_leaves_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a disk that fails while the request is given up
    real, begun, go_on, full = os.write, threading.Event(), threading.Event(), [True]

    def write(descriptor: int, data: bytes) -> int:
        if full[0]:
            begun.set()
            go_on.wait(10)
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    file = AuditFile(str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(os, "write", write)
    given_up = asyncio.create_task(file.append(b"given up"))
    await asyncio.to_thread(begun.wait, 10)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    go_on.set()
    async with asyncio.timeout(10):
        while not file.fault:
            await asyncio.sleep(0.01)
    assert not await file.mended()
    # when it can be written again
    full[0] = False
    assert await file.mended()
    await file.append(b"next")
    await file.close()

    # then
    assert (tmp_path / "audit.jsonl").read_text() == "given up\nnext\n"


def test_a_file_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AuditFileError, match=r"api\.audit_file .*none/audit cannot be written: No such file"):
        AuditLog(str(tmp_path / "none" / "audit"))


async def test_whatever_comes_it_can_be_recorded(
    view: StoreView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def strange(backend: Backend, call: Call) -> Answer:
        return Answer({}, before={"a": "\udcff"}, after={1.5: 2**70})

    monkeypatch.setattr(service_module, "ROUTES", {1: (Route("rating/things/{name}", strange, "DELETE"),), 2: ()})
    path = tmp_path / "audit.jsonl"
    async with serving(view, RuleBook.empty(), api={"audit_file": str(path)}) as world:
        for target in ("/v1/rating/things/%ff%00?x=%ff&%", "/v1/rating/things/%ed%a0%80?x=%ed%a0%80"):
            assert (await world.ask(target, method="DELETE")).status == 200

    found = [(line["status"], line["before"], line["after"]) for line in records(path)]
    assert found == [(200, {"unknown": "dict"}, {"unknown": "dict"})] * 2


async def test_what_is_long_is_told_by_its_size(tmp_path: Path) -> None:
    audit = AuditLog(str(tmp_path / "audit.jsonl"))
    trail = Trail("1", "POST", "/x", "", "::1")
    trail.identity = Identity("ann", frozenset())
    trail.after = {"script": "x" * MAX_VALUE_BYTES}
    await audit.record(trail, 200)
    await audit.check(trail)
    await audit.close()

    [line] = records(tmp_path / "audit.jsonl")
    assert line["after"]["bytes"] == MAX_VALUE_BYTES + len('{"script":""}')
    assert len(line["after"]["sha256"]) == 64


async def test_in_json_the_record_is_an_object_of_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        setup_logging(ObserveSettings(log_format="json", log_level="error"), stream)
        trail = Trail("1", "DELETE", "/x", "", "::1")
        trail.identity = Identity("ann", frozenset())
        await AuditLog().record(trail, 204)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    line = json.loads(stream.getvalue())
    assert line["message"] == "DELETE: status=204 user='ann'"
    assert (line["audit"]["user"], line["audit"]["status"]) == ("ann", 204)
    assert current_trail().identity is None


async def test_a_refusal_is_one_that_clients_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = AuditLog(str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    trail = Trail("1", "DELETE", "/x", "", "::1")
    trail.identity = Identity("ann", frozenset())
    await audit.record(trail, 204)

    assert "cannot be written: Input/output error" in audit.red()
    with pytest.raises(RefusalError, match="nothing is written"):
        await audit.check(trail)
