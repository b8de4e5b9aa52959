"""The scope fetcher `keystone` on a real Keystone: who has the role, by whichever way, and what is said if not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from collectors.errors import SourceError
from collectors.rest.settings import RestKeystone
from collectors.scopes.keystone_settings import KeystoneFetcherSettings
from collectors.settings import CollectorSettings
from collectors.source import SourceContext, fetcher_factory
from rater.cloudkitty.settings import collect_settings
from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer
from tests.openstack.processes import ROOT, call

NOW = 1_767_225_600
CLOUDKITTY = ROOT / ".cache" / "cloudkitty" / "bin" / "python"
FETCH = Path(__file__).with_name("cloudkitty_fetch.py")


class Cloud(NamedTuple):
    """Projects by what the service user `rater` has there; it is a reader of the system, too."""

    url: str
    password_file: Path
    projects: dict[str, str]
    """Name -> id."""


@pytest.fixture(scope="module")
def cloud(keystone: KeystoneServer, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    client = keystone.client
    projects = {name: client.project(name) for name in ("direct", "other-role", "none", "by-group", "implied")}
    projects["disabled"] = client.project("disabled", enabled=False)
    domain = client.domain("customers")
    projects["below-domain"] = client.project("below-domain", domain=domain)
    projects["grandchild"] = client.project("grandchild", domain=domain, parent=projects["below-domain"])

    rater = client.user("rater")
    client.grant(rater, "reader", "system")
    client.grant(rater, "rating", f"projects/{projects['direct']}")
    client.grant(rater, "rating", f"projects/{projects['disabled']}")
    client.grant(rater, "member", f"projects/{projects['other-role']}")
    client.grant_inherited(rater, "rating", f"domains/{domain}")
    client.imply("biller", "rating")
    client.grant(rater, "biller", f"projects/{projects['implied']}")
    client.grant_group(rater, "accounting", "rating", f"projects/{projects['by-group']}")
    client.grant(client.user("somebody"), "rating", f"projects/{projects['none']}")
    password_file = tmp_path_factory.mktemp("secrets") / "password"
    password_file.write_text(PASSWORD)
    return Cloud(keystone.url, password_file, projects)


Fetch = Callable[..., Awaitable[set[str]]]


@pytest.fixture
async def fetch(cloud: Cloud) -> AsyncIterator[Fetch]:
    """Names of the projects that a fetcher with these settings finds."""
    async with AsyncExitStack() as stack:
        names = {project_id: name for name, project_id in cloud.projects.items()}

        async def ask(login: RestKeystone | None = None, **settings: Any) -> set[str]:
            who = login or RestKeystone(cloud.url, "rater", str(cloud.password_file), system=True)
            chosen = CollectorSettings(
                fetcher="keystone", keystone_fetcher=KeystoneFetcherSettings(who, **{"timeout": 30.0, **settings})
            )
            fetcher = fetcher_factory("keystone")(SourceContext(chosen, 3600))
            stack.push_async_callback(fetcher.close)
            return {names.get(project_id, project_id) for project_id in await fetcher.fetch(NOW, NOW - 300)}

        yield ask


WITH_ROLE = {"direct", "disabled", "below-domain", "grandchild", "by-group", "implied"}


async def test_projects_on_which_we_have_the_role(fetch: Fetch) -> None:
    assert await fetch() == WITH_ROLE


async def test_cloudkitty_sees_roles_that_were_given_directly(cloud: Cloud, fetch: Fetch, tmp_path: Path) -> None:
    # given CloudKitty's own fetcher on the same Keystone
    conf = tmp_path / "cloudkitty.conf"
    conf.write_text(_conf(cloud.url, "rater"))
    names = {project_id: name for name, project_id in cloud.projects.items()}
    assert {names[project_id] for project_id in _by_cloudkitty(conf)} == {"direct", "disabled"}
    # then ours finds these, and those that come another way, with what is made of CloudKitty's settings
    imported = collect_settings(conf.read_text(), "cloudkitty.conf").settings["collect"]["keystone_fetcher"]
    login = {**imported["keystone"], "password_file": str(cloud.password_file)}
    assert await fetch(msgspec.convert(login, RestKeystone)) > {"direct", "disabled"}


def _conf(url: str, username: str) -> str:
    """A cloudkitty.conf for a user who may read everything."""
    return (
        f"[fetcher_keystone]\nauth_type = v3password\nauth_url = {url}\nsystem_scope = all\n"
        f"username = {username}\nuser_domain_name = Default\npassword = {PASSWORD}\n"
    )


def _by_cloudkitty(conf: Path) -> list[str]:
    """What CloudKitty's own fetcher finds with these settings."""
    found: list[str] = json.loads(call([CLOUDKITTY, "-W", "ignore", FETCH, conf]))
    return found


async def test_without_disabled_projects(fetch: Fetch) -> None:
    assert await fetch(ignore_disabled_tenants=True) == WITH_ROLE - {"disabled"}


async def test_another_role(fetch: Fetch) -> None:
    assert await fetch(role="member") == {"other-role"}


async def test_all_projects(fetch: Fetch, cloud: Cloud) -> None:
    found = await fetch(ignore_rating_role=True)
    assert set(cloud.projects) < found
    enabled = await fetch(ignore_rating_role=True, ignore_disabled_tenants=True)
    assert found - enabled == {"disabled"}


async def test_own_projects_need_no_rights(fetch: Fetch, cloud: Cloud) -> None:
    login = RestKeystone(cloud.url, "rater", str(cloud.password_file), project="other-role")
    assert await fetch(login, own_projects=True) == WITH_ROLE | {"other-role"}
    assert await fetch(login, own_projects=True, ignore_disabled_tenants=True) == WITH_ROLE - {"disabled"} | {
        "other-role"
    }


async def test_who_may_not_list_roles_is_told_what_to_do(fetch: Fetch, cloud: Cloud) -> None:
    login = RestKeystone(cloud.url, "rater", str(cloud.password_file), project="other-role")
    with pytest.raises(SourceError, match=r"/v3/roles: our user may not list this .status 403.: give it the role read"):
        await fetch(login)


async def test_a_list_in_pages_is_read_to_its_end(cloud: Cloud, tmp_path: Path) -> None:
    # given a Keystone that shows two projects at once
    with KeystoneServer(tmp_path / "server", {"resource": {"list_limit": "2"}}) as server:
        made = {server.client.project(f"p{number}") for number in range(7)}
        conf = tmp_path / "cloudkitty.conf"
        conf.write_text(_conf(server.url, "admin") + "ignore_rating_role = true\n")

        # then CloudKitty finds two of them, and says nothing of the others
        assert len(_by_cloudkitty(conf)) == 2

        # and ours finds all
        imported = collect_settings(conf.read_text(), "cloudkitty.conf").settings["collect"]["keystone_fetcher"]
        imported["keystone"]["password_file"] = str(cloud.password_file)
        chosen = CollectorSettings(keystone_fetcher=msgspec.convert(imported, KeystoneFetcherSettings))
        fetcher = fetcher_factory("keystone")(SourceContext(chosen, 3600))
        try:
            assert made < await fetcher.fetch(NOW, NOW - 300)
        finally:
            await fetcher.close()


async def test_a_role_that_nobody_made(fetch: Fetch) -> None:
    with pytest.raises(SourceError, match=r"Keystone has no role 'billing' .collect.keystone_fetcher.role."):
        await fetch(role="billing")
