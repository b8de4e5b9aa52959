"""The migrations on a cluster: the same statements with replicated tables, and distributed ones before them.

A table that begins with `scope_id` in its key is sharded by it: `NAME_local` holds a shard's part, `NAME` is the
`Distributed` table over all of them, so that readers and writers need not know. All that is said of a scope is on one
shard, which is what FINAL and subqueries over two tables rest on. Every other table is small and whole on every server.
"""

from __future__ import annotations

import re

import msgspec

from rater.store.errors import StoreSchemaError
from rater.store.settings import StoreSettings

__all__ = ["Cluster", "cluster_settings"]

_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS (\w+) (\(.*\))\s+ENGINE = (\w*MergeTree)(?:\((.*?)\))?\s+(.*)", re.DOTALL
)
_ALTER = re.compile(r"ALTER TABLE (\w+) (ADD COLUMN IF NOT EXISTS .*)", re.DOTALL)
_VIEW = re.compile(r"CREATE OR REPLACE VIEW (\w+) AS(\s.*)", re.DOTALL)
_SHARDED = re.compile(r"ORDER BY \(scope_id\b")
_SHARDED_TABLES = frozenset({"accepted_gaps", "frames", "gaps", "lines", "posted", "reworks", "usage"})
SHARDING_KEY = "cityHash64(scope_id)"
_SUBQUERY = re.compile(r"(\b(?:IN|JOIN) \(SELECT [^()]*? FROM )(\w+)")


class Cluster(msgspec.Struct, frozen=True):
    """A cluster that ClickHouse servers know by name, and the database of our tables on each of them."""

    name: str
    database: str
    replica_path: str
    replica_name: str

    def rendered(self, statement: str) -> list[str]:
        """What a statement of a migration becomes, in order. Repeating them does no harm either.

        Raises StoreSchemaError for a statement that no rule is known for.
        """
        if found := _TABLE.fullmatch(statement):
            return self._table(*found.groups())
        if found := _ALTER.fullmatch(statement):
            name, change = found.groups()
            names = [f"{name}_local", name] if name in _SHARDED_TABLES else [name]
            return [f"ALTER TABLE {table} {self.on} {change}" for table in names]
        if found := _VIEW.fullmatch(statement):
            name, query = found.groups()
            return [f"CREATE OR REPLACE VIEW {name} {self.on} AS{_SUBQUERY.sub(_of_the_shard, query)}"]
        raise StoreSchemaError(f"no rule says what a cluster makes of {' '.join(statement.split())[:80]!r}")

    def changing(self, table: str) -> str:
        """What stands for the table in a statement that deletes rows or drops partitions."""
        return f"{table}_local {self.on}" if table in _SHARDED_TABLES else f"{table} {self.on}"

    @property
    def on(self) -> str:
        """The clause of statements that run on every server."""
        return f"ON CLUSTER '{self.name}'"

    def _table(self, name: str, columns: str, engine: str, arguments: str | None, rest: str) -> list[str]:
        sharded = bool(_SHARDED.search(rest))
        assert sharded == (name in _SHARDED_TABLES), f"{name} is sharded, or is not"
        local = f"{name}_local" if sharded else name
        # a table that is whole everywhere has one path for all shards, where each server needs a name of its own
        path = self.replica_path if sharded else self.replica_path.replace("{shard}", "all")
        replica = self.replica_name if sharded else f"{{shard}}-{self.replica_name}"
        named = ", ".join(filter(None, [f"'{path}'", f"'{replica}'", arguments]))
        rest = rest.replace("non_replicated_deduplication_window", "replicated_deduplication_window")
        statements = [
            f"CREATE TABLE IF NOT EXISTS {local} {self.on} {columns}\nENGINE = Replicated{engine}({named})\n{rest}"
        ]
        if sharded:
            statements.append(
                f"CREATE TABLE IF NOT EXISTS {name} {self.on} AS {local}\n"
                f"ENGINE = Distributed('{self.name}', '{self.database}', '{local}', {SHARDING_KEY})"
            )
        return statements


def _of_the_shard(found: re.Match[str]) -> str:
    """What is said of one scope is on one shard, so a subquery has to look at no other.

    Readers of ours set `distributed_product_mode` for that; whoever asks a view by other means need not know.
    """
    return f"{found[1]}{found[2]}_local" if found[2] in _SHARDED_TABLES else found[0]


def cluster_settings(settings: StoreSettings) -> dict[str, object]:
    """What statements on a cluster are run with; nothing without a cluster."""
    if not settings.cluster:
        return {}
    return {
        # an insert counts when more than half of a shard's replicas have it: the sink then commits its offsets
        "insert_quorum": settings.insert_quorum,
        # not buffered on the server that was asked, but on the shard when the insert returns
        "distributed_foreground_insert": 1,
        # each statement asks the first replica of a shard that is alive, whichever server it is sent to: so readers see
        # what was written before, without the stalls of select_sequential_consistency
        "load_balancing": "in_order",
        "prefer_localhost_replica": 0,
        # a shard that is away is an error, and never a smaller sum
        "skip_unavailable_shards": 0,
        "distributed_product_mode": "local",
        # a replica that is away does not hold a deletion up: it catches up
        "lightweight_deletes_sync": 1,
        "distributed_ddl_task_timeout": 60,
    }
