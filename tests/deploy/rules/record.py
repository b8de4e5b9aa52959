"""Records what alerts are made of: a small installation runs, things go wrong in it, a real Prometheus scrapes it.

    python -m tests.deploy.rules.record healthy|broken --raw FILE     (half an hour; writes what Prometheus saw)
    python -m tests.deploy.rules.record healthy|broken --from FILE    (writes the fixture beside this file)

A fixture has the series that the rules name, for promtool. Nothing in it is made up: a period lasts a minute there, so
that half an hour has as many as a day, and instants count from the begin of the recording, as promtool's clock does.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from deploy.local.kafka import LaptopKafka
from tests.deploy.rules.fixtures import STEP, write_fixture
from tests.integration.prometheus.server import LaptopPrometheus
from tests.openstack.processes import Process

RATER = Path(__file__).resolve().parents[3] / ".venv" / "bin" / "rater"
ROLES = {"worker": ["worker"], "sink": ["sink"], "api": ["api"], "collect": ["collect", "run"]}
SCRAPE = f"""
global: {{scrape_interval: {STEP}s, scrape_timeout: 10s}}
scrape_configs:
  - job_name: cloud
    scrape_interval: 5s
    scrape_timeout: 4s
    static_configs: [{{targets: ["127.0.0.1:%d"]}}]
"""
RATER_YAML = """
metrics_conf: metrics.yml
kafka: {{bootstrap: "{kafka}", partitions: 2}}
engine: {{period: 60, wait_periods: 1, settle: 5, late_horizon_periods: 2, gap_horizon_periods: 744}}
worker: {{checkpoint_interval: 1}}
audit: {{interval: 120}}
api: {{listen: "127.0.0.1:{api}"}}
collect:
  prometheus: {{url: "{prometheus}"}}
  static: {{scopes: [alpha, beta]}}
  silent_after: 120
  completeness: {{settle: 10, scrape_interval: 5}}
"""
METRICS_YML = "metrics: {machines: {unit: machine, groupby: [id, project_id], extra_args: {aggregation_method: max}}}\n"
RULES = 'hashmap: {services: [{name: machines, mappings: [{cost: "0.1"}]}]}\n'
SPOILED = RULES + "pyscripts: {scripts: [{name: broken, start: 2026-01-01T00:00:00Z, data: 'raise ValueError(1)'}]}\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Event(NamedTuple):
    """Something that happens in the recorded run, seconds after its begin."""

    at: int
    what: str
    do: Callable[[], object]


class Installation:
    """Kafka, a cloud with an exporter, Prometheus, and each role of rater as a process."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.ports = {role: free_port() for role in ROLES}
        self.roles: dict[str, Process] = {}
        self.kafka = LaptopKafka(directory / "kafka")
        self.kafka.start()
        stack.callback(self.stop_kafka)
        cloud = stack.enter_context(_cloud())
        jobs = "".join(
            f"  - job_name: {role}\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
            for role, port in self.ports.items()
        )
        self.prometheus = stack.enter_context(LaptopPrometheus(directory / "p", config=SCRAPE % cloud + jobs))
        self._files()
        for words in (["topics", "create"], ["migrate"]):
            self._run(*words)
        self._run("rules", "apply", "rules.yaml", "--yes", "--reason", "first prices")
        for role in ROLES:
            self.start(role)
            stack.callback(self.stop, role)

    def _files(self) -> None:
        api, prometheus = free_port(), self.prometheus.url
        text = RATER_YAML.format(kafka=self.kafka.bootstrap, api=api, prometheus=prometheus)
        for name, content in (
            ("rater.yaml", text),
            ("metrics.yml", METRICS_YML),
            ("rules.yaml", RULES),
            ("spoiled.yaml", SPOILED),
        ):
            (self.directory / name).write_text(content)

    def _words(self, *words: str) -> list[str]:
        return [str(RATER), "--config", str(self.directory / "rater.yaml"), *words]

    def _run(self, *words: str) -> None:
        """A command, to its end."""
        paths = [str(self.directory / word) if word.endswith(".yaml") else word for word in words]
        done = Process(self._words(*paths), self.directory / "commands.log")
        done.until(lambda: not done.running)

    def start(self, role: str) -> None:
        words = self._words(*ROLES[role], "--listen", f"127.0.0.1:{self.ports[role]}")
        self.roles[role] = Process(words, self.directory / f"{role}.log")

    def stop(self, role: str) -> None:
        if role in self.roles:
            self.roles.pop(role).stop()

    def stop_kafka(self) -> None:
        if self.kafka.running:
            self.kafka.stop()

    def push_nonsense(self) -> None:
        """What no engine can take, past the API that would have refused it."""
        import asyncio

        from aiokafka import AIOKafkaProducer

        async def send() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap)
            await producer.start()
            await producer.send_and_wait("rater.usage", b"this is no usage", key=b"alpha")
            await producer.stop()

        asyncio.run(send())

    def spoil_rules(self) -> None:
        self._run("rules", "apply", "spoiled.yaml", "--yes", "--reason", "a script that fails")

    def seen(self, begin: int, end: int) -> list[dict[str, Any]]:
        """What Prometheus saw of rater."""
        query = urllib.parse.urlencode(
            {"query": '{__name__=~"rater_.+|up|process_start_time_seconds"}', "start": begin, "end": end, "step": STEP}
        )
        with urllib.request.urlopen(f"{self.prometheus.url}/query_range?{query}", timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


@contextmanager
def _cloud() -> Iterator[int]:
    """Two machines, as an exporter shows them; its port."""

    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            lines = [f'machines{{id="vm-{name}",project_id="{name}"}} 1\n' for name in ("alpha", "beta")]
            self.wfile.write("".join(lines).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def events(kind: str, there: Installation) -> list[Event]:
    """What goes wrong: nothing, or one thing after the other."""
    if kind == "healthy":
        return []
    return [
        Event(240, "a record that nobody can read", there.push_nonsense),
        Event(240, "rules with a script that fails", there.spoil_rules),
        Event(360, "the collector ends", lambda: there.stop("collect")),
        Event(1020, "the sink ends", lambda: there.stop("sink")),
        Event(1020, "Kafka ends", there.stop_kafka),
    ]


def record(kind: str, seconds: int) -> dict[str, Any]:
    """Runs the installation so long, and gives what Prometheus saw and when what happened."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        there = Installation(Path(directory), stack)
        time.sleep(180)  # nothing is recorded of the start
        begin = int(time.time())
        happened = []
        for event in [*events(kind, there), Event(seconds, "the end", lambda: None)]:
            time.sleep(max(0.0, begin + event.at - time.time()))
            happened.append({"at": int(time.time()) - begin, "what": event.what})
            sys.stderr.write(f"{happened[-1]}\n")
            event.do()
        return {"kind": kind, "begin": begin, "events": happened, "series": there.seen(begin, begin + seconds)}


def main() -> int:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["healthy", "broken"])
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--from", dest="source", type=Path)
    asked = parser.parse_args()
    found = json.loads(asked.source.read_text()) if asked.source else record(asked.kind, asked.seconds)
    if asked.raw:
        asked.raw.write_text(json.dumps(found))
    else:
        write_fixture(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
