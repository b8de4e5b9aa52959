"""The rules as one document, which is read, tried and put in place; and their history."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rater.api.faults import Faults, RefusalError
from rater.api.v3.operations import JSON, YAML, Asked, Backend, Operation, RawBody, Reply
from rater.api.v3.values import CursorText, cursor_of, moment, read_cursor, refused
from rater.model.document import MAX_CHARACTERS, DocumentError, dump
from rater.model.rules import Change
from rater.rating import (
    Applied,
    Diff,
    DiffEntry,
    ExportError,
    Ignored,
    RuleBook,
    RuleDocument,
    document_values,
    parse,
    plan,
)
from rater.rating.change_words import words_of
from rater.stream.rules_history import LoggedChange

__all__ = ["OPERATIONS", "parsed_rules"]

MAX_ENTRIES = 10_000
"""Of a plan that are told one by one."""

Version = Annotated[int, Meta(ge=0, le=2**53, description="version of the rule book")]


class GetRules(msgspec.Struct, frozen=True):
    """Which rules."""

    version: Version | None = None
    """As they were at this version; default: as they are."""


class PutRules(msgspec.Struct, frozen=True):
    """How a document is put in place."""

    dry_run: bool = False
    """Say what would change, and change nothing."""
    reason: Annotated[str, Meta(max_length=1000)] = ""
    """Why; kept in the history."""
    if_match: Annotated[
        str,
        Meta(max_length=100, description="the `ETag` that the rules were read with, or *", extra={"in": "header"}),
    ] = msgspec.field(default="", name="If-Match")


class PlanEntry(msgspec.Struct, frozen=True):
    """One change: `+` added, `-` removed, `~` changed. `before` and `after` are empty where there is nothing."""

    sign: str
    what: str
    place: str
    before: str
    after: str


class RulesPlan(msgspec.Struct, frozen=True):
    """What leads from the rules that there were to the document."""

    version: int
    """Of the rule book now: after the change, if there was one."""
    applied: bool
    """Whether anything was changed: not in a dry run, and not where the rules were so already."""
    added: int
    changed: int
    removed: int
    entries: list[PlanEntry]
    """The first ten thousand."""


class ListHistory(msgspec.Struct, frozen=True):
    """Which part of the history."""

    limit: Annotated[int, Meta(ge=1, le=200, description="changes of one answer at most")] = 50
    cursor: CursorText = ""


class HistoryItem(msgspec.Struct, frozen=True):
    """One entry of the log of rules."""

    version: int | None
    """Of the rule book after it; null if it came to nothing."""
    at: datetime
    """By the clock of whoever wrote it; of a record that nobody can read, when Kafka got it."""
    author: str
    reason: str
    changes: list[PlanEntry]
    ignored: str
    """Why it came to nothing; empty if it did not."""


class HistoryPage(msgspec.Struct, frozen=True):
    """Entries of the log of rules, the newest first."""

    items: list[HistoryItem]
    next: str = ""
    """The cursor of what is older; empty at the beginning."""


async def get_rules(backend: Backend, asked: Asked[GetRules, None]) -> Reply:
    """GET /v3/rules."""
    backend.policy.authorize(asked.identity, asked.action)
    version = asked.parameters.version
    book = await backend.rules.book() if version is None else await backend.rules.book_at(version)
    try:
        values = await asyncio.to_thread(document_values, book)
    except ExportError as fault:
        raise RefusalError(409, str(fault)) from None
    content = await asyncio.to_thread(_written, values, asked.form)
    return Reply(content=content, headers={"ETag": _tag(book)})


def _written(values: dict[str, object], form: str) -> bytes:
    return msgspec.json.encode(values) if form == JSON else dump(values).encode()


async def put_rules(backend: Backend, asked: Asked[PutRules, bytes]) -> Reply:
    """PUT /v3/rules."""
    backend.policy.authorize(asked.identity, asked.action)
    wanted = asked.parameters
    if not wanted.if_match.strip() and not wanted.dry_run:
        raise refused("header.If-Match", "is missing: send the ETag that the rules were read with, or *", 428)
    document = await asyncio.to_thread(parsed_rules, asked.body, backend.rules.modules)
    if wanted.dry_run:
        book = await backend.rules.book()
        _check_match(book, wanted.if_match)
        return Reply(_told(await asyncio.to_thread(plan, book, document), book.version, applied=False))
    seen: list[tuple[RuleBook, Diff]] = []

    def decide(newest: RuleBook) -> tuple[Change, ...]:
        _check_match(newest, wanted.if_match)
        diff = plan(newest, document)
        seen.append((newest, diff))
        return diff.changes

    author = asked.identity.user or "unknown"
    book = await backend.rules.write(author, wanted.reason, int(asked.now.timestamp()), decide)
    before, diff = seen[-1]
    return Reply(
        _told(diff, book.version, applied=bool(diff)),
        headers={"ETag": _tag(book)},
        before={"version": before.version},
        after={"version": book.version},
    )


def parsed_rules(body: bytes, modules: frozenset[str]) -> RuleDocument:
    """Raises RefusalError with every fault, its line and path."""
    try:
        text = body.decode()
    except UnicodeDecodeError as fault:
        raise RefusalError(400, f"the document is not text in UTF-8: {fault.reason} at byte {fault.start}") from None
    if len(text) > MAX_CHARACTERS:
        raise RefusalError(413, f"the document has more than {MAX_CHARACTERS} characters")
    try:
        return parse(text, "body", modules=modules)
    except DocumentError as fault:
        faults = Faults()
        for problem in fault.problems:
            faults.add(f"line {problem.line}{f', {problem.path}' if problem.path else ''}", problem.message)
        faults.refuse(422, "nothing was changed")
        raise AssertionError("there is at least one fault") from fault


def _check_match(book: RuleBook, if_match: str) -> None:
    """Raises RefusalError 412."""
    if if_match.strip() in ("", "*"):
        return
    tags = {tag.strip().removeprefix("W/") for tag in if_match.split(",")}
    if _tag(book) not in tags:
        raise RefusalError(412, f"the rules were not changed: they are at version {book.version}, not {if_match}")


def _tag(book: RuleBook) -> str:
    return f'"{book.version}"'


def _told(diff: Diff, version: int, *, applied: bool) -> RulesPlan:
    counts = diff.counts
    entries = [_entry(entry) for entry in diff.entries[:MAX_ENTRIES]]
    return RulesPlan(version, applied, counts["+"], counts["~"], counts["-"], entries)


def _entry(entry: DiffEntry) -> PlanEntry:
    return PlanEntry(entry.sign, entry.what, entry.place, entry.before, entry.after)


async def list_history(backend: Backend, asked: Asked[ListHistory, None]) -> Reply:
    """GET /v3/rules/history."""
    backend.policy.authorize(asked.identity, asked.action)
    before = read_cursor(asked.parameters.cursor, int)
    found = await backend.rules.history(asked.parameters.limit, before)
    items = [_history_item(change) for change in reversed(found)]
    first = found[0].record.offset if found else 0
    return Reply(HistoryPage(items, cursor_of(first) if first else ""))


def _history_item(change: LoggedChange) -> HistoryItem:
    record = change.record
    if record.event is None:
        return HistoryItem(None, moment(record.written_at), "", "", [], f"it cannot be read: {record.fault}")
    version = record.outcome.version if isinstance(record.outcome, Applied) else None
    ignored = record.outcome.message if isinstance(record.outcome, Ignored) else ""
    words = words_of(record.event, change.before)
    event = record.event
    return HistoryItem(
        version, moment(event.created_at), event.author, event.reason, [PlanEntry(*entry) for entry in words], ignored
    )


OPERATIONS = (
    Operation(
        "GET",
        "rules",
        "getRules",
        "All rating rules as one document",
        get_rules,
        "v3:get_rules",
        GetRules,
        result=dict[str, Any],
        forms=(YAML, JSON),
        description="The header ETag is what a change is made against.",
        answers="The rule document.",
        refusals=(404, 409),
    ),
    Operation(
        "PUT",
        "rules",
        "putRules",
        "Makes the rules what a document says",
        put_rules,
        "v3:put_rules",
        PutRules,
        RawBody,
        RulesPlan,
        body_forms=(YAML, JSON),
        description="""All of it applies, or nothing. With `dry_run` the answer says what would change. A change that is
            larger than one record of 4 MiB is for `rater rules apply`.""",
        answers="What was changed, or would be.",
        refusals=(409, 412, 428),
    ),
    Operation(
        "GET",
        "rules/history",
        "listRuleHistory",
        "Who changed the rules when and why, and what came to nothing",
        list_history,
        "v3:list_rule_history",
        ListHistory,
        result=HistoryPage,
    ),
)
