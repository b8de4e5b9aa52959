"""cloudkitty.conf as the part of rater.yaml that says what is collected, with CloudKitty's own arithmetic."""

from __future__ import annotations

from configparser import Error, RawConfigParser
from typing import Any

import msgspec

from rater.cloudkitty.gnocchi_conf import gnocchi, gnocchi_fetcher
from rater.cloudkitty.keystone_conf import aetos, keystone_fetcher
from rater.model.errors import RaterError

__all__ = ["CollectImport", "ConfError", "collect_settings"]

_METRICS_CONF = "/etc/cloudkitty/metrics.yml"
_SOURCE_OPTIONS = {"prometheus_url": "url", "cafile": "ca_file"}


class ConfError(RaterError):
    """A cloudkitty.conf that cannot be read."""


class CollectImport(msgspec.Struct, frozen=True):
    """What becomes of a cloudkitty.conf."""

    settings: dict[str, Any]
    """Keys of rater.yaml."""
    notes: tuple[str, ...]
    """What was not taken over, and what to do about it."""


def collect_settings(text: str, name: str) -> CollectImport:
    """Which metrics.yml, source and scopes the file names; CloudKitty's defaults where it names none.

    `collect.numbers` becomes `cloudkitty`, so that quantities stay what they were. Passwords are never taken over.
    Raises ConfError; `name` is the file name that it shows.
    """
    conf = _read(text, name)
    notes: list[str] = []
    source = conf.get("collect", "collector", fallback="gnocchi")
    collect: dict[str, Any] = {
        "source": "prometheus" if source == "aetos" else source,
        "scope_key": conf.get("collect", "scope_key", fallback="project_id"),
        "numbers": "cloudkitty",
    }
    skip = conf.get("orchestrator", "skip_datapoints_expression", fallback="False").strip()
    if skip not in ("", "False"):
        collect["skip_datapoints_expression"] = skip
    if source == "prometheus":
        collect["prometheus"] = _prometheus(conf, notes)
    elif source == "aetos":
        collect["prometheus"] = aetos(conf, notes)
    elif source == "gnocchi":
        collect["gnocchi"] = gnocchi(conf, notes)
    elif conf.has_section(f"collector_{source}"):
        notes.append(f"[collector_{source}] was not taken over: see what source {source} wants to know")
    collect |= _fetcher(conf, notes)
    if conf.has_option("collect", "wait_periods"):
        notes.append(
            "[collect] wait_periods was not taken over: a frame closes when it is complete (engine.wait_periods)"
        )
    settings = {
        "metrics_conf": conf.get("collect", "metrics_conf", fallback=_METRICS_CONF),
        "engine": {"period": _integer(conf, name, "collect", "period", 3600)},
        "collect": collect,
    }
    return CollectImport(settings, tuple(notes))


def _read(text: str, name: str) -> RawConfigParser:
    conf = RawConfigParser(strict=False, allow_no_value=True, default_section="")  # oslo's DEFAULT is one like others
    try:
        conf.read_string(text, name)
    except Error as fault:
        raise ConfError(f"{name} is no cloudkitty.conf: {' '.join(str(fault).split())}") from fault
    return conf


def _integer(conf: RawConfigParser, name: str, section: str, option: str, default: int) -> int:
    try:
        return conf.getint(section, option, fallback=default)
    except ValueError:
        found = conf.get(section, option)
        raise ConfError(f"{name}: [{section}] {option} is {found!r}, not a whole number") from None


def _prometheus(conf: RawConfigParser, notes: list[str]) -> dict[str, Any]:
    section = "collector_prometheus"
    found: dict[str, Any] = {
        ours: conf.get(section, theirs)
        for theirs, ours in _SOURCE_OPTIONS.items()
        if conf.get(section, theirs, fallback="")
    }
    if conf.get(section, "prometheus_user", fallback=""):
        notes.append(
            "the password for Prometheus was not taken over: write it into a file and set collect.prometheus.username "
            "and collect.prometheus.password_file"
        )
    if conf.get(section, "insecure", fallback="false").lower() in ("1", "true", "yes", "on"):
        notes.append(
            "[collector_prometheus] insecure was not taken over: name its certificate in collect.prometheus.ca_file"
        )
    return found


def _fetcher(conf: RawConfigParser, notes: list[str]) -> dict[str, Any]:
    fetcher = conf.get("fetcher", "backend", fallback="keystone")
    if fetcher == "source":
        return {"fetcher": "static", "static": {"scopes": _listed(conf.get("fetcher_source", "sources", fallback=""))}}
    if fetcher == "prometheus":
        section = "fetcher_prometheus"
        found: dict[str, Any] = {"scope_attribute": conf.get(section, "scope_attribute", fallback="project_id")}
        if conf.get(section, "metric", fallback=""):
            found["metric"] = conf.get(section, "metric")
        filters = [pair.partition(":") for pair in _listed(conf.get(section, "filters", fallback=""))]
        if filters:
            found["filters"] = {key.strip(): value.strip() for key, _, value in filters}
        url = conf.get(section, "prometheus_url", fallback="")
        if url and url != conf.get("collector_prometheus", "prometheus_url", fallback=""):
            notes.append(f"scopes were asked for at {url}; here they are asked for at collect.prometheus.url")
        return {"fetcher": "prometheus", "prometheus_fetcher": found}
    if fetcher == "keystone":
        asked = keystone_fetcher(conf, notes)
        return {"fetcher": "keystone", **({"keystone_fetcher": asked} if asked else {})}
    if fetcher == "gnocchi":
        is_source_too = conf.get("collect", "collector", fallback="gnocchi") == "gnocchi"
        return {"fetcher": "gnocchi", **gnocchi_fetcher(conf, notes, is_source_too=is_source_too)}
    if conf.has_section(f"fetcher_{fetcher}"):
        notes.append(f"[fetcher_{fetcher}] was not taken over: see what fetcher {fetcher} wants to know")
    return {"fetcher": fetcher}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
