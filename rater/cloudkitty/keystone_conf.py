"""Who asks OpenStack's services: what a cloudkitty.conf says, in words of rater.yaml. Passwords stay behind."""

from __future__ import annotations

from configparser import RawConfigParser
from typing import Any

__all__ = ["aetos", "asked", "keystone_fetcher"]

_SECTION = "fetcher_keystone"
_OURS = "collect.keystone_fetcher"
_AETOS, _PROMETHEUS = "collector_aetos", "collect.prometheus"
_PASSWORD_FILE, _SECRET_FILE = "keystone.password", "keystone.secret"
_TRUE = ("1", "true", "yes", "on")


def keystone_fetcher(conf: RawConfigParser, notes: list[str]) -> dict[str, Any]:
    """What the section says, or nothing where it says nothing; `notes` grows by what is left to do.

    CloudKitty's defaults of the options that choose projects are ours.
    """
    if not conf.has_section(_SECTION):
        return {}
    found: dict[str, Any] = {
        name: True
        for name in ("ignore_rating_role", "ignore_disabled_tenants")
        if conf.get(_SECTION, name, fallback="false").lower() in _TRUE
    }
    return found | asked(conf, _SECTION, _OURS, notes)


def aetos(conf: RawConfigParser, notes: list[str]) -> dict[str, Any]:
    """Section `[collector_aetos]` as `collect.prometheus`; `notes` grows by what is left to do."""
    found = asked(conf, _AETOS, _PROMETHEUS, notes)
    for theirs, ours in (("interface", "interface"), ("region_name", "region")):
        if "keystone" in found and (text := conf.get(_AETOS, theirs, fallback="")):
            found["keystone"][ours] = text
    return found


def asked(conf: RawConfigParser, section: str, ours: str, notes: list[str]) -> dict[str, Any]:
    """Who asks, and whom they trust, by the options that every section of that kind has; `ours` is what it becomes."""
    found: dict[str, Any] = {}
    source = conf.get(section, "auth_section", fallback="") or section
    login = _login(conf, source, ours, notes)
    if login is None:
        notes.append(f"[{source}] does not say who asks Keystone: set {ours}.keystone")
    else:
        found["keystone"] = login
    if conf.get(source, "cafile", fallback=""):
        found["ca_file"] = conf.get(source, "cafile")
    if conf.get(source, "insecure", fallback="false").lower() in _TRUE:
        notes.append(f"[{source}] insecure was not taken over: name its certificate in {ours}.ca_file")
    return found


def _login(conf: RawConfigParser, source: str, ours: str, notes: list[str]) -> dict[str, Any] | None:
    """Who asks; None where that is not said by a password or an application credential."""

    def given(*names: str) -> str:
        return next((text for name in names if (text := conf.get(source, name, fallback=""))), "")

    url = given("auth_url").rstrip("/")
    if not url:
        return None
    login = {"url": url if url.endswith("/v3") else f"{url}/v3"}
    if credential := given("application_credential_id"):
        _tell(notes, "the secret of the application credential", _SECRET_FILE)
        return {**login, "application_credential_id": credential, "secret_file": _SECRET_FILE}
    whole_system = given("system_scope") == "all"
    project = given("project_name", "tenant_name")
    if not given("username") or not (whole_system or project):
        return None
    _tell(notes, f"the password of {given('username')} for Keystone", _PASSWORD_FILE)
    user_domain = _domain(given("user_domain_name"), given("user_domain_id"), f"{ours}.keystone.user_domain", notes)
    login |= {"username": given("username"), "password_file": _PASSWORD_FILE, "user_domain": user_domain}
    if whole_system:
        return {**login, "system": True}
    project_domain = _domain(
        given("project_domain_name"), given("project_domain_id"), f"{ours}.keystone.project_domain", notes
    )
    return {**login, "project": project, "project_domain": project_domain}


def _domain(name: str, domain_id: str, key: str, notes: list[str]) -> str:
    """The name of a domain; that with the id `default`, which Keystone makes itself, is called Default."""
    if not name and domain_id not in ("", "default"):
        notes.append(f"{key.rpartition('.')[2]}_id {domain_id} was not taken over: set {key} to its name")
    return name or "Default"


def _tell(notes: list[str], what: str, file: str) -> None:
    notes.append(f"{what} was not taken over: write it into file {file} beside rater.yaml")
