"""How fast scripts rate: points per second through the sandbox, process boundary and all checks included.

`python -m benchmarks.pyscripts`; `measure` is for other benchmarks, to set figures side by side.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from rater.model.rules import Script
from rater.rating.frame import RatingFrame, RatingPoint, ScriptDone, ScriptJob
from rater.sandbox import Sandbox

TRIVIAL = """
for points in data["usage"].values():
    for point in points:
        point["rating"]["price"] += point["vol"]["qty"] * 2
"""
REBATE = """
from decimal import Decimal

RATES = {"m1.tiny": Decimal("0.01"), "m1.small": Decimal("0.02")}
for metric, points in data["usage"].items():
    for point in points:
        labels = {**point["metadata"], **point["groupby"]}
        rate = RATES.get(labels.get("flavor_name"), Decimal(0))
        point["rating"]["price"] = point["vol"]["qty"] * rate * (Decimal("0.9") if labels.get("az") == "b" else 1)
        point["metadata"]["rated_by"] = "rebate"
"""
SCRIPTS = {"trivial": TRIVIAL, "rebate with a label": REBATE}
_BEGIN = 1767225600


class Speed(NamedTuple):
    """What one frame took: medians over several."""

    points: int
    wall_seconds: float
    worker_cpu_seconds: float
    all_cpu_seconds: float
    """With the zygote and its children."""

    @property
    def points_per_second(self) -> float:
        """By the clock."""
        return self.points / self.wall_seconds


def frame(count: int) -> RatingFrame:
    """A frame of that many points in four metrics, labelled as CloudKitty's collectors do."""
    flavors = ("m1.tiny", "m1.small", "m1.large")
    points = tuple(
        RatingPoint(
            metric=f"metric{number % 4}",
            unit="instance",
            qty=Decimal(number % 7 + 1),
            price=Decimal("0.25"),
            groupby={"project_id": "6c0a7b8e", "user_id": "a81", "resource_id": f"0f3c-{number:08d}"},
            metadata={"flavor_name": flavors[number % 3], "flavor_id": str(number % 3), "az": "ab"[number % 2]},
            origin=number,
        )
        for number in range(count)
    )
    return RatingFrame("6c0a7b8e", _BEGIN, _BEGIN + 3600, points)


def job(text: str, count: int) -> ScriptJob:
    """A job of one script."""
    script = Script("00000000-0000-4000-8000-000000000000", "measured", text)
    return ScriptJob((script,), frame(count))


def measure(sandbox: Sandbox, work: ScriptJob, rounds: int) -> Speed:
    """Runs the job that many times, after once that is not counted."""
    assert isinstance(sandbox.run(work), ScriptDone), "the script runs"
    walls, own = [], []
    inside = _cpu_of_children(sandbox)
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        assert isinstance(sandbox.run(work), ScriptDone), "the script runs"
        walls.append(time.perf_counter() - began)
        own.append(time.process_time() - cpu)
    all_inside = (_cpu_of_children(sandbox) - inside) / rounds
    cpu = statistics.median(own)
    return Speed(len(work.frame.points), statistics.median(walls), cpu, cpu + all_inside)


def _cpu_of_children(sandbox: Sandbox) -> float:
    """Processor time of the zygote and the children it waited for (Linux), else 0."""
    number = sandbox.process_id()
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="frames per figure")
    rounds = parser.parse_args().rounds
    table = Table("script", "points per frame", "points/s", "ms per frame", "CPU µs per point", "in the worker")
    with Sandbox() as sandbox:
        for name, text in SCRIPTS.items():
            for count in (1, 400, 5000):
                speed = measure(sandbox, job(text, count), rounds)
                table.add_row(
                    name,
                    str(count),
                    f"{speed.points_per_second:,.0f}",
                    f"{speed.wall_seconds * 1000:.2f}",
                    f"{speed.all_cpu_seconds / count * 1e6:.1f}",
                    f"{speed.worker_cpu_seconds / count * 1e6:.1f}",
                )
    Console().print(table)
    Console().print(f"{platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
