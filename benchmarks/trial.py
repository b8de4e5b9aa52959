"""How fast rules are tried: a usage file (`rater rate`), stored frames explained, and rated by other rules (what-if).

`python -m benchmarks.trial [--hours N] [--lines N] [--samples N]`: on an embedded store that it makes.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from rater.engine import EngineContext, EngineSettings, PartitionState, Record, apply, decide
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, decode_rated, encode_json, encode_msgpack
from rater.model.interval import Interval
from rater.model.metric import Catalog, MetricSpec
from rater.model.usage import Collection, Sample, Series
from rater.rating import Chain, NoScripts, RuleBook, parse, plan
from rater.reports import StoreView
from rater.store import Batch, Store, StoreSettings, migrate, write
from rater.trial import Explainer, FileTotals, Pricer, StoredFrames, WhatIf, price_file

T = 1_767_225_600  # 2026-01-01T00:00:00Z
HOUR = 3600
RULES = """
hashmap:
  services:
    - name: instance
      mappings: [{cost: "0.0001"}]
      thresholds: [{level: "50", cost: "0.9", type: rate}, {level: "100", cost: "0.8", type: rate}]
      fields:
        - {name: flavor, mappings: [{value: f0, cost: "0.001"}, {value: f1, cost: "0.002"}, {value: f2, cost: "0.003"}]}
        - {name: zone, mappings: [{value: z1, cost: "0.95", type: rate}]}
"""
CONTEXT = EngineContext(EngineSettings(), Catalog([MetricSpec("instance", unit="minute")]))


class Speed(NamedTuple):
    """What some work took."""

    what: str
    amount: int
    unit: str
    wall_seconds: float
    cpu_seconds: float


def book() -> RuleBook:
    """The rules of the benchmark."""
    found, _ = RuleBook.empty().apply(plan(RuleBook.empty(), parse(RULES, "rules.yaml")).event("bench", "", 0))
    return found


def collections(hours: int, lines: int, samples: int) -> Iterator[Collection]:
    """One complete collection of all resources for each hour."""
    series = [
        Series({"project_id": "p", "id": f"r{n}"}, {"flavor": f"f{n % 3}", "zone": f"z{n % 2}"}) for n in range(lines)
    ]
    step = HOUR // samples
    for hour in range(hours):
        begin = T + hour * HOUR
        taken = [
            Sample(n, begin + k * step, begin + (k + 1) * step, Decimal(n % 7 + 1))
            for n in range(lines)
            for k in range(samples)
        ]
        yield Collection(
            source="prom",
            scope_id="p",
            metric="instance",
            begin=begin,
            end=begin + HOUR,
            attempt=1,
            collection_id=f"c{hour}",
            producer_id="b",
            sequence=hour,
            unit="minute",
            covers=[Interval(begin, begin + HOUR)],
            series=series,
            samples=taken,
        )


def fill(store: Store, hours: int, lines: int, samples: int) -> None:
    """Stores what worker and sink would."""
    migrate(store)
    chain, state = Chain(book()), PartitionState(0, 1, HOUR)
    for number, part in enumerate(collections(hours, lines, samples)):
        headers = ((CONTENT_TYPE, MSGPACK.encode()),)
        apply(state, Record(number, (part.end + 1) * 1000, b"p", encode_msgpack(part), headers), CONTEXT)
        decide(state, part.end + 1, chain, CONTEXT)
        batch = Batch()
        batch.add_collection(part)
        for item in state.outbox:
            if item.topic == "rated":
                frame = decode_rated(item.value, JSON)
                batch.add_lines(frame)
                if frame.part == frame.parts - 1:
                    batch.add_frame(frame, lines)
        state.outbox.clear()
        write(store, batch)


def measured(what: str, unit: str, work: Callable[[], int]) -> Speed:
    """Runs the work once."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = work()
    return Speed(what, count, unit, time.perf_counter() - wall, time.process_time() - cpu)


def usage_file(path: Path, hours: int, lines: int) -> None:
    """One sample for each resource and hour, as JSON lines."""
    with path.open("wb") as file:
        for part in collections(hours, lines, 1):
            for sample in part.samples:
                begin, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (sample.begin, sample.end))
                series = part.series[sample.series]
                file.write(
                    encode_json(
                        {
                            "scope_id": "p", "metric": "instance", "begin": begin, "end": end, "qty": str(sample.qty),
                            "unit": "minute", "groupby": series.groupby, "metadata": series.metadata,
                        }
                    )
                    + b"\n"
                )  # fmt: skip


def rate(path: Path, *, explain: bool) -> int:
    """Prices the file; how many samples."""
    pricer = Pricer(book(), NoScripts(), {}, HOUR, explain=explain)
    return sum(1 for _ in price_file(str(path), pricer, FileTotals(), lambda _: None, lambda _done, _total: None))


def explain(store: Store, hours: int) -> int:
    """Explains every frame; how many lines."""
    view, rules = StoreView(store), book()
    explainer = Explainer(view, CONTEXT, lambda _: rules, NoScripts(), {})
    frames = StoredFrames(view, CONTEXT, lambda _: True, samples=True).read("p", T, T + hours * HOUR)
    return sum(len(explainer.explain(frame).lines) for frame in frames)


def what_if(store: Store, hours: int, *, by_lines: bool) -> int:
    """Rates every frame by its own rules; how many lines."""
    work = WhatIf(StoredFrames(StoreView(store), CONTEXT, lambda _: by_lines), Chain(book()), NoScripts())
    for _ in work.scope("p", T, T + hours * HOUR):
        pass
    total = work.found.total()
    assert total.changed == 0, "the same rules change nothing"
    return total.lines


def main() -> None:
    """Runs everything and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=200)
    parser.add_argument("--lines", type=int, default=500, help="of a frame")
    parser.add_argument("--samples", type=int, default=12, help="of a line")
    chosen = parser.parse_args()
    found: list[Speed] = []
    with tempfile.TemporaryDirectory(prefix="rater-bench-") as directory:
        usage = Path(directory) / "usage.jsonl"
        usage_file(usage, chosen.hours, chosen.lines)
        found.append(measured("rate a file", "samples", lambda: rate(usage, explain=False)))
        found.append(measured("rate a file, explained", "samples", lambda: rate(usage, explain=True)))
        with Store(StoreSettings(dsn=f"chdb://{directory}/store")) as store:
            fill(store, chosen.hours, chosen.lines, chosen.samples)
            found.append(measured("what-if by lines", "lines", lambda: what_if(store, chosen.hours, by_lines=True)))
            found.append(measured("what-if by samples", "lines", lambda: what_if(store, chosen.hours, by_lines=False)))
            found.append(measured("explain with samples", "lines", lambda: explain(store, chosen.hours)))
    table = Table("work", "count", "per second", "per CPU-second")
    for speed in found:
        table.add_row(
            speed.what,
            f"{speed.amount} {speed.unit}",
            f"{speed.amount / speed.wall_seconds:.0f}",
            f"{speed.amount / speed.cpu_seconds:.0f}",
        )
    console = Console(width=110)
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    console.print(
        f"{chosen.hours} frames, {chosen.lines} lines a frame, {chosen.samples} samples a line; peak {peak} MiB; "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
