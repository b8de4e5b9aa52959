"""Source `gnocchi` against a server of the test: how much is asked, and that no answer but a whole one counts."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from collectors.errors import NotSettledError, SettingsError, SourceAwayError, SourceError, SourceFaultError
from collectors.gnocchi import api
from collectors.gnocchi.source import Factory, GnocchiSource
from collectors.history import History
from collectors.metrics_yml import read
from collectors.runner import Collector
from collectors.scopes.plain import StaticFetcher
from collectors.settings import CollectorSettings, StaticFetcherSettings
from collectors.source import Answer, SharingSession, SourceContext, fetcher_factory, source_factory
from collectors.times import iso
from rater.model.interval import Interval
from tests.unit.collectors.rest_endpoint import Endpoint

T, HOUR, STEP = 1_767_607_200, 3600, 300
PERIOD = Interval(T, T + HOUR)
YML = "metrics: {cpu: {unit: h, groupby: [flavor], extra_args: {resource_type: vm}}}"
POLICY = {
    "name": "p", "aggregation_methods": ["max", "count"],
    "definition": [
        {"granularity": "0:05:00", "timespan": "30 days, 0:00:00"},
        {"granularity": "1:00:00", "timespan": "90 days, 0:00:00"},
    ],
}  # fmt: skip


class FakeGnocchi:
    """A Gnocchi of resources that never change: `projects` by id of a resource, each with metric `cpu` of 1.0."""

    def __init__(self, projects: dict[str, str]) -> None:
        self.projects = projects
        self.asked: list[str] = []
        self.page = 1000
        self.refuse: dict[str, Any] = {}
        """Path -> what is answered in place of the truth; taken once for each time it stands there."""
        self.largest = 1000
        """Scopes in one question; more are refused."""
        self.headers: list[dict[str, str]] = []
        self.backlog: dict[str, int] = {}
        self.until = T + 2 * HOUR
        """When the last measure was."""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v1/")
        sent = await request.read()
        body = json.loads(sent) if sent else {}
        kind = "points" if path == "aggregates" and "resource_type" not in body else path
        self.asked.append(kind)
        self.headers.append(dict(request.headers))
        if self.refuse.get(kind):
            return self._refused(self.refuse[kind].pop(0))
        found = self._answer(kind, request, body)
        return found if isinstance(found, web.StreamResponse) else web.json_response(found)

    @staticmethod
    def _refused(reply: Any) -> web.StreamResponse:
        if isinstance(reply, tuple):
            return web.Response(status=reply[0], text=reply[1])
        return web.json_response(reply)

    def _answer(self, kind: str, request: web.Request, body: Any) -> Any:
        if kind == "search/resource/vm":
            return self._page([self._row(one) for one in sorted(self.projects)], request)
        if kind == "metric":
            return self._page([{"id": f"m-{one}", "archive_policy": POLICY} for one in sorted(self.projects)], request)
        if kind.startswith("metric/"):
            return {"id": kind.removeprefix("metric/"), "archive_policy": POLICY}
        if kind == "archive_policy":
            return [POLICY]
        if kind == "status":
            return {"storage": {"summary": {}, "measures_to_process": self.backlog}}
        if kind == "points":
            return {"measures": {metric: {"count": self._points()} for metric in self._ids(body["operations"])}}
        assert kind == "aggregates"
        return self._groups(body)

    def _page(self, rows: list[Any], request: web.Request) -> web.StreamResponse:
        begin = int(request.query.get("marker", 0))
        end = begin + self.page
        link = {"Link": f'<http://elsewhere/v1/x?marker={end}>; rel="next"'} if len(rows) > end else {}
        return web.json_response(rows[begin:end], headers=link)

    def _row(self, resource_id: str) -> dict[str, Any]:
        return {
            "id": resource_id, "project_id": self.projects[resource_id], "flavor": "s", "type": "vm",
            "started_at": iso(T - 9 * HOUR), "ended_at": None, "revision_start": iso(T - 9 * HOUR),
            "revision_end": None, "metrics": {"cpu": f"m-{resource_id}"},
        }  # fmt: skip

    @staticmethod
    def _ids(operations: list[Any]) -> list[str]:
        return [operations[1]] if isinstance(operations[1], str) else [pair[0] for pair in operations[1:]]

    def _points(self) -> list[Any]:
        return [[iso(at), 300.0, 1.0] for at in range(T - HOUR, self.until, STEP)]

    def _groups(self, body: Any) -> Any:
        wanted = body["search"]["and"][1]
        scopes = [one["="]["project_id"] for one in wanted.get("or", [wanted])]
        if len(scopes) > self.largest:
            return web.Response(status=504, text="too much")
        groups = [
            {
                "group": {"id": one, "project_id": project, "flavor": "s"},
                "measures": {"measures": {"aggregated": [[iso(T), 3600.0, 1.0]]}},
            }
            for one, project in sorted(self.projects.items())
            if project in scopes and body["operations"][2][1] == "cpu"
        ]
        return groups or web.json_response({"description": "Metric ['cpu'] does not exist"}, status=404)


@pytest.fixture
async def fake(endpoint: Endpoint) -> FakeGnocchi:
    made = FakeGnocchi({f"vm{number}": f"p{number % 40}" for number in range(80)})
    endpoint.says(made)
    return made


def _source(endpoint: Endpoint, **settings: Any) -> GnocchiSource:
    gnocchi = {"url": endpoint.url, "auth": {"basic": {}}, **settings.pop("gnocchi", {})}
    yml = settings.pop("yml", YML)
    chosen = msgspec.convert({"source": "gnocchi", "gnocchi": gnocchi, **settings}, CollectorSettings)
    metrics = read(yml, "metrics.yml", Factory.read_extra_args).metrics
    return GnocchiSource(SourceContext(chosen, HOUR, metrics))


async def _collect(endpoint: Endpoint, scopes: list[str], now: int = T + 9 * HOUR, **settings: Any) -> list[Answer]:
    source = _source(endpoint, **settings)
    (metric,) = source._metrics
    session = source.session(PERIOD, now)
    assert isinstance(session, SharingSession)
    session.expect({"cpu": scopes})
    try:
        return [await session.collect(scope, metric) for scope in scopes]
    finally:
        await session.close()
        await source.close()


async def test_questions_are_for_metrics_and_not_for_scopes(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    scopes = [f"p{number}" for number in range(40)]
    answers = await _collect(endpoint, scopes)

    assert sorted(fake.asked) == ["aggregates", "archive_policy", "metric", "points", "search/resource/vm", "status"]
    assert [[str(sample.qty) for sample in answer.samples] for answer in answers] == [["1.0", "1.0"]] * 40
    assert all(answer.covers == [PERIOD] and answer.proof == "proven" for answer in answers)
    assert answers[0].note == "2 of 80 resources with this metric, measured every 300 s"


async def test_how_a_new_metric_is_kept_is_asked_for_alone(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    """Given a source that knows all metrics; then a period with one more asks for that one, not for the list."""
    source = _source(endpoint)
    try:
        for _ in range(2):
            session = source.session(PERIOD, T + 9 * HOUR)
            assert len((await session.collect("p1", source._metrics[0])).samples) >= 2
            fake.projects["new"] = "p1"
    finally:
        await source.close()
    assert [kind for kind in fake.asked if kind.startswith("metric")] == ["metric", "metric/m-new"]


async def test_resources_without_the_metric_are_told_of(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    """Given a metric that none of them has; then nothing proves that it was not just called otherwise."""
    yml = YML.replace("cpu:", "cpv:")
    source = _source(endpoint, yml=yml)
    try:
        answer = await source.session(PERIOD, T + 9 * HOUR).collect("p1", source._metrics[0])
    finally:
        await source.close()
    assert (answer.covers, answer.proof, answer.samples) == ([PERIOD], "weak", [])
    assert answer.note == "no resource with this metric lived in the period; without this metric: vm1, vm41"


async def test_an_answer_without_metrics_is_empty_and_proven(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    (answer,) = await _collect(endpoint, ["nobody"])
    assert (answer.covers, answer.proof, answer.samples) == ([PERIOD], "proven", [])
    assert answer.note.startswith("0 of 80 resources")


async def test_what_is_too_much_is_asked_in_halves(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    fake.largest = 10
    answers = await _collect(endpoint, [f"p{number}" for number in range(40)])
    assert all(len(answer.samples) == 2 for answer in answers)
    assert fake.asked.count("aggregates") == 7  # 40, twice 20, four times 10


async def test_pages_are_read_by_their_markers_alone(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    """Given links that name another host, as behind a proxy; then only their markers are taken."""
    fake.page = 7
    answers = await _collect(endpoint, ["p1"])
    assert fake.asked.count("search/resource/vm") == 12
    assert answers[0].note.startswith("2 of 80")


REFUSALS = [
    (
        "aggregates",
        (404, "{'cause': 'Metrics with unknown aggregation', 'detail': []}"),
        SourceError,
        "unknown aggregation",
    ),
    ("aggregates", (400, "Granularities are missing"), SourceError, "Granularities are missing"),
    ("aggregates", (500, "oops"), SourceFaultError, "status 500"),
    ("aggregates", (504, "late"), SourceError, "status 504"),
    ("aggregates", (503, "away"), SourceAwayError, "status 503"),
    ("aggregates", (403, "no"), SourceAwayError, "check collect.gnocchi.auth"),
    ("aggregates", (200, '[{"group": {"id": 1}'), SourceError, "cannot be read"),
    (
        "aggregates",
        [{"group": {"project_id": "p9", "id": "x"}}],
        SourceError,
        "for scope 'p9', which was not asked for",
    ),
    ("search/resource/vm", [{"id": "x"}], SourceError, "a resource of type vm that cannot be read"),
    (
        "search/resource/vm",
        (404, '{"description": "Resource type vm does not exist"}'),
        SourceError,
        "vm does not exist",
    ),
    ("points", {"measures": []}, SourceError, "cannot be read"),
    ("status", {"metricd": {}}, SourceError, "cannot be read"),
    ("metric", [], SourceError, "m-vm0 is kept, which a resource has"),
    ("archive_policy", [{"name": "p"}], SourceError, "an archive policy that cannot be read"),
]


@pytest.mark.parametrize(("kind", "reply", "error", "said"), REFUSALS)
async def test_no_answer_is_no_coverage(
    endpoint: Endpoint, fake: FakeGnocchi, kind: str, reply: Any, error: type[SourceError], said: str, hasty: None
) -> None:
    fake.refuse[kind] = [reply] * 9
    with pytest.raises(error, match=said) as failure:
        await _collect(endpoint, ["p1", "p2"])
    assert type(failure.value) is error


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing pauses before it asks again."""
    monkeypatch.setattr(api, "_STUMBLED_PAUSES", (0.0, 0.0))


@pytest.mark.parametrize("kind", ["aggregates", "search/resource/vm", "points", "metric", "status"])
async def test_a_question_at_which_gnocchi_stumbled_is_asked_again(
    endpoint: Endpoint, fake: FakeGnocchi, kind: str, hasty: None
) -> None:
    """Given status 500 twice; then the third answer counts, and no question is divided up for it."""
    undisturbed = await _collect(endpoint, ["p1", "p2"])
    fake.asked, fake.refuse[kind] = [], [(500, "dictionary changed size during iteration")] * 2
    assert await _collect(endpoint, ["p1", "p2"]) == undisturbed
    assert fake.asked.count(kind) == 3


async def test_a_fault_that_stays_or_comes_late_is_told(
    endpoint: Endpoint, fake: FakeGnocchi, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a question that always fails; then it is asked three times, and once if its fault took long."""
    for within, times in ((10.0, 3), (-1.0, 1)):
        monkeypatch.setattr(api, "_STUMBLED_WITHIN", within)
        fake.asked, fake.refuse["aggregates"] = [], [(500, "oops")] * 9
        with pytest.raises(SourceFaultError, match=r"POST .*/v1/aggregates: status 500$"):
            await _collect(endpoint, ["p1"])
        assert fake.asked.count("aggregates") == times


async def test_it_is_not_asked_before_measures_can_be_there(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    with pytest.raises(NotSettledError, match="less than 720 s"):
        await _collect(endpoint, ["p1"], now=T + HOUR + 719)
    assert len(await _collect(endpoint, ["p1"], now=T + HOUR + 720)) == 1
    assert len(await _collect(endpoint, ["p1"], now=T + HOUR + 60, completeness={"settle": 60})) == 1


async def test_what_is_too_early_is_not_looked_at_again_and_again(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    """Given a metric that is known to be measured every five minutes; then before two of them nothing is asked."""
    source = _source(endpoint)
    try:
        for now in (T + HOUR + 130, T + HOUR + 160):
            with pytest.raises(NotSettledError, match="less than 720 s"):
                await source.session(PERIOD, now).collect("p1", source._metrics[0])
            asked, fake.asked = fake.asked, []
        assert asked == []
    finally:
        await source.close()


async def test_a_backlog_is_looked_at_before_all_else(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    """Given measures that metricd has not processed; then nothing but its status is asked until it has."""
    fake.backlog, fake.until = {"m-vm1": 3}, T + 1800
    source = _source(endpoint)
    metric, now = source._metrics[0], T + HOUR + 1200
    try:
        for _ in range(2):
            fake.asked = []
            with pytest.raises(NotSettledError, match="not processed all measures of 1 metrics, such as m-vm1"):
                await source.session(PERIOD, now).collect("p1", metric)
        assert fake.asked == ["status"]
        assert (await source.session(PERIOD, now).collect("p2", metric)).covers == [Interval(T, T + 1800)]

        late = await source.session(PERIOD, T + 3 * HOUR).collect("p1", metric)
        assert late.covers == [Interval(T, T + 1800)]
        assert "waits for metricd: vm1" in late.note

        fake.backlog, fake.until = {}, T + 2 * HOUR
        assert (await source.session(PERIOD, now).collect("p1", metric)).covers == [PERIOD]
    finally:
        await source.close()


async def test_a_hole_is_told_once_and_healed(endpoint: Endpoint, fake: FakeGnocchi, log: Any) -> None:
    """Given agents that were down to the end of the hour, whose measures come all the same; then so it is published."""
    fake.projects, fake.until = {"vm1": "p1"}, T + 1800
    source, now = _source(endpoint), float(T + HOUR + 1000)
    settings = msgspec.structs.replace(source._settings, static=StaticFetcherSettings(["p1"]))
    history = History("gnocchi", HOUR)
    history.progress.reached = T
    fetcher = StaticFetcher(["p1"])
    collector = Collector(settings, source._metrics, HOUR, source, fetcher, log, history, clock=lambda: now)
    try:
        for until in (T + 1800, T + 1800, T + 2 * HOUR):
            fake.until = until
            await collector.round()
            now += 200
    finally:
        await source.close()
    drafts = [draft for draft in log.drafts if draft.begin == T]
    assert [list(draft.covers) for draft in drafts] == [[Interval(T, T + 1800)], [PERIOD]]
    (told,) = [failure for failure in log.failures if failure.begin >= T]
    assert (told.begin, told.end) == (T + 1800, T + HOUR)
    assert "not measured: vm1" in told.reason


async def test_without_evidence_coverage_is_weak(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    (answer,) = await _collect(endpoint, ["p1"], completeness={"mode": "off"})
    assert (answer.covers, answer.proof, len(answer.samples)) == ([PERIOD], "weak", 2)
    assert "points" not in fake.asked


async def test_basic_authorization_without_a_password(endpoint: Endpoint, fake: FakeGnocchi) -> None:
    await _collect(endpoint, ["p1"], gnocchi={"auth": {"basic": {"username": "rater"}}})
    assert {one["Authorization"] for one in fake.headers} == {f"Basic {b64encode(b'rater:').decode()}"}


async def test_the_endpoint_of_the_catalogue_and_a_token_that_is_renewed(endpoint: Endpoint, tmp_path: Path) -> None:
    fake, tokens = FakeGnocchi({"vm1": "p1"}), 0

    async def cloud(request: web.Request) -> web.StreamResponse:
        nonlocal tokens
        if request.path == "/v3/auth/tokens":
            tokens += 1
            urls = [{"interface": "internal", "region_id": "one", "url": f"{endpoint.url}/"}]
            said = {"token": {"catalog": [{"type": "metric", "endpoints": urls}]}}
            return web.json_response(said, status=201, headers={"X-Subject-Token": f"t{tokens}"})
        if request.headers.get("X-Auth-Token") != "t2":
            return web.json_response({}, status=401)
        return await fake(request)

    endpoint.says(cloud)
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    keystone = {"url": f"{endpoint.url}/v3", "application_credential_id": "c", "secret_file": str(secret)}
    (answer,) = await _collect(endpoint, ["p1"], gnocchi={"url": "", "auth": {"keystone": keystone}, "region": "one"})
    assert len(answer.samples) == 1
    assert tokens == 2


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"auth": {}}, r"collect\.gnocchi\.auth is missing"),
        ({"url": ""}, r"collect\.gnocchi\.url is missing"),
        ({"auth": {"basic": {"password_file": "/nowhere"}}}, r"password_file '/nowhere' cannot be read"),
        ({"combine": {"memory": "max"}}, r"combine names 'memory', which is no public name"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        _source(Endpoint(), gnocchi={"url": "http://gnocchi", **settings})


def test_the_latest_revision_has_to_be_told() -> None:
    yml = "metrics: {cpu: {unit: h, extra_args: {resource_type: vm, use_all_resource_revisions: false}}}"
    metrics = read(yml, "metrics.yml", Factory.read_extra_args).metrics
    settings = msgspec.convert({"gnocchi": {"url": "http://g", "auth": {"basic": {}}}}, CollectorSettings)
    with pytest.raises(SettingsError, match="needs revision_start in groupby"):
        GnocchiSource(SourceContext(settings, HOUR, metrics))


def test_source_and_fetcher_are_installed() -> None:
    assert source_factory("gnocchi") is Factory
    assert fetcher_factory("gnocchi").__name__ == "gnocchi"  # type: ignore[attr-defined]  # it is a function
