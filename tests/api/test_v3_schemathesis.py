"""Requests that Schemathesis makes up from the OpenAPI document, to the service as a process on Kafka and store.

No answer is a fault of ours, and each has a status, a content type and a shape that the document names.
`tests/api/schemathesis` has what it is told. The short form has the same seed each time.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deploy.local.kafka import LaptopKafka
from rater.config import load_config
from rater.kafka import create_topics
from rater.model.rated import FrameStatus, Gap, Line
from rater.services import serve_sink
from rater.store import Store, counts
from tests.integration.pushing import ApiProcess, serving
from tests.integration.sinks import own_topics, publish, until
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_gap_alert

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONFIG = """\
kafka: {{bootstrap: {bootstrap}, prefix: {prefix}, partitions: {partitions}}}
store: {{dsn: "chdb://clickhouse"}}
sink: {{max_delay: 0.1}}
metrics: {{cpu: {{unit: core}}, net: {{proof: samples}}}}
api:
  listen: "127.0.0.1:0"
  max_body_bytes: 500000
  token_file: tokens.yaml
  rate_limits: {{reads: 0, writes: 0}}
"""
TOKEN = "the-token-of-the-boss-1"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TOKENS = f"tokens: [{{name: boss, token: {TOKEN}, roles: [admin, push]}}]"
RULES = """\
hashmap:
  services:
  - name: cpu
    mappings: [{cost: 0.5, type: flat}]
"""
EXAMPLES = 3
MANY_EXAMPLES = 2_000
"""Of each operation."""
MAY_FAIL = {
    "GET /v3/scopes/{scope_id}/frames/{period_begin}/explanation",  # the usage of these frames was never there
    "GET /v3/whatif/{job_id}",  # the name of a job is made up when it begins
    "DELETE /v3/whatif/{job_id}",
}
"""What may never succeed."""
A_FEW = 6
"""Operations beside them may not either where there are few examples."""
WITHOUT_BORDERS_OF_USAGE = """
[[operations]]
include-operation-id = "pushUsage"
phases.coverage.enabled = false
"""
"""They are 600 requests, a third of the time."""
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".cache" / "schemathesis" / "bin" / "st"
TOLD = Path(__file__).with_name("schemathesis")


@asynccontextmanager
async def installation(kafka: LaptopKafka, directory: Path) -> AsyncIterator[ApiProcess]:
    """The service with two scopes of four frames, a gap and rules."""
    topics = await own_topics(kafka)
    (directory / "tokens.yaml").write_text(TOKENS)
    config = directory / "rater.yaml"
    config.write_text(CONFIG.format(bootstrap=topics.bootstrap, prefix=topics.prefix, partitions=topics.partitions))
    loaded = load_config(config, {})
    await create_topics(loaded.settings.kafka)
    stop = asyncio.Event()
    with Store(loaded.settings.store) as store:
        async with serve_sink(loaded, store, CollectorRegistry()) as sink:
            running = asyncio.create_task(sink.run(stop))
            try:
                frames = [frame(scope, hour) for scope in "AB" for hour in range(4)]
                await publish(topics, *frames, *(a_gap_alert(True, 0, scope_id=scope) for scope in "AB"))
                async with serving(config) as service:
                    await until(lambda: counts(store)[0] == len(frames))
                    await put_rules(service.url)
                    yield service
            finally:
                stop.set()
                await running


def frame(scope: str, hour: int) -> Any:
    """The second one has a gap."""
    labels = {"id": "vm", "project_id": scope}
    line = Line(f"{1:032x}", "cpu", "core", Decimal("1.5"), Decimal("0.75"), labels, {"flavor": "m1"})
    made = a_frame(scope, JANUARY + hour * HOUR, lines=[line])
    if hour != 1:
        return made
    hole = Gap(f"{1:032x}", "cpu", "prometheus", made.period_begin + 600, made.period_begin + 1200, "no answer")
    return msgspec.structs.replace(made, status=FrameStatus.PARTIAL, gaps=[hole])


async def put_rules(url: str) -> None:
    headers = {**HEADERS, "Content-Type": "application/yaml", "If-Match": "*"}
    async with aiohttp.ClientSession() as http, http.put(f"{url}/v3/rules", data=RULES, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def test_the_document_is_true(kafka: LaptopKafka, tmp_path: Path) -> None:
    """Each border of each parameter and body, and a few examples of all at once."""
    async with installation(kafka, tmp_path) as service:
        found = await asked(service, tmp_path, EXAMPLES, WITHOUT_BORDERS_OF_USAGE)
        assert found["test_cases"]["generated"] >= 800
        assert len(useless(found) - MAY_FAIL) <= A_FEW, useless(found)
        await nothing_was_a_fault(service)


@pytest.mark.long
async def test_the_document_is_true_of_thousands_of_requests(kafka: LaptopKafka, tmp_path: Path) -> None:
    async with installation(kafka, tmp_path) as service:
        found = await asked(service, tmp_path, MANY_EXAMPLES)
        assert found["test_cases"]["generated"] >= 10 * MANY_EXAMPLES
        assert useless(found) <= MAY_FAIL
        await nothing_was_a_fault(service)


async def asked(service: ApiProcess, directory: Path, examples: int, more_settings: str = "") -> Any:
    """What Schemathesis reports of a run of all phases; the test fails with what it found."""
    assert PROGRAM.exists(), "Schemathesis is not installed: make tools"
    report, settings = directory / "report.json", directory / "schemathesis.toml"
    settings.write_text((TOLD / "schemathesis.toml").read_text() + more_settings)
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *("--config-file", str(settings), "--no-color", "run", f"{service.url}/v3/openapi.json"),
        *("--report", "json", "--report-json-path", str(report)),
        *("--phases", "coverage,fuzzing,stateful", "--max-examples", str(examples)),
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(TOLD / "hooks.py"), "SCHEMATHESIS_TOKEN": TOKEN},
        cwd=directory,  # it leaves files behind
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = "\n".join(line[:500] for line in out.decode(errors="replace").splitlines())
    assert process.returncode == 0, said
    found = json.loads(report.read_text())
    operations = found["operations"]
    assert operations["tested"] == operations["selected"] == operations["total"] - 1, operations  # alerts never end
    return found


def useless(found: Any) -> set[str]:
    """The operations that never answered with a success: an API that refuses everything has no fault either."""
    rates = found["valid_rates"].items()
    return {name for name, by_phase in rates if not any(rate["accepted"] for rate in by_phase.values())}


async def nothing_was_a_fault(service: ApiProcess) -> None:
    """It has no traceback in its log, and is ready."""
    assert "Traceback" not in service.log, service.log[-10_000:]
    async with aiohttp.ClientSession() as http, http.get(f"{service.url}/v3/scopes", headers=HEADERS) as answer:
        assert answer.status == 200, await answer.text()
