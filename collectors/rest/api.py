"""The client of source and fetcher `rest`: one question, all pages of its answer, or an error and none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.http.request import Http, Reply, shown
from collectors.rest.answer import Expression, Page, csv_document, json_document, kind_of, written
from collectors.rest.auth import credentials
from collectors.rest.settings import RestConnection
from collectors.rest.template import Asked, fill_body, fill_url

__all__ = ["RestApi", "aside", "origin"]

T = TypeVar("T")

_MANY_ITEMS = 5000  # 50 ms: an item of 70 bytes of JSON takes 2 µs to decode and 8 µs to read

_TYPES = {"json": ("application/json", "text/json"), "csv": ("text/csv", "application/csv")}
_ACCEPT = {"json": "application/json", "csv": "text/csv"}


class RestApi:
    """Asks one endpoint, or several of the same origin, as one section of rater.yaml says."""

    def __init__(self, connection: RestConnection, key: str, concurrency: int) -> None:
        """`key` is the section. Raises SettingsError if the URL is missing or a file cannot be used."""
        if not connection.url:
            raise SettingsError(f"{key}.url is missing: say where to ask")
        self.key = key
        self._connection = connection
        self._http = Http(connection, key)
        self._credentials = credentials(connection.auth, self._http)
        self._room = asyncio.Semaphore(concurrency)
        paging = connection.paging
        self._next = Expression(f"{key}.paging.next", paging.next) if paging.next else None

    @property
    def queries(self) -> int:
        """Requests sent so far, for tokens as well."""
        return self._http.queries

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def log_in(self) -> None:
        """Get a token, where one is needed. Raises SourceError if there is none."""
        await self._credentials.headers()

    async def pages(self, url: str, body: Any, asked: Asked, items: Expression) -> list[Page]:
        """All pages of the answer to a question, at least one; `url` and `body` are templates.

        Raises SourceError if any of them is missing, cannot be read, or there are too many or too much.
        """
        try:
            first = fill_url(url, asked)
        except ValueError as fault:
            raise SourceError(str(fault)) from None
        filled = fill_body(body, asked)
        async with self._room:
            return await self._all(first, filled, items)

    async def _all(self, first: str, body: Any, items: Expression) -> list[Page]:
        paging = self._connection.paging
        pages: list[Page] = []
        room = self._connection.max_answer_bytes
        seen: set[str] = set()
        received = 0
        url: URL | None = self._first(first)
        while url is not None:
            where = f"{self._connection.method} {shown(url)}"
            if str(url) in seen:
                raise SourceError(f"{where}: page {len(pages)} names as next one that was read before")
            if len(pages) >= paging.max_pages:
                raise SourceError(f"{where}: more than {paging.max_pages} pages ({self.key}.paging.max_pages)")
            seen.add(str(url))
            reply = await self._ask(url, body, room)
            room -= len(reply.body)
            with _of_page(where, len(pages) + 1):
                page = await aside(len(reply.body) // 70, partial(self._page, reply, items))
                pages.append(page)
                received += len(page.items)
                url = self._following(first, url, reply, page, received)
        return pages

    async def _ask(self, url: URL, body: Any, room: int) -> Reply:
        """The reply with status 200. Credentials that are refused are renewed once. Raises SourceError."""
        where = f"{self._connection.method} {shown(url)}"
        headers = {"Accept": _ACCEPT[self._connection.format], **self._connection.headers}
        method = self._connection.method
        reply = await self._http.ask_as(self._credentials, method, url, headers, max(0, room), json=body)
        if reply.status == 401:
            raise SourceAwayError(f"{where}: refuses us (status 401): check {self.key}.auth")
        if reply.status != 200:
            raise SourceError(f"{where}: status {reply.status}")
        return reply

    def _page(self, reply: Reply, items: Expression) -> Page:
        """What the body holds. Raises SourceError."""
        form = self._connection.format
        self._check_type(reply.headers.get("content-type", ""))
        try:
            document = (
                json_document(reply.body) if form == "json" else csv_document(reply.body, self._connection.delimiter)
            )
        except ValueError as fault:
            detail = f": {fault}" if form == "csv" and not isinstance(fault, UnicodeDecodeError) else ""
            raise SourceError(f"the answer is no {form.upper()}{detail}") from None
        found = items.of(document, reply.headers)
        if not isinstance(found, list):
            raise SourceError(f"{items.key} finds {kind_of(found)} in the answer, not a list")
        return Page(document, reply.headers, found)

    def _check_type(self, header: str) -> None:
        form = self._connection.format
        name = header.partition(";")[0].strip().lower()
        known = (*_TYPES[form], self._connection.content_type.lower())
        if not name or not (name in known or (form == "json" and name.endswith("+json"))):
            raise SourceError(
                f"the answer is of type {name[:100] or 'unknown'!r}, not {_TYPES[form][0]}: set {self.key}.format, or "
                f"{self.key}.content_type if it is {form.upper()} all the same"
            )

    # --- from page to page

    def _first(self, url: str) -> URL:
        paging = self._connection.paging
        if paging.kind != "offset":
            return URL(url, encoded=True)
        return _with(url, {paging.offset: "0", paging.limit: str(paging.size)})

    def _following(self, first: str, url: URL, reply: Reply, page: Page, received: int) -> URL | None:
        """The URL of the next page; None if this was the last one. Raises SourceError."""
        paging = self._connection.paging
        match paging.kind:
            case "link":
                return _linked(url, reply)
            case "token":
                assert self._next is not None, "the settings were checked"
                token = self._next.of(page.document, reply.headers)
                if token is None or token is False or token == "":
                    return None
                text = written(token)
                if text is None:
                    raise SourceError(f"{self._next.key} finds {kind_of(token)}, not a token")
                return _with(first, {paging.parameter: text})
            case "offset" if page.items:
                return _with(first, {paging.offset: str(received), paging.limit: str(paging.size)})
        return None


async def aside(items: int, job: Callable[[], T]) -> T:
    """What the job gives; in a thread if it reads many items, so that others who share the event loop go on."""
    return await asyncio.to_thread(job) if items > _MANY_ITEMS else job()


def origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    return str(URL(url, encoded=True).origin())


def _linked(url: URL, reply: Reply) -> URL | None:
    """The target of `rel="next"`, which only our own server may name: it will see our credentials."""
    if not reply.names_next:
        return None
    target = reply.next_url
    if target is None or not target.absolute:
        raise SourceError("its link to the next page cannot be read")
    if target.origin() != url.origin() or target.user or target.password:
        raise SourceError("its link to the next page leads to another server, which is not followed")
    return target


def _with(url: str, parameters: dict[str, str]) -> URL:
    added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters.items())
    return URL(f"{url}{'&' if '?' in url else '?'}{added}", encoded=True)


@contextmanager
def _of_page(where: str, number: int) -> Iterator[None]:
    """Says of a fault which page it was."""
    try:
        yield
    except SourceError as fault:
        raise type(fault)(f"{where}: page {number}: {fault}") from None
