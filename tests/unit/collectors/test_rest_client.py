"""What counts as a whole answer of a REST endpoint: pages, types, sizes, ends, redirects. All servers are real ones."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.rest.api import RestApi
from collectors.rest.settings import RestConnection, RestPaging
from tests.unit.collectors.rest_endpoint import Endpoint, csv_reply, get_pages, json_reply, serving

TOKEN = RestPaging("token", next="next", parameter="page_token")


async def _items(endpoint: Endpoint, **settings: Any) -> list[Any]:
    return [item for page in await get_pages(endpoint, **settings) for item in page.items]


# --- requests


async def test_a_get_asks_for_scope_and_time(endpoint: Endpoint) -> None:
    endpoint.says({"items": [1, 2]})

    found = await _items(endpoint, url="/v1/{scope}?from={begin}&to={end:milliseconds}", headers={"X-Tenant": "t"})

    assert found == [1, 2]
    (asked,) = endpoint.asked
    assert (asked.method, asked.path) == ("GET", "/v1/p1?from=2026-01-01T00%3A00%3A00Z&to=1767229200000")
    assert (asked.headers["X-Tenant"], asked.headers["Accept"]) == ("t", "application/json")


async def test_a_post_sends_its_body_with_each_page(endpoint: Endpoint) -> None:
    endpoint.says({"items": [1], "next": "n&1"}, {"items": [2]})
    body = {"scope": "{scope}", "from": "{begin:seconds}"}

    assert await _items(endpoint, method="POST", body=body, paging=TOKEN) == [1, 2]
    assert [(asked.method, asked.path) for asked in endpoint.asked] == [
        ("POST", "/usage"),
        ("POST", "/usage?page_token=n%261"),
    ]
    assert {asked.body for asked in endpoint.asked} == {b'{"scope": "p1", "from": 1767225600}'}


# --- pages


async def test_links_are_followed_until_there_is_none(endpoint: Endpoint) -> None:
    endpoint.says(
        json_reply({"items": [1]}, Link=f'<{endpoint.url}/usage?a=1>; rel="first", </usage?page=2>; rel="last next"'),
        json_reply({"items": [2]}, Link="</usage?page=3>; rel=next"),
        json_reply({"items": [3]}, Link='</usage?page=1>; rel="prev"'),
    )

    assert await _items(endpoint, paging=RestPaging("link")) == [1, 2, 3]
    assert [asked.path for asked in endpoint.asked] == ["/usage", "/usage?page=2", "/usage?page=3"]


@pytest.mark.parametrize(
    "link",
    [
        "<http://127.0.0.1:1/usage>; rel=next",
        "<//example.org/usage>; rel=next",
        "<https://127.0.0.1/usage>; rel=next",
    ],
)
async def test_a_link_to_another_server_is_not_followed(endpoint: Endpoint, link: str) -> None:
    endpoint.says(json_reply({"items": [1]}, Link=link))

    with pytest.raises(SourceError, match="page 1: its link to the next page leads to another server"):
        await _items(endpoint, paging=RestPaging("link"))
    assert len(endpoint.asked) == 1


async def test_a_link_with_a_password_is_not_followed(endpoint: Endpoint) -> None:
    url = endpoint.url.replace("://", "://u:s3cret@")
    endpoint.says(json_reply({"items": [1]}, Link=f"<{url}/usage?p=2>; rel=next"))

    with pytest.raises(SourceError, match="leads to another server") as refused:
        await _items(endpoint, paging=RestPaging("link"))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("link", ["/usage?page=2; rel=next", "<http://[>; rel=next", "<file:///etc/passwd>; rel=next"])
async def test_a_link_that_cannot_be_read_is_no_last_page(endpoint: Endpoint, link: str) -> None:
    endpoint.says(json_reply({"items": [1]}, Link=link))

    with pytest.raises(SourceError, match="link to the next page cannot be read"):
        await _items(endpoint, paging=RestPaging("link"))


async def test_tokens_are_followed_until_there_is_none(endpoint: Endpoint) -> None:
    endpoint.says({"items": [1], "next": "a/b+="}, {"items": [2], "next": 3}, {"items": [3], "next": ""})

    assert await _items(endpoint, url="/usage?s={scope}", paging=TOKEN) == [1, 2, 3]
    assert [asked.path for asked in endpoint.asked] == [
        "/usage?s=p1",
        "/usage?s=p1&page_token=a%2Fb%2B%3D",
        "/usage?s=p1&page_token=3",
    ]


async def test_a_token_may_stand_in_a_header(endpoint: Endpoint) -> None:
    endpoint.says(json_reply({"items": [1]}, X_Next_Page="2"), json_reply({"items": [2]}, X_Next_Page=""))

    assert await _items(endpoint, paging=RestPaging("token", next="header:X-Next-Page", parameter="page")) == [1, 2]


async def test_a_header_that_is_no_text_is_an_error(endpoint: Endpoint) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\nX-Next: \xff\r\n\r\n"
        writer.write(head + b'{"items": []}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(SourceError, match=r"collect\.rest\.paging\.next finds a header that is no text"):
            await _items(endpoint, paging=RestPaging("token", next="header:X-Next", parameter="p"))


async def test_a_token_that_is_none_is_an_error(endpoint: Endpoint) -> None:
    endpoint.says({"items": [1], "next": {"a": 1}})

    with pytest.raises(SourceError, match=r"page 1: collect\.rest\.paging\.next finds an object, not a token"):
        await _items(endpoint, paging=TOKEN)


async def test_a_token_that_comes_again_is_an_error(endpoint: Endpoint) -> None:
    endpoint.says({"items": [1], "next": "a"})

    with pytest.raises(SourceError, match="page 2 names as next one that was read before"):
        await _items(endpoint, paging=TOKEN)


async def test_offsets_go_on_by_what_came_until_nothing_comes(endpoint: Endpoint) -> None:
    """Given a server that gives at most two items, whatever it is asked for; then none is missed."""
    endpoint.says({"items": [1, 2]}, {"items": [3]}, {"items": []})

    assert await _items(endpoint, paging=RestPaging("offset", offset="skip", limit="top", size=5)) == [1, 2, 3]
    assert [asked.path for asked in endpoint.asked] == [
        "/usage?skip=0&top=5",
        "/usage?skip=2&top=5",
        "/usage?skip=3&top=5",
    ]


async def test_pages_are_bounded(endpoint: Endpoint) -> None:
    endpoint.says({"items": [1]})

    with pytest.raises(SourceError, match=r"more than 3 pages .collect\.rest\.paging\.max_pages"):
        await _items(endpoint, paging=RestPaging("offset", max_pages=3))
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize(
    "last", [(500, b"", {}), (200, b'{"items": [', {"Content-Type": "application/json"}), json_reply({"item": []})]
)
async def test_a_page_that_fails_fails_the_whole(endpoint: Endpoint, last: Any) -> None:
    endpoint.says({"items": [1], "next": "a"}, last)

    with pytest.raises(SourceError):
        await _items(endpoint, paging=TOKEN)
    assert len(endpoint.asked) == 2


# --- what is no answer


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (json_reply({"items": []}, 404), "/usage: status 404$"),
        (json_reply({"items": []}, 403), "/usage: status 403$"),
        (json_reply({"items": []}, 206), "/usage: status 206$"),
        ((204, b"", {}), "/usage: status 204$"),
        (json_reply({"items": []}, 500), "/usage: status 500$"),
        (json_reply({"items": []}, 504), "/usage: status 504$"),
        ((200, b"<html>", {"Content-Type": "application/json"}), "page 1: the answer is no JSON$"),
        ((200, b"", {"Content-Type": "application/json"}), "the answer is no JSON"),
        ((200, b'{"items": []} {}', {"Content-Type": "application/json"}), "the answer is no JSON"),
        ((200, b'{"items": "\xff"}', {"Content-Type": "application/json"}), "the answer is no JSON"),
        ((200, b'{"items": ["\\uD800"]}', {"Content-Type": "application/json"}), "the answer is no JSON"),
        ((200, b"[" * 100_000, {"Content-Type": "application/json"}), "the answer is no JSON"),
        ((200, b'{"items": []}', {"Content-Type": "text/html"}), "type 'text/html', not application/json"),
        ((200, b'{"items": []}', {"Content-Type": ""}), "type 'unknown', not application/json"),
        (json_reply({"items": None}), r"collect\.rest\.items finds null in the answer, not a list"),
        (json_reply({"items": {"a": 1}}), "finds an object in the answer, not a list"),
        (json_reply([1]), "finds null in the answer"),
    ],
)
async def test_what_is_not_whole_is_no_answer(endpoint: Endpoint, reply: Any, reason: str) -> None:
    endpoint.says(reply)

    with pytest.raises(SourceError, match=reason) as refused:
        await _items(endpoint)
    assert not isinstance(refused.value, SourceAwayError)


async def test_a_whole_surrogate_pair_is_text(endpoint: Endpoint) -> None:
    endpoint.says((200, b'{"items": ["\\ud83d\\ude00", 1.50]}', {"Content-Type": "application/json"}))

    assert await _items(endpoint) == ["\U0001f600", 1.5]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/problem+json", "text/JSON"])
async def test_json_has_several_types(endpoint: Endpoint, kind: str) -> None:
    endpoint.says((200, b'\xef\xbb\xbf{"items": [1]}', {"Content-Type": kind}))

    assert await _items(endpoint) == [1]


async def test_an_odd_type_can_be_named(endpoint: Endpoint) -> None:
    endpoint.says((200, b'{"items": [1]}', {"Content-Type": "text/plain"}))

    assert await _items(endpoint, content_type="text/plain") == [1]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (json_reply({}, 429, Retry_After="30"), "/usage: status 429, asks for a pause of 30 s$"),
        (json_reply({}, 503, Retry_After="Thu, 01 Jan 2026 00:00:00 GMT"), "/usage: status 503$"),
        (json_reply({}, 502), "/usage: status 502$"),
        (json_reply({}, 401), r"refuses us .status 401.: check collect\.rest\.auth"),
    ],
)
async def test_a_server_that_is_busy_or_refuses_us_is_away(endpoint: Endpoint, reply: Any, reason: str) -> None:
    endpoint.says(reply)

    with pytest.raises(SourceAwayError, match=reason):
        await _items(endpoint)


async def test_a_port_where_nobody_listens_is_away(endpoint: Endpoint, unused_tcp_port: int) -> None:
    endpoint.url = f"http://127.0.0.1:{unused_tcp_port}"

    with pytest.raises(SourceAwayError, match=f"GET http://127.0.0.1:{unused_tcp_port}/usage: no connection"):
        await _items(endpoint)


async def test_a_slow_answer_is_none(endpoint: Endpoint) -> None:
    async def sleep(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    endpoint.says(sleep)
    with pytest.raises(SourceError, match=r"no answer within 0\.2 s .collect\.rest\.timeout"):
        await _items(endpoint, timeout=0.2)


async def test_a_body_that_breaks_off_is_none(endpoint: Endpoint) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"items": []}')
        assert request.transport is not None
        request.transport.close()
        return response

    endpoint.says(break_off)
    with pytest.raises(SourceError, match="the answer broke off"):
        await _items(endpoint)


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"])
async def test_a_body_whose_end_nobody_can_see_is_none(endpoint: Endpoint, head: str) -> None:
    """Given a server that only closes the connection: CSV that is cut off between two rows looks whole."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + b"id,qty\na,1\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(SourceError, match="does not say where it ends"):
            await _items(endpoint, format="csv", items="@")


@pytest.mark.parametrize("host", ["usage..example.org", "x" * 64])
async def test_a_host_that_no_name_server_could_know_is_away(endpoint: Endpoint, host: str) -> None:
    endpoint.url = f"http://{host}"

    with pytest.raises(SourceAwayError, match=f"GET http://{host}/usage: (cannot be asked|no connection|no answer)"):
        await _items(endpoint)


async def test_what_is_not_http_is_away(endpoint: Endpoint) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"secret words\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(SourceAwayError, match="no answer that is HTTP") as refused:
            await _items(endpoint)
    assert "secret words" not in str(refused.value)


@pytest.mark.parametrize("packed", [False, True])
async def test_a_large_answer_is_none(endpoint: Endpoint, packed: bool) -> None:
    body = b'{"items": ["' + b"x" * 50_000 + b'"]}'
    more = {"Content-Encoding": "gzip"} if packed else {}
    endpoint.says((200, gzip.compress(body) if packed else body, {"Content-Type": "application/json", **more}))

    with pytest.raises(SourceError, match=r"the answer is too large .collect\.rest\.max_answer_bytes"):
        await _items(endpoint, max_answer_bytes=40_000)
    assert len(await _items(endpoint)) == 1


async def test_the_bound_of_bytes_is_that_of_all_pages(endpoint: Endpoint) -> None:
    endpoint.says({"items": ["x" * 1000]})

    with pytest.raises(SourceError, match="too large"):
        await _items(endpoint, paging=RestPaging("offset"), max_answer_bytes=10_000)
    assert len(endpoint.asked) == 10


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(endpoint: Endpoint, status: int) -> None:
    async with serving(Endpoint()) as other:
        for target in (f"{other.url}/steal", "/elsewhere"):
            endpoint.says((status, b"", {"Location": target}))
            with pytest.raises(SourceError, match=f"sends us elsewhere .status {status}.; redirects are not followed"):
                await _items(endpoint)
        assert other.asked == []
    assert {asked.path for asked in endpoint.asked} == {"/usage"}


async def test_cookies_are_not_kept(endpoint: Endpoint) -> None:
    endpoint.url = endpoint.url.replace("127.0.0.1", "localhost")  # of an address none would be kept in any case
    endpoint.says(json_reply({"items": [1], "next": "a"}, Set_Cookie="a=b"), {"items": []})

    await _items(endpoint, paging=TOKEN)

    assert "Cookie" not in endpoint.asked[1].headers


# --- CSV


async def test_csv_is_a_list_of_rows(endpoint: Endpoint) -> None:
    endpoint.says(csv_reply('\ufeffid;qty\r\n"a;b";1.50\r\n\r\nc;2\r\n'))

    found = await _items(endpoint, format="csv", items="@", delimiter=";")

    assert found == [{"id": "a;b", "qty": "1.50"}, {"id": "c", "qty": "2"}]
    assert endpoint.asked[0].headers["Accept"] == "text/csv"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no CSV: it has not even a header"),
        ("id,qty\na\n", "no CSV: line 2 has 1 cells, the header has 2"),
        ("id,qty\na,1\nb,2,3\n", "line 3 has 3 cells"),
        ("id,id\n", "two columns of its header have one name"),
        ('id,qty\n"a,1\n', "no CSV: line 2: unexpected end of data"),
    ],
)
async def test_csv_that_is_not_whole_is_none(endpoint: Endpoint, text: str, reason: str) -> None:
    endpoint.says(csv_reply(text))

    with pytest.raises(SourceError, match=reason):
        await _items(endpoint, format="csv", items="@")


async def test_csv_without_rows_is_an_empty_answer(endpoint: Endpoint) -> None:
    endpoint.says(csv_reply("id,qty\n"))

    assert await _items(endpoint, format="csv", items="@") == []


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    key, chain = directory / "key.pem", directory / "chain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return key, chain


async def test_a_certificate_is_checked_unless_told_otherwise(
    endpoint: Endpoint, certificate: tuple[Path, Path]
) -> None:
    key, chain = certificate
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(chain, key)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", endpoint.handle)
    server = TestServer(app, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=tls)
    endpoint.url = str(server.make_url("")).rstrip("/")
    endpoint.says({"items": [1]})
    try:
        with pytest.raises(SourceAwayError, match="no connection"):
            await _items(endpoint)
        assert await _items(endpoint, ca_file=str(chain)) == [1]
        assert await _items(endpoint, insecure=True) == [1]
    finally:
        await server.close()


async def test_settings_that_cannot_work_are_named() -> None:
    for connection, reason in (
        (RestConnection(), r"collect\.rest\.url is missing"),
        (RestConnection(url="https://h/", ca_file="/nowhere"), r"collect\.rest\.ca_file '/nowhere' cannot be used"),
    ):
        with pytest.raises(SettingsError, match=reason):
            RestApi(connection, "collect.rest", 1)
