"""The scope fetcher Keystone: scopes are the projects on which our user has a role, found by two or three requests.

CloudKitty lists all projects and asks for our roles on each of them. Role assignments can be asked for all at once; in
their effective form they hold what comes by groups, by inheritance and by other roles, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.http.keystone import KeystoneLogin
from collectors.http.request import Http, shown
from collectors.source import ScopeFetcher, SourceContext

__all__ = ["KeystoneFetcher", "keystone"]

T = TypeVar("T")

_KEY = "collect.keystone_fetcher"
_LONGEST = 255
_MAX_PAGES = 10_000
_ACCEPT = {"Accept": "application/json"}


class _Links(msgspec.Struct, frozen=True):
    next: str | None = None


class _Project(msgspec.Struct, frozen=True):
    id: str
    enabled: bool = True


class _Role(msgspec.Struct, frozen=True):
    id: str
    name: str


class _Scope(msgspec.Struct, frozen=True):
    """Where a role holds: on a project, or on something else that is of no interest here."""

    project: _Project | None = None


class _Assignment(msgspec.Struct, frozen=True):
    scope: _Scope


class _Page(msgspec.Struct, frozen=True):
    """A page of one of the lists that are asked for here; the others are missing in it."""

    links: _Links = _Links()
    truncated: bool = False
    projects: list[_Project] | None = None
    roles: list[_Role] | None = None
    role_assignments: list[_Assignment] | None = None


class KeystoneFetcher:
    """The projects that there are now. One that was made and deleted between two calls is not found."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if it is not said who we are, or a file cannot be used."""
        settings = context.settings.keystone_fetcher
        if settings.keystone is None:
            raise SettingsError(f"{_KEY}.keystone is missing: say where Keystone is, and who we are")
        self._settings = settings
        self._url = settings.keystone.url.rstrip("/")
        self._http = Http(settings, _KEY)
        self._login = KeystoneLogin(settings.keystone, self._http, f"{_KEY}.keystone")

    async def fetch(self, now: int, since: int) -> set[str]:
        """The ids of the projects that the settings choose. Raises SourceError."""
        settings = self._settings
        if settings.own_projects:
            found = await self._projects("/auth/projects")
        elif settings.ignore_rating_role:
            found = await self._projects("/projects")
        else:
            found = await self._with_role(settings.role)
            if settings.ignore_disabled_tenants:
                found &= await self._projects("/projects")
        return {scope_id for scope_id in found if 0 < len(scope_id) <= _LONGEST}

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _projects(self, path: str) -> set[str]:
        """The ids in a list of projects, without disabled ones if the settings say so. Raises SourceError."""
        with_disabled = not self._settings.ignore_disabled_tenants
        found = await self._all(path, {}, lambda page: page.projects)
        return {project.id for project in found if with_disabled or project.enabled}

    async def _with_role(self, name: str) -> set[str]:
        """The ids of the projects on which we have the role. Raises SourceError."""
        user = (await self._login.said()).get("user")
        user_id = user.get("id") if isinstance(user, dict) else None
        if not isinstance(user_id, str):
            raise SourceAwayError(f"{_KEY}.keystone: the token that Keystone gave does not say whose it is")
        roles = await self._all("/roles", {"name": name}, lambda page: page.roles)
        # Of global roles: Keystone does not show those of a domain without being asked for them.
        role_ids = [role.id for role in roles if role.name == name]
        if not role_ids:
            raise SourceError(f"Keystone has no role {name!r} ({_KEY}.role): make it, and give it to our user")
        query = {"user.id": user_id, "role.id": role_ids[0], "effective": "true"}
        assignments = await self._all("/role_assignments", query, lambda page: page.role_assignments)
        return {held.scope.project.id for held in assignments if held.scope.project is not None}

    async def _all(self, path: str, query: Mapping[str, str], members: Callable[[_Page], list[T] | None]) -> list[T]:
        """The members of a list on all its pages. Raises SourceError if any of them is missing."""
        url = URL(self._url + path)
        room = self._settings.max_answer_bytes
        found: list[T] = []
        asked: dict[str, str] = dict(query)
        for _ in range(_MAX_PAGES):
            reply = await self._http.ask_as(self._login, "GET", url.with_query(asked), _ACCEPT, max(0, room))
            _refuse(reply.status, f"GET {shown(url)}")
            room -= len(reply.body)
            page = _page(reply.body, url)
            listed = members(page)
            if listed is None:
                raise SourceError(f"GET {shown(url)}: the answer is not the list that was asked for")
            found += listed
            following = _query_of(page.links.next, url)
            if following is None and page.truncated:
                raise SourceError(
                    f"GET {shown(url)}: the list is cut off: raise list_limit in Keystone's configuration"
                )
            if following is None:
                return found
            if following == asked:
                raise SourceError(f"GET {shown(url)}: a page names itself as the next one")
            asked = following
        raise SourceError(f"GET {shown(url)}: more than {_MAX_PAGES} pages")


def _page(body: bytes, url: URL) -> _Page:
    """Raises SourceError."""
    try:
        return msgspec.json.decode(body, type=_Page)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:  # which name a place in the answer, not its content
        raise SourceError(f"GET {shown(url)}: the answer cannot be read: {fault}") from None


def _query_of(following: str | None, url: URL) -> dict[str, str] | None:
    """What to ask for the next page: its URL is the one that Keystone believes to have. Raises SourceError."""
    try:
        return dict(URL(following).query) if following else None
    except ValueError:
        raise SourceError(f"GET {shown(url)}: its link to the next page cannot be read") from None


def _refuse(status: int, where: str) -> None:
    """Raises SourceError for everything but success."""
    if status == 401:
        raise SourceAwayError(f"{where}: refuses the token that Keystone gave us (status 401)")
    if status == 403:
        raise SourceError(
            f"{where}: our user may not list this (status 403): give it the role reader on the system and set "
            f"{_KEY}.keystone.system, or set {_KEY}.own_projects"
        )
    if status == 404:
        raise SourceError(f"{where}: is not there (status 404): does {_KEY}.keystone.url end with /v3?")
    if status != 200:
        raise SourceError(f"{where}: status {status}")


def keystone(context: SourceContext) -> ScopeFetcher:
    """The entry point `keystone` of group `rater.fetchers`."""
    return KeystoneFetcher(context)
