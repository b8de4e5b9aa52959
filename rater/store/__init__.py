"""The store: tables in ClickHouse, what writes them and what reads them. The only package that knows ClickHouse."""

from rater.store.assembly import Assembly
from rater.store.client import Column, Store
from rater.store.errors import (
    ReadConflictError,
    StoreAccessError,
    StoreError,
    StoreLockedError,
    StoreSchemaError,
    StoreSettingsError,
    StoreUnavailableError,
    UnstorableError,
)
from rater.store.export import ExportForm, ExportWhat, Progress, export_frames, export_gaps, export_lines, write_export
from rater.store.migrate import Migration, check_schema, migrate, migrations, missing_migrations
from rater.store.prune import delete_superseded
from rater.store.queries import (
    counts,
    frame_at,
    frames,
    gaps,
    lines,
    lines_at,
    revision_of,
    reworks,
    scopes,
    totals,
    usage,
)
from rater.store.rows import (
    FrameRow,
    GapRow,
    LineRow,
    ReworkOutcome,
    ReworkRow,
    ScopeRow,
    TotalRow,
    UsageRow,
    plain_text,
)
from rater.store.rule_events import RuleEventRow, newest_rule_version, write_rule_events
from rater.store.settings import EmbeddedTarget, ServerTarget, StoreSettings
from rater.store.writer import Batch, write

__all__ = [
    "Assembly",
    "Batch",
    "Column",
    "EmbeddedTarget",
    "ExportForm",
    "ExportWhat",
    "FrameRow",
    "GapRow",
    "LineRow",
    "Migration",
    "Progress",
    "ReadConflictError",
    "ReworkOutcome",
    "ReworkRow",
    "RuleEventRow",
    "ScopeRow",
    "ServerTarget",
    "Store",
    "StoreAccessError",
    "StoreError",
    "StoreLockedError",
    "StoreSchemaError",
    "StoreSettings",
    "StoreSettingsError",
    "StoreUnavailableError",
    "TotalRow",
    "UnstorableError",
    "UsageRow",
    "check_schema",
    "counts",
    "delete_superseded",
    "export_frames",
    "export_gaps",
    "export_lines",
    "frame_at",
    "frames",
    "gaps",
    "lines",
    "lines_at",
    "migrate",
    "migrations",
    "missing_migrations",
    "newest_rule_version",
    "plain_text",
    "revision_of",
    "reworks",
    "scopes",
    "totals",
    "usage",
    "write",
    "write_export",
    "write_rule_events",
]
