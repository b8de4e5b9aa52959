"""An API server of Kubernetes on the loopback, as far as listing namespaces goes: pages of one state, and 410 Gone."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "of-the-service-account"


class Namespace(msgspec.Struct, frozen=True):
    """What the tests need of one."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    phase: str = "Active"


class Cluster:
    """Namespaces by name. Changes between two pages do not show in the second one."""

    def __init__(self) -> None:
        self.url = ""
        self.namespaces: dict[str, Namespace] = {}
        self.allowed = True
        self.tokens = {TOKEN}
        self.asked: list[dict[str, str]] = []
        self.before_page: Callable[[int], None] = lambda page: None
        """Called before each request is answered, with the number of requests so far."""
        self._states: dict[int, dict[str, Namespace]] = {}
        self._revision = 100

    def compact(self) -> None:
        """Forget all states that lists were begun with."""
        self._states.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.before_page(len(self.asked))
        self.asked.append(dict(request.query))
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _status(401, "Unauthorized")
        if not self.allowed:
            return _status(403, "Forbidden")
        assert request.path == "/api/v1/namespaces"
        try:
            wanted = _wanted(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        except ValueError:
            return _status(400, "BadRequest")
        revision, after = self._begin(request.query.get("continue", ""))
        if revision not in self._states:
            return _status(410, "Expired")
        state = self._states[revision]
        names = [name for name in sorted(state) if name > after and wanted(name, state[name])]
        shown = names[: int(request.query.get("limit", "0")) or None]
        rest = {"remainingItemCount": len(names) - len(shown)} if len(names) > len(shown) else {}
        following = {"continue": _token(revision, shown[-1])} if rest else {}
        meta = {"resourceVersion": str(revision), **following, **rest}
        return web.json_response(_list([(name, state[name]) for name in shown], meta, request.headers["Accept"]))

    def _begin(self, following: str) -> tuple[int, str]:
        """Of which state, and after which name."""
        if following:
            revision, after = json.loads(base64.urlsafe_b64decode(following))
            return revision, after
        self._revision += 1
        self._states[self._revision] = dict(self.namespaces)
        return self._revision, ""


@asynccontextmanager
async def serving(cluster: Cluster, tls: ssl.SSLContext | None = None) -> AsyncIterator[Cluster]:
    """The server, for as long as the block lasts."""
    app = web.Application()
    app.router.add_get("/{path:.*}", cluster.handle)
    server = TestServer(app, host="127.0.0.1", scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    cluster.url = str(server.make_url("")).rstrip("/")
    try:
        yield cluster
    finally:
        await server.close()


def _token(revision: int, after: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, after]).encode()).decode()


def _list(found: list[tuple[str, Namespace]], meta: dict[str, Any], accept: str) -> dict[str, Any]:
    partial = "as=PartialObjectMetadataList" in accept
    items = []
    for name, namespace in found:
        metadata: dict[str, Any] = {"name": name, "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
        if namespace.labels:
            metadata["labels"] = namespace.labels
        if namespace.annotations:
            metadata["annotations"] = namespace.annotations
        items.append({"metadata": metadata, **({} if partial else {"status": {"phase": namespace.phase}})})
    kind = "PartialObjectMetadataList" if partial else "NamespaceList"
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}


def _status(code: int, reason: str) -> web.Response:
    """An error, with the words that a real server uses, which name what was sent."""
    said = {"kind": "Status", "status": "Failure", "message": f"{TOKEN} may not", "reason": reason, "code": code}
    return web.json_response(said, status=code)


def _wanted(labels: str, fields: str) -> Callable[[str, Namespace], bool]:
    """As much of the selectors' language as the tests use: a label that is there, a name that is another one.

    Raises ValueError.
    """
    key, _, value = fields.partition("!=")
    if "(" in labels or (fields and key != "metadata.name"):
        raise ValueError(labels + fields)
    return lambda name, one: (not labels or labels in one.labels) and (not fields or name != value)
