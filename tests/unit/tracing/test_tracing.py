"""Tracing as the parts of rater see it: off, on, who decides what is recorded, and what settings may say."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rater.config import ConfigError, load_config
from rater.tracing import OFF, TracingError, TracingSettings, open_tracing
from rater.tracing.header import written
from rater.tracing.otel import read_headers
from tests.unit.tracing.traced import Traced

RECORDED, DROPPED = written(1, 2), written(3, 4)[:-2] + "00"


@pytest.fixture
def always() -> Traced:
    return Traced(1.0)


@pytest.fixture
def never() -> Traced:
    return Traced(0.0)


def test_off_it_says_nothing_and_imports_nothing() -> None:
    with OFF.span("work", links=[RECORDED], a=1) as span:
        span.note(b=2)
        span.event("c", 3.0)
        span.fail("d")
        assert (span.traceparent, OFF.headers(), OFF.is_on) == ("", (), False)
    code = (
        "import sys; import rater.services, rater.tracing as t\nwith t.open_tracing(None, 'worker') as found: pass\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_span_within_another_is_its_child_and_names_itself_for_others(always: Traced) -> None:
    with always.tracing.span("outer", rater__scope_id="a") as outer:
        with always.tracing.span("inner", "producer") as inner:
            assert always.tracing.headers() == (("traceparent", inner.traceparent.encode()),)
        assert always.tracing.headers() == (("traceparent", outer.traceparent.encode()),)
    assert always.tracing.headers() == ()

    child, parent = always.spans
    assert child.parent is not None
    assert child.parent.span_id == parent.context.span_id
    assert dict(parent.attributes or {}) == {"rater.scope_id": "a"}


@pytest.mark.parametrize(
    ("parent", "links", "is_recorded"),
    [
        (RECORDED, [], True),
        (DROPPED, [], False),
        (DROPPED, [RECORDED], False),
        ("", [RECORDED], True),
        ("", [DROPPED], False),
        ("", [DROPPED, RECORDED], True),
    ],
)
def test_who_follows_decides_as_those_before(
    parent: str, links: list[str], is_recorded: bool, always: Traced, never: Traced
) -> None:
    for traced in (always, never):
        with traced.tracing.span("work", parent=parent, links=links) as span:
            assert bool(span.traceparent) is is_recorded
            assert bool(traced.tracing.headers()) is is_recorded
        assert traced.names == (["work"] if is_recorded else [])


def test_where_something_begins_chance_decides(always: Traced, never: Traced) -> None:
    for parent in ("", "nonsense", None):
        for traced in (always, never):
            with traced.tracing.span("work", parent=parent):
                pass
    assert (len(always.names), never.names) == (3, [])
    with never.tracing.span("outer", parent=""), never.tracing.span("inner"):
        pass
    assert never.names == []


def test_a_failure_is_told_by_its_name_alone(always: Traced) -> None:
    with pytest.raises(ValueError, match="secret"), always.tracing.span("work"):
        raise ValueError("secret")

    [span] = always.spans
    assert dict(span.attributes or {}) == {"error.type": "ValueError"}
    assert span.status.description == "ValueError"
    assert "secret" not in span.to_json()


def test_lines_of_the_log_name_the_span_they_belong_to(always: Traced) -> None:
    from rater.log_fields import fields_of_context

    with always.tracing.span("work") as span:
        assert dict(zip(("trace_id", "span_id"), span.traceparent.split("-")[1:3], strict=True)) == fields_of_context()
    assert fields_of_context() == {}


async def test_tasks_have_spans_of_their_own(always: Traced) -> None:
    async def work(name: str) -> None:
        with always.tracing.span(name, parent=""):
            await asyncio.sleep(0)
            with always.tracing.span(f"{name}-inner"):
                await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"))

    by_name = {span.name: span for span in always.spans}
    for name in ("a", "b"):
        inner = by_name[f"{name}-inner"]
        assert inner.parent is not None
        assert inner.parent.span_id == by_name[name].context.span_id


@pytest.mark.parametrize("answers", ["refuses", "hangs"])
def test_a_receiver_that_is_away_holds_nothing_up(answers: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")
    with socket.socket() as receiver:
        receiver.bind(("127.0.0.1", 0))
        if answers == "hangs":
            receiver.listen()
        url = f"http://127.0.0.1:{receiver.getsockname()[1]}/v1/traces"
        with open_tracing(TracingSettings(endpoint=url, sample_ratio=1), "worker") as tracing:
            began = time.monotonic()
            for _ in range(10_000):  # more than twice what the queue holds
                with tracing.span("work"):
                    pass
            spent, ended = time.monotonic() - began, time.monotonic()
        assert spent < 30  # one of them would be held up for 10 s, if it was
        assert time.monotonic() - ended < 10


def test_the_headers_of_a_file_are_read_and_never_repeated(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("Authorization: Bearer secret\n\nx-tenant: a:b\n")
    assert read_headers(str(path)) == {"authorization": "Bearer secret", "x-tenant": "a:b"}
    assert read_headers("") == {}
    for content in (b"secret\n", b": secret\n", b"secret:\n", b"secret: \xff\n", b"secret: x\n" * 10_000):
        path.write_bytes(content)
        with pytest.raises(TracingError) as told:
            read_headers(str(path))
        assert "secret" not in str(told.value)
    with pytest.raises(TracingError, match="cannot be read"):
        read_headers(str(tmp_path / "nothing"))
    with pytest.raises(TracingError, match="ca_file"), open_tracing(TracingSettings(ca_file="/nothing"), "worker"):
        pass


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "rater.tracing.otel", raising=False)
    with pytest.raises(TracingError, match=r"pip install 'rater\[otel\]'"), open_tracing(TracingSettings(), "worker"):
        pass


def test_settings_come_from_file_and_variables(tmp_path: Path) -> None:
    file = tmp_path / "rater.yaml"
    file.write_text("observe: {tracing: {headers_file: secrets/otlp}}\n")
    config = load_config(file, {"RATER_OBSERVE__TRACING__SAMPLE_RATIO": "0.5"})

    assert config.settings.observe.tracing == TracingSettings(
        sample_ratio=0.5, headers_file=str(tmp_path / "secrets/otlp")
    )
    assert load_config(None, {}).settings.observe.tracing is None


@pytest.mark.parametrize(
    "said",
    [
        "endpoint: collector:4318",
        "endpoint: 'https://me:secret@collector/v1/traces'",
        "endpoint: 'https://collector/v1/traces?key=secret'",
        "sample_ratio: 1.5",
        "url: x",
    ],
)
def test_wrong_settings_are_refused(said: str, tmp_path: Path) -> None:
    file = tmp_path / "rater.yaml"
    file.write_text(f"observe: {{tracing: {{{said}}}}}\n")
    with pytest.raises(ConfigError, match="tracing"):
        load_config(file, {})
