"""Where Gnocchi is and who asks it: what a cloudkitty.conf says, in words of rater.yaml. Passwords stay behind."""

from __future__ import annotations

from configparser import RawConfigParser
from typing import Any

from rater.cloudkitty.keystone_conf import asked

__all__ = ["gnocchi", "gnocchi_fetcher"]

_SECTION, _OURS = "collector_gnocchi", "collect.gnocchi"
_FETCHER = "fetcher_gnocchi"
_SAME = ("gnocchi_auth_type", "gnocchi_user", "gnocchi_endpoint", "interface", "region_name", "auth_section")
_FIRST = (
    "of granules shorter than the period CloudKitty billed the first one only; here all of them count: set "
    f"{_OURS}.granules to first to compare bills"
)


def gnocchi(conf: RawConfigParser, notes: list[str]) -> dict[str, Any]:
    """Section `[collector_gnocchi]` as `collect.gnocchi`; `notes` grows by what is left to do."""
    notes.append(_FIRST)
    return _asked(conf, _SECTION, notes)


def gnocchi_fetcher(conf: RawConfigParser, notes: list[str], *, is_source_too: bool) -> dict[str, Any]:
    """Section `[fetcher_gnocchi]` as parts of `collect`. `is_source_too`: usage comes from Gnocchi as well.

    One Gnocchi is asked for usage and scopes alike: where the sections differ `notes` says so.
    """
    resource_types = [part.strip() for part in conf.get(_FETCHER, "resource_types", fallback="").split(",")]
    found: dict[str, Any] = {"scope_attribute": conf.get(_FETCHER, "scope_attribute", fallback="project_id")}
    if named := [name for name in resource_types if name]:
        found["resource_types"] = named
    settings: dict[str, Any] = {"gnocchi_fetcher": found}
    if not is_source_too:
        settings["gnocchi"] = _asked(conf, _FETCHER, notes)
    elif any(conf.get(_FETCHER, one, fallback="") != conf.get(_SECTION, one, fallback="") for one in _SAME):
        notes.append(f"[{_FETCHER}] asks otherwise than [{_SECTION}]; here scopes are asked for at {_OURS} too")
    return settings


def _asked(conf: RawConfigParser, section: str, notes: list[str]) -> dict[str, Any]:
    if conf.get(section, "gnocchi_auth_type", fallback="keystone") == "basic":
        found: dict[str, Any] = {"auth": {"basic": {"username": conf.get(section, "gnocchi_user", fallback="")}}}
        if endpoint := conf.get(section, "gnocchi_endpoint", fallback=""):
            found["url"] = endpoint
        if ca_file := conf.get(section, "cafile", fallback=""):
            found["ca_file"] = ca_file
        return found
    who = asked(conf, section, f"{_OURS}.auth", notes)
    found = {"auth": {"keystone": who.pop("keystone")}} if "keystone" in who else {}
    interface = conf.get(section, "interface", fallback="internalURL").removesuffix("URL")
    region = conf.get(section, "region_name", fallback="RegionOne")
    return {**found, **who, "interface": interface, "region": region}
