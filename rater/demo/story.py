"""What the demonstration says at its end: how to look further, go on and clean up."""

from __future__ import annotations

__all__ = ["SQL", "ending"]

SQL = (
    "SELECT scope_id, metric, sum(qty) AS quantity, any(unit) AS unit, sum(price) AS cost FROM totals "
    "GROUP BY scope_id, metric ORDER BY cost DESC LIMIT 8"
)


def ending(directory: str, python: str, rater: str, *, running: bool) -> str:
    """What to do next. `directory` holds the demonstration, `python` and `rater` are the commands to type."""
    config = f"{rater} --config {directory}/rater.yaml"
    return f"""Look further, in SQL{" (after Ctrl-C)" if running else ""}:
  {python} examples/sql.py {directory}/var/clickhouse \\
    "{SQL}"
  tables lines, frames, gaps, usage; views totals, coverage, current_lines, open_gaps
With the commands:
  {config} frames list --scope fjord --status empty
  {config} gaps --all
  {config} export lines --out jsonl --file lines.jsonl
Keep such a system running on these data (Ctrl-C stops it):
  {config} up --with-kafka
{"Ctrl-C stops the demonstration" if running else "Everything is stopped"}. Clean up: rm -r {directory}"""
