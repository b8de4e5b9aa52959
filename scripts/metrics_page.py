"""Writes the table of docs/metrics.md: what the registry of each role has after the role was made, as at its start.

`make schemas` runs this. The text around the table is written by hand, and stays.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from rater.api.settings import ApiSettings
from rater.api.transport import Transport
from rater.config import Config, load_config
from rater.metrics import process_registry, register_readiness
from rater.services import api_service, collector_service, sink_service, worker_service

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
BEGIN, END = "<!-- table: written by scripts/metrics_page.py -->", "<!-- end of table -->"
SETTINGS = """
store: {dsn: "chdb://:memory:"}
collect: {prometheus: {url: "http://127.0.0.1:1"}, static: {scopes: [a]}}
api: {cloudkitty: {}}
"""
ROLES = ("worker", "sink", "api", "collect")
UNITS = (
    ("_timestamp_seconds", "seconds since 1970, UTC"),
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
)


class Described(NamedTuple):
    """One metric as Prometheus sees it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def unit(self) -> str:
        """Empty for a count or a flag."""
        bare = self.name.removesuffix("_total")
        return next((unit for ending, unit in UNITS if bare.endswith(ending)), "")


def described(registry: CollectorRegistry) -> set[Described]:
    """All that is registered, also what has no sample yet: names of labels are nowhere public."""
    found = set()
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            found.add(
                _described(collector._name, collector._type or "", collector._labelnames, collector._documentation)
            )
        else:
            for family in collector.collect():
                labels = getattr(family, "_labelnames", ())
                found.add(_described(family.name, family.type, labels, family.documentation))
    return found


def _described(name: str, kind: str, labels: Iterable[str], meaning: str) -> Described:
    return Described(f"{name}_total" if kind == "counter" else name, kind, tuple(labels), meaning.rstrip("."))


def of_roles() -> dict[Described, str]:
    """Each metric with the role that has it, or `every`."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rater.yaml"
        file.write_text(SETTINGS)
        config = load_config(file, {})
        by_role = {role: described(asyncio.run(_registry(role, config))) for role in ROLES}
    shared = set.intersection(*by_role.values())
    found = dict.fromkeys(shared, "every")
    for role, metrics in by_role.items():
        found |= dict.fromkeys(metrics - shared, role)
    return found


async def _registry(role: str, config: Config) -> CollectorRegistry:
    registry = process_registry()
    register_readiness(registry, {})
    if role == "sink":
        async with sink_service(config, registry):
            return registry
    make: dict[str, Callable[[], object]] = {
        "worker": lambda: worker_service(config, registry),
        "collect": lambda: collector_service(config, registry),
        "api": lambda: api_service(config, registry, holds_store=True),
    }
    make[role]()
    if role == "api":
        with_tls = CollectorRegistry()
        certificates: Any = SimpleNamespace(expires_at=0.0, fault=str)
        Transport(ApiSettings(), with_tls, certificates)
        for collector in list(with_tls._collector_to_names):
            if isinstance(collector, MetricWrapperBase) and "certificate" in collector._name:
                registry.register(collector)
    return registry


def table(found: dict[Described, str]) -> str:
    """In Markdown, by role and name."""
    lines = ["| metric | type | labels | unit | meaning |", "|---|---|---|---|---|"]
    for role in ("every", *ROLES):
        lines.append(f"| **{'every role' if role == 'every' else role}** | | | | |")
        for metric in sorted(metric for metric, where in found.items() if where == role):
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {metric.meaning} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with the table of now."""
    made = f"{BEGIN}\n\n{table(of_roles())}\n\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: made, page, flags=re.DOTALL)


def main() -> int:
    """Writes the page."""
    page = PAGE.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        sys.stderr.write(f"error: {PAGE} has no {BEGIN} … {END}: put them where the table belongs\n")
        return 1
    PAGE.write_text(written(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
