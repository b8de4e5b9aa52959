"""A request is a span of its client's trace, if that is recorded; what it asks for by words is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from rater.api.app import Api, serve
from rater.api.intake import Intake, Limits
from rater.api.settings import ApiSettings
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog
from rater.stream.usage_log import UsageWriter
from rater.tracing.header import written
from tests.unit.tracing.traced import Traced

CLIENT = written(7, 8)


@asynccontextmanager
async def served(traced: Traced) -> AsyncIterator[str]:
    settings = ApiSettings(listen="127.0.0.1:0")
    writer = UsageWriter(KafkaSettings(bootstrap="127.0.0.1:1"), confirm_seconds=1, max_waiting_bytes=1)
    intake = Intake(Catalog([]), Limits(10, 3600), "u", 1)
    async with serve(Api(settings, intake, writer, CollectorRegistry(), tracing=traced.tracing), settings) as url:
        yield url


async def ask(url: str, method: str = "GET", **headers: str) -> str:
    """The id of the request."""
    async with aiohttp.ClientSession() as http, http.request(method, url, headers=headers) as answer:
        return answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("sent", "parent", "ratio", "is_recorded"),
    [
        (CLIENT, 8, 0.0, True),
        (CLIENT[:-1] + "0", None, 1.0, False),
        ("", None, 1.0, True),
        ("", None, 0.0, False),
        ("00-nonsense", None, 1.0, True),
    ],
)
async def test_the_client_decides_if_it_says_so(sent: str, parent: int | None, ratio: float, is_recorded: bool) -> None:
    traced = Traced(ratio)
    async with served(traced) as url:
        request_id = await ask(f"{url}/v3/openapi.json?secret=1", traceparent=sent)

    assert len(traced.spans) == is_recorded
    for span in traced.spans:
        assert (span.name, span.parent and span.parent.span_id) == ("GET /v3/openapi.json", parent)
        assert span.attributes == {
            "http.request.method": "GET",
            "http.route": "/v3/openapi.json",
            "rater.request_id": request_id,
            "http.response.status_code": 200,
        }
        assert "secret" not in span.to_json()


async def test_what_is_our_fault_is_a_failure_and_a_refusal_is_none() -> None:
    traced = Traced(1.0)
    async with served(traced) as url:
        await ask(f"{url}/v3/usage", "POST")
        await ask(f"{url}/nowhere/secret")

    assert [(span.name, span.status.is_ok) for span in traced.spans] == [("POST /v3/usage", False), ("GET", True)]
    assert "secret" not in traced.spans[1].to_json()
