"""A real VictoriaMetrics that holds what a Prometheus holds answers, and proves, the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collectors.metrics_yml import read
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.settings import CollectorSettings, PrometheusSettings
from collectors.source import Answer, SourceContext
from rater.model.interval import Interval, seconds
from tests.integration.prometheus.server import FETCHED, LaptopPrometheus
from tests.integration.prometheus.test_collect_evidence import METRICS, SCOPES, SERIES, TARGETS
from tests.integration.prometheus.world import HOUR, T, openmetrics

PATIENCE_SECONDS = 60
NAMES = ("instance", "volume", "object", "traffic")
MEMBERS = tuple(
    metric for metric in read(METRICS, "metrics.yml", Factory.read_extra_args).metrics if metric.name in NAMES
)
_SAMPLE = re.compile(r"^(.* )(\d+)$")


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]) -> Iterator[str]:
    """The address of a single server with a day of the planted cloud."""
    program = shutil.which("victoria-metrics") or shutil.which("victoria-metrics", path=str(FETCHED))
    if program is None:
        pytest.skip("VictoriaMetrics is not installed: make tools")
    directory: Path = tmp_path_factory.mktemp("victoria")
    url = f"http://127.0.0.1:{unused_tcp_port_factory()}"
    flags = ("-retentionPeriod=100y", f"-storageDataPath={directory / 'data'}", f"-httpListenAddr={url[7:]}")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, *flags], stdout=log, stderr=log)
    try:
        _until(lambda: _ask(f"{url}/health") == b"OK", process, directory / "log")
        lines = [match for line in openmetrics(TARGETS, SERIES) if (match := _SAMPLE.match(line))]
        text = "\n".join(f"{match[1]}{match[2]}000" for match in lines)  # in milliseconds
        _ask(f"{url}/api/v1/import/prometheus", text.encode())
        _ask(f"{url}/internal/force_flush")  # else seen within seconds
        yield f"{url}/api/v1"
    finally:
        process.terminate()
        process.wait(30)


def _ask(url: str, body: bytes | None = None) -> bytes | None:
    """The answer; None while nobody listens."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, ConnectionError):
        return None


def _until(reached: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert process.poll() is None, f"VictoriaMetrics ended:\n{log.read_text()}"
        assert time.monotonic() < give_up_at, f"VictoriaMetrics does not answer:\n{log.read_text()}"
        time.sleep(0.05)


async def _answers(settings: PrometheusSettings) -> dict[tuple[str, str, int], Answer]:
    source = PrometheusSource(SourceContext(CollectorSettings(prometheus=settings), HOUR, MEMBERS))
    found = {}
    try:
        for hour in range(1, 23):
            session = source.session(Interval(T + hour * HOUR, T + (hour + 1) * HOUR), T + 30 * HOUR)
            for metric in MEMBERS:
                for scope in SCOPES:
                    found[scope, metric.name, hour] = await session.collect(scope, metric)
    finally:
        await source.close()
    return found


async def test_a_day_is_judged_as_on_prometheus(
    victoria: str, start_prometheus: Callable[[list[str]], LaptopPrometheus]
) -> None:
    server = start_prometheus(openmetrics(TARGETS, SERIES))

    known = await _answers(PrometheusSettings(url=server.url))
    found = await _answers(PrometheusSettings(url=victoria, parameters={"deny_partial_response": "1", "nocache": "1"}))

    for place, answer in known.items():
        other = found[place]
        assert (other.covers, other.proof) == (answer.covers, answer.proof), (place, other.note, answer.note)
        assert _by_labels(other) == _by_labels(answer), place
        assert other.quarantined == []  # it takes no NaN, so that there is nothing to put aside
    assert any(answer.quarantined for answer in known.values())
    assert sum(1 for answer in found.values() if seconds(answer.covers) < HOUR) >= 20


def _by_labels(answer: Answer) -> list[tuple[str, str]]:
    return sorted((str(answer.series[sample.series].groupby), str(sample.qty)) for sample in answer.samples)
