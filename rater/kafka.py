"""How every part of rater reaches Kafka: settings, credentials, topic names, topic creation.

The only place that knows how a topic is configured. `aiokafka` clients are made by their users, from
`client_options()`; consumers are our `KafkaConsumer`, which can be stopped.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from msgspec import Meta

from rater.model.errors import RaterError

__all__ = [
    "OPTIONAL_TOPICS",
    "KafkaConsumer",
    "KafkaSettings",
    "KafkaUnavailableError",
    "Topic",
    "TopicsError",
    "client_options",
    "create_topics",
    "new_topics",
    "partitions_of",
    "require_topics",
]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
REJECTED_MESSAGE_BYTES = MAX_MESSAGE_BYTES + 64 * 1024  # a refused record goes there whole, with headers added
LOOKS, LOOK_SECONDS = 15, 0.2  # a topic that was just created is not known to every broker at once, nor to the only one
SAFE_REPLICAS = 3  # from there on one may be away, and what is acknowledged is on two others
HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS


class KafkaUnavailableError(RaterError):
    """The broker cannot be reached or refuses us."""


class TopicsError(RaterError):
    """A topic is missing or is not as it must be."""


class Topic(Enum):
    """The topics of rater, without prefix."""

    USAGE = "usage"
    RULES = "rules"
    RULEBOOK = "rulebook"
    REQUESTS = "requests"
    RATED = "rated"
    ALERTS = "alerts"
    REJECTED = "rejected"
    CHECKPOINTS = "checkpoints"


_ONE_PARTITION = frozenset({Topic.RULES, Topic.RULEBOOK, Topic.REQUESTS})

OPTIONAL_TOPICS = frozenset({Topic.RULEBOOK, Topic.REQUESTS})
"""Nobody refuses to work for want of them, in an installation older than they are: without `rulebook` rules are read
slower, without `requests` CloudKitty's API resets and reprocesses nothing."""


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `kafka` of rater.yaml."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)] = "rater."
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 8
    replication_factor: Annotated[int, Meta(ge=1, le=32767)] = 1
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""

    def topic(self, topic: Topic) -> str:
        """The name of a topic on the broker."""
        return self.prefix + topic.value


_DISCONNECTING: set[asyncio.Future[None]] = set()  # of a task that nobody holds on to, the loop may forget


class KafkaConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """A consumer that can be stopped while its broker is away."""

    async def stop(self) -> None:
        """Leaves the group and ends every connection.

        aiokafka 0.14 cancels its fetches and waits for each; one that pauses after a failure passes that on, so that
        whoever stopped the consumer in an outage ended as cancelled, in silence, and the connections stayed. Here only
        the library's own part of it ends so. tests/integration/test_kafka_away.py
        """
        stopping = asyncio.ensure_future(super().stop())
        try:
            await asyncio.wait({stopping})
        except asyncio.CancelledError:
            stopping.cancel()
            stopping.add_done_callback(self._disconnect)
            raise
        if stopping.cancelled() or stopping.exception():
            await self._client.close()
        if not stopping.cancelled():
            stopping.result()

    def _disconnect(self, stopping: asyncio.Future[None]) -> None:
        """What nobody waits for any more must not leave connections behind."""
        if stopping.cancelled() or stopping.exception():
            _DISCONNECTING.add(closing := asyncio.ensure_future(self._client.close()))
            closing.add_done_callback(_DISCONNECTING.discard)


METADATA_MS = 15_000
"""How old a consumer's knowledge of partitions may be. Of a broker that just came back a group's leader may see none,
and would give none to anybody until it looks again; the library's default is five minutes."""


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes: where the broker is and who we are.

    Raises KafkaUnavailableError if a file of credentials cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in {"SSL", "SASL_SSL"}:
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL_"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.username
        options["sasl_plain_password"] = _read_secret(settings.password_file)
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.certificate_file:
            context.load_cert_chain(settings.certificate_file, settings.key_file or None)
    except OSError as fault:
        raise KafkaUnavailableError(f"kafka.ca_file or kafka.certificate_file cannot be used: {fault}") from fault
    return context


def _read_secret(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise KafkaUnavailableError(f"kafka.password_file {path!r} cannot be read: {fault.strerror}") from fault


def new_topics(settings: KafkaSettings) -> list[NewTopic]:
    """Every topic as it is created: partitions, replicas and configuration."""
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS), "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    month = {**week, "retention.ms": str(30 * DAY_MS)}
    configs: dict[Topic, dict[str, str]] = {
        # the broker's clock, not the producers': frames close by record times (rater/engine/README.md)
        Topic.USAGE: {**week, "message.timestamp.type": "LogAppendTime"},
        Topic.RULES: {**week, "retention.ms": "-1", "retention.bytes": "-1"},
        # replaced snapshots go when a segment is full or an hour old, not after the broker's 1 GiB and a week
        Topic.RULEBOOK: {
            "cleanup.policy": "compact",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "segment.bytes": str(16 * 1024 * 1024),
            "segment.ms": str(HOUR_MS),
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": str(HOUR_MS),
        },
        # the broker's clock: no switch of a scope begins later than its record came (rater/model/switches.py)
        Topic.REQUESTS: {
            **week,
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "message.timestamp.type": "LogAppendTime",
        },
        Topic.RATED: week,
        Topic.ALERTS: month,
        Topic.REJECTED: {**month, "max.message.bytes": str(REJECTED_MESSAGE_BYTES)},
        Topic.CHECKPOINTS: week,
    }
    # acks=all means all replicas that are in step, which may be one: below two, nothing is acknowledged
    safe = {"min.insync.replicas": "2"} if settings.replication_factor >= SAFE_REPLICAS else {}
    return [
        NewTopic(
            settings.topic(topic),
            _partitions(settings, topic),
            settings.replication_factor,
            topic_configs={**config, **safe},
        )
        for topic, config in configs.items()
    ]


def _partitions(settings: KafkaSettings, topic: Topic) -> int:
    return 1 if topic in _ONE_PARTITION else settings.partitions


async def create_topics(settings: KafkaSettings) -> list[str]:
    """Creates the topics that do not exist yet; returns their names.

    Raises KafkaUnavailableError if the broker cannot be reached, TopicsError if it refuses or if the topics that
    exist have another number of partitions than the settings say.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        response = await admin.create_topics(new_topics(settings))
        created = []
        for name, code, *rest in response.topic_errors:
            if code == 0:
                created.append(name)
            elif code != TopicAlreadyExistsError.errno:
                raise TopicsError(
                    f"topic {name} could not be created: {for_code(code).__name__} {rest[0] if rest else ''}"
                )
        counts = await _seen(admin, settings, Topic)
    except KafkaError as fault:
        raise KafkaUnavailableError(f"Kafka at {settings.bootstrap} cannot be used: {fault}") from fault
    finally:
        await admin.close()
    _check_counts(settings, counts)
    return created


async def require_topics(settings: KafkaSettings, *needed: Topic) -> dict[Topic, int]:
    """The number of partitions of each topic of ours that exists, of those that are needed for certain.

    Raises TopicsError if one of these is missing, KafkaUnavailableError.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        counts = await _seen(admin, settings, needed)
    except KafkaError as fault:
        raise KafkaUnavailableError(f"Kafka at {settings.bootstrap} cannot be used: {fault}") from fault
    finally:
        await admin.close()
    missing = [settings.topic(topic) for topic in needed if topic not in counts]
    if missing:
        verb = "topics {} are" if len(missing) > 1 else "topic {} is"
        raise TopicsError(f"{verb.format(', '.join(missing))} missing: run `rater topics create`")
    return counts


async def _seen(admin: AIOKafkaAdminClient, settings: KafkaSettings, needed: Iterable[Topic]) -> dict[Topic, int]:
    """The partitions of our topics; waits a little for those that are needed to become known."""
    wanted, counts = set(needed), await _partition_counts(admin, settings)
    for _ in range(LOOKS):
        if wanted <= counts.keys():
            break
        await asyncio.sleep(LOOK_SECONDS)
        counts = await _partition_counts(admin, settings)
    return counts


async def partitions_of(settings: KafkaSettings) -> dict[Topic, int]:
    """The number of partitions of each topic of ours that exists. Raises KafkaUnavailableError."""
    return await require_topics(settings)


async def _partition_counts(admin: AIOKafkaAdminClient, settings: KafkaSettings) -> dict[Topic, int]:
    names = {settings.topic(topic): topic for topic in Topic}
    described = await admin.describe_topics(list(names))
    return {names[topic["topic"]]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


def _check_counts(settings: KafkaSettings, counts: dict[Topic, int]) -> None:
    for topic, count in counts.items():
        wanted = _partitions(settings, topic)
        if count != wanted:
            raise TopicsError(
                f"topic {settings.topic(topic)} has {count} partitions, kafka.partitions says {wanted}: "
                "set kafka.partitions to what the topics have, or use another kafka.prefix"
            )
