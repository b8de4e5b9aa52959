"""A Prometheus behind the real Aetos and the real Keystone answers, and proves, what it does when asked itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from collectors.errors import SourceAwayError, SourceError
from collectors.metrics_yml import read
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.service import check_source
from collectors.settings import CollectorSettings, PrometheusKeystone, PrometheusSettings, StaticFetcherSettings
from collectors.source import Answer, SourceContext
from rater.model.interval import Interval, seconds
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.test_collect_evidence import METRICS, SERIES, TARGETS
from tests.integration.prometheus.world import HOUR, T, openmetrics
from tests.openstack.aetos_server import AetosServer
from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer

MEMBERS = tuple(
    metric
    for metric in read(METRICS, "metrics.yml", Factory.read_extra_args).metrics
    if metric.name in ("instance", "volume", "object", "traffic")
)
SCOPES = ["p1", "p2", "p3", "p9"]
HOURS = (6, 8, 10, 15, 18)  # a hole of each kind
Login = Callable[[str], PrometheusKeystone]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopPrometheus]:
    server = LaptopPrometheus(tmp_path_factory.mktemp("prometheus") / "server")
    server.backfill(openmetrics(TARGETS, SERIES))
    with server:
        yield server


@pytest.fixture(scope="module")
def aetos(
    keystone: KeystoneServer, prometheus: LaptopPrometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AetosServer]:
    with AetosServer(tmp_path_factory.mktemp("aetos") / "server", keystone, prometheus.port) as server:
        yield server


@pytest.fixture(scope="module")
def login(aetos: AetosServer, keystone: KeystoneServer, tmp_path_factory: pytest.TempPathFactory) -> Login:
    """Logs in somebody who has the role of that name on a project of their own."""
    secret = tmp_path_factory.mktemp("secrets") / "password"
    secret.write_text(PASSWORD)

    @cache
    def made(role: str) -> PrometheusKeystone:
        name = f"aetos-{role}"
        project, user = keystone.client.project(name), keystone.client.user(name)
        keystone.client.grant(user, role, f"projects/{project}")
        return PrometheusKeystone(
            url=keystone.url, username=name, password_file=str(secret), project=name, region="RegionOne"
        )

    return made


async def _answers(prometheus: PrometheusSettings) -> dict[tuple[str, str, int], Answer]:
    """What a source says of everything; an answer that covers nothing where it refuses one question."""
    source = PrometheusSource(SourceContext(CollectorSettings(prometheus=prometheus), HOUR, MEMBERS))
    found = {}
    try:
        for hour in HOURS:
            session = source.session(Interval(T + hour * HOUR, T + (hour + 1) * HOUR), T + 30 * HOUR)
            for metric in MEMBERS:
                for scope in SCOPES:
                    try:
                        answer = await session.collect(scope, metric)
                    except SourceAwayError:
                        raise
                    except SourceError as fault:
                        answer = Answer([], note=str(fault))
                    found[scope, metric.name, hour] = answer
    finally:
        await source.close()
    return found


async def test_it_proves_through_aetos_what_it_proves_itself(prometheus: LaptopPrometheus, login: Login) -> None:
    """Given hours with a hole of each kind; then they are named to the second, though ranges are asked otherwise."""
    itself = await _answers(PrometheusSettings(url=prometheus.url))
    behind = await _answers(PrometheusSettings(keystone=login("service")))

    for place, answer in itself.items():
        other = behind[place]
        assert (other.covers, other.proof, other.samples, other.series) == (
            answer.covers, answer.proof, answer.samples, answer.series,
        ), place  # fmt: skip
        assert [item.groupby for item in other.quarantined] == [item.groupby for item in answer.quarantined]
    assert sum(1 for answer in itself.values() if seconds(answer.covers) < HOUR) >= 10


async def test_who_may_see_only_a_project_of_their_own_gets_a_gap_and_no_zero(login: Login) -> None:
    """Aetos writes their project into the questions, some of which it makes unreadable by that."""
    answers = await _answers(PrometheusSettings(keystone=login("reader")))

    assert {tuple(answer.covers) for answer in answers.values()} == {()}
    assert not any(answer.samples for answer in answers.values())


async def test_the_check_says_what_it_can_know_through_aetos(login: Login, tmp_path: Path) -> None:
    (tmp_path / "metrics.yml").write_text("metrics: {volume: {unit: GiB, groupby: [id, project_id]}, vmm: {unit: u}}")
    settings = CollectorSettings(
        prometheus=PrometheusSettings(keystone=login("service")), static=StaticFetcherSettings(["p1", "p2"])
    )

    report = await check_source(settings, tmp_path / "metrics.yml", HOUR, 86400, T + 12 * HOUR)

    rows = {row.service: row for row in report.metrics}
    assert [(name, row.verdict) for name, row in sorted(rows.items())] == [("vmm", "fail"), ("volume", "ok")]
    assert rows["volume"].facts.granularity == 60


async def test_without_a_role_it_is_refused(login: Login) -> None:
    with pytest.raises(SourceAwayError, match=r"refuses us \(status 403\): check the roles that collect"):
        await _answers(PrometheusSettings(keystone=login("audience")))


async def test_an_aetos_whose_prometheus_is_down_is_away(
    keystone: KeystoneServer, login: Login, tmp_path: Path, unused_tcp_port: int
) -> None:
    settings = login("admin")
    with AetosServer(tmp_path / "server", keystone, unused_tcp_port) as lonely:
        with pytest.raises(SourceAwayError, match="Keystone's catalogue has more than one public endpoint"):
            await _answers(PrometheusSettings(keystone=settings))
        with pytest.raises(SourceAwayError, match=r"status 500, '.*NewConnectionError"):
            await _answers(PrometheusSettings(url=f"{lonely.url}/api/v1", keystone=settings))
