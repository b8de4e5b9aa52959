"""The Faust app of a worker: group membership, agents and flow control; offsets, state and commits are ours.

Faust's tables, windows, acknowledgements and `exactly_once` lose or double data (docs/architecture.md), so the topic
is raw and without acks, and one agent hands every message to one function.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import faust
from faust.types.auth import AuthProtocol

from rater.kafka import MAX_MESSAGE_BYTES, METADATA_MS, KafkaSettings, Topic, client_options
from rater.stream.settings import WorkerSettings

__all__ = ["Message", "make_app"]

Message = Any  # faust.types.Message; its attributes are untyped


def make_app(kafka: KafkaSettings, settings: WorkerSettings, consume: Callable[[Message], None]) -> faust.App:
    """A Faust app, not started, that calls `consume` with every message of `usage` of its partitions, in order."""
    app = faust.App(
        f"{kafka.prefix}worker",
        broker=[f"kafka://{host.strip()}" for host in kafka.bootstrap.split(",")],
        broker_credentials=_credentials(kafka),
        datadir=tempfile.gettempdir(),  # nothing is kept there: no tables
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        processing_guarantee="at_least_once",
        stream_wait_empty=False,
        stream_buffer_maxsize=256,  # batches of 25 KB: the default of 4096 would hold 100 MB
        broker_max_poll_records=200,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 5,
        broker_rebalance_timeout=max(20.0, settings.session_timeout),
        broker_request_timeout=60.0 + 2 * settings.session_timeout,  # above rebalance + 2 sessions, or joins never end
        broker_commit_interval=3600.0,  # it has nothing to commit
        consumer_group_instance_id=settings.instance_id or None,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MS,
        consumer_max_fetch_size=2 * MAX_MESSAGE_BYTES,
        producer_acks=-1,
        producer_request_timeout=60.0,  # Faust's default is 1200
        cython_optimizations=True,
        key_serializer="raw",
        value_serializer="raw",
    )
    topic = app.topic(
        kafka.topic(Topic.USAGE), acks=False, key_serializer="raw", value_serializer="raw", internal=False
    )

    async def usage(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            consume(event.message)

    app.agent(topic, name="usage", concurrency=1)(usage)
    app.finalize()
    return app


def _credentials(kafka: KafkaSettings) -> Any:
    """Faust's form of what `client_options` says; None without security."""
    options = client_options(kafka)
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        credentials = faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
            mechanism=options["sasl_mechanism"],
        )
        credentials.protocol = AuthProtocol(kafka.security_protocol)
        return credentials
    return faust.SSLCredentials(context=context) if context is not None else None
