"""A cluster, as far as one process can show: what is said to it is parsed by the engine, its tables are made, and each
statement of ours is planned against them. Nothing is read from or written to several servers here.
"""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rater.model.posted import PostedLine, PostedLines
from rater.reports import (
    AuditRequest,
    ExportRequest,
    RevisionRequest,
    ReworkRequest,
    ScopeRequest,
    Selection,
    StoreView,
    UsageRequest,
)
from rater.store import (
    Attribute,
    Batch,
    Choice,
    Condition,
    Kind,
    PointsRequest,
    Store,
    StoreSchemaError,
    StoreSettings,
    StoreSettingsError,
    SumsRequest,
    delete_superseded,
    migrate,
    migrations,
    newest_rule_version,
    write,
)
from rater.store.cluster import Cluster, cluster_settings
from rater.store.health import SourceRequest
from rater.store.lease import TABLE as LOCK
from rater.store.line_pages import LinePageRequest
from rater.store.pages import FramePageRequest, GapPageRequest, ScopePageRequest
from tests.unit.store.builders import (
    JANUARY,
    a_collection,
    a_frame,
    a_gap_alert,
    a_hit_frame,
    a_line,
    store_frames,
    store_posts,
)

END = 2**32 - 1

CLUSTER = Cluster("main", "rater", "/clickhouse/tables/{shard}/{database}/{table}", "{replica}")
SERVERS = """
<clickhouse><remote_servers><main>
  <shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>1</port></replica></shard>
  <shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>2</port></replica></shard>
</main></remote_servers></clickhouse>
"""


def rendered() -> list[str]:
    written = [LOCK.strip(), *(statement for migration in migrations() for statement in migration.statements)]
    return [statement for one in written for statement in CLUSTER.rendered(one)]


def test_every_table_of_a_scope_is_sharded_by_it_and_every_other_is_whole_everywhere() -> None:
    tables = [statement for statement in rendered() if statement.startswith("CREATE TABLE")]

    replicated = {s.split()[5]: s for s in tables if "ENGINE = Replicated" in s}
    distributed = {s.split()[5]: s for s in tables if "ENGINE = Distributed" in s}
    assert {name.removesuffix("_local") for name in replicated if name.endswith("_local")} == set(distributed)
    assert {name for name in replicated if not name.endswith("_local")} >= {"migration_lock", "rule_events", "audits"}
    for name, statement in replicated.items():
        sharded = name.endswith("_local")
        assert ("ORDER BY (scope_id" in statement) == sharded
        assert ("/tables/{shard}/" in statement, "'{shard}-{replica}'" in statement) == (sharded, not sharded)
        assert "non_replicated_deduplication_window" not in statement
    for name, statement in distributed.items():
        assert f"Distributed('main', 'rater', '{name}_local', cityHash64(scope_id))" in statement
    assert all("ON CLUSTER 'main'" in statement for statement in rendered())


def test_a_statement_that_no_rule_is_known_for_is_refused() -> None:
    with pytest.raises(StoreSchemaError, match=r"no rule says what a cluster makes of 'DROP TABLE lines'"):
        CLUSTER.rendered("DROP TABLE lines")


def test_the_engine_in_the_process_is_no_cluster() -> None:
    with pytest.raises(StoreSettingsError, match="needs a server"):
        Store(StoreSettings("chdb://:memory:", cluster="main"))
    assert cluster_settings(StoreSettings()) == {}


def test_the_engine_parses_what_is_said_and_plans_what_is_asked(tmp_path: Path) -> None:
    """Without replication, which needs more than one process: `Replicated` is left out where tables are really made."""
    (tmp_path / "servers.xml").write_text(SERVERS)
    options = ", ".join(
        f"{name} = '{value}'" for name, value in cluster_settings(StoreSettings(cluster="main")).items()
    )
    said: list[tuple[str, dict[str, Any]]] = [("CREATE DATABASE rater", {}), ("USE rater", {})]
    for statement in rendered():
        said.append((f"EXPLAIN AST {statement}", {}))
        said.append((_without_replication(statement), {}))
    said += [
        (f"EXPLAIN AST DELETE FROM {CLUSTER.changing('lines')} IN PARTITION 202601 WHERE revision = 1", {}),
        (f"EXPLAIN AST ALTER TABLE {CLUSTER.changing('lines')} DROP PARTITION 202601", {}),
        (f"EXPLAIN AST DELETE FROM {CLUSTER.changing('gaps')} WHERE period_begin < 1", {}),
        ("EXPLAIN AST SYSTEM SYNC REPLICA migrations", {}),
    ]
    # what a dashboard asks needs no settings of ours
    said += [(f"EXPLAIN SELECT * FROM {view}", {}) for view in views()]
    said.append((f"SET {options}", {}))
    said += [(f"EXPLAIN {statement}", parameters) for statement, parameters in asked()]
    assert len(said) > 100

    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.planning", str(tmp_path / "engine"), str(tmp_path / "servers.xml")],
        input=pickle.dumps(said), capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def _without_replication(statement: str) -> str:
    plain = statement.replace(" ON CLUSTER 'main'", "").replace("replicated_dedup", "non_replicated_dedup")
    return re.sub(r"ENGINE = Replicated(\w+)\('[^']*', '[^']*'(?:, )?", r"ENGINE = \1(", plain)


def views() -> list[str]:
    return sorted({s.split()[4] for m in migrations() for s in m.statements if s.startswith("CREATE OR REPLACE VIEW")})


class Recorder(Store):
    """Keeps the statements that ask something."""

    def __init__(self, settings: StoreSettings) -> None:
        super().__init__(settings)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Sequence[Any]]:
        self.asked.append((sql.strip(), dict(parameters or {})))
        return super().columns(sql, parameters)


def asked() -> list[tuple[str, dict[str, Any]]]:
    """Every SELECT that reading a little store makes, with its parameters, each text once."""
    with Recorder(StoreSettings("chdb://:memory:")) as store:
        migrate(store)
        store_frames(store, a_frame(lines=[a_line(1)]), a_hit_frame("beta"), a_frame(revision=1, lines=[a_line(1)]))
        batch = Batch()
        batch.add_alert(a_gap_alert(True, 0))
        batch.add_collection(a_collection())
        write(store, batch)
        store_posts(store, a_post())
        store.asked.clear()
        view = StoreView(store)
        for what, request in questions():
            found = getattr(view, what)(*([] if request is None else [request]))
            list(found if isinstance(found, Iterator) else [])
        for out in ("lines", "frames", "gaps"):
            view.export(ExportRequest(out, "jsonl"), io.BytesIO())  # type: ignore[arg-type]  # each is an ExportWhat
        store.command("ALTER TABLE frames UPDATE inserted_at = now() - 9999 WHERE true SETTINGS mutations_sync = 1")
        assert delete_superseded(store, 60) == 1
        newest_rule_version(store)
    return list({sql: (sql, parameters) for sql, parameters in store.asked}.values())


def a_post() -> PostedLines:
    line = PostedLine(0, "support", JANUARY, JANUARY + 60, Decimal(1), Decimal(5))
    return PostedLines("alpha", "0a" * 16, [line])


def questions() -> Iterator[tuple[str, Any]]:
    """What a view may be asked, with labels and without."""
    everything, scope = Choice(0, END), UsageRequest("alpha", 0, END)
    label, metric = Attribute(Kind.LABEL, "flavor"), Attribute(Kind.METRIC)
    choices = [everything, Choice(0, END, (Condition(label, ("m1",)), Condition(metric, ("instance",))))]
    for name in ("frames", "lines", "gaps", "accepted_gaps"):
        yield name, Selection()
    for name in ("usage", "posted", "posted_totals", "audit_frames", "audit_lines", "audit_usage"):
        yield name, scope
    for name in ("frame_at", "lines_at"):
        yield name, RevisionRequest("alpha", JANUARY, 0)
    for name in ("scopes", "scope_states", "last_audit", "rule_texts"):
        yield name, None
    for choice in choices:
        yield "points", choice
        yield "point_page", PointsRequest(choice, 0, 5)
        yield "sums", SumsRequest(choice, (metric, Attribute(Kind.MONTH)))
        yield "sums", SumsRequest(choice, (label,))
        yield "line_page", LinePageRequest(choice, 2)
    yield "reused_numbers", ScopeRequest("alpha")
    yield "reworks", ReworkRequest()
    yield "frame_page", FramePageRequest("alpha", 0, END, 5)
    yield "gap_page", GapPageRequest(0, END, 5)
    yield "scope_page", ScopePageRequest(5)
    yield "silent_sources", SourceRequest(0)
    yield "source_metrics", SourceRequest(0)
    yield "audit_months", AuditRequest()
    yield "audit_months", AuditRequest(closed_from=1)
