"""`python -m tests.sim`: one seed with its trace, or many seeds with a bar, a summary and the seeds that failed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.sim.many import outcomes
from tests.sim.world import STEPS, Outcome, run

SHOWN = 20


def main() -> int:
    """0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the seed, or the first of many")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many things happen in a run")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--until-found", action="store_true", help="end with the first seed that fails")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    chosen = parser.parse_args()
    if chosen.seeds == 1:
        return _one(run(chosen.seed, chosen.steps))
    return _many(range(chosen.seed, chosen.seed + chosen.seeds), chosen.steps, chosen.processes, chosen.until_found)


def _one(outcome: Outcome) -> int:
    print("\n".join(outcome.trace))
    for violation in outcome.violations:
        print(f"\nviolation: {violation}")
    print(f"\nseed {outcome.seed}, digest {outcome.digest}\n{_summary([outcome])}")
    return 1 if outcome.violations else 0


def _many(seeds: range, steps: int, processes: int, until_found: bool) -> int:
    began, done = time.monotonic(), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("seeds", total=len(seeds))
        for outcome in outcomes(seeds, steps, processes):
            done.append(outcome)
            if outcome.violations:
                progress.console.print(f"seed {outcome.seed}: {outcome.violations[0][:400]}", markup=False)
            failed = sum(bool(o.violations) for o in done)
            progress.update(bar, advance=1, description=f"seeds, {failed} failed" if failed else "seeds")
            if failed and until_found:
                break
    failing = sorted(outcome.seed for outcome in done if outcome.violations)
    print(_summary(done))
    print(f"{time.monotonic() - began:.0f} s; failing seeds: {failing[:SHOWN] or 'none'}")
    return 1 if failing else 0


def _summary(done: list[Outcome]) -> str:
    counts: Counter[str] = Counter()
    for outcome in done:
        counts.update(outcome.counts)
    faults = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    return (
        f"{len(done)} seeds, {sum(o.steps for o in done)} steps, {sum(o.frames for o in done)} frames compared, "
        f"{sum(o.revisions for o in done)} revisions, {sum(bool(o.violations) for o in done)} seeds with a violation; "
        f"{counts.total()} faults: {faults}"
    )


if __name__ == "__main__":
    sys.exit(main())
