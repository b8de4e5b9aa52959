"""A service that speaks as much of CloudKitty's API as comparing asks for, from sums that a test gives it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Rows = dict[tuple[str, str], tuple[float, float]]


class FakeApi:
    """`rows`: (scope, metric) -> (qty, rate). `before` answers a request in place of it if it gives something."""

    def __init__(self, rows: Rows, *, versions: tuple[int, ...] = (1, 2)) -> None:
        self.rows = rows
        self.versions = versions
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.faults: list[web.Response] = []
        self.grows = False
        self.knows_pages = True
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeApi]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self.asked.append((path, dict(request.query), dict(request.headers)))
        if self.faults:
            return self.faults.pop(0)
        number = {"v1": 1, "v2": 2}.get(path.partition("/")[0], 0)
        if number not in self.versions:
            return web.Response(status=404, text="<html>")
        if path == "v2/summary":
            return _json(self._page(request))
        if path == "v1/report/tenants":
            return _json(sorted({scope for scope, _ in self.rows}))
        if path == "v1/report/summary":
            return _json({"summary": self._summary_1(request)})
        return web.Response(status=404, text="<html>")

    def _page(self, request: web.Request) -> Any:
        query = request.query
        wanted = query.get("filters", "").partition(":")[2]
        rows = [(key, value) for key, value in sorted(self.rows.items()) if not wanted or key[0] == wanted]
        offset, limit = int(query["offset"]), min(int(query["limit"]), 2)
        if self.grows and offset:
            self.rows[f"new{len(self.rows)}", "cpu"] = (1.0, 1.0)
        offset = offset if self.knows_pages else 0
        page = [["b", "e", qty, rate, *key] for key, (qty, rate) in rows[offset : offset + limit]]
        names = [*(name for name in query["groupby"].split(",") if name != "type"), "type"]
        return {"total": len(rows), "columns": ["begin", "end", "qty", "rate", *names] if page else [], "results": page}

    def _summary_1(self, request: web.Request) -> Any:
        tenant = request.query.get("tenant_id")
        rows = [
            {"tenant_id": scope, "res_type": metric, "rate": str(round(rate, 5)), "begin": "b", "end": "e"}
            for (scope, metric), (_, rate) in sorted(self.rows.items())
            if tenant in (None, scope)
        ]
        return rows[:1000]


def _json(value: Any) -> web.Response:
    return web.Response(text=json.dumps(value), content_type="application/json")
