"""Which role may do what: CloudKitty's default policies, by its own names of the actions."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from rater.api.faults import RefusalError
from rater.api.identity import READER, Identity

__all__ = ["DefaultPolicy", "Policy", "Who"]


class Who(Enum):
    """Whom an action is open to."""

    ADMIN = "admin"
    READER = "reader"  # of the scopes in question; or admin
    ANY = "any"


_RULES = {
    "collector:get_mapping": Who.ADMIN,
    "collector:list_mappings": Who.ADMIN,
    "collector:get_state": Who.ADMIN,
    "dataframes:get": Who.READER,
    "info:get_config": Who.ANY,
    "info:get_metric_info": Who.ANY,
    "info:list_metrics_info": Who.ANY,
    "rating:get_module": Who.ADMIN,
    "rating:list_modules": Who.ADMIN,
    "rating:module_config": Who.ADMIN,
    "report:get_summary": Who.READER,
    "report:get_total": Who.READER,
    "report:list_tenants": Who.ADMIN,
    "schedule:get_task_reprocesses": Who.ADMIN,
    "scope:get_state": Who.ADMIN,
    "storage:list_data_frames": Who.READER,
    "summary:get_summary": Who.READER,
    "v2_rating:get_module": Who.ADMIN,
    "v2_rating:list_modules": Who.ADMIN,
}


class Policy(Protocol):
    """Decides; a policy file of oslo.policy is another one."""

    def authorize(self, identity: Identity, action: str, scopes: tuple[str, ...] | None = None) -> None:
        """Raises RefusalError 403. `scopes`: what it is about, None for all of them."""


class DefaultPolicy:
    """Administrators may all, readers read what is their own."""

    def authorize(self, identity: Identity, action: str, scopes: tuple[str, ...] | None = None) -> None:
        """Raises RefusalError 403. `scopes`: what it is about, None for all of them."""
        if identity.is_admin or _RULES[action] is Who.ANY:
            return
        is_own = scopes is not None and set(scopes) <= set(identity.scopes)
        if _RULES[action] is Who.READER and READER in identity.roles and is_own:
            return
        raise RefusalError(403, f"Policy doesn't allow {action} to be performed.")
