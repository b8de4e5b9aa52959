"""The words of the demonstration, and how alerts and holes are shown in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rater.model.rated import Alert, AlertKind

__all__ = ["SQL", "ending", "shown_alerts"]

SQL = (
    "SELECT scope_id, metric, sum(qty) AS quantity, any(unit) AS unit, sum(price) AS price FROM totals "
    "GROUP BY scope_id, metric ORDER BY price DESC LIMIT 8"
)


def shown_alerts(alerts: Iterable[Alert], kind: AlertKind, scope_id: str) -> list[str]:
    """The alerts of a kind and scope, one line each, by time and metric."""
    chosen = [alert for alert in alerts if alert.kind is kind and alert.scope_id == scope_id]
    return [
        f"{alert.kind.value}  {alert.scope_id}  {alert.metric:<21} from {alert.source}  "
        f"{_clock(alert.begin)} to {_clock(alert.end)} UTC  {alert.reason}"
        for alert in sorted(chosen, key=lambda alert: (alert.begin, alert.metric))
    ]


def _clock(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def ending(directory: str, python: str, rater: str, *, running: bool) -> str:
    """What to do next. `directory` holds the demonstration, `python` and `rater` are the commands to type."""
    config = f"{rater} --config {directory}/rater.yaml"
    return f"""Look further (SQL on the embedded ClickHouse{", after Ctrl-C" if running else ""}):
  {python} examples/sql.py {directory}/var/clickhouse \\
    "{SQL}"
Tables: lines, frames, gaps, usage; views: totals, coverage, current_lines, open_gaps.

More of the same data:
  {config} frames list --scope fjord --status empty
  {config} gaps --all
  {config} export lines --out jsonl --file lines.jsonl

Keep such a system running (Ctrl-C stops it):
  {config} up --with-kafka

Clean up: rm -r {directory}"""
