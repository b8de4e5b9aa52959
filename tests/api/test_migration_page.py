"""docs/migrate-from-cloudkitty.md from the first block to the last, between a real CloudKitty and a `rater up`.

CloudKitty runs on a real InfluxDB. The same points are rated by its own HashMap and by our worker.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.local.kafka import LaptopKafka
from tests.conformance.influx_server import influxdb, program
from tests.conformance.side import CloudKitty, Json, cloudkitty

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migrate-from-cloudkitty.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_SECONDS = 120
HOUR, JANUARY = 3600, 1_767_225_600
DECEMBER = JANUARY - 31 * 24 * HOUR
HOURS = 30  # of two days
OLD_HOURS = 3  # of the month before
MISSING = 26
"""The hour of projB that CloudKitty has and we do not."""
CONF = """\
[collect]
collector = prometheus
metrics_conf = metrics.yml
[fetcher]
backend = prometheus
[fetcher_prometheus]
metric = up
scope_attribute = project_id
prometheus_url = http://127.0.0.1:9090
[collector_prometheus]
prometheus_url = http://127.0.0.1:9090
"""
METRICS_YML = """\
metrics:
  cpu_hours:
    alt_name: cpu
    unit: core-hour
    groupby: [id]
    metadata: [flavor]
    extra_args: {aggregation_method: max}
"""
SERVICES = """\
kafka: {{bootstrap: "{bootstrap}", prefix: "{prefix}", partitions: 2}}
metrics_conf: metrics.yml
engine: {{settle: 1}}
sink: {{max_delay: 0.2}}
worker: {{checkpoint_interval: 1}}
api: {{listen: "{listen}", cloudkitty: {{}}}}
"""
Shell = Callable[..., "subprocess.CompletedProcess[str]"]


class Place(NamedTuple):
    """A CloudKitty that has rated January, and a rater without rules and usage."""

    side: CloudKitty
    url: str
    ours: str
    shell: Shell
    directory: Path


def test_every_block_is_known() -> None:
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "sh", "sh", "sh", "sh", "sh", "console", "console"]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def samples(scope: str, since: int = JANUARY, hours: int = HOURS) -> Iterator[Json]:
    """What two machines used, an hour each; quantities that no float has."""
    for hour in range(hours):
        for number in range(2):
            qty = f"{number + hour % 7}.{'1' * (1 + hour % 12)}"
            labels = {"groupby": {"id": f"{scope}-{number}"}, "metadata": {"flavor": f"m{number}"}}
            yield {"begin": since + hour * HOUR, "qty": qty, **labels}


@pytest.fixture
def place(tmp_path: Path, kafka: LaptopKafka, unused_tcp_port_factory: Callable[[], int]) -> Iterator[Place]:
    if program() is None:
        pytest.skip("InfluxDB is not installed: make tools")
    port = unused_tcp_port_factory()
    (tmp_path / "influx").mkdir()
    with influxdb(tmp_path / "influx", port, "cloudkitty"), cloudkitty(tmp_path / "rules.sqlite") as side:
        served = side.ask("serve", storage="influxdb", port=port, database="cloudkitty")
        url = f"http://127.0.0.1:{served['port']}"
        rated_there(side, url)
        (tmp_path / "examples").symlink_to(ROOT / "examples")
        (tmp_path / "cloudkitty.conf").write_text(CONF)
        (tmp_path / "metrics.yml").write_text(METRICS_YML)
        listen = f"127.0.0.1:{unused_tcp_port_factory()}"
        values = {"bootstrap": kafka.bootstrap, "prefix": f"page-{uuid.uuid4().hex[:8]}.", "listen": listen}
        (tmp_path / "services.yaml").write_text(SERVICES.format(**values))
        ours = f"http://{listen}"
        yield Place(side, url, ours, _shell(tmp_path, url, ours), tmp_path)


def rated_there(side: CloudKitty, url: str) -> None:
    """A price list in CloudKitty, and what its HashMap makes of January."""
    mapping = {"kind": "mapping", "type": "flat", "service": None, "field": 0, "group": 0}
    side.ask(
        "rules",
        services=["cpu"],
        fields=[[0, "flavor"]],
        groups=["size"],
        rules=[
            mapping | {"value": "m0", "cost": "0.0123456789"},
            mapping | {"value": "m1", "cost": "0.1"},
            {"kind": "threshold", "type": "rate", "service": 0, "level": "5", "cost": "0.98"},
        ],
        modules={"hashmap": [True, 1]},
    )
    for scope in ("projA", "projB"):
        frames = [*rated_frames(side, scope), *rated_frames(side, scope, DECEMBER, OLD_HOURS)]
        body = json.dumps({"dataframes": frames}).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/v2/dataframes", body, headers), timeout=60).close()


def rated_frames(side: CloudKitty, scope: str, since: int = JANUARY, hours: int = HOURS) -> list[Json]:
    """The frames of a scope, as CloudKitty's HashMap rates them."""
    points = list(samples(scope, since, hours))
    asked = [{"metric": "cpu"} | {name: one[name] for name in ("qty", "groupby", "metadata")} for one in points]
    prices = side.ask("price", tenant=scope, period_begin=JANUARY, points=asked)["prices"]
    return [_frame(scope, one, price["price"]) for one, price in zip(points, prices, strict=True)]


def _frame(scope: str, one: Json, price: str) -> Json:
    point = {"vol": {"unit": "core-hour", "qty": one["qty"]}, "rating": {"price": price}, "metadata": one["metadata"]}
    point["groupby"] = one["groupby"] | {"project_id": scope}
    period = {"begin": _iso(one["begin"]), "end": _iso(one["begin"] + HOUR)}
    return {"period": period, "usage": {"cpu": [point]}}


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _shell(directory: Path, theirs: str, ours: str) -> Shell:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RATER", "OS_"))}
    bin_directory = Path(sys.executable).parent
    environment = {**plain, "PATH": f"{bin_directory}:{plain['PATH']}", "CLOUDKITTY": theirs, "RATER": ours}

    def run(block: str, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=directory,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == status, f"{block}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def rater_up(place: Place) -> Iterator[None]:
    """`rater up` with services.yaml; pushed and replayed usage in place of a source."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RATER")}
    environment["RATER_CONFIG"] = "services.yaml"
    with (place.directory / "log").open("w") as log:
        command = [sys.executable, "-m", "rater", "up"]
        up = subprocess.Popen(command, cwd=place.directory, env=environment, stderr=log)
    try:
        until(lambda: "restored partitions" in (place.directory / "log").read_text() or not _alive(up))
        assert up.poll() is None, (place.directory / "log").read_text()
        yield
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()


def _alive(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def until(holds: Callable[[], bool]) -> None:
    """Waits until it does."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.2)


def test_from_cloudkitty_to_rater(place: Place, rater_up: None) -> None:
    where, settings, rules, apply, copy, same, different = (text for kind, text in BLOCKS if kind == "sh")
    run, services = place.shell, {"RATER_CONFIG": "services.yaml"}
    # the settings and rules as the page says
    assert run(where + 'echo "$CLOUDKITTY"').stdout.strip() == place.url
    run(settings)
    assert "numbers: cloudkitty" in (place.directory / "rater.yaml").read_text()
    told = run(rules).stderr
    assert "1 services, 1 fields, 1 groups, 2 mappings, 1 thresholds, 0 scripts" in told
    run(apply, **services)
    # an old month as CloudKitty has it, once however often it is copied
    copying, comparing = copy.splitlines()
    for _ in range(2):
        assert run(copying, **services).stdout == f"{2 * 2 * OLD_HOURS} points copied\n"
    until(lambda: points(place.ours) == 2 * 2 * OLD_HOURS)
    assert "2 scopes and metrics compared, 0 differ" in run(comparing, **services).stderr
    # usage of the same time, but for one hour of projB
    usage = [{"scope_id": scope, "metric": "cpu", **one} for scope in ("projA", "projB") for one in samples(scope)]
    kept = [one for one in usage if (one["scope_id"], one["begin"]) != ("projB", JANUARY + MISSING * HOUR)]
    lines = [json.dumps(one | {"begin": _iso(one["begin"]), "end": _iso(one["begin"] + HOUR)}) for one in kept]
    covers = [_covers("projA", 0, HOURS), _covers("projB", 0, MISSING), _covers("projB", MISSING + 1, HOURS)]
    (place.directory / "usage.jsonl").write_text("\n".join([*covers, *lines]) + "\n")
    run("rater collect replay usage.jsonl", **services)
    until(lambda: points(place.ours) == 2 * 2 * (OLD_HOURS + HOURS) - 2)
    until(lambda: _frames(run("rater frames list --out json", **services).stdout) == 2 * HOURS)
    # then projA costs the same
    equal = run(same, **services)
    assert equal.stdout == ""
    assert "1 scopes and metrics compared, 0 differ" in equal.stderr
    # and what differs is that hour, with the reason
    run(different, **services)
    (row,) = csv.DictReader((place.directory / "differences.csv").read_text().splitlines())
    assert (row["scope_id"], row["metric"], row["verdict"]) == ("projB", "cpu", "differs")
    assert float(row["cloudkitty_qty"]) + float(row["qty_difference"]) == pytest.approx(float(row["rater_qty"]))
    assert float(row["rate_difference"]) < 0
    hole = "projB: cpu from replay: 2026-01-02 02:00 to 2026-01-02 03:00 UTC (1 h): no complete collection covers it"
    assert row["reason"] == hole
    (day,) = map(json.loads, (place.directory / "days.json").read_text().splitlines())
    assert (day["from"], day["scope_id"], day["reason"]) == ("2026-01-02T00:00:00Z", "projB", hole)
    # what was copied twice is still there once
    assert "2 scopes and metrics compared, 0 differ" in run(comparing, **services).stderr
    # a CloudKitty whose storage has no API v2 tells prices, to five decimals
    served = place.side.ask("serve", storage="sqlalchemy")
    place.side.ask("store", scope_id="projA", frames=rated_frames(place.side, "projA"))
    old = run(same, CLOUDKITTY=f"http://127.0.0.1:{served['port']}", **services)
    assert "1 scopes and metrics compared, 0 differ" in old.stderr
    assert "only prices are compared, by v1/report/summary with 5 decimals" in old.stderr


def points(url: str) -> int:
    """How many points our API tells of."""
    span = "begin=2025-12-01&end=2026-02-01"
    try:
        with urllib.request.urlopen(f"{url}/v2/dataframes?{span}&limit=1", timeout=60) as answer:
            return int(json.loads(answer.read())["total"])
    except urllib.error.HTTPError as refused:
        refused.close()
        if refused.code != 404:
            raise
        return 0  # none yet


def _covers(scope: str, begin: int, end: int) -> str:
    times = {"begin": _iso(JANUARY + begin * HOUR), "end": _iso(JANUARY + end * HOUR)}
    return json.dumps({"covers": {"scope_id": scope, "metric": "cpu", **times}})


def _frames(text: str) -> int:
    return len(text.splitlines())
