"""Processes as the chart's pods: the same commands, signals and grace, a name that stays, probes over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.upgrade.as_chart import Container
from tests.upgrade.previous import RATER, environment

ROOT = Path(__file__).parents[2]
PROBE_SECONDS = 0.25
READY_SECONDS = 180.0  # on a machine that does much else
RESTORED = "restored partitions "
DIES_WITH_US = (sys.executable, "-I", "-S", str(ROOT / "deploy" / "local" / "kafka" / "_die_with_parent.py"))


@dataclass(frozen=True)
class Probe:
    """One answer of a readiness probe; status 0: nobody answered."""

    at: float
    status: int
    body: str


@dataclass(frozen=True)
class End:
    """How a pod ended, and after how many seconds."""

    code: int
    seconds: float
    hung: bool
    """It was frozen before."""


@dataclass
class Pod:
    """One pod; `release` is None for ours. It may be started again under its name, as those of a StatefulSet are."""

    name: str
    container: Container
    config: Path
    directory: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list)
    """Of this start."""
    findings: list[str] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    release: Path | None = None
    _process: subprocess.Popen[bytes] | None = None
    _probing: asyncio.Task[None] | None = None
    _log_from: int = 0
    _is_frozen: bool = False

    @property
    def log(self) -> Path:
        """What it said, over all its starts."""
        return self.directory / f"{self.name}.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, running or ended."""
        assert self._process is not None, "it was started"
        return self._process

    def start(self, release: Path | None) -> None:
        """Starts it, and probes it from now on."""
        self.release, self.probes, self._is_frozen = release, [], False
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        variables = {
            "RATER_CONFIG": str(self.config),
            "RATER_OBSERVE__LISTEN": f"127.0.0.1:{self.port}",
            **self.variables,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, str(os.getpid()), str(RATER), *self.container.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=environment(release, **variables),
            )
        self._probing = asyncio.create_task(self._probe())

    async def until_ready(self, seconds: float = READY_SECONDS) -> float:
        """Waits until it has been ready for as long as the chart wants it; after how many seconds it was. Raises
        AssertionError."""
        ready = await self._until_ready(seconds)
        while time.monotonic() - self._red_until < self.container.settled:
            await asyncio.sleep(PROBE_SECONDS)
            if self.probes[-1].status != 200:
                ready = await self._until_ready(seconds)
        return ready

    @property
    def _red_until(self) -> float:
        """When the probe said no for the last time."""
        return max((probe.at for probe in self.probes if probe.status != 200), default=0.0)

    async def _until_ready(self, seconds: float) -> float:
        began = time.monotonic()
        while not (self.probes and self.probes[-1].status == 200):
            assert self.process.poll() is None, f"{self.name} ended with {self.process.poll()}:\n{self.said()}"
            last = self.probes[-1] if self.probes else None
            assert time.monotonic() - began < seconds, f"{self.name} is not ready, {last}:\n{self.said()}"
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def terminate(self, grace: float | None = None) -> End:
        """SIGTERM, and SIGKILL when the grace is over, as the kubelet does."""
        began = time.monotonic()
        await asyncio.sleep(self.container.pre_stop)
        self.process.send_signal(signal.SIGTERM)
        limit = self.container.grace if grace is None else grace
        while self.process.poll() is None and time.monotonic() - began < limit:
            await asyncio.sleep(0.05)
        if self.process.poll() is None:
            self.process.kill()
        return await self._ended(began)

    async def _ended(self, began: float) -> End:
        code = await asyncio.to_thread(self.process.wait)
        if self._probing is not None:
            self._probing.cancel()
        end = End(code, time.monotonic() - began, self._is_frozen)
        self.ends.append(end)
        return end

    def freeze(self) -> None:
        """It does nothing any more, not even end when it is asked to."""
        self.process.send_signal(signal.SIGSTOP)
        self._is_frozen = True

    def kill(self) -> None:
        """At the end of a test, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._probing is not None:
            self._probing.cancel()

    def said(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def messages(self) -> list[str]:
        """What this start has said so far, of its JSON lines the messages."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            lines = log.read().splitlines()
        found = []
        for line in lines:
            try:
                found.append(str(msgspec.json.decode(line)["message"]))
            except (msgspec.DecodeError, KeyError, TypeError):
                found.append(line.decode(errors="replace"))
        return found

    def restored(self) -> set[int] | None:
        """The partitions that this start of a worker restored last; None before the first time."""
        told = [text for text in self.messages() if text.startswith(RESTORED)]
        return set(msgspec.json.decode(told[-1].removeprefix(RESTORED).split(" in ")[0])) if told else None

    async def _probe(self) -> None:
        was_ready = False
        while True:
            probe = await asyncio.to_thread(_ask, f"http://127.0.0.1:{self.port}{self.container.readiness}")
            self.probes.append(probe)
            if probe.status == 200 and not was_ready:
                was_ready = True
                # The log is read after the answer, which is in favour of the worker. The previous release did say so.
                if self.container.role == "worker" and self.release is None and self.restored() is None:
                    self.findings.append(f"{self.name} said it was ready before it had restored a partition")
            await asyncio.sleep(PROBE_SECONDS)


def _ask(url: str) -> Probe:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return Probe(time.monotonic(), answer.status, answer.read().decode())
    except urllib.error.HTTPError as fault:
        return Probe(time.monotonic(), fault.code, fault.read().decode())
    except OSError as fault:
        return Probe(time.monotonic(), 0, str(fault))


__all__ = ["End", "Pod", "Probe"]
