"""Is everything there that has to be billed, and what is missing: for whoever answers for the bills."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import (
    Question,
    Series,
    a_dashboard,
    at_least,
    clickhouse_variable,
    graph,
    number,
    prometheus_variable,
    rows,
    scope_variable,
)

__all__ = ["completeness"]


def completeness() -> Dashboard:
    """The dashboard."""
    made = a_dashboard(
        "rater-completeness",
        "rater / billing completeness",
        "Gaps, frames that cannot be billed, and how late usage is. Green means: nothing is missing that we know of.",
        "now-7d",
        prometheus_variable(),
        clickhouse_variable(),
        scope_variable(),
    )
    return _sources(_frames(_gaps(made)))


def _gaps(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("What is missing"))
        .with_panel(
            number(
                "Open gaps",
                "Of all times: neither resolved nor accepted.",
                Question("max(rater_store_open_gaps)"),
                limits=at_least(1, 1),
            )
        )
        .with_panel(
            number(
                "Time in open gaps",
                "Of all scopes and metrics together.",
                Question("max(rater_store_missing_seconds)"),
                "s",
                at_least(1, 1),
            )
        )
        .with_panel(
            number(
                "Age of the oldest gap",
                "0 if there is none.",
                Question("(time() - max(rater_store_oldest_gap_timestamp_seconds > 0)) or vector(0)"),
                "s",
                at_least(3600, 86_400),
            )
        )
        .with_panel(
            number(
                "Frames overdue",
                "Still open though everybody had the time to complete them.",
                Question("sum(rater_worker_overdue_frames)"),
                limits=at_least(1, 1),
            )
        )
        .with_panel(
            number(
                "Frames not billable",
                "Of the range: missing, partial or failed.",
                Series(
                    "SELECT count() AS frames FROM current_frames "
                    "WHERE status IN ('missing', 'partial', 'failed') AND $in_range"
                ),
                limits=at_least(1, 1),
            )
        )
        .with_panel(
            number(
                "Broken invariants",
                "What the last audit found.",
                Question("max(sum by (instance) (rater_audit_violations))"),
                limits=at_least(1, 1),
            )
        )
        .with_panel(
            rows(
                "Open gaps",
                "To the minute. `rater gaps` lists them too; `rater reprocess` collects them again.",
                "SELECT scope_id, metric, source, gap_begin, gap_end, seconds, reason, opened_at FROM gap_states "
                "WHERE state = 'open' AND $in_range ORDER BY gap_begin, scope_id, metric LIMIT 1000",
                {"seconds": "s"},
            )
        )
        .with_panel(
            rows(
                "Accepted gaps",
                "Somebody decided to bill without them: who, and why.",
                "SELECT scope_id, metric, gap_begin, gap_end, seconds, accepted_by, accepted_for FROM gap_states "
                "WHERE state = 'accepted' AND $in_range ORDER BY gap_begin, scope_id, metric LIMIT 1000",
                {"seconds": "s"},
            )
        )
    )


def _frames(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Frames"))
        .with_panel(
            graph(
                "Frames by status",
                "Of each period. Empty ones are proven: nothing was used.",
                [
                    Series(
                        "SELECT period_begin AS time, toString(status) AS status, count() AS frames "
                        "FROM current_frames WHERE $in_range GROUP BY time, status ORDER BY time",
                        over_time=True,
                    )
                ],
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "From the end of a period to its closing",
                "Half of the frames, 99 of 100, and the last one.",
                [
                    Series(
                        "SELECT period_begin AS time, quantile(0.5)(delay_seconds) AS half, "
                        "quantile(0.99)(delay_seconds) AS `99 of 100`, max(delay_seconds) AS last FROM current_frames "
                        "WHERE revision = 0 AND $in_range GROUP BY time ORDER BY time",
                        over_time=True,
                    )
                ],
                "s",
            )
        )
        .with_panel(
            rows(
                "Frames that cannot be billed",
                "Missing, partial or failed, the newest first.",
                "SELECT scope_id, period_begin, toString(status) AS status, revision, gap_count, quarantined_count, "
                "failure FROM current_frames WHERE status IN ('missing', 'partial', 'failed') AND $in_range "
                "ORDER BY period_begin DESC, scope_id LIMIT 1000",
                width=12,
            )
        )
        .with_panel(
            rows(
                "Frames that were rated again",
                "Revised after they were closed: late usage, better answers, reworks.",
                "SELECT scope_id, period_begin, revision, toString(status) AS status, closed_by, reworked, closed_at, "
                "price FROM current_frames WHERE revision > 0 AND $in_range "
                "ORDER BY closed_at DESC, scope_id LIMIT 1000",
                width=12,
            )
        )
    )


def _sources(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Sources and audits"))
        .with_panel(
            graph(
                "Proven up to",
                "How long ago the last period ended that each source has proven whole.",
                [
                    Question(
                        "time() - min by (source, metric) (rater_collector_complete_until_timestamp_seconds > 0)",
                        "{{source}} {{metric}}",
                    )
                ],
                "s",
            )
        )
        .with_panel(
            graph(
                "Late usage that waits",
                "Samples for closed frames, and frames that are to be rated again for them.",
                [
                    Question("max(rater_audit_waiting_samples)", "samples"),
                    Question("sum(rater_rework_late_frames)", "frames"),
                    Question("sum(rater_rework_late_given_up)", "frames given up"),
                ],
            )
        )
        .with_panel(
            rows(
                "Audits",
                "Each compares what is stored with itself: docs/audit.md.",
                "SELECT began_at, seconds, frames, violation_count, waiting_samples FROM audits FINAL "
                "WHERE $__timeFilter(began_at) ORDER BY began_at DESC LIMIT 100",
                {"seconds": "s"},
            )
        )
    )
