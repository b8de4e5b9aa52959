"""The sink's service runs the audit's timer, where it is switched on."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from rater.config import load_config
from rater.services import sink_service


@pytest.mark.parametrize(("interval", "told"), [("3600", 0.0), ("0", None)])
async def test_a_sink_tells_when_it_last_audited(tmp_path: Path, interval: str, told: float | None) -> None:
    # given
    registry = CollectorRegistry()
    config = load_config(None, {"RATER_STORE__DSN": f"chdb://{tmp_path}/clickhouse", "RATER_AUDIT__INTERVAL": interval})
    # when / then
    async with sink_service(config, registry) as service:
        assert service.name == "sink"
        assert registry.get_sample_value("rater_audit_last_run_timestamp_seconds") == told
