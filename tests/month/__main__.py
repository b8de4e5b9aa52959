"""`make month`: a month of ten million samples, some late, some twice, with three outages, against a slow reference.

`python -m tests.month --samples 10000000 --seed 1`. Exits with 1 and the first difference if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rater.cli.output import progress
from tests.month.content import Month
from tests.month.run import Outcome, Pace, run_month


def main() -> None:
    """Runs it and prints what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.month", description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000, help="about so many (default 10 000 000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=Pace().workers, help="worker processes")
    parser.add_argument("--in-step", action="store_true", help="the month's clock waits for frames to close: slower")
    parser.add_argument("--dir", type=Path, help="work in this new directory, and leave it")
    chosen = parser.parse_args()
    if chosen.dir:
        chosen.dir.mkdir(parents=True)
    directory = chosen.dir or Path(tempfile.mkdtemp(prefix="rater-month-"))
    load = os.getloadavg()[0]
    try:
        month = Month.of(chosen.samples, chosen.seed)
        pace = Pace(chosen.workers, 4, 1.0, in_step=True) if chosen.in_step else Pace(chosen.workers)
        outcome = asyncio.run(run_month(directory, month, pace, progress))
    except AssertionError as fault:
        sys.exit(f"not as it must be: {fault}\nlogs and manifest are in {directory}")
    if not chosen.dir:
        shutil.rmtree(directory)
    _print(outcome, load)


def _print(outcome: Outcome, load: float) -> None:
    month, manifest = outcome.month, outcome.manifest
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"$ python -m tests.month {' '.join(sys.argv[1:])}")
    console.print(
        f"{manifest.samples:,} samples of {len(month.scopes)} scopes, 8 metrics, 744 hours; {manifest.collections:,} "
        f"answers; {outcome.lines:,} lines equal, {len(month.scopes)} reports equal"
    )
    late = Counter(item.form for item in manifest.late)
    came, held = ([getattr(item, name) for item in manifest.late] for name in ("came", "held"))
    console.print(
        f"late: {len(manifest.late):,} answers {dict(late)}, {sum(item.samples for item in manifest.late):,} samples; "
        f"by the month's clock {min(came):,} to {max(came):,} s (median {statistics.median(came):,.0f} s) after their "
        f"frame could have closed, by this machine's {min(held):.1f} to {max(held):.1f} s after it had"
    )
    twice = Counter(item.form for item in manifest.repeated)
    console.print(
        f"twice: {len(manifest.repeated):,} answers {dict(twice)}, "
        f"{sum(item.samples for item in manifest.repeated):,} samples"
    )
    for outage in month.outages:
        begin, end = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in (outage.begin, outage.end))
        console.print(
            f"outage {outage.name}: {begin} to {end} UTC, {len(outage.scopes)} scopes, {len(outage.metrics)} metrics"
        )
    console.print(
        f"gaps of the outages: {len(manifest.gaps):,} (by frame), {manifest.lost_samples:,} samples lost; "
        f"{outcome.recollected.published:,} collections brought them back; {outcome.alerts:,} alerts in all"
    )
    console.print(
        f"{outcome.stream_seconds:.0f} s until all was in the store, {manifest.samples / outcome.stream_seconds:,.0f} "
        f"samples/s; re-collection {outcome.mend_seconds:.0f} s; load average {load:.1f} at the start"
    )
    console.print(f"rater audit --topics --prices: 0 violations, {outcome.audit_seconds:.0f} s")
    table = Table("process", "peak RSS, MiB", "CPU, s", box=None)
    for name, cost in outcome.costs.items():
        table.add_row(name, f"{cost.peak_rss / 2**20:,.0f}", f"{cost.cpu:,.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
