"""Which role may do what: CloudKitty's default policies, by its own names of the actions."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from rater.api.faults import RefusalError
from rater.api.identity import READER, Identity

__all__ = ["ACTIONS", "DefaultPolicy", "Policy", "Who"]


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
}
"""Every action that there is, by the name in CloudKitty's policies or `v3:…`, and whom it is open to by default."""


class Policy(Protocol):
    """Decides; a policy file of oslo.policy is another one."""

    def authorize(self, identity: Identity, action: str, scopes: tuple[str, ...] | None = None) -> None:
        """Raises RefusalError 403. `scopes`: what it is about, None for all of them."""


class DefaultPolicy:
    """Administrators may all, readers read what is their own."""

    def authorize(self, identity: Identity, action: str, scopes: tuple[str, ...] | None = None) -> None:
        """Raises RefusalError 403. `scopes`: what it is about, None for all of them."""
        if identity.is_admin or ACTIONS[action] is Who.ANY:
            return
        is_own = scopes is not None and set(scopes) <= set(identity.scopes)
        if ACTIONS[action] is Who.READER and READER in identity.roles and is_own:
            return
        raise RefusalError(403, f"Policy doesn't allow {action} to be performed.")
