"""Chaos on real parts: `python -m tests.chaos.run --minutes 3 --seed 1`, also as `make chaos MINUTES=3 SEED=1`.

Three workers, two sinks, two collectors, Kafka, ClickHouse and Prometheus, each in a process of its own, under
faults that one generator draws; at the end all must be as if nothing had happened. docs/reliability.md has outcomes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rater.kafka import Topic
from rater.model.usage import FrameForced, ScopePlan
from tests.chaos import audited, cloud, endstate
from tests.chaos.logs import Logs
from tests.chaos.offsets import SINK, SINK_USAGE, WORKER
from tests.chaos.pushers import PERIOD
from tests.chaos.report import write_report
from tests.chaos.storm import RECOVERY_SECONDS, Say, Storm, rage
from tests.chaos.town import WANTED, Town
from tests.chaos.verify import Verdict

SHORT_MINUTES = 5.0
"""Runs below have shorter outages."""
SETTLE_SECONDS = 240.0
LOOK_SECONDS = 5.0
NOTICE_SECONDS = 15
"""How long before it is gone a scope is said to be gone."""


@dataclass
class Outcome:
    """What a run found. `findings` is empty if nothing is wrong."""

    seed: int
    minutes: float
    storm: Storm
    verdict: Verdict
    sent: dict[str, int]
    refused: dict[str, int]
    ends: int
    """Ends of processes that faults caused."""
    rule_versions: int
    disk: str
    sinks_back: int
    """Commits of sinks that went back, which repeats inserts and is no fault."""
    seconds: float
    findings: list[str] = field(default_factory=list)


async def run(directory: Path, minutes: float, seed: int, say: Say) -> Outcome:
    """One whole run; everything it started is gone afterwards, its logs stay in `directory`."""
    began = time.monotonic()
    async with Town(directory, minutes, seed, short=minutes < SHORT_MINUTES) as town:
        stop = asyncio.Event()
        pushing = asyncio.create_task(town.pushers.run(stop))
        try:
            storm = await rage(town, seed, minutes, say)
        finally:
            stop.set()
        say("chaos: no more faults; what is late or open comes to its end")
        await pushing
        logs = Logs(town.kafka)
        findings = [f"nobody recovered within {RECOVERY_SECONDS:g} s after {names}" for names in storm.stuck]
        until = await _end_collection(town, logs, findings)
        expected, verdict = await _settled(town, logs, until)
        if not verdict.ok:
            findings.append(f"topics: {verdict}")
        await _caught_up(town, findings)
        refused, sinks_back = await _look_at_the_rest(town, logs, expected, until, findings)
        return Outcome(
            seed=seed,
            minutes=minutes,
            storm=storm,
            verdict=verdict,
            sent=dict(town.pushers.sent),
            refused=refused,
            ends=len(town.roles.ends),
            rule_versions=max(town.prices.versions),
            disk=town.disk.how,
            sinks_back=sinks_back,
            seconds=time.monotonic() - began,
            findings=findings,
        )


async def _end_collection(town: Town, logs: Logs, findings: list[str]) -> int:
    """Waits until the collector has made up for everything, ends it and its scopes; until when those are expected."""
    until = int(time.time()) // PERIOD * PERIOD
    town.roles.scale("collector", 0)
    await town.roles.ended("collector")
    town.roles.scale("collector", WANTED["collector"])  # a new one does not know what it asked in vain: no pauses
    missing = await _collected(town, logs, until)
    if missing:
        findings.append(f"collected: {endstate.shown(missing)}")
    town.roles.scale("collector", 0)
    await town.roles.ended("collector")
    gone = (int(time.time()) + NOTICE_SECONDS) // PERIOD * PERIOD + PERIOD
    for scope in cloud.SCOPES:
        await town.pushers.send(ScopePlan(cloud.SOURCE, scope, gone))
    await asyncio.sleep(gone - time.time())
    for scope in cloud.SCOPES:  # nobody will collect the last minutes: an operator closes them
        for begin in range(until, gone, PERIOD):
            await town.pushers.send(FrameForced(scope, begin, "chaos", "the run is over"))
    await town.pushers.close()
    return gone


async def _collected(town: Town, logs: Logs, until: int) -> list[str]:
    """What of the cloud is not collected as it was made, when all has had its time."""
    ends_at = time.monotonic() + SETTLE_SECONDS
    while True:
        await logs.refresh(Topic.USAGE)
        missing = await asyncio.to_thread(endstate.not_collected, logs, town.cloud, until)
        if not missing or time.monotonic() > ends_at:
            return missing
        await asyncio.sleep(LOOK_SECONDS)


async def _settled(town: Town, logs: Logs, until: int) -> tuple[endstate.Expected, Verdict]:
    """Compares until all is well; a conflict never heals, so it ends the wait at once."""
    await town.groups.caught_up(WORKER, RECOVERY_SECONDS)
    ends_at = time.monotonic() + SETTLE_SECONDS
    while True:
        expected, verdict = await endstate.verdict_of(logs, town.prices.versions, until)
        if verdict.ok or verdict.conflicting or time.monotonic() > ends_at:
            return expected, verdict
        await asyncio.sleep(LOOK_SECONDS)


async def _caught_up(town: Town, findings: list[str]) -> None:
    for group in (WORKER, SINK, SINK_USAGE):
        if await town.groups.caught_up(group, RECOVERY_SECONDS) is None:
            findings.append(f"group {group} has not caught up within {RECOVERY_SECONDS:g} s")


async def _look_at_the_rest(
    town: Town, logs: Logs, expected: endstate.Expected, until: int, findings: list[str]
) -> tuple[dict[str, int], int]:
    """Store, refusals, offsets, processes and their logs. Counts of refusals, and of sinks' commits that went back."""
    prices = town.prices.versions
    stored = await asyncio.to_thread(endstate.in_store, town.store_settings, expected, prices)
    refused, wrongly = await asyncio.to_thread(endstate.refusals, logs)
    lost = endstate.lost_batches(logs)
    commits = await town.groups.commits()
    back, sinks_back = endstate.offsets(town.groups, commits)
    workers = f"{town.kafka.prefix}{WORKER}"
    broken = await audited.violations(logs, town.store_settings, commits, workers, until)
    for what, wrong in (
        ("store", stored),
        ("invariants", broken),
        ("refused", wrongly),
        ("batches said to be lost", lost),
        ("offsets that went back", back),
        ("processes that ended by themselves", town.roles.surprises),
        ("logs", town.roles.suspect_lines()),
    ):
        if wrong:
            findings.append(f"{what}: {endstate.shown(wrong)}")
    return dict(refused), len(sinks_back)


def main() -> int:
    """0 if nothing is wrong; 1 with what differs, and then the logs of all processes are kept."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who is ended takes all that it started along
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells a thousand times that the broker is away
    directory = Path(tempfile.mkdtemp(prefix="rater-chaos-"))
    _say(f"chaos: seed {options.seed}, {options.minutes:g} minutes of faults; logs in {directory}")
    outcome = asyncio.run(run(directory / "run", options.minutes, options.seed, _say))
    _say(f"chaos: {outcome.verdict}")
    for finding in outcome.findings:
        _say(f"WRONG  {finding}")
    if options.report is not None:
        write_report(options.report, outcome)
    if outcome.findings:
        _say(f"logs are kept in {directory}")
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Chaos on real parts.")
    parser.add_argument("--minutes", type=float, default=3.0, help="of faults; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--report", type=Path, help="a Markdown file whose entry of this seed is replaced")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
