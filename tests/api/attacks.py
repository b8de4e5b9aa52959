"""Requests that somebody sends who means harm or knows no better: tables of them, by what they try.

Each has a name, so that a failure says which one it was. What must hold for every answer is in test_attacks.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

__all__ = ["MINE", "RAW", "THEIRS", "Attack", "attacks"]

MINE, THEIRS = "A", "B"
"""The reader's own scope, and another tenant's."""
JANUARY = (("begin", "2026-01-01T00:00:00"), ("end", "2026-02-01T00:00:00"))
"""When both were used: without it a request is about the month that is now, of which there is nothing to be seen."""
TIMED = ("/v2/summary", "/v2/dataframes", "/v1/report/summary", "/v1/report/total", "/v1/storage/dataframes")
UNKNOWN = "00000000-0000-4000-8000-00000000dead"
H, S = "/v1/rating/module_config/hashmap", "/v1/rating/module_config/pyscripts/scripts"
LONG = "x" * 5000

NASTY = (
    "' OR '1'='1", "'; DROP TABLE lines; --", "\") OR 1=1 --", "{p1:String}", "{scope_id:Identifier}", "%(scope)s",
    "${jndi:ldap://x}", "{{7*7}}", "<script>alert(1)</script>", "../../../../etc/passwd", "a\\' OR 1=1 --",
    "x' UNION ALL SELECT * FROM system.tables --",
    "file('/etc/passwd')", "\u0000", "\U0001f600", "\u202e", "%00",
    "\r\nX-Evil: 1", "[[", "*", "%", "_", "null", "-1", "1e400", LONG,
)  # fmt: skip
"""Values that mean something to SQL, templates, paths or headers, or are too long, or no text."""
NOT_TIMES = (
    "yesterday", "2026-13-01", "2026-01-01T25:00:00", "99999-01-01", "-1", "1e309", "NaN", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00' --", "2026-01-01T00:00:00Z" * 50,
)  # fmt: skip
NO_NUMBERS = ("-1", "0.5", "1e3", "abc", "99999999999999999999999999", "", " ", "0x10", "\u0661")
NO_OBJECTS = (
    b"", b"{", b"[]", b"null", b"1", b'"x"', b'{"a":1}', b'{"a":{"b":{"c":[]}}}', b"\xff\xfe", b'{"a":"\\ud800"}',
    b"{'a':1}", b"[" * 5000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b'{"name":"a","name":"b"}', b'{"name":1e999}',
    b'{"name":NaN}', b"<xml/>",
)  # fmt: skip
WRITES = (
    ("POST", f"{H}/services/"), ("POST", f"{H}/fields"), ("POST", f"{H}/groups"), ("POST", f"{H}/mappings"),
    ("POST", f"{H}/thresholds"), ("PUT", f"{H}/mappings/{UNKNOWN}"), ("PUT", f"{H}/thresholds/{UNKNOWN}"), ("POST", S),
    ("PUT", f"{S}/{UNKNOWN}"), ("PUT", "/v1/rating/modules/hashmap"), ("PUT", "/v2/rating/modules/hashmap"),
    ("POST", "/v1/rating/quote"), ("POST", "/v2/dataframes"), ("POST", "/v2/scope"), ("PATCH", "/v2/scope"),
    ("PUT", "/v2/scope"), ("POST", "/v2/task/reprocesses"), ("POST", "/v3/usage"),
)  # fmt: skip
"""Everything of CloudKitty's that writes, and pushed usage. What else /v3 has is found in its description."""


class Attack(NamedTuple):
    """A request. `who` is one of the tokens by name, or a token itself after `=`; empty for none."""

    name: str
    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    who: str = "boss"
    headers: Mapping[str, str] = {}
    statuses: frozenset[int] | None = None
    """What may come back; None for anything that is no fault of ours."""


REFUSED = frozenset({400, 403, 404, 405, 413, 414, 415, 422, 431})


def attacks(description: Mapping[str, Any]) -> Iterator[Attack]:
    """All of them. `description` is the OpenAPI document of /v3."""
    yield from _bodies()
    yield from _values()
    yield from _injections()
    yield from _foreign()
    yield from _tokens()
    yield from _paths()
    yield from _described(description)


def _bodies() -> Iterator[Attack]:
    json = {"Content-Type": "application/json"}
    for (method, path), number in product(WRITES, range(len(NO_OBJECTS))):
        if (hash_of(path) + number) % 3 == 0:  # each path gets a third of them, each of them a third of the paths
            yield Attack(f"body {number} to {path}", method, path, body=NO_OBJECTS[number], headers=json)
    huge = b'{"name":"' + b"x" * 900_000 + b'"}'
    for method, path in (("POST", f"{H}/services"), ("POST", "/v2/dataframes"), ("POST", "/v3/usage")):
        yield Attack(f"huge body to {path}", method, path, body=huge, headers=json, statuses=REFUSED)
        bomb = {**json, "Content-Encoding": "gzip"}
        yield Attack(f"no gzip to {path}", method, path, body=huge[:1000], headers=bomb, statuses=REFUSED)
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json; charset=utf-7",
    ):
        yield Attack(f"{kind} to hashmap", "POST", f"{H}/services", body=b'{"name": 7}', headers={"Content-Type": kind})


def hash_of(text: str) -> int:
    """A number of the text that is the same in every run."""
    return sum(text.encode())


def _values() -> Iterator[Attack]:
    for value in NOT_TIMES:
        for path in (
            "/v1/report/total",
            "/v1/report/summary",
            "/v2/summary",
            "/v2/dataframes",
            "/v1/storage/dataframes",
        ):
            yield Attack(f"begin={value[:30]!r} at {path}", "GET", path, [("begin", value)])
    for value, name in product(NO_NUMBERS, ("offset", "limit")):
        for path in ("/v2/summary", "/v2/dataframes", "/v2/scope", "/v2/task/reprocesses"):
            yield Attack(f"{name}={value!r} at {path}", "GET", path, [(name, value)])
    for path in (
        f"{H}/services",
        f"{H}/fields",
        f"{H}/groups",
        f"{H}/mappings",
        f"{H}/thresholds",
        S,
        "/v1/rating/modules",
    ):
        for unknown in (UNKNOWN, "nope", "0" * 300, "..%2f..%2fetc%2fpasswd", "%00", "%ff", "%27%20OR%201=1"):
            yield Attack(f"GET {unknown[:20]} of {path}", "GET", f"{path}/{unknown}", statuses=REFUSED)
            if "module" not in path.rpartition("/")[2]:
                yield Attack(f"DELETE {unknown[:20]} of {path}", "DELETE", f"{path}/{unknown}", statuses=REFUSED)
    cost = {"Content-Type": "application/json"}
    for number in ("1e400", "NaN", "-Infinity", '"Infinity"', "[]", "{}", '"1/3"', '"0x1"', "true", "9" * 400):
        body = f'{{"cost": {number}, "service_id": "{UNKNOWN}", "type": "flat", "value": "a"}}'.encode()
        yield Attack(f"cost {number[:12]}", "POST", f"{H}/mappings", body=body, headers=cost, statuses=REFUSED)


def _injections() -> Iterator[Attack]:
    for value in NASTY:
        shown = ascii(value[:24])
        yield Attack(f"filter {shown}", "GET", "/v2/summary", [("filters", f"project_id:{value}"), *JANUARY])
        yield Attack(f"filter key {shown}", "GET", "/v2/summary", [("filters", f"{value}:x"), *JANUARY])
        yield Attack(f"groupby {shown}", "GET", "/v2/summary", [("groupby", value), *JANUARY])
        yield Attack(f"custom_fields {shown}", "GET", "/v2/summary", [("custom_fields", value), *JANUARY])
        yield Attack(f"response_format {shown}", "GET", "/v2/summary", [("response_format", value)], statuses=REFUSED)
        yield Attack(f"points of label {shown}", "GET", "/v2/dataframes", [("filters", f"{value}:{value}"), *JANUARY])
        yield Attack(
            f"tenant {shown}", "GET", "/v1/report/summary", [("tenant_id", value), ("groupby", value), *JANUARY]
        )
        yield Attack(f"resource type {shown}", "GET", "/v1/storage/dataframes", [("resource_type", value), *JANUARY])
        yield Attack(f"scope {shown}", "GET", "/v2/scope", [("scope_id", value)])
        yield Attack(f"description {shown}", "GET", f"{H}/mappings", [("description", value)])


def _foreign() -> Iterator[Attack]:
    """Another tenant's usage, by every door, as a reader of scope A."""
    asked = (
        ("/v2/summary", [("filters", f"project_id:{THEIRS}")]),
        ("/v2/summary", [("filters", f"project_id:{MINE}"), ("filters", f"project_id:{THEIRS}")]),
        ("/v2/summary", [("filters", f"project_id:{MINE},project_id:{THEIRS}"), ("groupby", "project_id,id")]),
        ("/v2/summary", [("groupby", "project_id,id,flavor,az")]),
        ("/v2/summary", [("filters", "id:SECRET-OF-B")]),
        ("/v2/dataframes", [("filters", f"project_id:{THEIRS}")]),
        ("/v2/dataframes", [("filters", "id:SECRET-OF-B")]),
        ("/v2/dataframes", [("limit", "1000"), ("offset", "0")]),
        ("/v1/report/summary", [("tenant_id", THEIRS)]),
        ("/v1/report/summary", [("tenant_id", THEIRS), ("all_tenants", "true")]),
        ("/v1/report/summary", [("all_tenants", "true"), ("groupby", "tenant_id")]),
        ("/v1/report/total", [("tenant_id", THEIRS)]),
        ("/v1/report/total", [("all_tenants", "true")]),
        ("/v1/report/tenants", []),
        ("/v1/storage/dataframes", [("tenant_id", THEIRS)]),
        ("/v1/storage/dataframes", []),
        ("/v2/scope", [("scope_id", THEIRS)]),
        ("/v2/task/reprocesses", [("scope_ids", THEIRS)]),
        ("/v3/openapi.json", []),
    )
    for number, (path, asked_for) in enumerate(asked):
        query = [*asked_for, *(JANUARY if path in TIMED else ())]
        yield Attack(f"foreign {number} {path}", "GET", path, query, who="ann")
        for header in ("X-Project-Id", "X-Tenant-Id", "X-Is-Admin-Project", "X-Roles", "X-Forwarded-User"):
            if (number + len(header)) % 3 == 0:
                forged = {header: "admin" if "Roles" in header else THEIRS}
                yield Attack(f"foreign {number} {path} with {header}", "GET", path, query, who="ann", headers=forged)
    for method, path in WRITES:
        allowed = REFUSED if path != "/v1/rating/quote" else None  # whoever reads may ask for a price
        yield Attack(f"reader {method} {path}", method, path, body=b"{}", who="ann", statuses=allowed)


def _tokens() -> Iterator[Attack]:
    good = "the-token-of-tenant-A-1"
    wrong = (
        "",
        "x",
        good[:-1],
        good + "1",
        good.upper(),
        f" {good}x",
        LONG,
        "admin",
        "*",
        "null",
        "\u00e9",
        "' OR 1=1 --",
    )
    unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJib3NzIiwicm9sZXMiOlsiYWRtaW4iXX0."
    for token, path in product(
        (*wrong, unsigned), ("/v1/report/total", "/v2/summary", "/v3/openapi.json", "/v3/usage")
    ):
        if path != "/v3/openapi.json":
            method = "POST" if path == "/v3/usage" else "GET"
            refused = frozenset({400, 401, 431})
            yield Attack(f"token {token[:16]!r} {path}", method, path, who=f"={token}", body=None, statuses=refused)
    for name, value in (
        ("Authorization", f"Basic {good}"),
        ("Authorization", "Bearer"),
        ("Authorization", f"Bearer {good} x"),
    ):
        yield Attack(
            f"{name}: {value[:12]}", "GET", "/v2/summary", who="", headers={name: value}, statuses=frozenset({400, 401})
        )
    yield Attack("push by a reader", "POST", "/v3/usage", who="ann", body=b"{}", statuses=REFUSED)


def _paths() -> Iterator[Attack]:
    for path in (
        "/v2/summary/..", "/v2/../v1/rating/modules", "/v2/%2e%2e/v1/rating/modules", "//v2/summary", "/v2//summary",
        "/v2/summary//", "/v2/summary%2f", "/V2/summary", "/v2/summary;x=1", "/v2/summary%00",
        "/v2/summary%0d%0aX-Evil:1",
        "/v2/.%2e/", "/v2/./summary", "/v1/rating/../../metrics", "/metrics", "/healthz", "/.git/config",
        "/v2/summary.json", "/v2/%73ummary", "/v3/../v2/scope", "/v3/%2e%2e/%2e%2e/etc/passwd",
        "/v3/docs/../../etc/passwd", "/v2/\u00e9", "/" + "a/" * 2000, "/" + LONG * 3, "/v1/" + "%2f" * 500,
        "/v3/scopes/%2e%2e/gaps", "/v3/scopes/B%00/gaps", "/v3/scopes/%ff/gaps", "/v1/rating/module_config/nope/x", "*",
    ):  # fmt: skip
        yield Attack(f"path {path[:40]!r}", "GET", path, who="ann")
    for method in ("TRACE", "CONNECT", "OPTIONS", "PROPFIND", "PATCH", "DELETE", "PUT", "HEAD", "BREW"):
        yield Attack(f"{method} /v2/summary", method, "/v2/summary", who="ann")
    override = {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/v1/rating/modules"}
    yield Attack("method override", "GET", "/v2/summary", who="ann", headers=override)
    many = [("filters", f"k{n}:v") for n in range(3000)]
    yield Attack("thousands of filters", "GET", "/v2/summary", many, statuses=REFUSED)
    yield Attack("thousands of groups", "GET", "/v2/summary", [("groupby", ",".join(f"g{n}" for n in range(3000)))])
    yield Attack("many headers", "GET", "/v2/summary", headers={f"X-{n}": "y" for n in range(500)})
    yield Attack("a host of somebody else", "GET", "/", headers={"Host": "evil.example"}, who="")


def _described(description: Mapping[str, Any]) -> Iterator[Attack]:
    """Each parameter of each operation of /v3 with values it was not made for, and other tenants' scopes."""
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            named = [p for p in operation.get("parameters", []) if "name" in p]
            for number, value in enumerate(NASTY):
                parameter = named[number % len(named)] if named else None
                if parameter is not None and method == "get":
                    yield _with(path, method, named, parameter, value)
            theirs = path.replace("{scope_id}", THEIRS)
            if theirs != path and "{" not in theirs:
                yield Attack(
                    f"/v3 foreign {method} {path}", method.upper(), theirs, body=b"{}", who="ann", statuses=REFUSED
                )
            if any(p["name"] == "scope_id" and p["in"] == "query" for p in named) and method == "get":
                yield Attack(f"/v3 foreign {path}", "GET", path, [("scope_id", THEIRS)], who="ann")


def _with(path: str, method: str, named: Sequence[Any], parameter: Any, value: str) -> Attack:
    name = f"/v3 {method} {path} {parameter['name']}={value[:16]!a}"
    query = [(parameter["name"], value)] if parameter["in"] == "query" else []
    headers: dict[str, str] = {}
    if parameter["in"] == "header" and value.isascii() and value.isprintable():
        headers[parameter["name"]] = value
    for one in named:
        if one["in"] == "path":
            sent = value if one is parameter else MINE
            path = path.replace(f"{{{one['name']}}}", "".join(f"%{byte:02x}" for byte in sent.encode()))
    return Attack(name, method.upper(), path, query, headers=headers)


_HOST = b"Host: 127.0.0.1\r\nX-Auth-Token: the-token-of-tenant-A-1\r\n"
RAW: Mapping[str, bytes] = {
    "two lengths": b"POST /v2/dataframes HTTP/1.1\r\n" + _HOST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    "length and chunks": b"POST /v2/dataframes HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/report/tenants HTTP/1.1\r\n\r\n",
    "chunks of no size": b"POST /v2/dataframes HTTP/1.1\r\n"
    + _HOST
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "endless chunk size": b"POST /v2/dataframes HTTP/1.1\r\n"
    + _HOST
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"f" * 4000
    + b"\r\n",
    "negative length": b"POST /v2/dataframes HTTP/1.1\r\n" + _HOST + b"Content-Length: -1\r\n\r\n",
    "no version": b"GET /v2/summary\r\n\r\n",
    "no host": b"GET /v2/summary HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v2/summary HTTP/1.1\r\nHost: evil.example\r\n" + _HOST + b"\r\n",
    "an absolute address": b"GET http://evil.example/v2/summary HTTP/1.1\r\n" + _HOST + b"\r\n",
    "bare line feeds": b"GET /v2/summary HTTP/1.1\nHost: 127.0.0.1\n\n",
    "a NUL in a header": b"GET /v2/summary HTTP/1.1\r\n" + _HOST + b"X-Evil: a\0b\r\n\r\n",
    "a folded header": b"GET /v2/summary HTTP/1.1\r\n" + _HOST + b"X-Evil: a\r\n b\r\n\r\n",
    "a header without end": b"GET /v2/summary HTTP/1.1\r\n" + _HOST + b"X-Evil: " + b"x" * 100_000 + b"\r\n\r\n",
    "a space before the colon": b"GET /v2/summary HTTP/1.1\r\n" + _HOST + b"Content-Length : 4\r\n\r\nGET ",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an upgrade": b"GET /v2/summary HTTP/1.1\r\n" + _HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
}
"""Bytes that are sent as they are."""
