"""A year of rated usage for benchmarks/api.py, made by the engine itself: no Kafka and no Python row by row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rater.store import Store, StoreSettings, migrate

__all__ = ["HOUR", "LINES", "fill", "month", "scope_name", "update"]

HOUR = 3600
LINES = 12
"""Of a frame: four machines' cpu and ram, two volumes, traffic in and out."""
_SCOPES_AT_ONCE = 100  # rows of so many scopes are made by one statement: about a million

_SCOPE = "'project-' || leftPad(toString(scope), 4, '0')"
_HOURS = """
FROM (
    SELECT intDiv(number, {hours:UInt64}) AS scope, number % {hours:UInt64} AS h
    FROM numbers({first:UInt64}, {count:UInt64})
)
"""
# Prices and quantities differ from hour to hour by a hash, in 1/10000 and 1/8: they must not compress to nothing.
_LINES = f"""
INSERT INTO lines
SELECT
    {_SCOPE} AS scope_id, toDateTime({{begin:UInt32}} + h * 3600, 'UTC'), 0, m.1 AS metric,
    unhex(leftPad(hex(sipHash64(scope, n)), 32, '0')), toDecimal256(1 + sipHash64(h, scope, n) % 64, 38) / 8,
    toDecimal256(1 + sipHash64(scope, h, n) % 100000, 38) / 10000, m.2,
    map('id', 'resource-' || toString(scope) || '-' || toString(n), 'project_id', scope_id),
    map('flavor', 'm1.' || toString(n % 4)), 7
{_HOURS}
ARRAY JOIN range({LINES}) AS n, {{metrics:Array(Tuple(String, String))}} AS m
"""
_METRICS = [*[("cpu", "core")] * 4, *[("ram", "GiB")] * 4, *[("volume", "GiB")] * 2, ("net.in", "B"), ("net.out", "B")]
_FRAMES = """
INSERT INTO frames (
    scope_id, period_begin, period_end, revision, status, closed_by, weak, rule_version, closed_at, expected_until,
    line_count, gap_count, quarantined_count,
    `totals.metric`, `totals.unit`, `totals.qty`, `totals.price`, `totals.n`, coverage, gaps, quarantined
)
SELECT
    scope_id, period_begin, period_begin + 3600, 0, 'rated', 'complete', false, 7, period_begin + 4000,
    toDateTime(4294967295, 'UTC'), sum(total.5), 0, 0, groupArray(total.1), groupArray(total.2), groupArray(total.3),
    groupArray(total.4), groupArray(toUInt32(total.5)), {coverage:String}, '[]', '[]'
FROM (
    SELECT scope_id, period_begin, (metric, any(unit), sum(qty), sum(price), count()) AS total
    FROM lines
    WHERE period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
        AND scope_id >= {first_scope:String} AND scope_id <= {last_scope:String}
    GROUP BY scope_id, period_begin, metric
    ORDER BY metric
)
GROUP BY scope_id, period_begin
"""
_COVERAGE = (
    '[{"metric":"cpu","source":"prometheus","expected":[{"begin":0,"end":3600}],"covered":[{"begin":0,"end":3600}],'
    '"proof":"proven","collections":[]}]'
)


def scope_name(number: int) -> str:
    """The name of a scope."""
    return f"project-{number:04}"


def month(number: int) -> tuple[int, int]:
    """Begin and end of a month, in seconds since the epoch; 0 is January 2025."""
    first, after = (datetime(2025 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in (number, number + 1))
    return int(first.timestamp()), int(after.timestamp())


def fill(directory: Path, scopes: int, months: int, made: Callable[[int], None]) -> None:
    """Fills an empty store; `made` is told after each part how many lines there are. Merged, as after a quiet night."""
    with Store(StoreSettings(f"chdb://{directory}")) as store:
        migrate(store)
        lines = 0
        for number in range(months):
            begin, end = month(number)
            hours = (end - begin) // HOUR
            for first in range(0, scopes, _SCOPES_AT_ONCE):
                count = min(_SCOPES_AT_ONCE, scopes - first)
                chosen = {"begin": begin, "end": end, "hours": hours}
                rows = {"first": first * hours, "count": count * hours, "metrics": _METRICS}
                store.command(_LINES, {**chosen, **rows})
                names = {"first_scope": scope_name(first), "last_scope": scope_name(first + count - 1)}
                store.command(_FRAMES, {**chosen, **names, "coverage": _COVERAGE})
                lines += count * hours * LINES
                made(lines)
        for table in ("lines", "frames"):
            store.command(f"OPTIMIZE TABLE {table} FINAL")


def update(directory: Path, months: int) -> None:
    """Brings a store that was filled before up to the tables of today; what arrived in other runs is gone."""
    with Store(StoreSettings(f"chdb://{directory}")) as store:
        migrate(store)
        arrived = datetime.fromtimestamp(month(months)[0], UTC).strftime("%Y%m")
        for table in ("lines", "frames"):
            store.command(f"ALTER TABLE {table} DROP PARTITION {arrived}")
