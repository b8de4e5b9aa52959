"""The broker's `server.properties`: one node that is broker and controller at once, for a laptop and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

TOPIC_DATA = "data"
"""Directory of Kafka's own files, relative to the data directory, which is the broker's working directory."""

SERVER_PROPERTIES = "server.properties"

_NODE = 1

_MIB = 1024 * 1024

_SETTINGS: dict[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": _NODE,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENTS",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # relative: a comma or a backslash in the path of the data directory needs no escaping here
    "log.dirs": TOPIC_DATA,
    # one node can hold one replica
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # internal topics: few partitions (defaults 50) and small segments (default 100 MiB), each costs start-up and disk
    "offsets.topic.num.partitions": 5,
    "offsets.topic.segment.bytes": 16 * _MIB,
    "transaction.state.log.num.partitions": 2,
    "transaction.state.log.segment.bytes": 4 * _MIB,
    "share.coordinator.state.topic.num.partitions": 1,
    # a typing error in a topic's name must show
    "auto.create.topics.enable": "false",
    # a group of one need not wait 3 s for more members; tests use sessions shorter than the 6 s that Kafka allows
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # with the default of 9 s a broker that was killed waits that long for its own old session to end
    "broker.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 200,
    "message.max.bytes": 8 * _MIB,
    "replica.fetch.max.bytes": 8 * _MIB,
    # fits the small heap: the cleaner's buffer alone would take 128 MiB of it
    "log.cleaner.dedupe.buffer.size": 2 * _MIB,
    "num.network.threads": 1,
    "num.io.threads": 2,
    "background.threads": 2,
}


def write_server_properties(
    data_dir: Path,
    port: int,
    controller_port: int,
    advertised_port: int | None = None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Writes `data_dir/server.properties` for a broker on these two ports of 127.0.0.1.

    Clients are sent to `advertised_port`, where something passes on what they say; default: to `port` itself. `more`
    stands over our settings but for the addresses.
    """
    address = "127.0.0.1"  # never another: there is no authentication
    settings = {
        **_SETTINGS,
        **(more or {}),
        "listeners": f"CLIENTS://{address}:{port},CONTROLLER://{address}:{controller_port}",
        "advertised.listeners": f"CLIENTS://{address}:{advertised_port or port}",
        # static voters are not written into the formatted directory, so one formatted directory serves every port
        "controller.quorum.voters": f"{_NODE}@{address}:{controller_port}",
    }
    text = "# Written at each start by deploy/local/kafka/settings.py: changes here are lost.\n"
    text += "".join(f"{name}={value}\n" for name, value in settings.items())
    (data_dir / SERVER_PROPERTIES).write_text(text)
