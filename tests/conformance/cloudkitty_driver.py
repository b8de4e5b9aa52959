"""Runs inside CloudKitty's own venv and lets its real code answer: one JSON request a line in, one answer a line out.

The rules lie in SQLite through CloudKitty's own database API, with two changes that make SQLite keep what MariaDB and
PostgreSQL keep: costs and levels are exact decimals (SQLite's NUMERIC is a binary float), and rows come in the order
of their creation (a unique index would give the fields by name). Imports nothing of rater.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import threading
import time
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any
from wsgiref import simple_server

import cloudkitty_collect
import oslo_messaging
import sqlalchemy
from cloudkitty import config, dataframe, db, messaging, orchestrator, storage, storage_state  # noqa: F401 - config registers the options
from cloudkitty.api import app as api_app
from cloudkitty.db import api as db_api
from cloudkitty.db.sqlalchemy import models as state_models
from cloudkitty.rating import hash as hashmap_module
from cloudkitty.rating import noop
from cloudkitty.rating import pyscripts as pyscripts_module
from cloudkitty.rating.hash.db import api as hash_api
from cloudkitty.rating.hash.db.sqlalchemy import models as hash_models
from cloudkitty.rating.pyscripts.db import api as scripts_api
from cloudkitty.rating.pyscripts.db.sqlalchemy import models as scripts_models
from cloudkitty.storage.v1.sqlalchemy import models as stored_models
from cloudkitty.storage.v2 import influx  # noqa: F401 - registers the options
from cloudkitty.storage_state import models as scope_models
from oslo_config import cfg
from sqlalchemy import types

Json = dict[str, Any]

ALWAYS = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - CloudKitty's times are naive; this is what CloudKitty's migration gave to the rules it found


class ExactNumeric(types.TypeDecorator):  # type: ignore[misc]
    """NUMERIC(precision, decimals) as decimal text; rounds half away from zero, refuses what is too long."""

    impl = types.String
    cache_ok = True

    def __init__(self, precision: int, decimals: int) -> None:
        super().__init__()
        self.precision = precision
        self.decimals = decimals

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        if value is None:
            return None
        with localcontext(prec=200):
            number = Decimal(value).quantize(Decimal(1).scaleb(-self.decimals), rounding=ROUND_HALF_UP)
        if number and number.adjusted() >= self.precision - self.decimals:
            raise ValueError(f"{value} does not fit into NUMERIC({self.precision}, {self.decimals})")
        return format(number, "f")

    def process_result_value(self, value: str | None, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value)


def prepare(database: str) -> None:
    """Opens the database; makes its tables if there are none."""
    cfg.CONF([], project="cloudkitty", default_config_files=[])
    cfg.CONF.set_override("connection", f"sqlite:///{database}", "database")
    for model in (hash_models.HashMapMapping, hash_models.HashMapThreshold):
        model.__table__.c.cost.type = ExactNumeric(40, 28)
    hash_models.HashMapThreshold.__table__.c.level.type = ExactNumeric(20, 8)
    for table in (*hash_models.Base.metadata.tables.values(), *scripts_models.Base.metadata.tables.values()):
        keep = [part for part in table.constraints if not isinstance(part, sqlalchemy.UniqueConstraint)]
        table.constraints = set(keep)
    with db.session_for_write() as session:
        for base in (hash_models.Base, scripts_models.Base, state_models.Base, scope_models.Base):
            base.metadata.create_all(session.connection())


def empty() -> None:
    """Forgets all rules."""
    with db.session_for_write() as session:
        for model in (
            hash_models.HashMapMapping,
            hash_models.HashMapThreshold,
            hash_models.HashMapField,
            hash_models.HashMapGroup,
            hash_models.HashMapService,
            scripts_models.PyScriptsScript,
            state_models.ModuleStateInfo,
        ):
            session.query(model).delete()


def rules(request: Json) -> Json:
    """Stores rules in their order, in place of those before. Answers with the numbers of those that CloudKitty refuses.

    `services`: names; `fields`: [service, name]; `groups`: names; `rules`: objects with `kind` (mapping, threshold)
    and numbers of service or field and group.
    """
    empty()
    api = hash_api.get_instance()
    services = [api.create_service(name).service_id for name in request["services"]]
    fields = [api.create_field(services[service], name).field_id for service, name in request["fields"]]
    groups = [api.create_group(name).group_id for name in request["groups"]]
    refused = []
    for number, rule in enumerate(request["rules"]):
        arguments: Json = {
            "cost": Decimal(rule["cost"]),
            "map_type": rule["type"],
            "service_id": services[rule["service"]] if rule.get("field") is None else None,
            "field_id": None if rule.get("field") is None else fields[rule["field"]],
            "group_id": None if rule.get("group") is None else groups[rule["group"]],
            "tenant_id": rule.get("tenant"),
        }
        try:
            if rule["kind"] == "threshold":
                api.create_threshold(level=Decimal(rule["level"]), **arguments)
                continue
            arguments |= {key: rule.get(key) for key in ("value", "name", "description")}
            mapping = api.create_mapping(
                start=instant(rule.get("start")) or ALWAYS, end=instant(rule.get("end")), created_by="x", **arguments
            )
            if rule.get("deleted"):
                api.delete_mapping(mapping.mapping_id, "x")
        except (hash_api.MappingAlreadyExists, hash_api.ThresholdAlreadyExists):
            refused.append(number)
    for script in request.get("scripts", ()):
        scripts_api.get_instance().create_script(
            name=script["name"],
            data=script["data"].encode(),
            start=instant(script.get("start")) or ALWAYS,
            end=instant(script.get("end")),
            description=script.get("description"),
            created_by="x",
        )
    for name, (enabled, priority) in request.get("modules", {}).items():
        db_api.get_instance().get_module_info().set_state(name, enabled)
        db_api.get_instance().get_module_info().set_priority(name, priority)
    return {"refused": refused}


def price(request: Json) -> Json:
    """Prices `points` of `tenant` in the period that begins then, each in a frame of its own; errors by name."""
    module = hashmap_module.HashMap(request["tenant"])
    begin = instant(request["period_begin"])
    assert begin is not None
    module.reload_config(begin)
    prices: list[Json] = []
    for given in request["points"]:
        frame = dataframe.DataFrame(begin, begin + datetime.timedelta(hours=1), {given["metric"]: [point(given)]})
        try:
            ((_, rated),) = module.process(frame).iterpoints()
            prices.append({"price": str(rated.price)})
        except Exception as error:  # noqa: BLE001 - whatever CloudKitty raises fails its whole period: the name is what counts
            prices.append({"error": f"{type(error).__name__}: {error}"})
    return {"prices": prices}


def scripts(request: Json) -> Json:
    """Runs the stored scripts over one frame; the frame after them, or the error."""
    begin = instant(request["period_begin"])
    assert begin is not None
    begin = begin.replace(tzinfo=datetime.UTC)
    usage: dict[str, list[Any]] = {}
    for given in request["points"]:
        usage.setdefault(given["metric"], []).append(point(given))
    frame = dataframe.DataFrame(begin, begin + datetime.timedelta(hours=1), usage)
    module = pyscripts_module.PyScripts(request["tenant"])
    module.reload_config(begin)
    printed = sys.stdout
    sys.stdout = sys.stderr  # what scripts print is no answer
    try:
        after = module.process(frame)
    except Exception as error:  # noqa: BLE001 - whatever a script raises fails CloudKitty's period
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        sys.stdout = printed
    return {"points": [shown(metric, rated) for metric, rated in after.iterpoints()]}


class Stub:
    """In the place of the storage, and of stevedore's extension around a module."""

    def __init__(self, module: Any = None) -> None:
        self.obj = module
        self.pushed: list[Any] = []

    def push(self, frames: list[Any], scope_id: str) -> None:
        self.pushed = frames


MEASURED: Json = {}  # what `load` made, for `measure`


def load(request: Json) -> Json:
    """Loads the rules for a tenant and period and makes the points that `measure` rates. Answers with CPU seconds."""
    begin = instant(request["period_begin"])
    assert begin is not None
    kind = {"hashmap": hashmap_module.HashMap, "pyscripts": pyscripts_module.PyScripts}[request["module"]]
    module = kind(request["tenant"])
    started = time.process_time()
    module.reload_config(begin)
    took = time.process_time() - started
    usage: dict[str, list[Any]] = {}
    for given in request["points"]:
        usage.setdefault(given["metric"], []).append(point(given))
    worker = orchestrator.Worker.__new__(orchestrator.Worker)
    worker._tenant_id = request["tenant"]
    worker._processors = [Stub(module), Stub(noop.Noop(request["tenant"]))]  # noop is always on in CloudKitty
    worker._storage = Stub()
    worker.map_metric_definition_by_alt_name = {metric: {} for metric in usage}
    MEASURED.update(begin=begin, module=module, usage=usage, worker=worker)
    return {"seconds": took}


def measure(request: Json) -> Json:
    """CPU seconds to rate the loaded points `frames` times: by the module alone, or by the worker and stored.

    `prices`: whether to answer with the prices too.
    """
    rated, took = None, 0.0
    for _ in range(request["frames"]):
        usage = {metric: list(points) for metric, points in MEASURED["usage"].items()}
        seconds, rated = _measured[request["path"]](usage)
        took += seconds
    prices = [str(after.price) for _, after in rated.iterpoints()] if rated and request.get("prices") else []
    return {"seconds": took, "prices": prices}


def _module_alone(usage: Json) -> tuple[float, Any]:
    begin, module = MEASURED["begin"], MEASURED["module"]
    frame = dataframe.DataFrame(begin, begin + datetime.timedelta(hours=1), usage)
    started = time.process_time()
    rated = module.process(frame)
    return time.process_time() - started, rated


def _worker(usage: Json) -> tuple[float, Any]:
    begin, worker = MEASURED["begin"], MEASURED["worker"]
    end = begin + datetime.timedelta(hours=1)
    started = time.process_time()
    frame = worker.execute_measurements_rating(end, begin, usage)
    worker.persist_rating_data(end, frame, begin)
    took = time.process_time() - started
    return took, worker._storage.pushed[0]


_measured = {"module": _module_alone, "worker": _worker}


def point(given: Json) -> Any:
    return dataframe.DataPoint(
        given.get("unit", "u"),
        Decimal(given["qty"]),
        Decimal(given.get("price", "0")),
        given["groupby"],
        given["metadata"],
    )


def shown(metric: str, rated: Any) -> Json:
    return {
        "metric": metric,
        "unit": rated.unit,
        "qty": str(rated.qty),
        "price": str(rated.price),
        "groupby": dict(rated.groupby),
        "metadata": dict(rated.metadata),
    }


def serve(request: Json) -> Json:
    """Serves CloudKitty's REST API without authentication on a free port, beside the answers here.

    `storage`: `influxdb` (with its `port` and `database`) or `sqlalchemy` (version 1, in the database of the rules);
    without it there is version 1 of the API alone, and nothing stored. `metrics_conf`: path of a metrics.yml.
    """
    messaging.get_transport = lambda: oslo_messaging.get_rpc_transport(cfg.CONF, "fake://")  # nobody listens
    messaging.setup()
    cfg.CONF.set_override("auth_strategy", "noauth")
    if "storage" in request:
        _use_storage(request)
        app = api_app.setup_app()
    else:
        storage.get_storage = lambda: None  # rules ask for none
        app = api_app.dispatcher.DispatcherMiddleware(api_app.flask.Flask("cloudkitty"), {"/v1": api_app.get_v1_app()})
    server = simple_server.make_server("127.0.0.1", 0, app, handler_class=QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return {"port": server.server_port}


def _use_storage(request: Json) -> None:
    backend = request["storage"]
    cfg.CONF.set_override("backend", backend, "storage")
    cfg.CONF.set_override("version", 2 if backend == "influxdb" else 1, "storage")
    if backend == "influxdb":
        for name, value in {"host": "127.0.0.1", "port": request["port"], "database": request["database"]}.items():
            cfg.CONF.set_override(name, value, "storage_influxdb")
    else:
        with db.session_for_write() as session:
            stored_models.Base.metadata.create_all(session.connection())
    if "metrics_conf" in request:
        cfg.CONF.set_override("metrics_conf", request["metrics_conf"], "collect")


def store(request: Json) -> Json:
    """Pushes data frames of one scope into the storage, as the processor does."""
    frames = [dataframe.DataFrame.from_dict(frame) for frame in request["frames"]]
    storage.get_storage(version=cfg.CONF.storage.version).push(frames, request["scope_id"])
    return {}


def states(request: Json) -> Json:
    """Says of scopes up to which period they are rated, as the processor does; `reached` in seconds."""
    for scope_id, reached in request["reached"].items():
        at = datetime.datetime.fromtimestamp(reached, datetime.UTC)
        storage_state.StateManager().set_last_processed_timestamp(
            scope_id, at, fetcher="keystone", collector="prometheus", scope_key="project_id"
        )
    return {}


class QuietHandler(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: stderr is for what goes wrong."""


def instant(seconds: int | None) -> datetime.datetime | None:
    """CloudKitty's naive times, on a server whose local time is UTC."""
    return None if seconds is None else ALWAYS + datetime.timedelta(seconds=seconds)


ANSWERS: dict[str, Callable[[Json], Json]] = {
    "rules": rules,
    "price": price,
    "scripts": scripts,
    "load": load,
    "serve": serve,
    "store": store,
    "states": states,
    "measure": measure,
    "collect": cloudkitty_collect.collect,
    "definitions": cloudkitty_collect.definitions,
    "collect_gnocchi": cloudkitty_collect.collect_gnocchi,
    "gnocchi_definitions": cloudkitty_collect.gnocchi_definitions,
    "gnocchi_numbers": cloudkitty_collect.gnocchi_numbers,
}


def main() -> None:
    """Answers until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default=":memory:", help="a file, or :memory:")
    prepare(parser.parse_args().database)
    for line in sys.stdin:
        request = json.loads(line)
        answer = ANSWERS[request["op"]](request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
