"""The service itself, without a Kafka: who is answered what before anything could be written."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from rater.api import incoming as incoming_module
from rater.api.app import Api, serve
from rater.api.intake import Intake, Limits
from rater.api.openapi import document
from rater.api.settings import ApiSettings
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.observe import ListenError
from rater.stream.usage_log import UsageWriter

TOKEN = "a-token-of-the-meters-1"


@asynccontextmanager
async def served(registry: CollectorRegistry | None = None, **settings: Any) -> AsyncIterator[str]:
    """The service at a free port, with a writer that has no Kafka."""
    chosen = ApiSettings(**{"listen": "127.0.0.1:0", **settings})
    writer = UsageWriter(KafkaSettings(bootstrap="127.0.0.1:1"), confirm_seconds=1, max_waiting_bytes=1)
    intake = Intake(Catalog([MetricSpec("net", proof=Coverage.SAMPLES)]), Limits(chosen.max_samples, 3600), "u", 1)
    async with serve(Api(chosen, intake, writer, registry or CollectorRegistry()), chosen) as url:
        yield url


async def ask(url: str, method: str = "POST", **request: Any) -> tuple[int, dict[str, Any], Any]:
    async with aiohttp.ClientSession() as http, http.request(method, url, **request) as answer:
        return answer.status, json.loads(await answer.read()), answer.headers


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens.yaml"
    path.write_text(f"tokens: [{{name: meters, token: {TOKEN}}}]")
    return str(path)


async def test_without_kafka_it_is_503_with_a_problem() -> None:
    registry = CollectorRegistry()
    async with served(registry) as url:
        status, problem, headers = await ask(f"{url}/v3/usage", json={})

    assert (status, problem["status"], headers["Retry-After"]) == (503, 503, "2")
    assert headers["Content-Type"].startswith("application/problem+json")
    assert "nothing was written: not connected to Kafka yet" in problem["detail"]
    assert b'rater_api_requests_total{method="POST",route="/v3/usage",status="503"} 1.0' in generate_latest(registry)


async def test_a_token_is_asked_for_and_never_logged(tokens: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with served(token_file=tokens) as url:
        status, _, headers = await ask(f"{url}/v3/usage", json={})
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="rater"')
        wrong = {"Authorization": "Bearer a-wrong-token-of-meters"}
        assert (await ask(f"{url}/v3/usage", json={}, headers=wrong))[0] == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert (await ask(f"{url}/v3/usage", json={}, headers=right))[0] == 503

    assert "token-of" not in caplog.text
    assert "caller='meters'" in caplog.text


async def test_beyond_loopback_it_does_not_listen_without_a_token() -> None:
    with pytest.raises(ListenError, match="asks for no token"):
        async with served(listen="0.0.0.0:0"):
            pass


async def test_a_page_from_elsewhere_cannot_use_it_by_another_name() -> None:
    async with served() as url:
        status, problem, _ = await ask(f"{url}/v3/usage", json={}, headers={"Host": "evil.example:8889"})
        assert (status, problem["status"]) == (403, 403)
        assert (await ask(f"{url}/v3/usage", json={}, headers={"Host": "[::1]:8889"}))[0] == 503


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v3/usage", 405), ("POST", "/v1/x", 404)])
async def test_other_paths_and_methods_are_problems_too(method: str, path: str, status: int) -> None:
    async with served() as url:
        found, problem, _ = await ask(f"{url}{path}", method)

    assert (found, problem["status"]) == (status, status)
    assert "POST /v3/usage" in problem["detail"]


async def test_it_describes_itself() -> None:
    async with served() as url:
        assert (await ask(f"{url}/v3/openapi.json", "GET"))[1] == document(())  # without a store


async def test_a_port_in_use_is_told() -> None:
    async with served() as url:
        with pytest.raises(ListenError, match=r"cannot listen on .*set api\.listen"):
            async with served(listen=url.removeprefix("http://")):
                pass


async def test_tls(tmp_path: Path) -> None:
    # given
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *name, *files], check=True, capture_output=True
    )
    trusted = ssl.create_default_context(cafile=str(certificate))
    # when
    async with served(certificate_file=str(certificate), key_file=str(key)) as url:
        # then
        assert url.startswith("https://")
        assert (await ask(f"{url}/v3/usage", json={}, ssl=trusted))[0] == 503
    # and files that are none are told
    with pytest.raises(ListenError, match=r"api\.key_file .*none cannot be read"):
        async with served(certificate_file=str(key), key_file=str(tmp_path / "none")):
            pass


async def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a service that waits for a moment only, and a writer that could write
    monkeypatch.setattr(incoming_module, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(UsageWriter, "red", lambda self: "")
    async with served() as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        # when a request promises ten bytes and sends one
        head = (
            f"POST /v3/usage HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{"
        )
        writer.write(head.encode())
        # then
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()


async def test_bodies_are_bounded_and_need_a_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UsageWriter, "red", lambda self: "")  # what it refuses, it refuses before it would write
    async with served(max_body_bytes=2000) as url:
        form = {"Content-Type": "application/json"}
        assert (await ask(f"{url}/v3/usage", data=b"x" * 2001, headers=form))[0] == 413
        assert (await ask(f"{url}/v3/usage", data=b"x", skip_auto_headers=["Content-Type"]))[0] == 415
        assert (await ask(f"{url}/v3/usage", data=b"x", headers={"Content-Type": "text/plain"}))[0] == 415
        assert (await ask(f"{url}/v3/usage", data=b"x", headers={**form, "Content-Encoding": "br"}))[0] == 415
        assert (await ask(f"{url}/v3/usage", data=b"x", headers=form))[0] == 400
        assert (await ask(f"{url}/v3/usage", data=b"{}", headers=form))[0] == 422


async def test_what_is_no_http_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with served() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(
            b"POST /v3/usage HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: a\r\nAuthorization: sec\0ret\r\n\r\n"
        )
        answer = await reader.readline()
        writer.close()

    assert answer.startswith(b"HTTP/1.0 400 ")
    [told] = [record for record in caplog.records if "no HTTP" in record.getMessage()]
    assert (told.levelname, told.exc_info) == ("INFO", None)
    assert "Traceback" not in caplog.text
    assert "Authorization" not in caplog.text
