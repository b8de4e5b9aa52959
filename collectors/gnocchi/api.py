"""The HTTP side of Gnocchi: each question gets a whole answer, or an error that says why not.

A list is whole when its last page names no next one; an answer of no metrics is an empty one, any other refusal none.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError, SourceFaultError
from collectors.gnocchi.answer import Group, Point, Policy, policy_of
from collectors.gnocchi.settings import GnocchiAuth, GnocchiSettings
from collectors.http.keystone import KeystoneLogin
from collectors.http.request import Http, Reply, shown
from collectors.http.tokens import Credentials, FromFiles, basic_header, read_secret
from collectors.rest.settings import RestConnection

__all__ = ["GnocchiApi", "Row", "instant_text"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Row = dict[str, Any]
"""A resource, or a revision of one, as Gnocchi shows it."""

KEY = "collect.gnocchi"
_MOST_PAGES = 10_000  # of 1000 rows, which is Gnocchi's own limit
_NO_METRIC = re.compile(rb"Metrics? \[.*\] does not exist")
_STUMBLED_PAUSES = (0.1, 0.5)
"""Seconds before a question at which Gnocchi stumbled is asked again.

It maps a class anew for each question about histories. SQLAlchemy reads its list of classes (`registry._managers`)
without a lock; where another thread adds to it just then, the question ends with status 500, `dictionary changed size
during iteration`: Gnocchi 4.7.1 and SQLAlchemy 2.1.9 (its issue 6771 tells the same of older ones), in one of thousands
of questions that are asked side by side. Nothing has been read of the resources by then, and the next try is answered.
"""
_STUMBLED_WITHIN = 10.0  # seconds: what fails later is too much for Gnocchi, and asking again would make it more
_AT_ONCE = 200  # metrics of which points are asked in one question: 300 kB of answer for an hour of minutes


class _Backlog(msgspec.Struct):
    measures_to_process: dict[str, int] = {}


class _Status(msgspec.Struct):
    storage: _Backlog


class _Points(msgspec.Struct):
    measures: dict[str, dict[str, list[Point]]]


class _Metric(msgspec.Struct):
    id: str
    archive_policy: dict[str, Any] = {}
    archive_policy_name: str = ""

    @property
    def policy(self) -> str:
        """Its name; whether all of it is shown depends on the question."""
        return str(self.archive_policy.get("name", self.archive_policy_name))


class _ResourceType(msgspec.Struct):
    attributes: dict[str, Any] = {}


class GnocchiApi:
    """A client of one Gnocchi. Connects when first asked."""

    def __init__(self, settings: GnocchiSettings, concurrency: int) -> None:
        """Raises SettingsError if it is not said where it is or who we are, or a file cannot be used."""
        if settings.auth.basic is None and settings.auth.keystone is None:
            raise SettingsError(f"{KEY}.auth is missing: give basic or keystone")
        if not settings.url and settings.auth.keystone is None:
            raise SettingsError(f"{KEY}.url is missing: only Keystone's catalogue could say where Gnocchi is")
        self._settings = settings
        connection = RestConnection(ca_file=settings.ca_file, insecure=settings.insecure, timeout=settings.timeout)
        self._http = Http(connection, KEY)
        self._credentials, self._login = _credentials(settings.auth, self._http)
        self._room = asyncio.Semaphore(concurrency)
        self.date = ""
        """What time the server had at its last answer, as it says it."""

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    # --- usage

    async def groups(self, question: dict[str, Any], parameters: Sequence[tuple[str, str]]) -> list[Group]:
        """What the aggregates API makes of a question with `resource_type`; nothing where no resource has the metric.

        Raises SourceError.
        """
        reply = await self._ask("POST", "aggregates", parameters, question)
        if reply.status == 404 and _NO_METRIC.search(reply.body):
            return []
        return _read(reply, list[Group], "aggregates")

    async def points(
        self, metric_ids: Sequence[str], method: str, granularity: float, begin: float, end: float
    ) -> dict[str, list[Point]]:
        """The granules of each metric within `[begin, end)`, in order of time. Raises SourceError."""
        chunks = [metric_ids[at : at + _AT_ONCE] for at in range(0, len(metric_ids), _AT_ONCE)]
        parameters = [
            ("granularity", f"{granularity:.9g}"),
            ("start", instant_text(begin)),
            ("stop", instant_text(end)),
        ]

        async def ask(ids: Sequence[str]) -> dict[str, list[Point]]:
            operations = ["metric", *([metric_id, method] for metric_id in ids)]
            if len(ids) == 1:
                operations = ["metric", ids[0], method]
            reply = await self._ask("POST", "aggregates", parameters, {"operations": operations})
            found = _read(reply, _Points, "aggregates").measures
            return {metric_id: found.get(metric_id, {}).get(method, []) for metric_id in ids}

        answers = await asyncio.gather(*(ask(chunk) for chunk in chunks))
        return {metric_id: points for answer in answers for metric_id, points in answer.items()}

    # --- what there is

    async def rows(
        self, resource_type: str, search: dict[str, Any], *, history: bool, sort: Iterable[str]
    ) -> list[Row]:
        """All resources that a search finds, with `history` all their revisions. Raises SourceError."""
        parameters = [("history", "true")] if history else []
        parameters += [("sort", f"{name}:asc") for name in sort]
        return await self._pages("POST", _search_path(resource_type), parameters, search, list[Row])

    async def some_rows(self, resource_type: str, search: dict[str, Any], attributes: Iterable[str]) -> list[Row]:
        """The first page of revisions that a search finds, with these attributes alone. Raises SourceError."""
        parameters = [("history", "true"), *(("attrs", name) for name in attributes)]
        reply = await self._ask("POST", _search_path(resource_type), parameters, search)
        return _read(reply, list[Row], _search_path(resource_type))

    async def policies_of(self, name: str) -> dict[str, str]:
        """The archive policy of each metric of that name, by the id of the metric. Raises SourceError."""
        found = await self._pages("GET", "metric", [("name", name)], None, list[_Metric])
        return {one.id: one.policy for one in found}

    async def policy_of(self, metric_id: str) -> str:
        """The archive policy of one metric. Raises SourceError."""
        return _read(await self._ask("GET", f"metric/{quote(metric_id, safe='')}", (), None), _Metric, "metric").policy

    async def policies(self) -> dict[str, Policy]:
        """All archive policies by name. Raises SourceError."""
        reply = await self._ask("GET", "archive_policy", (), None)
        try:
            return {policy.name: policy for policy in map(policy_of, _read(reply, list[Row], "archive_policy"))}
        except (KeyError, ValueError, TypeError) as fault:
            raise SourceError(f"Gnocchi shows an archive policy that cannot be read: {fault!r}") from None

    async def backlog(self) -> dict[str, int]:
        """How many bundles of measures wait for metricd, by the id of the metric. Raises SourceError."""
        return _read(await self._ask("GET", "status", (), None), _Status, "status").storage.measures_to_process

    async def attributes(self, resource_type: str) -> set[str] | None:
        """The attributes of a resource type besides those that all have; None if there is no such type."""
        reply = await self._ask("GET", f"resource_type/{quote(resource_type, safe='')}", (), None)
        return None if reply.status == 404 else set(_read(reply, _ResourceType, "resource_type").attributes)

    # --- how

    async def _pages(
        self, method: str, path: str, parameters: Sequence[tuple[str, str]], body: Any, form: type[list[T]]
    ) -> list[T]:
        """All pages. Of the link to the next one only its marker is taken: a proxy may have other names for us."""
        found: list[T] = []
        marker: str | None = None
        for _ in range(_MOST_PAGES):
            more = [*parameters, *([("marker", marker)] if marker else [])]
            reply = await self._ask(method, path, more, body)
            found += _read(reply, form, path)
            if not reply.names_next:
                return found
            following = reply.next_url.query.get("marker") if reply.next_url is not None else None
            if not following or following == marker:
                raise SourceError(f"Gnocchi's link to the next page of {path} cannot be read")
            marker = following
        raise SourceError(f"Gnocchi's list {path} has more than {_MOST_PAGES} pages")

    async def _ask(self, method: str, path: str, parameters: Sequence[tuple[str, str]], body: Any) -> Reply:
        """A reply of any status but those that say that we are not let in. Raises SourceError."""
        url = URL(f"{await self.url()}/v1/{path}", encoded=True)
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)
        asked = URL(f"{url}?{query}", encoded=True) if query else url
        for is_last in (False, True):
            proof = await self._credentials.headers()
            headers = {"Accept": "application/json", **proof}
            async with self._room:
                reply = await self._persist(method, asked, headers, body)
            self.date = reply.headers.get("date", "")
            if reply.status == 401 and not is_last and self._credentials.forget(proof):
                continue
            break
        if reply.status in (401, 403):
            raise SourceAwayError(
                f"{method} {shown(url)}: refuses us (status {reply.status}): check {KEY}.auth, which has to be "
                "somebody who may see all projects, and the status (role admin, unless Gnocchi's policy says otherwise)"
            )
        return reply

    async def _persist(self, method: str, url: URL, headers: Mapping[str, str], body: Any) -> Reply:
        """The reply, after a stumble that of another try; all questions only read. Raises SourceError."""
        for pause in _STUMBLED_PAUSES:
            began = time.monotonic()
            try:
                return await self._http.ask(method, url, headers, self._settings.max_answer_bytes, json=body)
            except SourceFaultError as fault:
                if time.monotonic() - began > _STUMBLED_WITHIN:
                    raise
                log.info("%s; asked again in %.1f s", fault, pause)
            await asyncio.sleep(pause)
        return await self._http.ask(method, url, headers, self._settings.max_answer_bytes, json=body)

    async def url(self) -> str:
        """Where Gnocchi is, without `/v1`. Raises SourceAwayError if Keystone's catalogue does not say."""
        if self._settings.url or self._login is None:
            found = self._settings.url.rstrip("/")
        else:
            found = await self._login.endpoint("metric", self._settings.interface, self._settings.region)
        return found.removesuffix("/v1")


def _credentials(auth: GnocchiAuth, http: Http) -> tuple[Credentials, KeystoneLogin | None]:
    if auth.keystone is not None:
        login = KeystoneLogin(auth.keystone, http, f"{KEY}.auth.keystone")
        return login, login
    basic = auth.basic
    assert basic is not None, "one of them is given"
    key, file = f"{KEY}.auth.basic.password_file", basic.password_file
    return FromFiles(lambda: basic_header(basic.username, read_secret(key, file) if file else "")), None


def _read(reply: Reply, form: type[T], path: str) -> T:
    """The body of a reply with status 200. Raises SourceError for any other, and for what cannot be read."""
    if reply.status != 200:
        raise SourceError(f"Gnocchi answered status {reply.status} to {path}: {_said(reply.body)}")
    try:
        return msgspec.json.decode(reply.body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise SourceError(f"Gnocchi's answer to {path} cannot be read: {fault}") from None


def _said(body: bytes) -> str:
    """The reason in an answer that is none, which Gnocchi shows in several forms."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    text = str(found.get("description", found)) if isinstance(found, dict) else body[:2000].decode(errors="replace")
    return " ".join(text.split())[:500]


def _search_path(resource_type: str) -> str:
    return f"search/resource/{quote(resource_type, safe='')}"


def instant_text(instant: float) -> str:
    """Seconds since the epoch as Gnocchi takes them: ISO 8601, UTC."""
    return datetime.fromtimestamp(instant, UTC).isoformat()
