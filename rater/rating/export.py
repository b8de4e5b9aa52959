"""The rule book as a rule document, from which the same book and the same prices can be made again."""

from __future__ import annotations

from rater.model.document import dump, instant_text
from rater.model.errors import RaterError
from rater.model.rules import MappingRule, ThresholdRule, number_text
from rater.rating.book import RuleBook
from rater.rating.ruledoc import (
    MODULES,
    DocumentField,
    DocumentMapping,
    DocumentService,
    DocumentThreshold,
    HashmapSection,
    ModuleState,
    PlacedRule,
    RuleDocument,
    clashes,
)

__all__ = ["ExportError", "document_of", "export"]


class ExportError(RaterError):
    """A book that no document can say, since rules of it are valid at the same time for the same thing."""


def export(book: RuleBook) -> str:
    """The YAML text of a document that, applied to an empty installation, gives the same prices.

    Raises ExportError for a book with rules that a document must not hold.
    """
    document = document_of(book)
    return dump(
        {
            "modules": {
                name: {"enabled": state.enabled, "priority": state.priority} for name, state in document.modules.items()
            },
            "hashmap": {
                "groups": list(document.hashmap.groups),
                "services": [_service_text(service) for service in document.hashmap.services],
            },
        }
    )


def document_of(book: RuleBook) -> RuleDocument:
    """The document that says what the book says. Raises ExportError."""
    _refuse_clashes(book)
    services = tuple(
        DocumentService(
            service.name,
            _mappings(book, service.service_id),
            _thresholds(book, service.service_id),
            tuple(
                DocumentField(field.name, _mappings(book, field.field_id), _thresholds(book, field.field_id))
                for field in book.fields_of(service.service_id)
            ),
        )
        for service in book.services.values()
    )
    modules = {name: ModuleState(book.module(name).enabled, book.module(name).priority) for name in MODULES}
    return RuleDocument(modules, HashmapSection(tuple(group.name for group in book.groups.values()), services))


def _refuse_clashes(book: RuleBook) -> None:
    mappings = (entry for entry in book.mappings.values() if entry.deleted_at is None)
    placed = [
        *(PlacedRule(e.rule.parent_id, f"mapping {e.rule.mapping_id}", 0, _mapping(book, e.rule)) for e in mappings),
        *(
            PlacedRule(e.rule.parent_id, f"threshold {e.rule.threshold_id}", 0, _threshold(book, e.rule))
            for e in book.thresholds.values()
        ),
    ]
    faults = [f"{later.path} {reason}; see {first.path}" for later, first, reason in clashes(placed)]
    if faults:
        raise ExportError("\n".join(["the rule book cannot be exported: delete or end one rule of each pair", *faults]))


def _mappings(book: RuleBook, parent_id: str) -> tuple[DocumentMapping, ...]:
    return tuple(_mapping(book, entry.rule) for entry in book.mappings_of(parent_id))


def _thresholds(book: RuleBook, parent_id: str) -> tuple[DocumentThreshold, ...]:
    return tuple(_threshold(book, entry.rule) for entry in book.thresholds_of(parent_id))


def _mapping(book: RuleBook, rule: MappingRule) -> DocumentMapping:
    return DocumentMapping(
        rule.cost,
        rule.value,
        rule.type,
        None if rule.group_id is None else book.groups[rule.group_id].name,
        rule.tenant_id,
        rule.start,
        rule.end,
        rule.name,
        rule.description,
    )


def _threshold(book: RuleBook, rule: ThresholdRule) -> DocumentThreshold:
    group = None if rule.group_id is None else book.groups[rule.group_id].name
    return DocumentThreshold(rule.level, rule.cost, rule.type, group, rule.tenant_id)


def _service_text(service: DocumentService) -> dict[str, object]:
    text = _parent_text(service)
    if service.fields:
        text["fields"] = [_parent_text(field) for field in service.fields]
    return text


def _parent_text(parent: DocumentService | DocumentField) -> dict[str, object]:
    text: dict[str, object] = {"name": parent.name}
    if parent.mappings:
        text["mappings"] = [_rule_text(rule) for rule in parent.mappings]
    if parent.thresholds:
        text["thresholds"] = [_rule_text(rule) for rule in parent.thresholds]
    return text


def _rule_text(rule: DocumentMapping | DocumentThreshold) -> dict[str, object]:
    """The members of a rule that are not what the document takes for granted."""
    text: dict[str, object]
    if isinstance(rule, DocumentThreshold):
        text = {"level": number_text(rule.level)}
        dates: dict[str, object] = {}
    else:
        text = {"value": rule.value} if rule.value else {}
        dates = {
            "start": None if rule.start is None else instant_text(rule.start),
            "end": None if rule.end is None else instant_text(rule.end),
            "name": rule.name,
            "description": rule.description,
        }
    text |= {"cost": number_text(rule.cost), "type": rule.type.value, "group": rule.group, "tenant_id": rule.tenant_id}
    return {key: member for key, member in (text | dates).items() if member is not None}
