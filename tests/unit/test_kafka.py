"""How topics are made, without a broker."""

from __future__ import annotations

import pytest

from rater.kafka import KafkaSettings, Topic, new_topics


@pytest.mark.parametrize(("replicas", "expected"), [(1, None), (2, None), (3, "2"), (5, "2")])
def test_what_is_acknowledged_is_on_two_brokers_where_one_may_be_away(replicas: int, expected: str | None) -> None:
    made = new_topics(KafkaSettings(replication_factor=replicas))
    assert len(made) == len(Topic)
    assert {topic.topic_configs.get("min.insync.replicas") for topic in made} == {expected}
