"""Who may do what: CloudKitty's default policies, by its own names of the actions, and what a file says instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from rater.api.auth.watched_file import WatchedFile
from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.policy_file import read_policy
from rater.api.policy_language import Facts, Rule, parse_rule

__all__ = ["ACTIONS", "DefaultPolicy", "FilePolicy", "Policy", "Who", "open_policy"]


class Who(Enum):
    """Whom an action is open to."""

    ADMIN = "admin"
    READER = "reader"  # of the scopes in question; or admin
    ANY = "any"


ACTIONS = {
    "collector:get_mapping": Who.ADMIN,
    "collector:get_state": Who.ADMIN,
    "collector:list_mappings": Who.ADMIN,
    "collector:manage_mapping": Who.ADMIN,
    "collector:update_state": Who.ADMIN,
    "dataframes:add": Who.ADMIN,
    "dataframes:get": Who.READER,
    "info:get_config": Who.ANY,
    "info:get_metric_info": Who.ANY,
    "info:get_service_info": Who.ANY,
    "info:list_metrics_info": Who.ANY,
    "info:list_services_info": Who.ANY,
    "rating:get_module": Who.ADMIN,
    "rating:list_modules": Who.ADMIN,
    "rating:module_config": Who.ADMIN,
    "rating:quote": Who.ANY,
    "rating:update_module": Who.ADMIN,
    "report:get_summary": Who.READER,
    "report:get_total": Who.READER,
    "report:list_tenants": Who.ADMIN,
    "schedule:get_task_reprocesses": Who.ADMIN,
    "schedule:task_reprocesses": Who.ADMIN,
    "scope:get_state": Who.ADMIN,
    "scope:patch_state": Who.ADMIN,
    "scope:post_state": Who.ADMIN,
    "scope:reset_state": Who.ADMIN,
    "storage:list_data_frames": Who.READER,
    "summary:get_summary": Who.READER,
    "v2_rating:get_module": Who.ADMIN,
    "v2_rating:list_modules": Who.ADMIN,
    "v2_rating:update_module": Who.ADMIN,
    "v3:get_rules": Who.ADMIN,
    "v3:list_rule_history": Who.ADMIN,
    "v3:accept_gap": Who.ADMIN,
    "v3:force_frame": Who.ADMIN,
    "v3:get_alerts": Who.READER,
    "v3:get_audit": Who.ADMIN,
    "v3:get_coverage": Who.READER,
    "v3:explain_frame": Who.READER,
    "v3:get_frames": Who.READER,
    "v3:get_gaps": Who.READER,
    "v3:get_lines": Who.READER,
    "v3:get_scopes": Who.READER,
    "v3:get_sources": Who.ADMIN,
    "v3:cancel_whatif": Who.ADMIN,
    "v3:get_whatif": Who.READER,
    "v3:start_whatif": Who.ADMIN,
    "v3:put_rules": Who.ADMIN,
}
"""Every action that there is, by the name in CloudKitty's policies or `v3:…`, and whom it is open to by default."""


_ADMIN = "context_is_admin"
_ALIASES = {
    _ADMIN: "role:admin",
    "admin_or_owner": "is_admin:True or (role:admin and is_admin_project:True) or project_id:%(project_id)s",
    "default": "",
    "project_member_api": "role:member and project_id:%(project_id)s",
    "project_reader_api": "role:reader and project_id:%(project_id)s",
    "project_member_or_admin": "rule:project_member_api or rule:context_is_admin",
    "project_reader_or_admin": "rule:project_reader_api or rule:context_is_admin",
}
"""What rules refer to, as in CloudKitty, so that its policy files mean the same here."""


def _default(action: str, who: Who) -> str:
    if who is Who.ADMIN:  # upstream asks for the role where it has the action
        return f"rule:{_ADMIN}" if action.startswith("v3:") else "role:admin"
    return "rule:project_reader_or_admin" if who is Who.READER else ""


def _defaults() -> dict[str, Rule]:
    texts = {**_ALIASES, **{action: _default(action, who) for action, who in ACTIONS.items()}}
    return {name: parse_rule(text) for name, text in texts.items()}


class Policy(Protocol):
    """Decides."""

    def authorize(self, identity: Identity, action: str, scopes: tuple[str, ...] | None = None) -> None:
        """Raises RefusalError 403. `scopes`: what it is about, None for all of them."""

    def judged(self, identity: Identity) -> Identity:
        """The same, with whether it is an administrator."""

    def red(self) -> str:
        """What is wrong with a file that was changed; empty if nothing is."""


class DefaultPolicy:
    """Administrators may all, readers read what is their own."""

    def __init__(self) -> None:
        self._rules: Mapping[str, Rule] = _defaults()

    def rules(self) -> Mapping[str, Rule]:
        """Those in force, by their names."""
        return self._rules

    def authorize(self, identity: Identity, action: str, scopes: tuple[str, ...] | None = None) -> None:
        """Raises RefusalError 403. `scopes`: what it is about, None for all of them."""
        rules = self.rules()
        if not all(rules[action].check(Facts(*about, rules)) for about in _cases(identity, scopes)):
            raise RefusalError(403, f"Policy doesn't allow {action} to be performed.")

    def judged(self, identity: Identity) -> Identity:
        """It is an administrator by its role."""
        return identity

    def red(self) -> str:
        """Nothing can go wrong."""
        return ""


class FilePolicy(DefaultPolicy):
    """The default one where a file says nothing else. The file is read again when it changes."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds. Raises PolicyFileError with every fault of the file."""
        super().__init__()
        self._file = WatchedFile(path, lambda path: read_policy(path, _defaults()), clock)

    def rules(self) -> Mapping[str, Rule]:
        """Those in force, by their names."""
        return self._file.value()

    def judged(self, identity: Identity) -> Identity:
        """It is an administrator by rule `context_is_admin`."""
        rules, project = self.rules(), _project(identity)
        about = Facts(_who(identity, project), {"user_id": identity.facts.get("user_id"), "project_id": project}, rules)
        return msgspec.structs.replace(identity, administers=rules[_ADMIN].check(about))

    def red(self) -> str:
        """What is wrong with a file that was changed."""
        return self._file.red()


def open_policy(path: str) -> Policy:
    """That of the file; the default one without. Raises PolicyFileError."""
    return FilePolicy(path) if path else DefaultPolicy()


def _cases(identity: Identity, scopes: tuple[str, ...] | None) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Who asks and what about, for each scope. Rules know one project: the request acts in it if it is its own."""
    if scopes is None:
        return [(_who(identity, _project(identity)), {})]
    if not scopes:  # as in CloudKitty, where a token without a project is that of no project
        return [(_who(identity, None), {"project_id": None})]
    cases = []
    for scope in scopes:
        project = scope if scope in identity.scopes else _project(identity)
        cases.append((_who(identity, project), {"project_id": scope}))
    return cases


def _project(identity: Identity) -> str | None:
    return identity.scopes[0] if identity.scopes else None


def _who(identity: Identity, project: str | None) -> Mapping[str, Any]:
    about = {"roles": sorted(identity.roles), "is_admin": identity.is_admin, "project_id": project}
    return {"user_id": None, "domain_id": None, "system_scope": None, **identity.facts, **about}
