"""CloudKitty's own PrometheusCollector over a live server, as a program for CloudKitty's venv.

Asked as its worker does it: scope by scope, the metrics of one at the same time in sixteen threads. Prints one JSON.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from cloudkitty import service
from cloudkitty.collector.prometheus import PrometheusCollector
from oslo_config import cfg

THREADS = 16  # [orchestrator]/max_threads


def main() -> None:
    """Arguments: URL up to /api/v1, end of the period in seconds, its length, metrics as JSON, scopes as JSON."""
    url, end, length, metrics, scopes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(json.loads, sys.argv[4:6])
    service.prepare_service([], [])
    cfg.CONF.set_override("prometheus_url", url, "collector_prometheus")
    collector = PrometheusCollector(period=length, conf={"metrics": metrics})
    span = (datetime.fromtimestamp(end - length, UTC), datetime.fromtimestamp(end, UTC))
    points = 0
    began, cpu = time.perf_counter(), time.process_time()
    for scope in scopes:
        with ThreadPoolExecutor(THREADS) as pool:
            asked = [pool.submit(collector.fetch_all, name, *span, scope) for name in sorted(collector.conf)]
            points += sum(len(answer.result()) for answer in asked)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    used = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    print(
        json.dumps({"samples": points, "took": took, "cpu": cpu, "memory": used, "queries": len(scopes) * len(metrics)})
    )


if __name__ == "__main__":
    main()
