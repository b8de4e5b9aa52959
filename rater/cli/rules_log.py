"""`rater rules log`: who changed the rules when and why, and what came to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.output import Cell, Column, Moment, out_option, remark, rows
from rater.cli.work import run

if TYPE_CHECKING:
    from rater.kafka import KafkaSettings
    from rater.stream.rules_history import LogRecord

__all__ = ["rules_log"]

LIMIT = 50  # a screen or two

_WHICH = [
    Column("offset", "Offset", right=True),
    Column("version", "Version", right=True),
    Column("created_at", "When (UTC)"),
    Column("author", "Who"),
]
_IGNORED = Column("ignored", "Ignored because", prose=True)
_LOG = [
    *_WHICH,
    Column("changes", "Changes", right=True),
    Column("reason", "Why", prose=True),
    _IGNORED,
    Column("first_bytes", "First bytes", wide=False),
]
_CHANGES = [
    *_WHICH,
    Column("sign", ""),
    Column("what", "What"),
    Column("place", "Where", prose=True),
    Column("before", "Before", prose=True),
    Column("after", "After", prose=True),
    _IGNORED,
]


@click.command("log")
@click.option(
    "--limit", type=click.IntRange(min=0), default=LIMIT, show_default=True, help="The newest so many; 0 for all."
)
@click.option("--changes", is_flag=True, help="One line for each change: what it is about, before and after.")
@out_option
@click.pass_context
def rules_log(context: click.Context, limit: int, changes: bool, out: str) -> None:
    """Show who changed the rules when, why, and which changes came to nothing.

    Also lists records of the log that nobody can read. Oldest first.

    \b
    Examples:
      rater rules log --out json
      rater rules log --limit 1 --changes
    """
    kafka = session(context).config.settings.kafka
    columns, read = (_CHANGES, _each_change) if changes else (_LOG, _each_record)
    found = run(read(kafka, limit))
    if not rows(out, columns, found):
        remark("no rule was ever set")
    elif found[0][0]:  # the first record has offset 0
        remark(f"the newest {limit}; --limit 0 shows all")


async def _each_record(kafka: KafkaSettings, limit: int) -> list[tuple[Cell, ...]]:
    from rater.stream.rules_history import read_events

    found = []
    async for record in read_events(kafka, limit):
        event = record.event
        count, reason = (len(event.changes), event.reason) if event else (None, None)
        found.append((*_which(record), count, reason, _ignored(record), _first_bytes(record)))
    return found


async def _each_change(kafka: KafkaSettings, limit: int) -> list[tuple[Cell, ...]]:
    from rater.rating.change_words import words_of
    from rater.stream.rules_history import read_changes

    found: list[tuple[Cell, ...]] = []
    async for record, before in read_changes(kafka, limit):
        which, ignored = _which(record), _ignored(record)
        if record.event is None:
            found.append((*which, *[None] * 5, ignored))
            continue
        found += [(*which, *words, ignored) for words in words_of(record.event, before)]
    return found


def _which(record: LogRecord) -> tuple[Cell, ...]:
    from rater.rating import Applied

    event, outcome = record.event, record.outcome
    version = outcome.version if isinstance(outcome, Applied) else None
    if event is None:
        return record.offset, None, Moment(record.written_at), None
    return record.offset, version, Moment(event.created_at), event.author


def _ignored(record: LogRecord) -> str | None:
    from rater.rating import Ignored

    if record.event is None:
        return f"it cannot be read: {record.fault} It begins with {_first_bytes(record)}"
    return record.outcome.message if isinstance(record.outcome, Ignored) else None


def _first_bytes(record: LogRecord) -> str | None:
    """As text where it is ASCII, else escaped; None of an event."""
    return None if record.event is not None else ascii(record.first_bytes)[1:]
