"""The history of the rules, record by record, for people: what became of each, and what it changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from aiokafka import ConsumerRecord

from rater.kafka import KafkaSettings
from rater.rating import RuleBook
from rater.stream.rules_log import reading
from rater.stream.rules_reader import LogRecord, RulesReader

__all__ = ["LogRecord", "LoggedChange", "read_changes", "read_events"]


class LoggedChange(NamedTuple):
    """A record of the log with the rule book before it."""

    record: LogRecord
    before: RuleBook


async def read_events(settings: KafkaSettings, limit: int = 0) -> AsyncIterator[LogRecord]:
    """The newest `limit` records, all if it is 0, oldest first, also those that nobody can read.

    Raises StreamUnavailableError, TopicsError.
    """
    async with reading(settings) as reader:
        async for records in _newest(reader, limit):
            for found in await reader.fold_records(records):
                yield found


async def read_changes(
    settings: KafkaSettings, limit: int = 0, before_offset: int | None = None
) -> AsyncIterator[LoggedChange]:
    """As `read_events`, with the book before each. Copies the book for each: meant for some hundreds.

    `before_offset`: only records before that one.
    """
    async with reading(settings) as reader:
        async for records in _newest(reader, limit, before_offset):
            for record in records:
                before = reader.book
                (found,) = await reader.fold_records([record])
                yield LoggedChange(found, before)


async def _newest(
    reader: RulesReader, limit: int, before_offset: int | None = None
) -> AsyncIterator[list[ConsumerRecord]]:
    """The records to tell of, after the reader was brought up to them."""
    end = await reader.end()
    if before_offset is not None:
        end = min(end, before_offset)
    first = max(0, end - limit) if limit else 0
    await reader.start(most_offset=first)
    await reader.fold_to(first)
    async for records in reader.read(end):
        yield records
