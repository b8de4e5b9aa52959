"""Topic `requests` as handlers use it: what was asked for up to now, and what is asked for by them."""

from __future__ import annotations

from typing import Protocol

from rater.api.cloudkitty.faults import ApiFaultError
from rater.model.errors import RaterError
from rater.model.requests import RequestRecord
from rater.rework import RequestBook

__all__ = ["Requests", "RequestsTopic"]


class RequestsTopic(Protocol):
    """The topic. Both raise RaterError if it cannot be reached."""

    async def book(self) -> RequestBook:
        """With everything that was confirmed before."""

    async def append(self, record: RequestRecord) -> RequestBook:
        """The same with this record in it, confirmed."""


class Requests:
    """The topic, whose faults are answers."""

    def __init__(self, topic: RequestsTopic) -> None:
        self._topic = topic

    async def book(self) -> RequestBook:
        """With everything that was confirmed before. Raises ApiFaultError 503."""
        try:
            return await self._topic.book()
        except RaterError as fault:
            raise _away("the requests cannot be read now") from fault

    async def append(self, record: RequestRecord) -> RequestBook:
        """The same with this record in it, confirmed. Raises ApiFaultError 503: it may be there all the same."""
        try:
            return await self._topic.append(record)
        except RaterError as fault:
            raise _away("Kafka has not confirmed the request, which may or may not be there") from fault


def _away(what: str) -> ApiFaultError:
    return ApiFaultError(503, f"{what}, Kafka is away: ask again", headers={"Retry-After": "2"})
