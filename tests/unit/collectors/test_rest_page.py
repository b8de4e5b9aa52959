"""What docs/rest.md shows works as it is written there, against servers that answer what it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from collectors.history import History
from collectors.metrics_yml import load
from collectors.replay.usage_file import parse
from collectors.rest.fetcher import rest
from collectors.rest.source import Factory
from collectors.runner import Collector
from collectors.service import open_source
from collectors.source import Answer, SourceContext, fetcher_factory
from collectors.times import iso
from rater.config import Config, load_config
from rater.model.interval import Interval
from tests.unit.collectors.rest_endpoint import HOUR, Endpoint

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "rest.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.split("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "yaml"}
FIRST_PAGE, PROJECTS = (json.loads(text) for kind, text in BLOCKS if kind == "json")
(EXPORT,) = (text for kind, text in BLOCKS if kind == "csv")
LINES = [text for kind, text in BLOCKS if kind == "jsonl"]
SAID = [text for kind, text in BLOCKS if not kind]
LAST_PAGE = {"covered": FIRST_PAGE["covered"], "data": []}


class Service:
    """The usage service of the first example: it knows the secret, and answers nobody without a token."""

    def __init__(self) -> None:
        self.last_page: tuple[int, Any] = (200, LAST_PAGE)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/oauth/token":
            known = request.headers.get("Authorization") == f"Basic {b64encode(b'rater:s3cret').decode()}"
            return web.json_response({"access_token": "t1", "expires_in": 300}, status=200 if known else 401)
        if request.headers.get("Authorization") != "Bearer t1":
            return web.json_response({}, status=401)
        if request.path == "/v1/projects":
            return web.json_response(PROJECTS)
        assert request.path in ("/v1/projects/alpha/servers", "/v1/projects/beta/servers")
        begin, end = request.query["from"], request.query["to"]
        other_hour = {"covered": {"from": begin, "to": end}} if begin != FIRST_PAGE["covered"]["from"] else {}
        if request.query.get("page") == FIRST_PAGE["next"]:
            return web.json_response({**self.last_page[1], **other_hour}, status=self.last_page[0])
        answer = FIRST_PAGE if request.path == "/v1/projects/alpha/servers" else LAST_PAGE
        return web.json_response({**answer, **other_hour})


async def meter(request: web.Request) -> web.StreamResponse:
    """The meter of the second example."""
    if request.headers.get("Authorization") != f"Basic {b64encode(b'rater:s3cret').decode()}":
        return web.Response(status=401)
    rows = len(EXPORT.splitlines()) - 1
    return web.Response(text=EXPORT, content_type="text/csv", headers={"X-Total-Count": str(rows)})


class Example(NamedTuple):
    """One of the two, with its files in a directory and its server at a loopback port."""

    directory: Path
    config: Config
    endpoint: Endpoint
    service: Service


@pytest.fixture(params=["json", "csv"])
def example(request: pytest.FixtureRequest, tmp_path: Path, endpoint: Endpoint) -> Example:
    service = Service()
    endpoint.says(service if request.param == "json" else meter)
    for name, text in FILES.items():
        if name.startswith(request.param):
            (tmp_path / Path(name).name).write_text(re.sub(r"https://\w+\.example\.org", endpoint.url, text))
    (tmp_path / ("secret" if request.param == "json" else "password")).write_text("s3cret\n")
    return Example(tmp_path, load_config(tmp_path / "rater.yaml", {}), endpoint, service)


def _lines(scope_id: str, metric: str, answer: Answer) -> list[Any]:
    """Samples as lines of a usage file."""
    found = []
    for sample in answer.samples:
        series = answer.series[sample.series]
        labels = {"groupby": series.groupby, **({"metadata": series.metadata} if series.metadata else {})}
        times = {"begin": iso(sample.begin), "end": iso(sample.end)}
        found.append({"scope_id": scope_id, "metric": metric, **times, "qty": str(sample.qty), **labels})
    return found


async def test_the_answers_become_what_the_page_says(example: Example) -> None:
    collect = example.config.settings.collect
    assert collect is not None
    found: list[Any] = []
    fetcher = fetcher_factory(collect.fetcher)(SourceContext(collect, 3600))
    scopes = await fetcher.fetch(HOUR.end, HOUR.begin)
    await fetcher.close()
    async with open_source(collect, example.config.settings.metrics_conf, 3600) as (source, metrics):
        session = source.session(HOUR, HOUR.end + 300)
        for scope_id in sorted(scopes):
            for metric in sorted(metrics, key=lambda metric: metric.name):
                answer = await session.collect(scope_id, metric)
                assert (answer.covers, answer.proof, answer.quarantined) == ([HOUR], "proven", [])
                found += _lines(scope_id, metric.name, answer)
    shown = LINES[0 if collect.fetcher == "rest" else 1]
    assert scopes == {"alpha", "beta"}
    assert found == [json.loads(line) for line in shown.splitlines()]
    assert all(parse(line.encode()) for line in shown.splitlines())
    asked = [request.path for request in example.endpoint.asked]
    if collect.fetcher == "rest":
        assert "/v1/projects/alpha/servers?from=2026-01-01T00%3A00%3A00Z&to=2026-01-01T01%3A00%3A00Z&page=MjAw" in asked
    else:
        assert asked == ["/export.csv?start=1767225600&end=1767229200"]


async def test_the_command_of_the_page_says_what_it_shows(example: Example) -> None:
    commands = {text for kind, text in BLOCKS if kind == "sh"}
    assert commands == {"rater collect check\n"}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    environment = {**plain, "PATH": f"{Path(sys.executable).parent}:{plain['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        *("rater", "collect", "check"),
        cwd=example.directory,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, faults = await asyncio.wait_for(process.communicate(), 120)
    collect = example.config.settings.collect
    assert collect is not None
    assert process.returncode == 0, faults.decode()
    assert output.decode().splitlines(keepends=True)[-1] == SAID[0 if collect.fetcher == "rest" else 1]
    assert b"s3cret" not in faults


def _collector(example: Example, log: Any, clock: Any) -> tuple[Collector, Any, Any]:
    collect = example.config.settings.collect
    assert collect is not None
    metrics = load(example.config.settings.metrics_conf, Factory.read_extra_args).metrics
    made = SourceContext(collect, 3600, metrics)
    source, fetcher = Factory.build(made), rest(made)
    history = History(collect.source_name, 3600)
    history.progress.reached = HOUR.begin
    return Collector(collect, metrics, 3600, source, fetcher, log, history, clock), source, fetcher


@pytest.mark.parametrize("example", ["json"], indirect=True)
async def test_a_hole_is_named_and_healed(example: Example, log: Any) -> None:
    """Given a second page that fails, then one that covers forty minutes, then a whole one; then so it is told."""
    now = float(HOUR.end + 300)
    collector, source, fetcher = _collector(example, log, lambda: now)
    short = {**LAST_PAGE, "covered": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:40:00Z"}}
    try:
        for status, last in ((500, {}), (200, short), (200, LAST_PAGE)):
            example.service.last_page = (status, last)
            await collector.round()
            now += 200
    finally:
        await source.close()
        await fetcher.close()
    alpha = [draft for draft in log.drafts if draft.scope_id == "alpha" and draft.begin == HOUR.begin]
    reasons = [(Interval(fault.begin, fault.end), fault.reason.split("servers: ")[-1]) for fault in log.failures]
    assert reasons == [
        (HOUR, "status 500"),
        (Interval(HOUR.begin + 2400, HOUR.end), "the source declares 2026-01-01T00:00:00Z to 2026-01-01T00:40:00Z"),
    ]
    assert [list(draft.covers) for draft in alpha] == [[Interval(HOUR.begin, HOUR.begin + 2400)], [HOUR]]
    assert [len(draft.samples) for draft in alpha] == [2, 2]


def test_every_block_of_the_page_is_used() -> None:
    assert [kind for kind, _ in BLOCKS] == (
        ["json", "json", "yaml", "yaml", "sh", "", "jsonl", "csv", "yaml", "yaml", "sh", "", "jsonl"]
    )
    assert set(FILES) == {"json/metrics.yml", "json/rater.yaml", "csv/metrics.yml", "csv/rater.yaml"}
