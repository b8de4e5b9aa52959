"""Topic `usage` as collectors need it: it is there, with as many partitions as the settings say."""

from __future__ import annotations

from collectors.errors import PublishError
from rater.kafka import KafkaSettings, KafkaUnavailableError, Topic, TopicsError, require_topics

__all__ = ["usage_partitions"]


async def usage_partitions(kafka: KafkaSettings) -> int:
    """How many partitions topic `usage` has. A topic made by the broker on first use would have the wrong number.

    Raises PublishError if Kafka cannot be used, or the topic is not there or not as the settings say.
    """
    name = kafka.topic(Topic.USAGE)
    try:
        found = (await require_topics(kafka, Topic.USAGE))[Topic.USAGE]
    except (KafkaUnavailableError, TopicsError) as fault:
        raise PublishError(str(fault)) from fault
    if found != kafka.partitions:
        raise PublishError(
            f"topic {name} has {found} partitions, kafka.partitions says {kafka.partitions}: set it to {found}"
        )
    return found
