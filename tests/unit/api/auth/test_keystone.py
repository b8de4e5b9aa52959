"""Tokens of Keystone, as far as a real one cannot be made to show it: what is kept, shared, bounded and refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from rater.api.auth.believed import Believed
from rater.api.auth.keystone import KeystoneAuthenticator
from rater.api.auth.roles import known_roles
from rater.api.auth.settings import KeystoneAuth, RoleNames
from rater.api.faults import RefusalError
from rater.api.identity import Identity

PROJECT = {"id": "A", "domain": {"id": "default"}}


def said(**changed: Any) -> dict[str, Any]:
    """What Keystone says of a token that is good for an hour."""
    expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    user = {"id": "u1", "name": "ann", "domain": {"id": "default"}}
    return {
        "user": user,
        "roles": [{"id": "r", "name": "reader"}],
        "project": PROJECT,
        "expires_at": expires,
        **changed,
    }


class FakeKeystone:
    """Knows the tokens in `known`; `code` and `body` are answered in place of what it knows."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.code, self.body = 0, b""
        self.validated: list[str] = []
        self.ours = 0
        self.at_once = self.most_at_once = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def token(self, request: web.Request) -> web.Response:
        self.ours += 1
        assert (await request.json())["auth"]["identity"]["password"]["user"]["password"] == "sesame"
        return web.json_response({"token": said()}, status=201, headers={"X-Subject-Token": f"ours-{self.ours}"})

    async def validate(self, request: web.Request) -> web.Response:
        subject = request.headers["X-Subject-Token"]
        self.validated.append(subject)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.hold.wait()
        self.at_once -= 1
        if self.code:
            return web.Response(status=self.code, body=self.body)
        if request.headers["X-Auth-Token"] != f"ours-{self.ours}":
            return web.Response(status=401)
        if subject not in self.known:
            return web.Response(status=404)
        return web.json_response({"token": self.known[subject]}, headers={"X-Subject-Token": subject})


class World:
    def __init__(self, server: FakeKeystone, who: KeystoneAuthenticator, clock: list[float]) -> None:
        self.server, self.who, self.clock = server, who, clock

    async def ask(self, token: str) -> Identity:
        return await self.who.identify(CIMultiDict({"X-Auth-Token": token}))

    async def status(self, token: str) -> int:
        try:
            await self.ask(token)
        except RefusalError as refused:
            return refused.problem.status
        return 0


@asynccontextmanager
async def served(tmp_path: Path, **settings: Any) -> AsyncIterator[World]:
    (tmp_path / "password").write_text("sesame")
    server, clock = FakeKeystone(), [100.0]
    app = web.Application()
    app.router.add_post("/v3/auth/tokens", server.token)
    app.router.add_get("/v3/auth/tokens", server.validate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v3"
    values = {"username": "rater", "password_file": str(tmp_path / "password"), "project": "service", "timeout": 5}
    who = KeystoneAuthenticator(KeystoneAuth(url, **values | settings), lambda: clock[0])
    try:
        yield World(server, who, clock)
    finally:
        await who.close()
        await runner.cleanup()


async def test_an_answer_is_believed_for_a_while_and_not_beyond_the_token(tmp_path: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=40)).isoformat()
    async with served(tmp_path, cache_seconds=300) as world:
        world.server.known = {
            "long": said(),
            "short": said(expires_at=soon),
            "past": said(expires_at="2020-01-01T00:00:00Z"),
        }
        for _ in range(3):
            assert [await world.status(token) for token in world.server.known] == [0, 0, 0]
        assert world.server.validated == ["long", "short", "past", "past", "past"]
        assert world.server.ours == 1
        # when they are revoked, what is believed is believed until then
        world.server.known = {}
        world.clock[0] += 41
        assert [await world.status("long"), await world.status("short")] == [0, 401]
        world.clock[0] += 260
        assert await world.status("long") == 401


async def test_nobodys_token_is_asked_about_once_in_a_while(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        assert [await world.status("x") for _ in range(5)] == [401] * 5
        assert world.server.validated == ["x"]
        world.clock[0] += 11
        world.server.known = {"x": said()}
        assert await world.status("x") == 0


async def test_many_requests_with_one_token_ask_once_and_many_tokens_do_not_flood(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        world.server.known = {"one": said()} | {f"t{n}": said() for n in range(40)}
        world.server.hold.clear()
        many = [asyncio.create_task(world.status("one")) for _ in range(20)]
        hangs_up = asyncio.create_task(world.status("one"))
        others = [asyncio.create_task(world.status(f"t{n}")) for n in range(40)]
        while world.server.at_once < 16:
            await asyncio.sleep(0.01)
        hangs_up.cancel()
        await asyncio.sleep(0.1)
        world.server.hold.set()
        found = await asyncio.gather(*many, *others)

    assert set(found) == {0}
    assert world.server.validated.count("one") == 1
    assert world.server.most_at_once == 16


@pytest.mark.parametrize(
    ("code", "body"),
    [(500, b""), (503, b""), (429, b""), (400, b""), (403, b""), (302, b""), (204, b"")]
    + [
        (200, body)
        for body in (b"", b"{}", b"[]", b"\xff", b'{"token": {}}', b'{"token": {"user": {"id": 7}}}', b"[" * 9999)
    ],
)
async def test_a_keystone_that_says_neither_yes_nor_no_is_503(tmp_path: Path, code: int, body: bytes) -> None:
    async with served(tmp_path) as world:
        world.server.known = {"good": said()}
        assert await world.status("good") == 0
        world.server.code, world.server.body = code, body
        assert await world.status("new") == 503
        assert world.who.red() != ""
        assert await world.status("good") == 0  # what is known goes on
        # and when it is back, nobody was taken for nobody
        world.server.code, world.server.known["new"] = 0, said()
        world.clock[0] += 2
        assert (await world.status("new"), world.who.red()) == (0, "")


async def test_a_keystone_that_is_not_there_is_503_and_is_not_asked_by_each(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame")
    clock = [100.0]
    values: dict[str, Any] = {"username": "r", "password_file": str(tmp_path / "password"), "project": "p"}
    who = KeystoneAuthenticator(KeystoneAuth("http://127.0.0.1:1/v3", **values), lambda: clock[0])
    world = World(FakeKeystone(), who, clock)

    assert [await world.status("a"), await world.status("b")] == [503, 503]
    assert "no connection" in who.red()
    assert "sesame" not in who.red()
    clock[0] += 31
    assert who.red() == ""  # nobody asks a service that is red: it would stay so
    await who.close()


async def test_our_own_token_is_renewed(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        world.server.known = {"a": said(), "b": said()}
        assert await world.status("a") == 0
        world.server.ours += 1  # as if the first had been revoked
        assert await world.status("b") == 0
        assert world.server.ours == 3


async def test_who_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as world:
        world.server.known = {
            "reader": said(),
            "boss": said(roles=[{"name": "Admin"}]),
            "bound": said(bind={"kerberos": "x"}),
        }
        reader, boss = await world.ask("reader"), await world.ask("boss")
        assert await world.status("bound") == 401

    assert (reader.user, reader.scopes, reader.roles, reader.method) == ("u1", ("A",), {"reader"}, "keystone")
    assert (boss.is_admin, boss.may_push("any", "x"), boss.scopes) == (True, True, ("A",))
    assert boss.facts["user_domain_id"] == "default"


async def test_what_a_token_is_for_decides_whether_its_roles_count(tmp_path: Path) -> None:
    admin = [{"name": "Admin"}, {"name": "reader"}]
    tokens = {
        "domain": said(roles=admin, project=None, domain={"id": "d"}),
        "system": said(roles=admin, project=None, system={"all": True}),
        "nothing": said(roles=[], project=None),
        "certificate": said(oauth2_credential={"x5t#S256": "x"}),
    }
    for scoped_to, wanted in (
        (("project",), [False, False]),
        (("system",), [False, True]),
        (("domain",), [True, False]),
    ):
        async with served(tmp_path, scoped_to=scoped_to) as world:
            world.server.known = tokens
            found = [await world.ask("domain"), await world.ask("system")]
            nobody = await world.ask("nothing")
            assert await world.status("certificate") == 401
        assert [one.is_admin for one in found] == wanted
        assert ["reader" in one.roles for one in found] == wanted
        assert [one.may_push("any", "x") for one in found] == wanted
        assert [one.scopes for one in found] == [(), ()]
        assert (found[0].facts["domain_id"], found[1].facts["system_scope"]) == ("d", "all")
        assert (nobody.is_admin, nobody.scopes, nobody.roles) == (False, (), frozenset())


def test_roles_that_are_called_as_ours_and_not_chosen_are_none() -> None:
    names = RoleNames(admin=("cloud_admin",), reader=("member", "reader"), push=())

    assert known_roles(names, ["admin", "Member", "push", "x"]) == {"reader", "member", "x"}
    assert known_roles(names, ["CLOUD_ADMIN"]) == {"admin", "push", "cloud_admin"}


def test_what_is_believed_is_bounded_and_ends() -> None:
    clock = [0.0]
    believed: Believed[str] = Believed(3, lambda: clock[0])
    for token in "abc":
        believed.put(token, token, 10)
    assert believed.get("a") == "a"
    believed.put("d", "d", 10)
    believed.put("e", "e", 0)

    assert [believed.get(token) for token in "abcde"] == ["a", None, "c", "d", None]
    assert len(believed) == 3
    clock[0] = 10
    assert [believed.get(token) for token in "abcde"] == [None] * 5


def test_ca_file_and_insecure_are_one_or_the_other() -> None:
    with pytest.raises(ValueError, match="ca_file and insecure exclude each other"):
        KeystoneAuth("https://k/v3", "u", "p", project="x", ca_file="c", insecure=True)
