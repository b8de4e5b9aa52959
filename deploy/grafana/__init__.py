"""The dashboards of Grafana, as code: `python -m deploy.grafana` writes them."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.completeness import completeness
from deploy.grafana.operations import operations
from deploy.grafana.tenant import tenant

__all__ = ["DASHBOARDS", "Dashboard"]

DASHBOARDS = {"billing-completeness": completeness, "operations": operations, "tenant-cost": tenant}
"""What makes each, by the name of its file."""
