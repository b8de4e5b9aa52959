"""Rule books from the short notation of the specification's examples, for tests.

`svc flat 0.1`, `flavor=m1 flat 0.25 @g [A]`, `thr svc>=50 rate .98 @v`, `thr ram>=64 flat 0.5 @g`, mappings also with
` from N` and ` until N` (seconds).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import count
from uuid import UUID

from rater.model.rules import (
    Change,
    Field,
    FieldCreated,
    Group,
    GroupCreated,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    RuleType,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.rating import Applied, RuleBook

METRIC = "compute"
_RULE = re.compile(
    r"(?P<what>svc|thr (?P<of>\w+)>=(?P<level>\S+)|(?P<field>\w+)=(?P<value>\S+)) (?P<type>flat|rate) (?P<cost>\S+)"
    r"( @(?P<group>\S+))?( \[(?P<tenant>\S+)\])?( from (?P<start>\d+))?( until (?P<end>\d+))?"
)


def uid(number: int) -> str:
    """A UUID made of a small number."""
    return str(UUID(int=number))


def event(version: int, *changes: Change, author: str = "tester", created_at: int = 100) -> RuleEvent:
    """An event for that version of the book."""
    return RuleEvent(version, author, "because of the test", created_at, changes)


def applied(book: RuleBook, *changes: Change, **who: object) -> RuleBook:
    """The book after one event, which must apply."""
    after, outcome = book.apply(event(book.version, *changes, **who))  # type: ignore[arg-type] # author, created_at
    assert outcome == Applied(book.version + 1), outcome
    return after


def changes_for(rules: Iterable[str]) -> Iterator[Change]:
    """What makes a book of rules in the short notation; hashmap is switched on."""
    ids = (uid(number) for number in count(1))
    service_id = next(ids)
    fields: dict[str, str] = {}
    groups: dict[str, str] = {}
    yield ModuleSet("hashmap", True)
    yield ServiceCreated(Service(service_id, METRIC))
    for text in rules:
        match = _RULE.fullmatch(text)
        assert match is not None, f"not in the notation: {text}"
        group, field = match["group"], match["field"] or match["of"]
        if group is not None and group not in groups:
            groups[group] = next(ids)
            yield GroupCreated(Group(groups[group], group))
        if field in (None, "svc"):
            parent: dict[str, str] = {"service_id": service_id}
        else:
            if field not in fields:
                fields[field] = next(ids)
                yield FieldCreated(Field(fields[field], service_id, field))
            parent = {"field_id": fields[field]}
        kind, cost, group_id = RuleType(match["type"]), Decimal(match["cost"]), groups.get(group)
        if match["level"]:
            yield ThresholdCreated(
                ThresholdRule(
                    next(ids),
                    Decimal(match["level"]),
                    cost,
                    kind,
                    group_id=group_id,
                    tenant_id=match["tenant"],
                    **parent,
                )
            )
            continue
        yield MappingCreated(
            MappingRule(
                next(ids),
                cost,
                kind,
                value=match["value"] or "",
                group_id=group_id,
                tenant_id=match["tenant"],
                start=int(match["start"]) if match["start"] else None,
                end=int(match["end"]) if match["end"] else None,
                **parent,
            )
        )


def book_of(*rules: str) -> RuleBook:
    """A book of rules in the short notation, created in their order."""
    return applied(RuleBook.empty(), *changes_for(rules))
