"""An installation as the chart makes it, of processes: hooks, a StatefulSet of workers, sink and API behind a service.

Kafka is real, ClickHouse the real engine behind HTTP. Deployments start the new pod before they end the old one; the
StatefulSet exchanges the highest ordinal first and waits for it to be ready.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from rater.kafka import KafkaSettings
from rater.store import StoreSettings
from tests.chaos.proxy import Proxy
from tests.integration.clickhouse_http import PASSWORD, USER, Server
from tests.upgrade.as_chart import AsChart, as_chart
from tests.upgrade.load import RULES, SCRIPT, WEB_METRIC
from tests.upgrade.pods import Pod
from tests.upgrade.previous import RATER, environment

PARTITIONS = 4
WORKERS = 3
TOKEN = "upgrade-rehearsal-only-0123456789"
HOOK_SECONDS = 600.0  # an audit of a long run, on a machine that does much else

SETTINGS = """
kafka: {{bootstrap: "{bootstrap}", prefix: {prefix}, partitions: {partitions}}}
store: {{dsn: "http://127.0.0.1:{store_port}/rater", username: {user}, password_file: {directory}/store-password}}
engine: {{settle: 5, wait_periods: 1}}
worker: {{checkpoint_interval: {checkpoint_interval}, session_timeout: {session_timeout}}}
sink: {{max_delay: 0.3}}
api: {{auth: token, token_file: {directory}/tokens.yaml}}
observe: {{log_format: json}}
metrics: {{cpu: {{}}, disk: {{}}, {metric}: {{unit: request}}, rater.selftest: {{unit: unit}}}}
"""
TOKENS = f"""
tokens:
- {{name: boss, token: {TOKEN}, roles: [admin, push]}}
"""


class HookError(AssertionError):
    """A hook failed: helm would stop here."""


@dataclass
class Installation:
    """`async with Installation(...)`: what it started is gone afterwards, logs stay in `directory`."""

    directory: Path
    bootstrap: str
    release: Path | None
    """What is installed first; None: ours."""
    chart: AsChart = field(default_factory=as_chart)
    checkpoint_interval: float = 1.0
    prefix: str = field(default_factory=lambda: f"upgrade-{uuid4().hex[:8]}.")
    grants: list[str] | None = None
    """What the store's user may do; None: all."""
    kafka_users: dict[str, dict[str, str]] = field(default_factory=dict)
    """Section `kafka` of each role, "" for commands; a role that is not there has none of its own."""
    workers: list[Pod] = field(default_factory=list)
    sink: Pod = field(init=False)
    api: Pod = field(init=False)
    retired: list[Pod] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    """What was done and how long it took."""

    async def __aenter__(self) -> Installation:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.service = Proxy()
        await self.service.start()
        self.store = Server(self.directory / "clickhouse", self.grants)
        try:
            await asyncio.to_thread(self.store.start)
            self._write_settings()
            await self._install()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _end(self) -> None:
        for pod in self.pods():
            pod.kill()
        self.store.kill()
        await self.service.stop()

    def pods(self) -> list[Pod]:
        """All, also those that were replaced."""
        current = [getattr(self, name) for name in ("sink", "api") if hasattr(self, name)]
        return [*self.workers, *current, *self.retired]

    @property
    def config(self) -> Path:
        """rater.yaml, a ConfigMap in the chart."""
        return self.directory / "rater.yaml"

    @property
    def kafka(self) -> KafkaSettings:
        """As in rater.yaml."""
        return KafkaSettings(bootstrap=self.bootstrap, prefix=self.prefix, partitions=PARTITIONS)

    @property
    def store_settings(self) -> StoreSettings:
        """As in rater.yaml."""
        password = self.directory / "store-password"
        return StoreSettings(
            f"http://127.0.0.1:{self.store.port}/rater", username=USER, password_file=str(password), answer_timeout=20
        )

    @property
    def url(self) -> str:
        """Of the service in front of the API."""
        return f"http://127.0.0.1:{self.service.port}"

    def _write_settings(self) -> None:
        (self.directory / "store-password").write_text(PASSWORD)
        (self.directory / "tokens.yaml").write_text(TOKENS)
        (self.directory / "rules.yaml").write_text(RULES)
        (self.directory / "by_request.py").write_text(SCRIPT)
        text = SETTINGS.format(
            bootstrap=self.bootstrap,
            prefix=self.prefix,
            partitions=PARTITIONS,
            store_port=self.store.port,
            user=USER,
            directory=self.directory,
            checkpoint_interval=self.checkpoint_interval,
            session_timeout=self.chart.session_timeout,
            metric=WEB_METRIC,
        )
        self.config.write_text(text)

    # --- what helm and the controllers do

    async def _install(self) -> None:
        await self.hooks(self.release)
        await self.rater("rules", "apply", "rules.yaml", "--yes", "--reason", "first prices", release=self.release)
        container = self.chart.container("worker")
        for ordinal in range(WORKERS):
            name = f"rater-worker-{ordinal}"
            pod = Pod(
                name,
                container,
                self.config,
                self.directory,
                free_port(),
                {container.named_by: name, **self._user("worker")},
            )
            self.workers.append(pod)
            pod.start(self.release)
        self.sink = self._sink(0)
        self.sink.start(self.release)
        self.api = self._api(0)
        self.api.start(self.release)
        for pod in self.pods():
            await pod.until_ready()
        self.service.target = int(self.api.variables["RATER_API__LISTEN"].split(":")[1])

    async def hooks(self, release: Path | None) -> None:
        """Topics and tables, by jobs of that release, before any pod is exchanged."""
        for hook in self.chart.hooks:
            said = (await self.rater(*hook, release=release)).strip().splitlines()
            self.steps.append(f"{' '.join(hook)}: {said[-1]}")

    async def rater(self, *arguments: str, release: Path | None, codes: Sequence[int] = (0,)) -> str:
        """A command to its end; what it said. Raises HookError."""
        process = await asyncio.create_subprocess_exec(
            str(RATER),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.directory,
            env=environment(release, RATER_CONFIG=str(self.config), **self._user("")),
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), HOOK_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise HookError(f"rater {' '.join(arguments)} did not end in {HOOK_SECONDS:g} s") from None
        if process.returncode not in codes:
            raise HookError(f"rater {' '.join(arguments)} ended with {process.returncode}: {(out + err).decode()}")
        return (out + err).decode()

    async def roll_worker(self, ordinal: int, release: Path | None, *, hangs: float | None = None) -> None:
        """One pod of the StatefulSet. `hangs`: it does not end, and is killed after so many seconds."""
        pod = self.workers[ordinal]
        if hangs is not None:
            pod.freeze()
        end = await pod.terminate(hangs)
        pod.start(release)
        ready = await pod.until_ready()
        how = "SIGKILL" if end.code == -signal.SIGKILL else f"exit {end.code}"
        self.steps.append(
            f"{pod.name}: {how} after {end.seconds:.1f} s, ready {ready:.1f} s later with {pod.restored()}"
        )

    async def roll_sink(self, release: Path | None) -> None:
        """A Deployment: the new one is ready before the old one is told to end."""
        old, self.sink = self.sink, self._sink(len(self.retired) + 1)
        self.sink.start(release)
        await self._replace(old, self.sink)

    async def roll_api(self, release: Path | None) -> None:
        """The same, and the service sends new connections to whom is ready."""
        old, self.api = self.api, self._api(len(self.retired) + 1)
        self.api.start(release)
        await self._replace(old, self.api)

    async def _replace(self, old: Pod, new: Pod) -> None:
        self.retired.append(old)
        ready = await new.until_ready()
        if new is self.api:
            self.service.target = int(new.variables["RATER_API__LISTEN"].split(":")[1])
        end = await old.terminate()
        self.steps.append(
            f"{new.name}: ready after {ready:.1f} s; {old.name}: exit {end.code} after {end.seconds:.1f} s"
        )

    def _user(self, role: str) -> dict[str, str]:
        section = self.kafka_users.get(role, {})
        return {f"RATER_KAFKA__{name.upper()}": text for name, text in section.items()}

    def _sink(self, number: int) -> Pod:
        container, user = self.chart.container("sink"), self._user("sink")
        return Pod(f"rater-sink-{number}", container, self.config, self.directory, free_port(), user)

    def _api(self, number: int) -> Pod:
        variables = {"RATER_API__LISTEN": f"127.0.0.1:{free_port()}", **self._user("api")}
        return Pod(
            f"rater-api-{number}", self.chart.container("api"), self.config, self.directory, free_port(), variables
        )

    # --- what must hold

    def not_shared_out(self) -> list[str]:
        """Partitions that no worker, or more than one, has restored in its latest generation."""
        owners: dict[int, list[str]] = {number: [] for number in range(PARTITIONS)}
        for pod in self.workers:
            for partition in pod.restored() or ():
                owners[partition].append(pod.name)
        return [f"partition {number}: {names}" for number, names in owners.items() if len(names) != 1]


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


__all__ = ["PARTITIONS", "TOKEN", "WORKERS", "HookError", "Installation", "free_port"]
