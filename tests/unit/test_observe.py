"""Logs and the three pages that a service shows."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from rater.config import ObserveSettings
from rater.log_fields import about, of
from rater.observe import _NOISY, ListenError, endpoint, is_loopback, serve_health, setup_logging


async def fetch(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return answer.status, await answer.text()


async def test_the_pages_answer_and_ready_names_what_is_red() -> None:
    # given a service of which one part is in trouble
    registry = CollectorRegistry()
    Counter("rater_things", "Things", registry=registry).inc(2)
    trouble = {"worker": "", "sink": "ClickHouse is away"}
    checks = {name: lambda name=name: trouble[name] for name in trouble}
    async with serve_health(ObserveSettings(), checks, registry) as url:
        # when
        ready = await fetch(f"{url}/readyz")
        # then
        assert ready[0] == 503
        assert json.loads(ready[1]) == {"ready": False, "checks": {"worker": "ok", "sink": "ClickHouse is away"}}
        assert await fetch(f"{url}/healthz") == (200, "ok\n")
        assert "rater_things_total 2.0" in (await fetch(f"{url}/metrics"))[1]
        # when the trouble is over
        trouble["sink"] = ""
        # then
        assert (await fetch(f"{url}/readyz"))[0] == 200
        assert (await fetch(f"{url}/nothing"))[0] == 404


async def test_an_address_that_others_can_reach_needs_the_explicit_setting() -> None:
    with pytest.raises(ListenError, match="listen_beyond_loopback"):
        async with serve_health(ObserveSettings(listen="0.0.0.0:0"), {}, CollectorRegistry()):
            pass
    allowed = ObserveSettings(listen="0.0.0.0:0", listen_beyond_loopback=True)
    async with serve_health(allowed, {}, CollectorRegistry()) as url:
        assert url.startswith("http://0.0.0.0:")


async def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=f"cannot listen on {listen}: .*set observe.listen"):
            async with serve_health(ObserveSettings(listen=listen), {}, CollectorRegistry()):
                pass


def test_addresses_are_host_and_port() -> None:
    assert endpoint("127.0.0.1:80") == ("127.0.0.1", 80)
    assert endpoint("[::1]:0") == ("::1", 0)
    for text in ("80", ":80", "host", "host:http", "host:65536"):
        with pytest.raises(ListenError, match="host:port"):
            endpoint(text)


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))


@pytest.fixture(autouse=True)
def _logging_as_before() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in _NOISY}
    yield
    root.handlers[:], _ = handlers, root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def test_json_logs_are_one_object_a_line_with_the_traceback_inside() -> None:
    # given
    stream = io.StringIO()
    setup_logging(ObserveSettings(log_format="json"), stream)
    # when
    try:
        int("boom")
    except ValueError:
        logging.getLogger("rater.test").exception("it %s", "failed")
    logging.getLogger("rater.test").debug("too quiet")
    # then
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(entry["level"], entry["logger"], entry["message"]) for entry in entries] == [
        ("error", "rater.test", "it failed")
    ]
    assert entries[0]["logged_at"].endswith("Z")
    assert "ValueError: invalid literal" in entries[0]["error"]


def test_text_logs_say_when_and_who() -> None:
    stream = io.StringIO()
    setup_logging(ObserveSettings(log_level="warning"), stream)
    logging.getLogger("rater.test").warning("careful")
    logging.getLogger("rater.test").info("too quiet")
    assert stream.getvalue().endswith("Z WARNING rater.test: careful\n")
    assert stream.getvalue().count("\n") == 1


def test_what_a_kafka_client_repeats_is_told_once_a_minute() -> None:
    stream = io.StringIO()
    setup_logging(ObserveSettings(), stream)
    for name in ("aiokafka.conn", "aiokafka.conn", "rater.test", "rater.test"):
        logging.getLogger(name).error("away")
    logging.getLogger("aiokafka.conn").error("refused")
    assert [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()] == [
        "aiokafka.conn: away",
        "rater.test: away",
        "rater.test: away",
        "aiokafka.conn: refused",
    ]


def test_a_line_names_what_it_is_about_in_both_forms() -> None:
    # given
    forms = {}
    for form in ("json", "text"):
        forms[form] = io.StringIO()
        setup_logging(ObserveSettings(log_format=form), forms[form])  # type: ignore[arg-type]  # one of both forms
        # when
        with about(scope_id="a", period_begin=1_767_225_600), about(metric="cpu"):
            logging.getLogger("rater.test").info("within", extra=of(partition=3))
        logging.getLogger("rater.test").info("after", extra=of(scope_id="two\nlines=1"))
    # then
    entries = [json.loads(line) for line in forms["json"].getvalue().splitlines()]
    usual = {"logged_at", "level", "logger"}
    assert [{key: value for key, value in entry.items() if key not in usual} for entry in entries] == [
        {
            "message": "within",
            "scope_id": "a",
            "period_begin": "2026-01-01T00:00:00Z",
            "metric": "cpu",
            "partition": 3,
        },
        {"message": "after", "scope_id": "two\nlines=1"},
    ]
    assert [line.split(" ", 2)[2] for line in forms["text"].getvalue().splitlines()] == [
        "rater.test [scope_id=a period_begin=2026-01-01T00:00:00Z metric=cpu partition=3]: within",
        "rater.test [scope_id='two\\nlines=1']: after",
    ]


async def test_what_a_task_is_about_is_not_what_its_neighbours_are_about() -> None:
    stream = io.StringIO()
    setup_logging(ObserveSettings(), stream)

    async def work(scope_id: str) -> None:
        with about(scope_id=scope_id):
            await asyncio.sleep(0)
            logging.getLogger("rater.test").info("at work")

    await asyncio.gather(work("a"), work("b"))

    assert [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()] == [
        "rater.test [scope_id=a]: at work",
        "rater.test [scope_id=b]: at work",
    ]


def test_libraries_say_nothing_below_info_whatever_the_level() -> None:
    stream = io.StringIO()
    setup_logging(ObserveSettings(log_level="debug"), stream)
    for name in ("aiokafka.conn", "some.library", "rater.test", "raterish", "collectors.test"):
        logging.getLogger(name).debug("what was sent")
        logging.getLogger(name).info("connected")

    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "INFO aiokafka.conn: connected",
        "INFO some.library: connected",
        "DEBUG rater.test: what was sent",
        "INFO rater.test: connected",
        "INFO raterish: connected",
        "DEBUG collectors.test: what was sent",
        "INFO collectors.test: connected",
    ]


def test_what_an_exporter_of_traces_repeats_with_other_numbers_is_told_once_a_minute() -> None:
    stream = io.StringIO()
    setup_logging(ObserveSettings(), stream)
    for seconds in (0.9, 1.1):
        logging.getLogger("opentelemetry.exporter").warning("away, retrying in %.1fs", seconds)

    assert stream.getvalue().count("\n") == 1
