"""The cloud of the demonstration: eight projects over three days, made up from a seed, as usage files.

The same seed gives the same bytes. One project's collector is silent for two hours, which go to a second file;
another project truly uses nothing for five hours, which is covered and empty.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO

import msgspec
import orjson

from rater.model.interval import Interval, clip

__all__ = [
    "BEGIN",
    "END",
    "IDLE",
    "IDLE_PROJECT",
    "METRICS",
    "MONTH",
    "PROJECTS",
    "SILENCE",
    "SILENT_PROJECT",
    "Sample",
    "UsageFiles",
    "samples",
    "write_usage",
]

HOUR = 3600
DAY = 24 * HOUR
STEP = 300  # seconds between two samples of a resource

BEGIN = 1_767_571_200  # Monday 2026-01-05T00:00:00Z
END = BEGIN + 3 * DAY
MONTH = "2026-01"

PROJECTS = ("atlas", "borealis", "cumulus", "delphi", "ember", "fjord", "glacier", "harbor")
SILENT_PROJECT = "delphi"
SILENCE = Interval(BEGIN + DAY + 9 * HOUR + 10 * 60, BEGIN + DAY + 11 * HOUR + 10 * 60)
IDLE_PROJECT = "fjord"
IDLE = Interval(BEGIN + DAY + 1 * HOUR, BEGIN + DAY + 6 * HOUR)

METRICS = ("instance", "network.incoming", "network.outgoing", "storage.objects.size", "volume.size")
_FLAVORS = ("m1.small", "m1.medium", "m1.large", "m1.xlarge")
_MEBIBYTE_THOUSANDTHS = 60_000  # of traffic in a busy interval
_GIBIBYTE = Decimal("0.001")


class Sample(msgspec.Struct, frozen=True):
    """One line of the usage file, times in seconds since the epoch."""

    scope_id: str
    metric: str
    begin: int
    end: int
    qty: Decimal
    unit: str
    groupby: dict[str, str]
    metadata: dict[str, str]


class UsageFiles(msgspec.Struct, frozen=True):
    """What was written: the file with the hole, the file with what belongs into it, and the samples in each."""

    main: Path
    missing: Path
    main_samples: int
    missing_samples: int


class _Resource(msgspec.Struct, frozen=True):
    """Something that exists from `begin` to `end`; `changes` are (from when on, flavor or size), oldest first."""

    kind: str
    resource_id: str
    name: str
    begin: int
    end: int
    changes: tuple[tuple[int, str], ...]
    labels: dict[str, str]

    def stretches(self) -> Iterator[tuple[Interval, str]]:
        """The time with each flavor or size."""
        borders = [*(begin for begin, _ in self.changes[1:]), self.end]
        for (begin, value), end in zip(self.changes, borders, strict=True):
            yield Interval(max(begin, self.begin), end), value


def write_usage(directory: Path, seed: int = 1) -> UsageFiles:
    """Writes `usage.jsonl` and `missing.jsonl` into `directory`, about 100 000 samples in all."""
    main, missing = directory / "usage.jsonl", directory / "missing.jsonl"
    counts = [0, 0]
    with main.open("w", encoding="utf-8") as whole, missing.open("w", encoding="utf-8") as hole:
        _write_covers(whole, hole)
        for sample in samples(seed):
            silent = sample.scope_id == SILENT_PROJECT and SILENCE.begin <= sample.begin < SILENCE.end
            (hole if silent else whole).write(_line(sample))
            counts[silent] += 1
    return UsageFiles(main, missing, *counts)


def _write_covers(whole: TextIO, hole: TextIO) -> None:
    for project in PROJECTS:
        if project != SILENT_PROJECT:
            whole.write(_covers(project, BEGIN, END))
    whole.write(_covers(SILENT_PROJECT, BEGIN, SILENCE.begin))
    whole.write(_covers(SILENT_PROJECT, SILENCE.end, END))
    hole.write(_covers(SILENT_PROJECT, *SILENCE))


def _covers(project: str, begin: int, end: int) -> str:
    covers = {"scope_id": project, "metric": "*", "begin": _text(begin), "end": _text(end), "source": "replay"}
    return orjson.dumps({"covers": covers}).decode() + "\n"


def _line(sample: Sample) -> str:
    return (
        orjson.dumps(
            {
                "scope_id": sample.scope_id,
                "metric": sample.metric,
                "begin": _text(sample.begin),
                "end": _text(sample.end),
                "qty": str(sample.qty),
                "unit": sample.unit,
                "groupby": sample.groupby,
                "metadata": sample.metadata,
            }
        ).decode()
        + "\n"
    )


def _text(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def samples(seed: int = 1) -> Iterator[Sample]:
    """All samples of the three days, the missing window included, step by step."""
    chance = random.Random(seed)  # noqa: S311  a made-up cloud, not a secret
    cloud = {project: _resources(project, chance) for project in PROJECTS}
    stored = {project: Decimal(chance.randrange(20_000, 2_000_000)) * _GIBIBYTE for project in PROJECTS}
    for begin in range(BEGIN, END, STEP):
        step = Interval(begin, begin + STEP)
        for project, resources in cloud.items():
            for resource in resources:
                yield from _resource_samples(project, resource, step, chance)
            if not _idle(project, step):
                stored[project] += Decimal(chance.randrange(-200, 400)) * _GIBIBYTE
                yield _object_storage(project, step, stored[project])


def _idle(project: str, step: Interval) -> bool:
    return project == IDLE_PROJECT and IDLE.begin <= step.begin < IDLE.end


def _object_storage(project: str, step: Interval, size: Decimal) -> Sample:
    groupby = {"project_id": project, "resource_id": f"{project}-objects"}
    return Sample(project, "storage.objects.size", *step, size, "GiB", groupby, {"policy": "standard"})


# --- what exists


def _resources(project: str, chance: random.Random) -> list[_Resource]:
    found = [_instance(project, number, chance) for number in range(1, 5)]
    found += [_volume(project, number, chance) for number in range(1, 4)]
    if project == IDLE_PROJECT:
        return [part for resource in found for part in _without_idle_time(resource)]
    return found


def _instance(project: str, number: int, chance: random.Random) -> _Resource:
    begin, end = _life(number, chance)
    changes = [(BEGIN, chance.choice(_FLAVORS[:3]))]
    if number == 2:  # resized in the middle of a period, like the size of volume 2
        changes.append((_minute(Interval(BEGIN + DAY, BEGIN + 2 * DAY), chance), "m1.xlarge"))
    labels = {"os": chance.choice(("linux", "linux", "windows")), "zone": chance.choice(("az-1", "az-2"))}
    return _Resource("instance", _uuid(chance), f"{project}-vm-{number}", begin, end, tuple(changes), labels)


def _volume(project: str, number: int, chance: random.Random) -> _Resource:
    begin, end = _life(number, chance)
    size = chance.choice((20, 50, 100, 200, 400))
    changes = [(BEGIN, str(size))]
    if number == 2:
        changes.append((_minute(Interval(BEGIN + DAY, BEGIN + 2 * DAY), chance), str(2 * size)))
    labels = {"volume_type": chance.choice(("ssd", "hdd"))}
    return _Resource("volume", _uuid(chance), f"{project}-disk-{number}", begin, end, tuple(changes), labels)


def _life(number: int, chance: random.Random) -> tuple[int, int]:
    """Most live through all three days; number 3 is deleted and number 4 created inside a period."""
    begin, end = BEGIN, END
    if number == 3:
        end = _minute(Interval(BEGIN + 2 * DAY, END), chance)
    if number == 4:
        begin = _minute(Interval(BEGIN, BEGIN + DAY), chance)
    return begin, end


def _minute(within: Interval, chance: random.Random) -> int:
    """A whole minute that is neither the begin of a period nor of a sample."""
    hour = chance.randrange(within.begin, within.end, HOUR)
    return hour + 60 * chance.choice([minute for minute in range(1, 60) if minute % 5])


def _without_idle_time(resource: _Resource) -> Iterator[_Resource]:
    """The resource deleted when the idle time begins, and one like it created when that ends."""
    before = tuple(change for change in resource.changes if change[0] < IDLE.begin)
    after = ((IDLE.end, resource.changes[-1][1]),)
    fields = msgspec.structs.asdict(resource)
    if resource.begin < IDLE.begin:
        yield _Resource(**{**fields, "end": min(resource.end, IDLE.begin), "changes": before})
    if resource.end > IDLE.end:
        again = {"begin": max(resource.begin, IDLE.end), "changes": after, "resource_id": f"{resource.resource_id}-2"}
        yield _Resource(**{**fields, **again})


def _uuid(chance: random.Random) -> str:
    text = f"{chance.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


# --- what is measured of it


def _resource_samples(project: str, resource: _Resource, step: Interval, chance: random.Random) -> Iterator[Sample]:
    groupby = {"project_id": project, "resource_id": resource.resource_id}
    for stretch, value in resource.stretches():
        for part in clip([stretch], step):
            metadata = {"name": resource.name, **resource.labels}
            if resource.kind == "volume":
                yield Sample(project, "volume.size", *part, Decimal(value), "GiB", groupby, metadata)
                continue
            minutes = Decimal((part.end - part.begin) // 60)
            yield Sample(project, "instance", *part, minutes, "minute", groupby, {**metadata, "flavor": value})
            for metric in ("network.incoming", "network.outgoing"):
                qty = Decimal(_traffic(part, chance)) / 1000
                yield Sample(project, metric, *part, qty, "MiB", groupby, {"name": resource.name})


def _traffic(part: Interval, chance: random.Random) -> int:
    """Thousandths of a MiB: more by day than by night."""
    hour = part.begin % DAY // HOUR
    busy = 10 if 8 <= hour < 20 else 2
    return chance.randrange(1, _MEBIBYTE_THOUSANDTHS) * busy * (part.end - part.begin) // STEP
