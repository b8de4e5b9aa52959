"""The API asks a real Keystone who it is: passwords, application credentials, revoked tokens, what a token is for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from multidict import CIMultiDict

from collectors.errors import SourceAwayError
from rater.api.auth.keystone import KeystoneAuthenticator
from rater.api.auth.settings import KeystoneAuth
from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.policy import DefaultPolicy
from rater.rating import RuleBook
from rater.store import Store, migrate
from tests.openstack.asking import ask
from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer
from tests.unit.api.cloudkitty.world import lines_of, serving
from tests.unit.api.cloudkitty.world import opened as opened_view
from tests.unit.store.builders import JANUARY, a_frame, memory_store, store_frames

CLIENT = Path(__file__).resolve().parents[2] / ".cache" / "cloudkittyclient" / "bin" / "cloudkitty"


class Cloud(NamedTuple):
    """A project with a reader, a member and an administrator, and the user as which tokens are validated."""

    project: str
    users: dict[str, str]
    settings: dict[str, Any]


@pytest.fixture(scope="module")
def cloud(keystone: KeystoneServer, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    client, secrets = keystone.client, tmp_path_factory.mktemp("api-secrets")
    (secrets / "password").write_text(PASSWORD)
    project, ours = client.project("api-customer"), client.project("api-service")
    users = {role: client.user(f"api-{role}") for role in ("reader", "member", "admin")}
    for role, user in users.items():
        client.grant(user, role, f"projects/{project}")
    client.grant(users["admin"], "admin", "domains/default")
    client.grant(client.user("api-validator"), "service", f"projects/{ours}")
    values = {
        "username": "api-validator",
        "password_file": str(secrets / "password"),
        "project": "api-service",
        "timeout": 60,
    }
    return Cloud(project, users, {"url": keystone.url, **values})


@asynccontextmanager
async def opened(cloud: Cloud, **changed: Any) -> AsyncIterator[KeystoneAuthenticator]:
    who = KeystoneAuthenticator(KeystoneAuth(**cloud.settings | changed))
    try:
        yield who
    finally:
        await who.close()


async def found(who: KeystoneAuthenticator, token: str) -> Identity | int:
    """Whose token it is, or the status that is answered."""
    try:
        return await who.identify(CIMultiDict({"X-Auth-Token": token}))
    except RefusalError as refused:
        return refused.problem.status


def may(who: Identity | int, action: str, *scopes: str) -> bool:
    assert isinstance(who, Identity), who
    try:
        DefaultPolicy().authorize(who, action, scopes or None)
    except RefusalError:
        return False
    return True


async def test_roles_on_the_project_of_a_token_say_what_it_may(keystone: KeystoneServer, cloud: Cloud) -> None:
    tokens = {role: keystone.client.login(f"api-{role}", project="api-customer") for role in cloud.users}
    async with opened(cloud) as who:
        reader, member, admin = [await found(who, tokens[role]) for role in ("reader", "member", "admin")]
        nobody = await found(who, keystone.client.login("api-reader"))

        assert isinstance(reader, Identity)
        assert isinstance(nobody, Identity)
        assert (reader.user, reader.scopes, reader.method) == (cloud.users["reader"], (cloud.project,), "keystone")
        assert (nobody.scopes, nobody.roles) == ((), frozenset())
        summary = [may(one, "summary:get_summary", cloud.project) for one in (reader, member, admin)]
        assert summary == [True, True, True]  # Keystone's own rules: who is a member is a reader, too
        assert [may(one, "summary:get_summary", "other") for one in (reader, member, admin)] == [False, False, True]
        assert [may(one, "rating:module_config") for one in (reader, member, admin)] == [False, False, True]
        assert [await found(who, wrong) for wrong in ("x", tokens["admin"][:-1], tokens["admin"] + "x")] == [401] * 3


async def test_a_revoked_token_is_believed_no_longer_than_is_set(keystone: KeystoneServer, cloud: Cloud) -> None:
    token = keystone.client.login("api-admin", project="api-customer")
    async with opened(cloud, cache_seconds=0) as at_once, opened(cloud) as later:
        assert isinstance(await found(at_once, token), Identity)
        assert isinstance(await found(later, token), Identity)

        keystone.client.revoke(token)

        assert await found(at_once, token) == 401
        assert isinstance(await found(later, token), Identity)  # as CloudKitty's middleware does, for as long


async def test_a_domain_and_the_system_count_where_the_settings_say_so(keystone: KeystoneServer, cloud: Cloud) -> None:
    user = {"name": "api-admin", "domain": {"id": "default"}, "password": PASSWORD}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = {"auth": {"identity": identity, "scope": {"domain": {"id": "default"}}}}
    answer = ask("POST", f"{keystone.url}/auth/tokens", {}, body)
    of_domain = {name.lower(): value for name, value in answer.headers.items()}["x-subject-token"]
    of_system = keystone.client.login("admin", system=True)
    for scoped_to, wanted in (("project", [False, False]), ("domain", [True, False]), ("system", [False, True])):
        async with opened(cloud, scoped_to=(scoped_to,)) as who:
            both = [await found(who, of_domain), await found(who, of_system)]
            assert [may(one, "rating:module_config") for one in both] == wanted


async def test_a_credential_that_may_do_less_is_not_taken_for_its_user(keystone: KeystoneServer, cloud: Cloud) -> None:
    def credential(**more: Any) -> str:
        token = keystone.client.login("api-admin", project="api-customer")
        described = {"application_credential": {"name": f"c{len(more)}", "secret": PASSWORD, **more}}
        path = f"/users/{cloud.users['admin']}/application_credentials"
        made = keystone.client.ask("POST", path, described, token=token)["application_credential"]["id"]
        by = {"methods": ["application_credential"], "application_credential": {"id": made, "secret": PASSWORD}}
        answer = ask("POST", f"{keystone.url}/auth/tokens", {}, {"auth": {"identity": by}})
        return {name.lower(): value for name, value in answer.headers.items()}["x-subject-token"]

    narrow = {"path": "/v2.1/servers", "method": "GET", "service": "compute"}
    keystone.client.service("compute", "nova", {"public": "http://127.0.0.1:1"})
    async with opened(cloud) as who:
        assert may(await found(who, credential()), "rating:module_config")
        # one whose user said that it may list servers and nothing else: Keystone tells us only if we obey such rules
        assert await found(who, credential(access_rules=[narrow])) == 401


async def test_cloudkittys_client_finds_us_in_the_catalogue(keystone: KeystoneServer, cloud: Cloud) -> None:
    async def typed(*words: str) -> str:
        """What the reader gets."""
        who = {"OS_USERNAME": "api-reader", "OS_PASSWORD": PASSWORD, "OS_PROJECT_NAME": "api-customer"}
        where = {"OS_AUTH_URL": keystone.url, "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default"}
        environment = {**os.environ, **who, **where}
        process = await asyncio.create_subprocess_exec(CLIENT, *words, env=environment, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode()

    # given usage of the project and of another one
    def stored() -> Store:
        store = memory_store()
        migrate(store)
        for scope in (cloud.project, "another"):
            store_frames(store, a_frame(scope, JANUARY, lines=lines_of("A", 0)))
        return store

    tokens = [keystone.client.login(f"api-{role}", project="api-customer") for role in ("reader", "admin")]
    for view in opened_view(stored):
        settings = {"auth": "keystone", "keystone": KeystoneAuth(**cloud.settings)}
        async with serving(view, RuleBook.empty(), api=settings) as world:
            keystone.client.service("rating", "rater", {"public": world.url})
            by_scope = {"groupby": "project_id", "begin": "2026-01-01", "end": "2026-02-01"}

            # when the reader and the administrator ask, each sees what is theirs
            said = await typed(
                "summary", "get", "-g", "project_id", "-b", "2026-01-01", "-e", "2026-02-01", "-f", "json"
            )
            summaries = [await world.get("/v2/summary", by_scope, token) for token in tokens]
            modules = [(await world.ask("/v2/rating/modules", token=token)).status for token in tokens]

    both = {cloud.project, "another"}
    assert [both.intersection(row.values()) for row in json.loads(said)] == [{cloud.project}]
    assert [{row[-1] for row in found["results"]} for found in summaries] == [{cloud.project}, both]
    assert modules == [403, 200]


async def test_a_user_that_may_not_validate_is_our_fault(
    keystone: KeystoneServer, cloud: Cloud, tmp_path: Path
) -> None:
    token = keystone.client.login("api-admin", project="api-customer")
    async with opened(cloud, username="api-reader", project="api-customer") as who:
        assert await found(who, token) == 503
        assert "role that may validate tokens" in who.red()
    (tmp_path / "password").write_text("wrong")
    async with opened(cloud, password_file=str(tmp_path / "password")) as who:
        assert await found(who, token) == 503
        with pytest.raises(SourceAwayError, match=r"no token .status 401.: check the credentials"):
            await who.check()
    async with opened(cloud) as who:
        await who.check()
    async with opened(cloud, url="http://127.0.0.1:1/v3") as who:
        assert set(await asyncio.gather(*(found(who, token) for _ in range(5)))) == {503}
