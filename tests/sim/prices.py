"""The price lists of a simulation: every version prices every metric, so that only the version has to be known."""

from __future__ import annotations

from decimal import Decimal

from rater.model.rules import MappingCreated, MappingRule, MappingUpdated, ModuleSet, RuleEvent, Service, ServiceCreated
from rater.rating import Chain, RuleBook

METRICS = ("cpu", "disk", "net", "vm")


def price(metric: str, version: int) -> Decimal:
    """What one unit costs by that version of the rules."""
    return Decimal(7 * version + METRICS.index(metric) + 1).scaleb(-3)


def _uuid(kind: int, number: int) -> str:
    return f"{kind}0000000-0000-4000-8000-{number:012d}"


def _mapping(number: int, version: int) -> MappingRule:
    return MappingRule(_uuid(1, number), price(METRICS[number], version), service_id=_uuid(0, number))


_books: list[tuple[RuleBook, Chain]] = []


def chain(version: int) -> Chain:
    """The rules at that version, from 1 on."""
    while len(_books) < version:
        at = len(_books)
        changes: list[object] = []
        if not at:
            changes.append(ModuleSet("hashmap", True))
            for number, metric in enumerate(METRICS):
                changes.append(ServiceCreated(Service(_uuid(0, number), metric)))
                changes.append(MappingCreated(_mapping(number, 1)))
        else:
            changes += [MappingUpdated(_mapping(number, at + 1)) for number in range(len(METRICS))]
        book = _books[-1][0] if _books else RuleBook.empty()
        event = RuleEvent(expected_version=at, author="sim", reason="", created_at=0, changes=tuple(changes))  # type: ignore[arg-type]
        book, _ = book.apply(event)
        assert book.version == at + 1
        _books.append((book, Chain(book)))
    return _books[version - 1][1]
