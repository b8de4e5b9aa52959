"""Rating side by side with the real CloudKitty 25.0.0: same points, same rules, same prices, in one run.

CloudKitty runs in its own venv (`make tools`), with its rules in its own database; its repeats and ours alternate.
Both sides count CPU seconds of their process, garbage collection and all. Run it by `make bench-rating`.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import pyscripts
from rater.engine.rate import (
    _lines,
    _place,
    _totals,
)  # what rate_frame does once it has the points: no public name ends there
from rater.model.labels import canonical_series, line_id
from rater.rating import Chain, Compiler, Plan, Rated, RatingFrame, RatingPoint, RuleBook
from rater.rating.chain import NoScripts
from rater.sandbox import Sandbox
from tests.conformance.generator import book_of
from tests.conformance.side import CloudKitty, cloudkitty

SCOPE = "6c0a7b8e1f2e4d4a9e0f"
BEGIN = 1_767_225_600  # 2026-01-01T00:00:00Z
POINTS = 400  # of a frame
OWN = 3  # mappings that a scope with own rules has

Json = dict[str, Any]


def rules(mappings: int) -> Json:
    """Two fields with the mappings, half of each flat, in one group; a service mapping and three of its thresholds."""
    return {"services": ["compute"], "fields": [[0, "flavor_id"], [0, "zone"]], "groups": ["size"], "rules": [
        _rule("mapping", "flat", "0.02", None, None, value=""),
        *(_rule("threshold", "rate", cost, None, None, level=level)
          for level, cost in (("2", "0.98"), ("10", "0.95"), ("50", "0.9"))),
        *(_rule("mapping", "rate" if number % 2 else "flat", str(1 + Decimal(number) / 1000), number % 2, 0,
                value=f"v{number}") for number in range(mappings)),
    ]}  # fmt: skip


def _rule(kind: str, type_: str, cost: str, field: int | None, group: int | None, **more: Any) -> Json:
    dates = {"start": None, "end": None, "deleted": False} if kind == "mapping" else {}
    service = 0 if field is None else None
    return {"kind": kind, "type": type_, "cost": cost, "service": service, "field": field, "group": group,
            "tenant": None, **dates, **more}  # fmt: skip


def points(mappings: int) -> list[Json]:
    """The points of a frame, labelled as CloudKitty's collectors do, the four labels of the calendar among them."""
    calendar = {"week_of_the_year": "00", "day_of_the_year": "1", "month": "1", "year": "2026"}
    return [
        {
            "metric": "compute",
            "unit": "instance",
            "qty": str(number % 70 + Decimal("0.5")),
            "groupby": {"id": f"6f1f1d6e-9b2c-4b4e-8b1e-{number:012}", "user_id": "4a1c7e0c", "project_id": SCOPE}
            | calendar,
            "metadata": {
                "flavor_id": f"v{number * 2 % mappings}",
                "zone": f"v{(number * 2 + 1) % mappings}",
                "flavor_name": "m1.tiny",
                "vcpus": "2",
            },
        }
        for number in range(POINTS)
    ]


class Ours:
    """Our side: one frame, rated by the chain, or on to lines and totals."""

    def __init__(self, book: RuleBook, given: list[Json]) -> None:
        self._chain = Chain(book)
        self._points = [
            RatingPoint(p["metric"], p["unit"], Decimal(p["qty"]), Decimal(0), p["groupby"], p["metadata"], number)
            for number, p in enumerate(given)
        ]
        self._frame = RatingFrame(SCOPE, BEGIN, BEGIN + 3600, tuple(self._points))
        self._identities = [line_id(SCOPE, p.metric, canonical_series(p.groupby, p.metadata)) for p in self._points]

    def prices(self) -> list[Decimal]:
        """Of the points, in order."""
        return [point.price for point in self.rated().points]

    def rated(self) -> Rated:
        """As HashMap.process: from points to points with prices."""
        rated = self._chain.rate(self._frame, NoScripts())
        assert isinstance(rated, Rated), rated
        return rated

    def stored(self) -> None:
        """As CloudKitty's worker: from points to what is stored; here lines with their ids, sorted, and totals."""
        found = _lines(SCOPE, self.rated(), self._points, self._identities)
        lines = sorted(found.by_id.values(), key=_place)
        assert len(lines) == POINTS
        _totals(lines)


@dataclass
class Row:
    """What was compared: microseconds of CPU per point, theirs and ours, repeat by repeat."""

    what: str
    theirs: list[float]
    ours: list[float]
    goal: str

    def cells(self) -> tuple[str, ...]:
        """Medians, and the median and the worst of the ratios."""
        ratios = [their / our for their, our in zip(self.theirs, self.ours, strict=True)]
        return (
            self.what,
            f"{statistics.median(self.theirs):.2f}",
            f"{statistics.median(self.ours):.2f}",
            f"{statistics.median(ratios):.1f}",
            f"{min(ratios):.1f}",
            self.goal,
        )


def cpu(work: Callable[[], object], times: int) -> float:
    """CPU seconds of this process for doing it that many times."""
    started = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - started


def side_by_side(real: CloudKitty, mappings: int, repeats: int) -> list[Row]:
    """Loads both sides with the same rules and points, checks that their prices are equal, and measures them."""
    given, asked = points(mappings), rules(mappings)
    refused = real.ask("rules", **asked)["refused"]
    assert not refused
    real.ask("load", module="hashmap", tenant=SCOPE, period_begin=BEGIN, points=given)
    ours = Ours(book_of(asked, refused), given)
    frames = 20 if mappings <= 1000 else 2
    rows = []
    for path, work, what, goal in (
        ("module", ours.rated, "HashMap.process / our chain", "8"),
        ("worker", ours.stored, "worker path / our chain, lines and totals", "40"),
    ):
        told = real.ask("measure", path=path, frames=1, prices=True)["prices"]
        assert [Decimal(price) for price in told] == ours.prices(), "the prices differ"
        cpu(work, frames)
        row = Row(f"{mappings} mappings: {what}", [], [], goal)
        for _ in range(repeats):
            row.theirs.append(real.ask("measure", path=path, frames=frames)["seconds"] / frames / POINTS * 1e6)
            row.ours.append(cpu(work, frames * 10) / frames / 10 / POINTS * 1e6)
        rows.append(row)
    return rows


def scripts(real: CloudKitty, sandbox: Sandbox, repeats: int) -> tuple[Row, float, float]:
    """A trivial script in both; the third and fourth figure are points per second of ours and theirs, by the clock."""
    job = pyscripts.job(pyscripts.TRIVIAL, 5000)
    given = [
        {"metric": p.metric, "unit": p.unit, "qty": str(p.qty), "price": str(p.price), "groupby": p.groupby,
         "metadata": p.metadata}
        for p in job.frame.points
    ]  # fmt: skip
    script = [{"name": "trivial", "data": pyscripts.TRIVIAL}]
    real.ask("rules", services=[], fields=[], groups=[], rules=[], scripts=script)
    real.ask("load", module="pyscripts", tenant=SCOPE, period_begin=BEGIN, points=given)
    row = Row("trivial script: PyScripts.process / our sandbox, all processes", [], [], "-")
    speeds = []
    for _ in range(repeats):
        row.theirs.append(real.ask("measure", path="module", frames=3)["seconds"] / 3 / len(given) * 1e6)
        speed = pyscripts.measure(sandbox, job, 3)
        row.ours.append(speed.all_cpu_seconds / speed.points * 1e6)
        speeds.append(speed.points_per_second)
    return row, statistics.median(speeds), 1e6 / statistics.median(row.theirs)


def own_rules(book_rules: Json, scopes: int) -> RuleBook:
    """The rules and, for each of the scopes, some mappings of its own in place of those for everybody."""
    own = [
        {**_rule("mapping", "flat", "7", 0, 0, value=f"v{(scope * OWN + number) * 2 % 10_000}"), "tenant": f"s{scope}"}
        for scope in range(scopes)
        for number in range(OWN)
    ]
    return book_of(book_rules | {"rules": [*book_rules["rules"], *own]}, ())


def compiling(book: RuleBook, repeats: int) -> tuple[float, float]:
    """CPU milliseconds to the first plan, all read anew; and to that of a further scope with rules of its own."""
    first, further = [], []
    for number in range(repeats):
        started = time.process_time()
        compiler = Compiler(book)
        compiler.plan("nobody", BEGIN)
        first.append(time.process_time() - started)
        started = time.process_time()
        compiler.plan(f"s{number}", BEGIN)
        further.append(time.process_time() - started)
    return statistics.median(first) * 1000, statistics.median(further) * 1000


def memory(book: RuleBook, scopes: int) -> tuple[float, float]:
    """MiB of the compiled rules for everybody, and KiB that each scope with rules of its own adds (tracemalloc)."""
    tracemalloc.start()
    compiler = Compiler(book)
    common = compiler.plan(None, BEGIN)
    before = tracemalloc.get_traced_memory()[0]
    plans = [compiler.plan(f"s{number}", BEGIN) for number in range(scopes)]
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert all(shares(plan, common) for plan in plans), "the rules for everybody are there once"
    return before / 2**20, (after - before) / scopes / 2**10


def shares(plan: Plan, common: Plan) -> bool:
    """Whether the mappings for everybody, and a field without own rules, are the same objects."""
    mine, theirs = plan._services["compute"], common._services["compute"]
    return mine.fields[0][1].by_value is theirs.fields[0][1].by_value and mine.fields[1][1] is theirs.fields[1][1]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="of each figure; the median counts")
    parser.add_argument("--scopes", type=int, default=1000, help="with rules of their own")
    parser.add_argument("--small", action="store_true", help="without the 10 000 mappings in CloudKitty (a minute)")
    options = parser.parse_args()
    console = Console(width=132)
    sides = Table("CPU µs per point", "CloudKitty", "rater", "times", "worst repeat", "goal")
    with cloudkitty() as real:
        for mappings in (100,) if options.small else (100, 10_000):
            for row in side_by_side(real, mappings, options.repeats):
                sides.add_row(*row.cells())
        with Sandbox() as sandbox:
            row, ours, theirs = scripts(real, sandbox, options.repeats)
        sides.add_row(*row.cells())
    book = own_rules(rules(10_000), options.scopes)
    first, further = compiling(book, options.repeats)
    common, each = memory(book, options.scopes)
    console.print(f"python -m benchmarks.rating {' '.join(sys.argv[1:])}", style="bold")
    console.print(sides)
    console.print(f"a trivial script, points/s by the clock: rater {ours:,.0f}, CloudKitty {theirs:,.0f} (by its CPU)")
    console.print(f"10 000 mappings compiled in {first:.1f} ms CPU; a further scope with {OWN} own in {further:.2f} ms")
    console.print(
        f"compiled rules: {common:.1f} MiB; each of {options.scopes} scopes with {OWN} own: {each:.1f} KiB more"
    )
    console.print(f"{platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
