"""A usage log that remembers instead of writing to Kafka, and the small pieces that many tests build upon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from collectors.parts import CollectionDraft
from rater.model.codec import MSGPACK, decode_usage
from rater.model.rated import RejectedHeaders
from rater.model.usage import Collection, CollectionFailed, ScopePlan
from tests.unit.collectors.rest_endpoint import Endpoint, serving


class MemoryLog:
    """What was published, in order of kind."""

    def __init__(self) -> None:
        self.drafts: list[CollectionDraft | Collection] = []
        self.plans: list[ScopePlan] = []
        self.failures: list[CollectionFailed] = []
        self.rejected: list[tuple[bytes, RejectedHeaders]] = []

    async def send(self, scope_id: str, records: Sequence[bytes]) -> None:
        """As a replay publishes: what is remembered reads like the draft of a collection that has one part."""
        for record in records:
            collection = decode_usage(record, MSGPACK)
            assert isinstance(collection, Collection)
            assert collection.scope_id == scope_id
            self.drafts.append(collection)

    async def publish(self, draft: CollectionDraft) -> None:
        self.drafts.append(draft)

    async def plan(self, plan: ScopePlan) -> None:
        self.plans.append(plan)

    async def failed(self, failure: CollectionFailed) -> None:
        self.failures.append(failure)

    async def reject(self, value: bytes, headers: RejectedHeaders) -> None:
        self.rejected.append((value, headers))


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with serving(Endpoint()) as found:
        yield found
