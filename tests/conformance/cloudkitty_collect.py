"""Runs inside CloudKitty's own venv, for cloudkitty_driver.py: its collectors, its arithmetic, its skipping.

Imports nothing of rater.
"""

from __future__ import annotations

import datetime
from typing import Any

import yaml
from cloudkitty import dataframe, orchestrator
from cloudkitty import utils as ck_utils
from cloudkitty.collector import gnocchi, prometheus
from oslo_config import cfg

Json = dict[str, Any]


def collect(request: Json) -> Json:
    """What the collector makes of a live Prometheus, by its own keys of the metrics of a metrics.yml.

    Of each metric `query`, and `points` or `error`: `kept` are the numbers of the points that the skip expression, of
    the metric or by `default_skip`, leaves, or the error that it ends with.
    """
    definitions = yaml.safe_load(request["metrics_yml"])
    cfg.CONF.set_override("prometheus_url", request["url"], "collector_prometheus")
    cfg.CONF.set_override("scope_key", request["scope_key"], "collect")
    cfg.CONF.set_override("skip_datapoints_expression", request.get("default_skip", "False"), "orchestrator")
    begin, end = (datetime.datetime.fromtimestamp(request[key], datetime.UTC) for key in ("begin", "end"))
    collector = prometheus.PrometheusCollector(period=end.timestamp() - begin.timestamp(), conf=definitions)
    worker = orchestrator.Worker.__new__(orchestrator.Worker)
    worker._conf = definitions
    worker.map_metric_definition_by_alt_name = worker.create_alt_name_map()
    return {"metrics": {key: _collected(collector, worker, key, begin, end, request) for key in sorted(collector.conf)}}


def definitions(request: Json) -> Json:
    """The metrics that the Prometheus collector reads from a metrics.yml, by its own keys, or why it refuses it."""
    cfg.CONF.set_override("scope_key", "project_id", "collect")
    try:
        conf = prometheus.PrometheusCollector.check_configuration(yaml.safe_load(request["metrics_yml"]))
    except Exception as error:  # noqa: BLE001 - whatever CloudKitty raises ends its start
        return {"refused": f"{type(error).__name__}: {error}"}
    return {"metrics": {key: _definition(one) for key, one in sorted(conf.items())}}


def _definition(conf: Json) -> Json:
    texts = ("unit", "mutate", "alt_name", "description", "groupby", "metadata", "extra_args")
    return {key: conf[key] for key in texts if key in conf} | {
        key: str(ck_utils.num2decimal(conf[key])) for key in ("factor", "offset")
    }


def _collected(collector: Any, worker: Any, key: str, begin: Any, end: Any, request: Json) -> Json:
    conf = collector.conf[key]
    scope_key, scope = request["scope_key"], request["scope"]
    query = collector.build_query(collector.conf, key, begin, end, scope_key, scope, conf["groupby"], conf["metadata"])
    try:
        points = collector.fetch_all(key, begin, end, scope)
    except Exception as error:  # noqa: BLE001 - whatever CloudKitty raises fails its whole period: the name is what counts
        return {"query": query, "error": f"{type(error).__name__}: {error}"}
    shown = [
        {"qty": str(p.qty), "unit": p.unit, "groupby": dict(p.groupby), "metadata": dict(p.metadata)} for p in points
    ]
    return {"query": query, "points": shown, "kept": _kept(worker, conf.get("alt_name", key), points, begin, end)}


def _kept(worker: Any, name: str, points: list[Any], begin: Any, end: Any) -> list[int] | str:
    frame = dataframe.DataFrame(begin, end, {name: list(points)}).as_dict(mutable=True)
    numbers = {id(point): number for number, point in enumerate(frame["usage"][name])}
    try:
        worker.execute_datapoints_filtering_for_metric(frame["usage"], name)
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {error}"
    return [numbers[id(point)] for point in frame["usage"].get(name, [])]


def gnocchi_numbers(request: Json) -> Json:
    """The quantity that the Gnocchi collector makes of each of `raw`, floats, by each metric of a metrics.yml.

    An error stands in the place of a number that it stops at. The collector itself is not built: it would want a
    Keystone; what it computes with lies in `_format_data`.
    """
    collector = gnocchi.GnocchiCollector.__new__(gnocchi.GnocchiCollector)
    cfg.CONF.set_override("scope_key", "project_id", "collect")
    definitions = yaml.safe_load(request["metrics_yml"])
    quantities: dict[str, list[str]] = {}
    for key, conf in gnocchi.GnocchiCollector.check_configuration(definitions).items():
        quantities[key] = [_gnocchi_number(collector, conf, raw) for raw in request["raw"]]
    return {"quantities": quantities}


def collect_gnocchi(request: Json) -> Json:
    """What the Gnocchi collector makes of a live Gnocchi with basic authentication, by its own keys of the metrics.

    Of each metric `points` or `error`.
    """
    cfg.CONF.set_override("scope_key", request["scope_key"], "collect")
    for name, value in (("auth_type", "basic"), ("user", "admin"), ("endpoint", request["url"])):
        cfg.CONF.set_override(f"gnocchi_{name}", value, "collector_gnocchi")
    begin, end = (datetime.datetime.fromtimestamp(request[key], datetime.UTC) for key in ("begin", "end"))
    cfg.CONF.set_override("period", int(end.timestamp() - begin.timestamp()), "collect")
    collector = gnocchi.GnocchiCollector(
        period=request["end"] - request["begin"], conf=yaml.safe_load(request["metrics_yml"])
    )
    found: Json = {}
    for key in sorted(collector.conf):
        try:
            points = collector.fetch_all(key, begin, end, request["scope"])
        except Exception as error:  # noqa: BLE001 - as above
            found[key] = {"error": f"{type(error).__name__}: {error}"}
            continue
        shown = [{"qty": str(p.qty), "groupby": dict(p.groupby), "metadata": dict(p.metadata)} for p in points]
        found[key] = {"points": shown}
    return {"metrics": found}


def gnocchi_definitions(request: Json) -> Json:
    """The `extra_args` that the Gnocchi collector reads from a metrics.yml, by its own keys, or why it refuses it."""
    cfg.CONF.set_override("scope_key", "project_id", "collect")
    try:
        conf = gnocchi.GnocchiCollector.check_configuration(yaml.safe_load(request["metrics_yml"]))
    except Exception as error:  # noqa: BLE001 - as above
        return {"refused": f"{type(error).__name__}: {error}"}
    return {"metrics": {key: one["extra_args"] for key, one in sorted(conf.items())}}


def _gnocchi_number(collector: Any, conf: Json, raw: float) -> str:
    answer = {"group": {"id": "x"}, "measures": {"measures": {"aggregated": [["t", 3600.0, raw]]}}}
    try:
        _, groupby, qty = collector._format_data(conf, answer)
        return str(
            collector._create_data_point(
                conf, qty, 0, groupby, {}, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
            ).qty
        )
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {error}"
