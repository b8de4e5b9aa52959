"""Feeds a Gnocchi: archive policies, resource types, resources with a past, measures."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.openstack.asking import Json, ask

_PROCESSING_SECONDS = 120


class GnocchiClient:
    """Speaks to the server as `admin`; instants are integer seconds since the epoch, UTC."""

    def __init__(self, url: str, clock: Path, user: str = "admin") -> None:
        self._url = url
        self._clock = clock
        self._authorization = "Basic " + base64.b64encode(f"{user}:".encode()).decode()

    def archive_policy(
        self, name: str, definition: Iterable[tuple[int, int]], aggregations: Sequence[str], *, back_window: int = 0
    ) -> None:
        """A policy that keeps points of `granularity` seconds for `timespan` seconds, for each of `definition`."""
        kept = [{"granularity": granularity, "timespan": timespan} for granularity, timespan in definition]
        body = {"name": name, "definition": kept, "aggregation_methods": [*aggregations], "back_window": back_window}
        self.ask("POST", "/v1/archive_policy", body)

    def resource_type(self, name: str, *attributes: str) -> None:
        """A type whose `attributes` are texts that may be left out."""
        described = {attribute: {"type": "string", "required": False} for attribute in attributes}
        self.ask("POST", "/v1/resource_type", {"name": name, "attributes": described})

    def resource(
        self,
        kind: str,
        resource_id: str,
        project_id: str,
        *,
        begin: int,
        metrics: Mapping[str, str] | None = None,
        at: int | None = None,
        **attributes: str | None,
    ) -> dict[str, str]:
        """A resource that lives since `begin` and is told of at `at` (default: then); metric name -> metric id.

        `metrics` is metric name -> archive policy.
        """
        policies = {name: {"archive_policy_name": policy} for name, policy in (metrics or {}).items()}
        body = {"id": resource_id, "project_id": project_id, "started_at": iso(begin), "metrics": policies}
        made = self.ask("POST", f"/v1/resource/{kind}", {**body, **attributes}, at=begin if at is None else at)
        return dict(made["metrics"])

    def revise(self, kind: str, resource_id: str, *, at: int, **attributes: str | None) -> None:
        """A new revision of a resource from `at` on, with other attributes (`project_id` is one, too)."""
        self.ask("PATCH", f"/v1/resource/{kind}/{resource_id}", attributes, at=at)

    def end(self, kind: str, resource_id: str, *, end: int, at: int | None = None) -> None:
        """The resource has ended at `end`, which is told at `at` (default: then)."""
        told = end if at is None else at
        self.ask("PATCH", f"/v1/resource/{kind}/{resource_id}", {"ended_at": iso(end)}, at=told)

    def measures(self, points: Mapping[str, Mapping[str, Iterable[tuple[int, float]]]]) -> None:
        """Send resource id -> metric name -> (instant, value); `settle` waits until they can be read."""
        body = {
            resource_id: {
                name: [{"timestamp": iso(instant), "value": value} for instant, value in values]
                for name, values in metrics.items()
            }
            for resource_id, metrics in points.items()
        }
        self.ask("POST", "/v1/batch/resources/metrics/measures", body)

    def settle(self) -> None:
        """Wait until metricd has processed everything that was sent."""
        give_up_at = time.monotonic() + _PROCESSING_SECONDS
        while self.ask("GET", "/v1/status")["storage"]["summary"]["measures"]:
            assert time.monotonic() < give_up_at, "metricd does not process: see metricd.log beside the data"
            time.sleep(0.1)

    def ask(self, method: str, path: str, body: object = None, *, at: int | None = None) -> Json:
        """Any request, as Gnocchi takes it for one of the instant `at`. Raises RefusedError."""
        if at is not None:
            self._clock.write_text(str(at))
        try:
            return ask(method, self._url + path, {"Authorization": self._authorization}, body).body
        finally:
            self._clock.unlink(missing_ok=True)


def iso(instant: int) -> str:
    """As Gnocchi reads and writes instants."""
    return datetime.fromtimestamp(instant, UTC).isoformat()
