"""The upgrade, step by step under load, and what must hold when it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from aiokafka import ConsumerRecord

from rater.kafka import Topic
from tests.chaos.content import TrueFrame, truth
from tests.chaos.endstate import in_store
from tests.chaos.logs import Logs
from tests.chaos.offsets import SINK, SINK_USAGE, WORKER, Groups, backward
from tests.chaos.roles import SUSPECT
from tests.chaos.verify import compare
from tests.upgrade.installation import TOKEN, Installation
from tests.upgrade.load import Always, Load

LAG_SECONDS = 120.0
SETTLE_SECONDS = 120.0
SHOWN = 8

log = logging.getLogger(__name__)


class Rehearsal:
    """`async with`: an installation under load. `finish` ends the load and returns what is wrong."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Rehearsal:
        await self.installation.__aenter__()
        self.groups = Groups(self.installation.kafka)
        self.load = Load(self.installation.kafka, self.installation.url, TOKEN)
        self._loading = asyncio.create_task(self.load.run(self._stop))
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._loading.cancel()
        await asyncio.gather(self._loading, return_exceptions=True)
        await self.installation.__aexit__(*reason)

    async def roll_workers(self, release: Path | None, *, hangs: float | None = None) -> None:
        """As a StatefulSet does: the highest ordinal first, each ready before the next. With `hangs` the first of
        them does not end and is killed."""
        for ordinal in reversed(range(len(self.installation.workers))):
            await self.installation.roll_worker(ordinal, release, hangs=hangs)
            hangs = None
            if self._loading.done():
                self._loading.result()  # what the load died of

    async def finish(self) -> list[str]:
        """What is lost, doubled, wrong or dishonest; empty if nothing."""
        self._stop.set()
        await self._loading
        findings = []
        for group in (WORKER, SINK, SINK_USAGE):
            if await self.groups.caught_up(group, LAG_SECONDS) is None:
                findings.append(f"group {group} still lags after {LAG_SECONDS:g} s")
        logs = Logs(self.installation.kafka)
        expected, wrong = await self._settled(logs)
        findings += wrong
        findings += self.load.differences(expected)
        findings += [f"refused: {dict(record.headers)}" for _, record in logs.refused()]
        await self.groups.caught_up(SINK, LAG_SECONDS)
        findings += await asyncio.to_thread(in_store, self.installation.store_settings, expected, Always())
        commits = await self.groups.commits()
        findings += backward(commits, f"{self.installation.kafka.prefix}{WORKER}") + self.groups.went_back
        findings += self.installation.not_shared_out()
        findings += [text for pod in self.installation.pods() for text in pod.findings]
        findings += self._badly_ended() + self._suspect_lines()
        return findings[:SHOWN] + ([f"and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else [])

    async def _settled(self, logs: Logs) -> tuple[dict[tuple[str, int], TrueFrame], list[str]]:
        """Compares what was published until all is well; what conflicts never heals."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + SETTLE_SECONDS
        while True:
            await logs.refresh(Topic.USAGE, Topic.RATED, Topic.ALERTS, Topic.REJECTED)
            expected = truth(logs.accepted())
            rated, alerts = (_of_any_release(logs[topic]) for topic in (Topic.RATED, Topic.ALERTS))
            verdict = compare(expected, rated, alerts, Always())
            if verdict.ok or verdict.conflicting or loop.time() > ends:
                self.installation.steps.append(str(verdict))
                return expected, [] if verdict.ok else [str(verdict)]
            await asyncio.sleep(1)

    def _badly_ended(self) -> list[str]:
        """Who did not end in order when told to, and was not made to hang."""
        ends = ((pod, end) for pod in self.installation.pods() for end in pod.ends)
        return [f"{pod.name} ended with {end}" for pod, end in ends if end.code != 0 and not end.hung]

    def _suspect_lines(self) -> list[str]:
        signs = (*SUSPECT, "Traceback (most recent call last)")
        return [
            f"{pod.log.name}: {line.strip()[:300]}"
            for pod in self.installation.pods()
            for line in pod.log.read_text(errors="replace").splitlines()
            if any(sign in line for sign in signs)
        ]


def _of_any_release(records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    """Without what a release adds to a record as it publishes: one from before publishes the same outbox without it."""
    return [
        replace(record, headers=[header for header in record.headers if header[0] != "ce_source"]) for record in records
    ]


__all__ = ["Rehearsal"]
