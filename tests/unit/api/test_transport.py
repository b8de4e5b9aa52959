"""What holds for every path: ids of requests, limits of rates, pages from elsewhere, headers of answers, metrics."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from rater.api.audit_log import Trail
from rater.api.cloudkitty import service as service_module
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.limits import BURST_SECONDS, MAX_BUCKETS, Buckets, RateLimits
from rater.api.settings import ApiSettings
from rater.api.transport_settings import CorsSettings, RateSettings
from rater.config import ObserveSettings
from rater.observe import setup_logging
from rater.rating import RuleBook
from rater.reports import StoreView
from tests.unit.api.cloudkitty.world import ANN, BOSS, World, serving
from tests.unit.store.builders import memory_store

BOOK = RuleBook.empty()
HERE = "https://dashboard.example"


@pytest.fixture
def view() -> Iterator[StoreView]:
    with memory_store() as store:
        yield StoreView(store)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asking(user: str = "", address: str = "192.0.2.1", method: str = "GET") -> Trail:
    trail = Trail("1", method, "/", "", address)
    trail.identity = Identity(user, frozenset()) if user else None
    return trail


def allowed(limits: RateLimits, trail: Trail) -> bool:
    try:
        limits.identified(trail)
    except RefusalError:
        return False
    return True


def test_a_bucket_refills_and_holds_no_more_than_its_size() -> None:
    clock = Clock()
    buckets = Buckets(2.0, clock)
    assert [buckets.wait("a") for _ in range(2 * BURST_SECONDS)] == [0.0] * 20
    assert buckets.wait("a") == 0.5
    clock.now += 0.25
    assert buckets.wait("a") == 0.25
    clock.now += 0.25
    assert buckets.wait("a") == 0.0
    clock.now += 1_000_000
    assert [buckets.wait("a") for _ in range(21)].count(0.0) == 20
    assert buckets.wait("b") == 0.0


def test_buckets_are_bounded_and_who_asks_most_is_not_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(0.1, clock)
    for number in range(3 * MAX_BUCKETS):
        assert buckets.wait(str(number)) == 0.0
        buckets.wait("busy")
    assert len(buckets._buckets) == MAX_BUCKETS
    assert buckets.wait("busy") > 0


def test_each_identity_has_its_own_limits_of_reads_and_writes() -> None:
    limits = RateLimits(RateSettings(reads=0.1, writes=0.1), Clock())
    assert [allowed(limits, asking("ann")) for _ in range(2)] == [True, False]
    assert allowed(limits, asking("ann", method="POST"))
    assert allowed(limits, asking("bob"))
    assert not allowed(limits, asking("bob", address="192.0.2.9"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_who_is_nobody_is_limited_by_the_address(one: str, other: str, same: bool) -> None:
    limits = RateLimits(RateSettings(reads=0.1), Clock())
    assert allowed(limits, asking(address=one))
    assert allowed(limits, asking(address=other)) is not same


def test_zero_is_no_limit() -> None:
    limits = RateLimits(RateSettings(reads=0, writes=0), Clock())
    assert all(allowed(limits, asking("ann", method=method)) for method in ("GET", "PUT") for _ in range(1000))


async def test_too_many_requests_are_429_on_every_path_and_others_go_on(view: StoreView, tmp_path: Path) -> None:
    # given one request for each identity
    async with serving(view, BOOK, tmp_path, api={"rate_limits": RateSettings(reads=0.01, writes=0.01)}) as world:
        for path, method in (("/v1/report/total", "GET"), ("/v3/usage", "POST")):
            first = await world.ask(path, token=ANN, method=method)
            again = await world.ask(path, token=ANN, method=method)
            other = await world.ask(path, token=BOSS, method=method)
            # then
            assert (first.status == 429, again.status, other.status == 429) == (False, 429, False)
            assert 1 <= int(again.headers["Retry-After"]) <= 100
        assert "ann" in json.loads(again.body)["detail"]
        # and whoever is nobody has one, before any token is looked at
        assert (await world.ask("/v1/report/total", token="x" * 30)).status == 401
        assert (await world.ask("/v1/report/total", token="x" * 30)).status == 429
        assert (await world.ask("/v1/report/total", token=BOSS)).status == 429


async def test_behind_a_proxy_the_client_is_whom_the_proxy_has_seen(view: StoreView, tmp_path: Path) -> None:
    settings = {"rate_limits": RateSettings(reads=0.01), "proxies": ["127.0.0.1", "10.0.0.0/8"]}

    async def status(world: World, forwarded: str) -> int:
        return (await world.ask("/v3/openapi.json", headers={"X-Forwarded-For": forwarded})).status

    async with serving(view, BOOK, tmp_path, api=settings) as world:
        assert await status(world, "192.0.2.1") == 200
        assert await status(world, "192.0.2.1") == 429
        assert await status(world, "192.0.2.2, 10.1.1.1") == 200
        assert await status(world, "192.0.2.99, 192.0.2.2") == 429  # what a client says of itself counts for nothing
    async with serving(view, BOOK, tmp_path, api={"rate_limits": RateSettings(reads=0.01)}) as world:
        assert await status(world, "192.0.2.1") == 200
        assert await status(world, "192.0.2.2") == 429


async def test_every_answer_has_the_id_of_its_request(view: StoreView, tmp_path: Path) -> None:
    paths = ("/", "/healthcheck", "/v1/x/y", "/v2/summary", "/v3/openapi.json", "/v3/usage", "/nowhere", "/v3/nothing")
    async with serving(view, BOOK, tmp_path) as world:
        for path in paths:
            for name in ("X-Request-ID", "X-OpenStack-Request-ID"):
                kept = await world.ask(path, headers={name: "req-1:a_b.C"})
                assert kept.headers["X-Request-ID"] == kept.headers["X-OpenStack-Request-ID"] == "req-1:a_b.C", path
            for wrong in ("a b", "x" * 129, 'a"b', "ä", ""):
                made = await world.ask(path, headers={"X-Request-ID": wrong})
                assert made.headers["X-Request-ID"].startswith("req-"), path
                assert len(made.headers["X-Request-ID"]) == 40


@pytest.mark.parametrize("form", ["text", "json"])
async def test_every_line_of_a_request_has_its_id_threads_included(
    view: StoreView, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    def in_a_thread() -> None:
        logging.getLogger("rater.test").warning("in a thread")

    async def talks(backend: Backend, call: Call) -> Answer:
        await backend.read(in_a_thread)
        logging.getLogger("rater.test").warning("in the handler")
        return Answer({})

    monkeypatch.setattr(service_module, "ROUTES", {1: (Route("rating/talks", talks, "PUT"),), 2: ()})
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        setup_logging(ObserveSettings(log_format=form), stream)
        async with serving(view, BOOK) as world:
            stream.truncate(0)
            stream.seek(0)
            asked = [world.ask("/v1/rating/talks", method="PUT", headers={"X-Request-ID": f"id-{n}"}) for n in range(5)]
            await asyncio.gather(*asked)
            logging.getLogger("rater.test").warning("outside")
            lines = stream.getvalue().splitlines()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    *inside, outside = lines
    for number in range(5):
        of_request = [line for line in inside if f"id-{number}" in line]
        assert [sum(text in line for line in of_request) for text in ("a thread", "the handler", "PUT")] == [1, 1, 1]
    assert len(inside) == 15
    assert "id-" not in outside
    if form == "json":
        assert {json.loads(line)["request_id"] for line in inside} == {f"id-{number}" for number in range(5)}
    else:
        assert " WARNING rater.test [id-0]: in a thread" in "\n".join(inside)


async def test_every_answer_has_headers_that_bound_browsers(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        for path in ("/", "/healthcheck", "/v1/report/total", "/v2/summary?x=<b>", "/v3/openapi.json", "/nowhere"):
            headers = (await world.ask(path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert headers["Server"] == "rater"
            assert "Access-Control-Allow-Origin" not in headers


async def test_pages_of_the_origins_in_the_settings_may_ask_and_no_others(view: StoreView, tmp_path: Path) -> None:
    cors = CorsSettings([HERE], credentials=True, max_age=60)
    async with serving(view, BOOK, tmp_path, api={"cors": cors}) as world:
        for path in ("/v1/rating/modules", "/v2/summary", "/v3/usage"):
            asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-auth-token"}
            # when a browser asks whether it may
            found = await world.ask(path, method="OPTIONS", headers={**asked, "Origin": HERE})
            other = await world.ask(path, method="OPTIONS", headers={**asked, "Origin": "https://evil.example"})
            # then
            assert (found.status, found.body) == (204, b"")
            assert found.headers["Access-Control-Allow-Origin"] == HERE
            assert found.headers["Access-Control-Allow-Credentials"] == "true"
            assert found.headers["Access-Control-Max-Age"] == "60"
            assert "PUT" in found.headers["Access-Control-Allow-Methods"]
            assert "X-Auth-Token" in found.headers["Access-Control-Allow-Headers"]
            assert other.status != 204
            assert "Access-Control-Allow-Origin" not in other.headers
            assert found.headers["Vary"] == other.headers["Vary"] == "Origin"
        # and an answer, also one that refuses, may be read there
        for token in (BOSS, "x" * 30):
            read = await world.ask("/v1/rating/modules", token=token, headers={"Origin": HERE})
            assert read.headers["Access-Control-Allow-Origin"] == HERE
            assert "X-Request-ID" in read.headers["Access-Control-Expose-Headers"]


async def test_all_origins_are_a_star_without_credentials(view: StoreView) -> None:
    async with serving(view, BOOK, api={"cors": CorsSettings(["*"])}) as world:
        headers = (await world.ask("/v1/rating/modules", headers={"Origin": HERE})).headers

    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in headers
    assert "Vary" not in headers


async def test_a_page_from_elsewhere_cannot_write_without_asking(view: StoreView, monkeypatch: Any) -> None:
    # given a service that asks nobody for a token: browsers send a form or plain text to it without asking first
    done: list[str] = []

    async def change(backend: Backend, call: Call) -> Answer:
        done.append(json.loads(call.body))
        return Answer({})

    monkeypatch.setattr(service_module, "ROUTES", {1: (Route("rating/x", change, "POST"),), 2: ()})
    async with serving(view, BOOK) as world:
        for origin, status in (("https://evil.example", 403), ("null", 403), (world.url, 200), ("", 403)):
            found = await world.ask("/v1/rating/x", method="POST", json=origin, headers={"Origin": origin})
            assert found.status == status, origin
        own = world.url

    assert done == [own]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"cors": {"origins": ["*"], "credentials": True}}, "never with credentials"),
        ({"cors": {"origins": ["*", HERE]}}, "stands alone"),
        ({"cors": {"origins": ["https://x/path"]}}, "give scheme, host and port"),
        ({"cors": {"origins": ["evil.example"]}}, "give scheme, host and port"),
        ({"proxies": ["10.0.0.0/99"]}, "neither an address nor a network"),
        ({"client_ca_file": "ca.pem"}, "client_ca_file needs TLS"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], fault: str) -> None:
    cors = settings.pop("cors", None)
    with pytest.raises(ValueError, match=fault):
        ApiSettings(**settings, **({"cors": CorsSettings(**cors)} if cors else {}))


async def test_metrics_count_routes_and_never_what_was_asked_for(view: StoreView, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with serving(view, BOOK, tmp_path, registry=registry) as world:
        for path in ("/v1/rating/modules/a", "/v1/rating/modules/b", "/v1/nothing/of/ours", "/elsewhere/1"):
            await world.ask(path, token=BOSS)
        await world.ask("/v3/usage", method="PROPFIND", token=BOSS)
        read = await world.ask("/v3/openapi.json")

    def count(method: str, route: str, status: int) -> float | None:
        labels = {"method": method, "route": route, "status": str(status)}
        return registry.get_sample_value("rater_api_requests_total", labels)

    assert count("GET", "/v1/rating/modules/{module_id}", 404) == 2
    assert count("GET", "none", 404) == 2
    assert count("other", "none", 405) == 1
    labels = {"method": "GET", "route": "/v3/openapi.json"}
    assert registry.get_sample_value("rater_api_request_duration_seconds_count", labels) == 1
    assert (registry.get_sample_value("rater_api_sent_bytes_total") or 0) >= len(json.dumps(read.body)) // 2
    assert registry.get_sample_value("rater_api_in_flight") == 0
    assert registry.get_sample_value("rater_api_throttled_total") == 0
    assert "elsewhere" not in generate_latest(registry).decode()
