"""What was used and what it costs: for tenants and finance."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import (
    Series,
    a_dashboard,
    at_least,
    clickhouse_variable,
    graph,
    number,
    rows,
    scope_variable,
)

__all__ = ["tenant"]


def tenant() -> Dashboard:
    """The dashboard."""
    made = a_dashboard(
        "rater-tenant-cost",
        "rater / tenant cost",
        "Usage and cost of the chosen scopes. Amounts have no currency: they are what the rules say.",
        "now-30d",
        clickhouse_variable(),
        scope_variable(),
    )
    return _resources(_cost(made))


def _cost(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Cost"))
        .with_panel(
            number(
                "Cost",
                "Of the range, posted lines among it.",
                Series("SELECT toFloat64(sum(price)) AS cost FROM totals WHERE $in_range"),
                "locale",
                width=6,
            )
        )
        .with_panel(
            number(
                "Of the same time before",
                "The cost of as long a stretch that ended where the range begins.",
                Series(
                    "SELECT toFloat64(sum(price)) AS cost FROM totals "
                    "WHERE period_begin >= $__fromTime - (toUnixTimestamp($__toTime) - toUnixTimestamp($__fromTime)) "
                    "AND period_begin < $__fromTime AND $of_scope"
                ),
                "locale",
                width=6,
            )
        )
        .with_panel(
            number(
                "Frames not billable",
                "Missing, partial or failed: as long as there are some, the cost is not final.",
                Series(
                    "SELECT count() AS frames FROM current_frames "
                    "WHERE status IN ('missing', 'partial', 'failed') AND $in_range"
                ),
                limits=at_least(1, 1),
                width=6,
            )
        )
        .with_panel(
            number(
                "Metrics without a price",
                "Used, and nothing is charged: no rule matched, or the price is 0.",
                Series("SELECT uniq(metric) AS metrics FROM unrated_usage WHERE $in_range"),
                limits=at_least(1, 1_000_000),
                width=6,
            )
        )
        .with_panel(
            graph(
                "Cost per day and metric",
                "Days in UTC.",
                [
                    Series(
                        "SELECT toDateTime(toDate(period_begin, 'UTC'), 'UTC') AS time, toString(metric) AS metric, "
                        "toFloat64(sum(price)) AS cost FROM totals WHERE $in_range "
                        "GROUP BY time, metric ORDER BY time",
                        over_time=True,
                    )
                ],
                "locale",
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Cost per day and scope",
                "The ten that cost most in the range.",
                [
                    Series(
                        "SELECT toDateTime(toDate(period_begin, 'UTC'), 'UTC') AS time, toString(scope_id) AS scope, "
                        "toFloat64(sum(price)) AS cost FROM totals WHERE $in_range AND scope_id IN (SELECT scope_id "
                        "FROM totals WHERE $in_range GROUP BY scope_id ORDER BY sum(price) DESC LIMIT 10) "
                        "GROUP BY time, scope ORDER BY time",
                        over_time=True,
                    )
                ],
                "locale",
                stacked=True,
            )
        )
        .with_panel(
            rows(
                "By scope and metric",
                "Of the range. Quantities of different units are not added.",
                "SELECT scope_id, metric, unit, sum(qty) AS qty, sum(price) AS price, sum(n) AS lines FROM totals "
                "WHERE $in_range GROUP BY scope_id, metric, unit "
                "ORDER BY price DESC, scope_id, metric, unit LIMIT 1000",
                width=12,
            )
        )
        .with_panel(
            rows(
                "What grew most",
                "Per scope, against as long a stretch before the range.",
                "SELECT scope_id, sumIf(price, period_begin >= $__fromTime) AS now, "
                "sumIf(price, period_begin < $__fromTime) AS before, now - before AS growth FROM totals "
                "WHERE period_begin >= $__fromTime - (toUnixTimestamp($__toTime) - toUnixTimestamp($__fromTime)) "
                "AND period_begin < $__toTime AND $of_scope "
                "GROUP BY scope_id ORDER BY growth DESC, scope_id LIMIT 20",
                width=12,
            )
        )
    )


def _resources(made: Dashboard) -> Dashboard:
    return made.with_row(Row("Resources")).with_panel(
        rows(
            "The dearest resources",
            "By the label id, of the range: it reads every line, so choose scopes first.",
            "SELECT scope_id, metric, coalesce(nullIf(groupby['id'], ''), lower(hex(line_id))) AS resource, unit, "
            "sum(qty) AS qty, sum(price) AS price FROM current_lines WHERE $in_range "
            "GROUP BY scope_id, metric, resource, unit ORDER BY price DESC, resource LIMIT 100",
        )
    )
