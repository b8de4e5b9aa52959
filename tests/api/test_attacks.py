"""Hundreds of requests that mean harm, to the service as a process: no fault of ours, no foreign data, no long wait.

The tables are in `attacks.py`. Signed tokens that are forged, stale or replayed go to a second process, which knows
people by OpenID Connect.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from yarl import URL

from deploy.local.kafka import LaptopKafka
from rater.config import load_config
from rater.kafka import KafkaSettings, create_topics
from rater.model.rated import Line
from rater.services import serve_sink
from rater.store import Store, counts
from tests.api.attacks import MINE, RAW, THEIRS, UNKNOWN, Attack, attacks
from tests.integration.pushing import ApiProcess, serving
from tests.integration.sinks import own_topics, publish, until
from tests.unit.api.auth.test_oidc import EC, ISSUER, OTHER_RSA, SET, claims, signed
from tests.unit.api.cloudkitty.world import TOKENS
from tests.unit.store.builders import HOUR, JANUARY, a_frame

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONFIG = """\
kafka: {{bootstrap: {bootstrap}, prefix: {prefix}, partitions: {partitions}}}
store: {{dsn: "chdb://clickhouse"}}
sink: {{max_delay: 0.1}}
metrics: {{cpu: {{unit: core}}, net: {{proof: samples}}}}
api: {{listen: "127.0.0.1:0", max_body_bytes: 500000, cloudkitty: {{}}, {auth}}}
"""
BY_TOKEN = "token_file: tokens.yaml"
BY_ISSUER = f"auth: oidc, oidc: {{issuer: '{ISSUER}', audience: [rater], jwks_file: jwks.json}}"
WHO = {
    "boss": "the-token-of-the-boss-1",
    "ann": "the-token-of-tenant-A-1",
    "both": "the-token-of-A-and-B-1",
    "meter": "the-token-of-a-meter-1",
}
SECRETS = (b"SECRET-OF-B", b"777.125", b"777.1250")
"""What only stands in usage and prices of scope B."""
AT_ONCE = 8
EVENTS = "text/event-stream"
BUSY = "it was not even looked at"
SECONDS = 20
"""For one answer. The longest that was seen is some hundred milliseconds."""


class Place(NamedTuple):
    """Two services over the same store and topics, by tokens and by signed tokens."""

    tokens: ApiProcess
    oidc: ApiProcess


def lines(scope: str) -> list[Line]:
    labels = {"id": f"{'SECRET-OF-B' if scope == THEIRS else 'mine'}", "project_id": scope}
    price = Decimal("777.125" if scope == THEIRS else "0.5")
    return [Line(f"{1:032x}", "cpu", "core", Decimal(1), price, labels, {"flavor": "m1"})]


def configured(directory: Path, kafka: KafkaSettings, name: str, auth: str) -> Path:
    path = directory / name
    values = {"bootstrap": kafka.bootstrap, "prefix": kafka.prefix, "partitions": kafka.partitions}
    path.write_text(CONFIG.format(auth=auth, **values))
    return path


@pytest.fixture
async def place(kafka: LaptopKafka, tmp_path: Path) -> AsyncIterator[Place]:
    topics = await own_topics(kafka)
    (tmp_path / "tokens.yaml").write_text(TOKENS)
    (tmp_path / "jwks.json").write_text(json.dumps(SET))
    by_token = configured(tmp_path, topics, "rater.yaml", BY_TOKEN)
    by_issuer = configured(tmp_path, topics, "oidc.yaml", BY_ISSUER)
    loaded = load_config(by_token, {})
    await create_topics(loaded.settings.kafka)
    frames = [a_frame(scope, JANUARY + hour * HOUR, lines=lines(scope)) for scope in "AB" for hour in range(4)]
    stop = asyncio.Event()
    with Store(loaded.settings.store) as store:
        async with serve_sink(loaded, store, CollectorRegistry()) as sink:
            running = asyncio.create_task(sink.run(stop))
            await publish(topics, *frames)
            try:
                async with serving(by_token) as tokens, serving(by_issuer) as oidc:
                    await until(lambda: counts(store) == (8, 8))
                    yield Place(tokens, oidc)
            finally:
                stop.set()
                await running


async def test_nothing_that_is_sent_does_harm(place: Place) -> None:
    timeout = aiohttp.ClientTimeout(SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        async with http.get(f"{place.tokens.url}/v3/openapi.json") as answer:
            description = await answer.json()
        sent = await all_of_them(http, place.tokens.url, description)
        assert sent >= 500
        await raw_bytes(place.tokens)
        await forged_tokens(http, place.oidc.url)
        await all_is_as_before(http, place.tokens)


async def all_of_them(http: aiohttp.ClientSession, url: str, description: Any) -> int:
    limit, faults = asyncio.Semaphore(AT_ONCE), list[str]()
    found = list(attacks(description))

    async def one(attack: Attack) -> None:
        said = BUSY
        async with asyncio.timeout(SECONDS), limit:
            while said == BUSY:  # of exports two run at a time
                said = await judged(http, url, attack)
        if said:
            faults.append(f"{attack.name}: {said}")

    await asyncio.gather(*map(one, found))
    assert not faults, "\n".join(sorted(faults))
    return len(found)


async def judged(http: aiohttp.ClientSession, url: str, attack: Attack) -> str:
    """What is wrong with the answer; empty if nothing is."""
    token = attack.who.removeprefix("=") if attack.who.startswith("=") else WHO.get(attack.who, "")
    headers = {**({"X-Auth-Token": token} if token else {}), **attack.headers}
    raw = "".join(f"%{byte:02x}" if byte <= 32 or byte > 126 else chr(byte) for byte in attack.path.encode())
    target = URL(url + (raw if raw.startswith("/") else f"/{raw}"), encoded=True)
    try:
        query = [(name, value) for name, value in attack.query]
        async with http.request(
            attack.method, target, params=query or None, data=attack.body, headers=headers, allow_redirects=False
        ) as answer:
            body = b"" if answer.content_type == EVENTS else await answer.read()  # a stream of events never ends
    except (ValueError, aiohttp.InvalidURL):
        return ""  # the client refuses to send it
    except aiohttp.ClientConnectionError:
        return ""  # cut off, as a body that is too large may be
    except TimeoutError:
        return f"no answer within {SECONDS} s"
    if answer.status >= 500:
        return f"status {answer.status}: {body[:300]!r}"
    if answer.status == 429:
        return BUSY
    if attack.statuses is not None and answer.status not in attack.statuses:
        return f"status {answer.status}, expected {sorted(attack.statuses)}: {body[:300]!r}"
    if attack.who not in ("boss", "both") and any(secret in body for secret in SECRETS):
        return f"foreign data: {body[:300]!r}"
    if any(word in body for word in (b"Traceback", b"DB::Exception", b"/site-packages/", b"the-token-of")):
        return f"tells of our inside: {body[:300]!r}"
    if "X-Evil" in answer.headers:
        return "a header was smuggled in"
    return ""


async def raw_bytes(service: ApiProcess) -> None:
    for name, sent in RAW.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            writer.write(sent)
            writer.write_eof()
            async with asyncio.timeout(SECONDS):
                answer = await reader.read()
        except ConnectionError:
            answer = b""
        finally:
            writer.close()
        statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]
        assert all(b"200" <= status < b"500" for status in statuses), (name, answer[:500])
        assert not any(secret in answer for secret in SECRETS), name
        assert b"Traceback" not in answer, name


async def forged_tokens(http: aiohttp.ClientSession, url: str) -> None:
    """Whoever signs with another key, or none, or too late, is nobody; whose claims are true sees its own."""
    now = int(time.time())
    admin = {"roles": ["admin"], "rater_scopes": [MINE, THEIRS]}
    body, payload = signed(**admin).split("."), json.dumps(claims(**admin)).encode()
    forged = {
        "expired": signed(exp=now - 600, **admin),
        "not yet": signed(nbf=now + 600, **admin),
        "without end": signed(exp=None, **admin),
        "of another issuer": signed(iss="https://evil.example", **admin),
        "for somebody else": signed(aud="another", **admin),
        "by another key": signed(OTHER_RSA, **admin),
        "a kid that is a path": signed(OTHER_RSA, "../../../../dev/null", **admin),
        "a kid of SQL": signed(OTHER_RSA, "x' UNION SELECT 'key", **admin),
        "its own key along": signed(OTHER_RSA, "one", head={"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}}, **admin),
        "its own URL along": signed(OTHER_RSA, "one", head={"jku": f"{url}/v3/openapi.json"}, **admin),
        "another algorithm": signed(EC, "one", "ES256", **admin),
        "without a signature": ".".join([*body[:2], ""]),
        "with half of one": ".".join([*body[:2], body[2][:-20]]),
        "another payload": ".".join([body[0], jws_part(payload), body[2]]),
        "no algorithm": ".".join([jws_part(b'{"alg":"none"}'), body[1], ""]),
        "one dot": ".".join(body[:2]),
        "four dots": ".".join([*body, "", ""]),
        "no JSON": ".".join([jws_part(b"\xff{"), body[1], body[2]]),
        "a long one": signed(**admin, more="x" * 60_000),
    }
    for name, token in forged.items():
        for path in ("/v2/summary", "/v1/rating/modules", "/v3/scopes"):
            status, answer = await asked(http, url + path, token)
            assert status in (400, 401, 431), (name, path, status, answer[:300])
            assert not any(secret in answer for secret in SECRETS), (name, path)
    everything = {"begin": "2026-01-01T00:00:00", "end": "2026-02-01T00:00:00", "groupby": "project_id,id"}
    own = signed(roles=["reader"], rater_scopes=[MINE])
    for _ in range(2):  # the same token may come again until it ends
        status, answer = await asked(http, f"{url}/v2/summary", own, everything)
        assert (status, [row[4] for row in json.loads(answer)["results"]]) == (200, [MINE])
    short = signed(exp=int(time.time()) - 29, roles=["reader"], rater_scopes=[MINE])  # within the leeway of 30 s
    assert (await asked(http, f"{url}/v2/summary", short, everything))[0] == 200
    await until(lambda: int(time.time()) > now + 2, seconds=10)
    async with asyncio.timeout(SECONDS):
        while (await asked(http, f"{url}/v2/summary", short, everything))[0] != 401:
            await asyncio.sleep(0.2)  # and replayed after its end it is nobody's


def jws_part(content: bytes) -> str:
    """As it stands between the dots."""
    return urlsafe_b64encode(content).decode().rstrip("=")


async def asked(http: aiohttp.ClientSession, url: str, token: str, query: Any = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"}
    async with http.get(url, params=query, headers=headers) as answer:
        return answer.status, await answer.read()


async def all_is_as_before(http: aiohttp.ClientSession, service: ApiProcess) -> None:
    """No rule, scope or price came of it; the service is well, and its log shows no fault and no token."""
    boss = {"X-Auth-Token": WHO["boss"]}
    everything = {"begin": "2026-01-01T00:00:00", "end": "2026-02-01T00:00:00", "groupby": "project_id"}
    async with http.get(f"{service.url}/v2/summary", params=everything, headers=boss) as answer:
        rows = (await answer.json())["results"]
    assert [(row[3], row[4]) for row in rows] == [(2.0, MINE), (3108.5, THEIRS)]
    hashmap = f"{service.url}/v1/rating/module_config/hashmap"
    for kind in ("fields", "mappings", "thresholds"):
        query = {"service_id": UNKNOWN} if kind != "mappings" else {}
        async with http.get(f"{hashmap}/{kind}", params=query, headers=boss) as answer:
            assert (await answer.json())[kind] == []
    assert "Traceback" not in service.log, service.log[-3000:]
    for token in WHO.values():
        assert token not in service.log
