"""Panels, data sources and variables in our way: each panel says in a sentence what it shows and when that is bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.builders import prometheus as promql
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

__all__ = [
    "ALL",
    "CLICKHOUSE",
    "Question",
    "Rows",
    "Series",
    "a_dashboard",
    "at_least",
    "clickhouse_variable",
    "graph",
    "number",
    "prometheus_variable",
    "rows",
    "scope_variable",
]

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${prometheus}")
CLICKHOUSE = DataSourceRef(type_val="grafana-clickhouse-datasource", uid="${clickhouse}")
GREEN, ORANGE, RED = "green", "orange", "red"
ALL = "'*'"
"""What stands for every scope: a list of all names would be longer than a statement may be."""
_OF_SCOPE = "('*' IN (${scope:sqlstring}) OR scope_id IN (${scope:sqlstring}))"
_WORDS = {"$in_range": f"$__timeFilter(period_begin) AND {_OF_SCOPE}", "$of_scope": _OF_SCOPE}
"""What statements may say for the periods of the range and the scopes that are chosen."""
_WIDTH = 24


class Question(NamedTuple):
    """A question to Prometheus, and the legend of what it answers."""

    expression: str
    legend: str = ""


class Rows(Dataquery):
    """A statement for ClickHouse, in the form of Grafana's plugin for it."""

    def __init__(self, statement: str, *, over_time: bool = False, ref_id: str = "A") -> None:
        self.statement = statement
        self.over_time = over_time
        self.ref_id = ref_id

    def to_json(self) -> dict[str, object]:
        """As it stands in a panel."""
        return {
            "datasource": CLICKHOUSE.to_json(),
            "editorType": "sql",
            "format": 0 if self.over_time else 1,
            "queryType": "timeseries" if self.over_time else "table",
            "rawSql": self.statement,
            "refId": self.ref_id,
        }


class Series(Builder[Dataquery]):
    """A statement as a panel takes it."""

    def __init__(self, statement: str, *, over_time: bool = False) -> None:
        for word, meaning in _WORDS.items():
            statement = statement.replace(word, meaning)
        self._made = Rows(statement, over_time=over_time)

    def build(self) -> Dataquery:
        """The statement."""
        return self._made


Asked = Question | Series


def a_dashboard(uid: str, title: str, description: str, begin: str, *variables: Builder[Any]) -> dashboard.Dashboard:
    """An empty one, in UTC as all our times are, of the time from `begin` (such as now-6h) on."""
    made = dashboard.Dashboard(title).uid(uid).description(description).tags(["rater"]).timezone("utc")
    made = made.time(begin, "now").refresh("1m").tooltip(DashboardCursorSync.CROSSHAIR).readonly()
    for variable in variables:
        made = made.with_variable(variable)
    return made


def prometheus_variable() -> Builder[Any]:
    """Which Prometheus is asked."""
    return dashboard.DatasourceVariable("prometheus").label("Prometheus").type("prometheus")


def clickhouse_variable() -> Builder[Any]:
    """Which ClickHouse is asked; its database is that of `store.dsn`."""
    return dashboard.DatasourceVariable("clickhouse").label("ClickHouse").type("grafana-clickhouse-datasource")


def scope_variable() -> Builder[Any]:
    """Whose usage is shown; everybody's at first."""
    made = dashboard.QueryVariable("scope").label("Scope").datasource(CLICKHOUSE)
    made = made.query("SELECT DISTINCT scope_id FROM totals ORDER BY scope_id LIMIT 5000")
    made = made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True)
    return made.include_all(True).all_value(ALL)


def at_least(warn: float, bad: float) -> Builder[Any]:
    """Green, from `warn` on orange, from `bad` on red."""
    steps = [Threshold(None, GREEN), Threshold(warn, ORANGE), Threshold(bad, RED)]
    if warn >= bad:
        del steps[1]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def number(
    title: str, description: str, asked: Asked, unit: str = "short", limits: Builder[Any] | None = None, width: int = 4
) -> Builder[Any]:
    """One number, as it is now."""
    made = stat.Panel().title(title).description(description).unit(unit).height(4).span(width)
    made = made.graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.BACKGROUND_SOLID)
    # the last one, of any name: a table's only column has none that is known
    made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/"))
    if limits is not None:
        made = made.thresholds(limits)
    return made.datasource(_source(asked)).with_target(_target(asked, "A", instant=True))


def graph(
    title: str,
    description: str,
    asked: Sequence[Asked],
    unit: str = "short",
    *,
    stacked: bool = False,
    width: int = 12,
) -> Builder[Any]:
    """Lines over time, or bars one on the other."""
    made = timeseries.Panel().title(title).description(description).unit(unit).height(8).span(width).min(0)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = made.legend(legend.show_legend(True)).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if stacked:
        made = made.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).draw_style(GraphDrawStyle.BARS)
        made = made.fill_opacity(80)
    made = made.datasource(_source(asked[0]))
    for index, one in enumerate(asked):
        made = made.with_target(_target(one, chr(ord("A") + index)))
    return made


def rows(
    title: str, description: str, statement: str, units: dict[str, str] | None = None, width: int = _WIDTH
) -> Builder[Any]:
    """A table; `units` by column."""
    made = table.Panel().title(title).description(description).height(9).span(width)
    made = made.datasource(CLICKHOUSE).with_target(Series(statement))
    for column, unit in (units or {}).items():
        made = made.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])
    return made


def _source(asked: Asked) -> DataSourceRef:
    return PROMETHEUS if isinstance(asked, Question) else CLICKHOUSE


def _target(asked: Asked, ref_id: str, *, instant: bool = False) -> Builder[Dataquery]:
    if isinstance(asked, Series):
        return asked
    made = promql.Dataquery().expr(asked.expression).legend_format(asked.legend or "__auto").ref_id(ref_id)
    return made.instant() if instant else made.range()
