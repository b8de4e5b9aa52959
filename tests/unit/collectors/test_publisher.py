"""What the publisher says when there is no broker; all else of it is tried on a real one."""

from __future__ import annotations

import pytest

from collectors.errors import PublishError
from collectors.history import read_history
from collectors.parts import CollectionDraft
from collectors.publisher import Publisher
from collectors.replay.run import ReplayOptions, replay_file
from rater.kafka import KafkaSettings


async def test_no_broker_is_an_error_that_names_it(unused_tcp_port: int) -> None:
    settings = KafkaSettings(bootstrap=f"127.0.0.1:{unused_tcp_port}")

    for attempt in (
        Publisher(settings).start(),
        read_history(settings, "test", 3600),
        replay_file("usage.jsonl", settings, ReplayOptions()),
    ):
        with pytest.raises(PublishError, match=rf"Kafka at 127\.0\.0\.1:{unused_tcp_port} cannot be used"):
            await attempt


async def test_credentials_that_cannot_be_read_are_an_error() -> None:
    settings = KafkaSettings(security_protocol="SASL_PLAINTEXT", username="u", password_file="/nowhere")

    with pytest.raises(PublishError, match="password_file '/nowhere' cannot be read"):
        await Publisher(settings).start()


async def test_a_publisher_that_was_not_started_says_so() -> None:
    publisher = Publisher(KafkaSettings())

    with pytest.raises(PublishError, match="not started"):
        await publisher.publish(CollectionDraft("s", "p", "m", 0, 3600, 1))
    await publisher.stop()
