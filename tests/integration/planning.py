"""Runs statements on an engine that knows a cluster: `python -m tests.integration.planning DIRECTORY CONFIG`.

They come as a pickle of (statement, parameters) on stdin. The first one that is refused ends it with status 1.
"""

from __future__ import annotations

import pickle
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError


def run(directory: str, config: str) -> None:
    """Runs them all."""
    client = clickhouse_connect.get_client(interface="chdb", path=f"{directory}?config-file={config}")
    for statement, parameters in pickle.load(sys.stdin.buffer):
        try:
            client.command(statement, parameters=parameters)
        except (ClickHouseError, RuntimeError) as fault:
            sys.exit(f"{statement}\n{parameters}\n{fault}")


if __name__ == "__main__":
    run(*sys.argv[1:3])
