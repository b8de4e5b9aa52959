"""ClickHouse in memory, as far as the sink uses it: keys that replace, inserts that are atomic, tokens that repeat.

`write` and the blocks are production's own; this is what stands behind `Store.insert`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rater.store import Batch, StoreUnavailableError, write
from tests.sim.loop import Host, SimLoop

KEYS = {
    "lines": ("scope_id", "period_begin", "revision", "metric", "line_id"),
    "frames": ("scope_id", "period_begin"),
    "gaps": ("scope_id", "period_begin", "metric", "source", "gap_begin", "gap_end", "gap_id"),
    "usage": (
        "scope_id", "metric", "source", "range_begin", "range_end", "attempt", "collection_id", "part", "n",
    ),
    "posted": ("scope_id", "period_begin", "post_id", "n"),
    "reworks": ("scope_id", "period_begin", "rework_id"),
    "accepted_gaps": ("scope_id", "period_begin", "gap_id"),
    "source_alerts": ("source", "alert_id"),
}  # fmt: skip
REMEMBERED = 10_000  # blocks whose tokens the engine knows


class Tables:
    """The rows, by table and key; `problems` are the rules of the store that were broken."""

    def __init__(self, loop: SimLoop, count: Callable[[str], None]) -> None:
        self.loop = loop
        self.rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {name: {} for name in KEYS}
        self.problems: list[str] = []
        self.down_until = 0.0
        self.bad = 0.0
        self.inserted: Counter[str] = Counter()
        self.dropped = 0
        self.accepted: list[tuple[str, str, int]] = []
        self._tokens: dict[tuple[str, str], int] = {}
        self._lines: Counter[tuple[Any, ...]] = Counter()
        self._count = count

    def insert(self, name: str, columns: Sequence[Any], token: str) -> None:
        """One block: stored wholly or not at all, or dropped if its token was seen. Raises StoreUnavailableError."""
        if self.loop.time() < self.down_until:
            raise StoreUnavailableError("the store is away")
        fate = self.loop.rng.random()
        if fate < self.bad:
            self._count("insert refused")
            raise StoreUnavailableError("the store refuses")
        self._apply(name, columns, token)
        if fate < 2 * self.bad:
            self._count("insert applied, answer lost")
            raise StoreUnavailableError("the answer was lost")

    def _apply(self, name: str, columns: Sequence[Any], token: str) -> None:
        self.accepted.append((name, token, len(columns[0].values)))
        if token and (name, token) in self._tokens:
            self.dropped += 1
            return
        self._tokens[name, token] = 1
        self.inserted[name] += 1
        names = [column.name for column in columns]
        for values in zip(*(column.values for column in columns), strict=True):
            self._put(name, dict(zip(names, values, strict=True)))
        if name == "frames":
            for values in zip(*(column.values for column in columns), strict=True):
                self.check_lines(dict(zip(names, values, strict=True)))

    def _put(self, name: str, row: dict[str, Any]) -> None:
        key = tuple(row[column] for column in KEYS[name])
        known = self.rows[name].get(key)
        if name == "gaps" and known is not None:
            row = {**row, **{said: max(known[said], row[said]) for said in ("opened", "resolved")}}
        if name == "frames" and known is not None and known["revision"] > row["revision"]:
            return
        if name == "lines" and known is None:
            self._lines[key[:3]] += 1
        self.rows[name][key] = row

    def check_lines(self, row: dict[str, Any]) -> None:
        """A frame's row exists only when its lines do."""
        best = self.rows["frames"][row["scope_id"], row["period_begin"]]
        found = self._lines[best["scope_id"], best["period_begin"], best["revision"]]
        if found != best["line_count"]:
            self.problems.append(
                f"frame {best['scope_id']} {best['period_begin']} revision {best['revision']} says "
                f"{best['line_count']} lines, the store has {found}"
            )

    def delete_superseded(self) -> int:
        """Deletes the lines of replaced revisions."""
        best = {key: row["revision"] for key, row in self.rows["frames"].items()}
        gone = [key for key in self.rows["lines"] if key[2] < best.get(key[:2], 0)]
        for key in gone:
            del self.rows["lines"][key]
            self._lines[key[:3]] -= 1
        return len({key[:3] for key in gone})


class SinkTables:
    """The tables as one sink process sees them; may die before or after any insert."""

    def __init__(self, tables: Tables, host: Host, dies: Callable[[Host, str], bool]) -> None:
        self._tables = tables
        self._host = host
        self._dies = dies
        self._batch: Batch | None = None
        self._said: list[tuple[str, str]] = []
        self._again: list[tuple[str, str]] = []

    def revision_of(self, scope_id: str, period_begin: int) -> int | None:
        if self._tables.loop.time() < self._tables.down_until:
            raise StoreUnavailableError("the store is away")
        row = self._tables.rows["frames"].get((scope_id, period_begin))
        return int(row["revision"]) if row else None

    def write(self, batch: Batch, token: str) -> dict[str, int]:
        self._again = self._said if batch is self._batch else []
        self._batch, self._said = batch, []
        return write(self, batch, token)  # type: ignore[arg-type]  # of a store it uses `insert` alone

    def insert(self, name: str, columns: Sequence[Any], token: str = "") -> None:
        self._same_token(name, token)
        self._die(f"before insert into {name}")
        self._tables.insert(name, columns, token)
        self._die(f"after insert into {name}")

    def _same_token(self, name: str, token: str) -> None:
        """A batch that is written again says the same tokens in the same order, or nothing can drop it."""
        at = len(self._said)
        self._said.append((name, token))
        if at < len(self._again) and self._again[at] != (name, token):
            self._tables.problems.append(f"insert {at} of a repeated batch is {(name, token)}, was {self._again[at]}")

    def _die(self, point: str) -> None:
        if self._dies(self._host, point):
            raise asyncio.CancelledError

    def delete_superseded(self, older_than_seconds: int) -> int:
        return self._tables.delete_superseded()
