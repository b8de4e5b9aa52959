"""Topic `usage` as collectors need it: it is there, with as many partitions as the settings say."""

from __future__ import annotations

import asyncio

from collectors.errors import PublishError
from rater.kafka import KafkaSettings, KafkaUnavailableError, Topic, partitions_of

__all__ = ["usage_partitions"]

_TRIES = 10
_PAUSE = 0.3  # a topic that was just created is not yet known to every broker, and for a moment to none


async def usage_partitions(kafka: KafkaSettings) -> int:
    """How many partitions topic `usage` has. A topic made by the broker on first use would have the wrong number.

    Raises PublishError if Kafka cannot be used, or the topic is not there or not as the settings say.
    """
    name = kafka.topic(Topic.USAGE)
    for _ in range(_TRIES):
        try:
            found = (await partitions_of(kafka)).get(Topic.USAGE)
        except KafkaUnavailableError as fault:
            raise PublishError(str(fault)) from fault
        if found == kafka.partitions:
            return found
        if found is not None:
            raise PublishError(
                f"topic {name} has {found} partitions, kafka.partitions says {kafka.partitions}: set it to {found}"
            )
        await asyncio.sleep(_PAUSE)
    raise PublishError(f"topic {name} does not exist on {kafka.bootstrap}: run `rater topics create`")
