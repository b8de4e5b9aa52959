"""The check on real Prometheus servers: the right set-up passes, and each wrong one gets the verdict that fits it.

By the command itself, in this process. One server was back-filled up to now, another scrapes itself each second and
knows nothing of the cloud.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collectors.errors import UnfitSourceError
from collectors.metrics_yml import read
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.settings import CollectorSettings, CompletenessSettings, EvidenceSettings, PrometheusSettings
from collectors.source import SourceContext
from rater.cli import exits
from rater.cli.app import _run
from tests.integration.prometheus.server import LaptopPrometheus

HOUR = 3600
NOW = int(time.time())
BEGIN, END = NOW - 12 * HOUR, NOW + HOUR  # some time to come, so that it is fresh however long the tests take
RETENTION = "3h"
NODE = {"job": "libvirt", "instance": "node-1"}
A = {"project_id": "p1", "id": "a", "flavor": "m1", "os": 'the "new" one'}
GOOD = "{unit: instance, alt_name: instance, groupby: [id, project_id], metadata: [flavor]}"
RULES = """
hashmap:
  services:
    - name: instance
      fields:
        - name: flavor
          mappings: [{value: m1, cost: "0.25"}]
"""


def _series(name: str, labels: dict[str, str], step: int, value: Callable[[int], float]) -> Iterable[str]:
    matchers = ",".join(f"{key}={json.dumps(text)}" for key, text in labels.items())
    return (f"{name}{{{matchers}}} {value(number)} {at}" for number, at in enumerate(range(BEGIN, END, step)))


def _cloud() -> Iterator[str]:
    slow = {"job": "batch", "instance": "cron"}
    yield "# TYPE up gauge"
    for target, step in ((NODE, 60), (slow, 1800)):
        yield from _series("up", target, step, lambda _n: 1)
    yield "# TYPE vm gauge"
    yield from _series("vm", {**NODE, **A}, 60, lambda _n: 1)
    yield from _series("vm", {**NODE, **A, "id": "a2"}, 60, lambda _n: 1)
    yield from _series("vm", {**NODE, **A, "project_id": "p2", "id": "b"}, 60, lambda _n: 1)
    yield "# TYPE volume gauge"  # one of its two jobs is seldom
    yield from _series("volume", {**NODE, **A}, 60, lambda _n: 7)
    yield from _series("volume", {**slow, **A, "id": "v2"}, 1800, lambda _n: 7)
    yield "# TYPE uneven gauge"  # one of the targets of its job is seldom, and a part of it is nobody's
    yield from _series("uneven", {**NODE, **A}, 60, lambda _n: 7)
    yield from _series("uneven", {**NODE, "id": "host"}, 60, lambda _n: 7)
    yield from _series("uneven", {**NODE, **A, "instance": "node-2"}, 1800, lambda _n: 7)
    yield "# TYPE load gauge"
    yield from _series("load", {**NODE, **A}, 60, lambda number: 5 + number % 3)
    yield "# TYPE sent counter"
    yield from _series("sent_total", {**NODE, **A}, 60, lambda number: 100.0 * number)
    yield "# TYPE recorded gauge"
    yield from _series("recorded", A, 60, lambda _n: 3)
    yield "# TYPE gone gauge"
    yield from (line for line in _series("gone", {**NODE, **A}, 60, lambda _n: 3) if int(line.split()[-1]) < NOW - 9000)


@pytest.fixture(scope="module")
def scraping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopPrometheus]:
    """A server that has just begun to scrape itself each second."""
    found = LaptopPrometheus(tmp_path_factory.mktemp("other") / "server", retention=RETENTION)
    found.start()
    config = f"""
    global: {{scrape_interval: 1s}}
    scrape_configs: [{{job_name: itself, static_configs: [{{targets: ["127.0.0.1:{found.port}"]}}]}}]
    """
    (found.directory / "prometheus.yml").write_text(config)
    found.stop()
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def server(scraping: LaptopPrometheus, start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    """The cloud; `scraping` begins beside it, since a server first scrapes after five seconds."""
    return start_prometheus(list(_cloud()))


@pytest.fixture(scope="module")
def other(scraping: LaptopPrometheus) -> LaptopPrometheus:
    """`scraping`, when it has scraped itself some times."""
    give_up_at = time.monotonic() + 30
    query = f"{scraping.url}/query?query=count_over_time(go_goroutines[1m])>4"
    while not json.load(urllib.request.urlopen(query))["data"]["result"]:
        assert time.monotonic() < give_up_at, "it does not scrape itself"
        time.sleep(0.2)
    return scraping


class Said(NamedTuple):
    """How the command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def findings(self) -> list[tuple[str, str, str]]:
        """(service, code, level) of all findings; '' is the source itself."""
        found = [("", finding["code"], finding["level"]) for finding in self.report["findings"]]
        for row in self.report["metrics"]:
            found += [(row["service"], finding["code"], finding["level"]) for finding in row["findings"]]
        return found


Check = Callable[..., Said]


@pytest.fixture
def check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Check:
    """`rater collect check` with a metrics.yml, more settings and options."""

    def run(
        server: LaptopPrometheus,
        metrics: str,
        *options: str,
        scopes: str = "p1, p2",
        key: str = "project_id",
        urls: Sequence[str] = (),
    ) -> Said:
        (tmp_path / "metrics.yml").write_text(f"metrics: {{{metrics}}}")
        (tmp_path / "rules.yaml").write_text(RULES)
        where = f"urls: {json.dumps(urls)}" if urls else f"url: '{server.url}'"
        (tmp_path / "rater.yaml").write_text(
            f"metrics_conf: metrics.yml\nkafka: {{bootstrap: '127.0.0.1:1'}}\ncollect:\n"
            f"  {{prometheus: {{{where}}}, static: {{scopes: [{scopes}]}}, scope_key: {key}}}\n"
        )
        priced = () if "--no-rules" in options else ("--rules", str(tmp_path / "rules.yaml"))
        rest = [option for option in options if option != "--no-rules"] or ["--out", "json"]
        status = _run(["--config", str(tmp_path / "rater.yaml"), "collect", "check", *priced, *rest])
        told = capfd.readouterr()
        return Said(status, told.out, told.err)

    return run


# --- the right set-up


def test_a_right_set_up_passes_and_is_shown_with_its_price(server: LaptopPrometheus, check: Check) -> None:
    said = check(server, f"vm: {GOOD}")

    assert said.status == exits.OK, said
    assert said.findings == []
    report = said.report
    (row,) = report["metrics"]
    assert (report["verdict"], report["url"], report["scopes"], report["not_priced_because"]) == (
        "ok",
        server.url,
        2,
        None,
    )
    assert abs(report["clock_ahead_seconds"]) < 5
    expected = {
        "service": "instance",
        "metric": "vm",
        "unit": "instance",
        "source": "prometheus",
        "granularity_seconds": 60.0,
        "granularity_needed_seconds": 1440.0,
        "period_seconds": HOUR,
        "exists": True,
        "expected": True,
        "kind": None,
        "labels": ["id", "project_id", "flavor"],
        "points_per_period": 3,
        "scopes": 2,
        "verdict": "ok",
        "findings": [],
    }
    assert {key: row[key] for key in expected} == expected
    sample = row["sample"]
    assert (sample["scope_id"], sample["points"], sample["price"], sample["charged"]) == ("p2", 1, "0.25", True)
    assert (sample["covered_seconds"], sample["proof"], sample["quarantined"]) == (HOUR, "proven", 0)
    assert sample["first_labels"] == {"project_id": "p2", "id": "b", "flavor": "m1"}


def test_people_see_the_table(server: LaptopPrometheus, check: Check) -> None:
    table = check(server, f"vm: {GOOD}", "--out", "table").out
    markdown = check(server, f"vm: {GOOD}, vmm: {{unit: u}}", "--out", "md", "--no-rules")

    titles, _, row = [line for line in table.splitlines() if line.strip()][1:4]
    assert titles.split("  ")[0].strip() == "Service"
    assert " ".join(row.split()) == "instance vm instance 60 s 3600 s prometheus id, project_id, flavor 3 1 0.25 ok"
    assert table.endswith("metrics: 1 ok. prometheus can be asked\n")
    assert markdown.status == exits.FAILED
    assert (
        "| instance | vm | instance | 60 s | 3600 s | prometheus | id, project_id, flavor | 3 | 1 | - | ok |"
        in markdown.out
    )
    assert f"- **fail** vmm: metric 'vmm' does not exist on {server.url}: check its name" in markdown.out
    assert "not priced: no rules given (Kafka at 127.0.0.1:1" in markdown.err


def test_a_label_that_the_query_makes_is_there(server: LaptopPrometheus, check: Check) -> None:
    """Given a prefix and a suffix that make a label of another one; then nobody complains that no series has it."""
    made = """{unit: u, groupby: [id, name], extra_args: {query_prefix: 'label_replace(',
              query_suffix: ', "name", "$1", "id", "(.*)")'}}"""

    said = check(server, f"vm: {made}")

    assert said.findings == []
    assert said.report["metrics"][0]["labels"] == ["id", "name", "project_id"]
    assert said.report["metrics"][0]["sample"]["first_labels"]["name"] == "b"


# --- wrong set-ups


@pytest.mark.parametrize(
    ("metrics", "finding", "text"),
    [
        ("vmm: {unit: u}", ("vmm", "no-metric", "fail"), "metric 'vmm' does not exist on http"),
        ("'cpu.util': {unit: u}", ("cpu.util", "not-a-metric", "fail"), "'cpu.util' is no name of a metric"),
        (
            "vm: {unit: u, groupby: [idd, project_id]}",
            ("vm", "no-label", "fail"),
            "no series has the label 'idd', so what should be told apart becomes one line; did you mean 'id'? there "
            "are flavor, id, instance, job, os, project_id: correct groupby in metrics.yml",
        ),
        (
            "volume: {unit: GiB, groupby: [id, project_id]}",
            ("volume", "too-seldom", "fail"),
            "a sample every 1800 s is too seldom for a period of 3600 s, which needs one every 1440 s",
        ),
        (
            "uneven: {unit: u, groupby: [id, project_id]}",
            ("uneven", "too-seldom", "fail"),
            "a sample every 1800 s is too seldom",
        ),
        (
            "load: {unit: u, groupby: [id, project_id], extra_args: {range_function: rate}}",
            ("load", "gauge-as-counter", "fail"),
            "it falls like a gauge (",
        ),
        ("gone: {unit: u, groupby: [id, project_id]}", ("gone", "stale", "warn"), "the last sample of gone is of "),
        (
            "vm: {unit: u, groupby: [id, project_id], metadata: [flavour]}",
            ("vm", "no-label", "warn"),
            "no series has the label 'flavour', so rules see it as ''; did you mean 'flavor'?",
        ),
        (
            "sent_total: {unit: B, groupby: [id, project_id]}",
            ("sent_total", "counter-as-gauge", "warn"),
            "it is a counter: its max is what was used since it began, billed again each period",
        ),
        (
            "sent_total: {unit: B, groupby: [id, project_id], extra_args: {range_function: idelta}}",
            ("sent_total", "two-samples", "warn"),
            "idelta looks at the last two samples of a period only: use delta",
        ),
        (
            "recorded: {unit: u, groupby: [id, project_id]}",
            ("recorded", "weak", "warn"),
            "some targets show recorded and have no `up` with the same job, instance",
        ),
        (
            "vm: {unit: u, groupby: [id, project_id], extra_args: {query_suffix: '* on (id) group_left vm_inf'}}",
            ("vm", "no-join", "fail"),
            "vm_inf, which the query joins, has no sample in the last 86400 s",
        ),
        (
            "vm: {unit: u, alt_name: instance, groupby: [id, project_id]}",
            ("instance", "rule-label", "warn"),
            "rules ask for the label 'flavor', which it lacks, so they match nothing: use id, project_id",
        ),
    ],
)
def test_what_is_wrong_with_a_metric_is_its_verdict(
    server: LaptopPrometheus, check: Check, metrics: str, finding: tuple[str, str, str], text: str
) -> None:
    said = check(server, metrics)

    code, level = finding[1:]
    (row,) = said.report["metrics"]
    texts = [f"{one['what']}: {one['todo']}" for one in row["findings"] if one["code"] == code]
    assert finding in said.findings
    assert any(one.startswith(text) or text in one for one in texts), texts
    levels = {one for _, _, one in said.findings}
    assert row["verdict"] == said.report["verdict"] == ("fail" if "fail" in levels else "warn")
    assert said.status == (exits.FAILED if "fail" in levels else exits.OK)
    if level == "fail":
        assert "fail" in levels


def test_an_empty_server_fails_and_so_does_one_that_forgets_too_soon(other: LaptopPrometheus, check: Check) -> None:
    """Given the wrong tenant: it answers, and has nothing of the cloud. It keeps three hours, and four are needed."""
    said = check(other, f"vm: {GOOD}")

    assert said.status == exits.FAILED
    assert said.findings == [("", "retention", "fail"), ("instance", "no-metric", "fail")]
    (kept,) = said.report["findings"]
    assert kept["what"] == (f"{other.url} keeps 10800 s, but periods are collected and corrected up to 14400 s later")
    assert kept["todo"] == "keep more there, or lower engine.wait_periods or engine.late_horizon_periods"
    assert said.report["metrics"][0]["sample"] is None


def test_what_an_exporter_says_its_metrics_are_is_believed(other: LaptopPrometheus, check: Check) -> None:
    said = check(
        other,
        "go_goroutines: {unit: u, groupby: [instance], extra_args: {range_function: rate}},"
        "go_threads: {unit: u, groupby: [instance]},"
        "prometheus_http_requests_total: {unit: u, groupby: [handler], extra_args: {range_function: rate}},"
        "prometheus_http_request_duration_seconds_sum: {unit: s, groupby: [handler]}",
        key="job",
    )

    kinds = {row["service"]: row["kind"] for row in said.report["metrics"]}
    about = [finding for finding in said.findings if finding[1].endswith(("-counter", "-gauge"))]
    assert kinds == {
        "go_goroutines": "gauge",
        "go_threads": "gauge",
        "prometheus_http_requests_total": "counter",
        "prometheus_http_request_duration_seconds_sum": "counter",
    }
    assert about == [
        ("go_goroutines", "gauge-as-counter", "fail"),
        ("prometheus_http_request_duration_seconds_sum", "counter-as-gauge", "warn"),
    ]
    assert all(0.5 < row["granularity_seconds"] < 2 for row in said.report["metrics"])


def test_scopes_that_the_fetcher_does_not_name_are_told(server: LaptopPrometheus, check: Check) -> None:
    others = check(server, f"vm: {GOOD}", scopes="p1")

    uneven = check(server, "uneven: {unit: u, groupby: [id]}")

    assert others.findings == [("", "scopes", "warn")]
    assert others.report["findings"][0]["what"].startswith("1 scopes have usage and are not named by fetcher 'static'")
    (row,) = uneven.report["metrics"]
    assert (row["points_per_period"], row["scopes"], uneven.report["findings"]) == (1, 1, [])


def test_of_replicas_each_metric_is_judged_by_the_one_that_has_it(
    server: LaptopPrometheus, other: LaptopPrometheus, check: Check, unused_tcp_port: int
) -> None:
    """Given a replica that is away, and one that scrapes something else; then the third still passes."""
    said = check(server, f"vm: {GOOD}", urls=[f"http://127.0.0.1:{unused_tcp_port}/api/v1", other.url, server.url])

    assert said.report["metrics"][0]["verdict"] == "ok"
    assert [finding for finding in said.findings if finding[1] == "source"] == [("", "source", "warn")] * 2
    away, lacking = [one["what"] for one in said.report["findings"] if one["code"] == "source"]
    assert f"a replica is passed over: Prometheus at http://127.0.0.1:{unused_tcp_port}/api/v1 cannot be" in away
    assert lacking == f"{other.url} lacks instance, which another replica has"


def test_a_source_that_is_away_is_an_error_and_no_verdict(check: Check, tmp_path: Path, unused_tcp_port: int) -> None:
    nowhere = LaptopPrometheus(tmp_path / "nowhere")
    nowhere.port = unused_tcp_port

    said = check(nowhere, f"vm: {GOOD}")

    assert (said.status, said.out) == (exits.FAILED, "")
    assert said.err.startswith(f"error: Prometheus at {nowhere.url} cannot be reached")


# --- the start of a collector


def _source(server: LaptopPrometheus, text: str, **completeness: Any) -> PrometheusSource:
    settings = CollectorSettings(
        prometheus=PrometheusSettings(url=server.url), completeness=CompletenessSettings(**completeness)
    )
    return PrometheusSource(SourceContext(settings, HOUR, read(text, "metrics.yml", Factory.read_extra_args).metrics))


async def test_the_same_faults_stop_a_collector_that_starts(server: LaptopPrometheus) -> None:
    metrics = "metrics: {vm: {unit: u, groupby: [idd]}, vmm: {unit: u}, 'cpu.util': {unit: u}, gone: {unit: u}}"
    source = _source(server, metrics)
    try:
        with pytest.raises(UnfitSourceError) as refused:
            await source.check(NOW, 200 * 365 * 86400)
        assert await source.oldest(NOW) == 0
    finally:
        await source.close()

    kept, name, label, missing = str(refused.value).splitlines()
    assert "keeps 3153600000 s, but periods are collected and corrected up to 6307200000 s later" in kept
    assert name == "cpu.util: metric 'cpu.util' is no name of a metric: correct its name in metrics.yml"
    assert label.startswith("vm: no series has the label 'idd', so what should be told apart becomes one line")
    assert missing.startswith(f"vmm: metric 'vmm' does not exist on {server.url}: check its name, or set collect.comp")


async def test_what_may_pass_by_itself_is_a_remark_at_the_start(server: LaptopPrometheus) -> None:
    """Given a metric that may be missing, and one that nobody shows any more; then the collector starts anyway."""
    source = _source(
        server, "metrics: {vm: {unit: u}, none: {unit: u}, gone: {unit: u}}",
        metrics={"none": EvidenceSettings(expected=False)}, lookback=HOUR,
    )  # fmt: skip
    try:
        gone, none = await source.check(NOW, 86400)
    finally:
        await source.close()

    assert gone.startswith("gone: gone has no sample in the last 3600 s: each period is a gap until it has")
    assert none == f"none: metric 'none' does not exist on {server.url}"
