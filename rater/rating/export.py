"""The rule book as a rule document, from which the same book and the same prices can be made again."""

from __future__ import annotations

from rater.model.document import dump, instant_text
from rater.model.errors import RaterError
from rater.model.rules import MappingRule, Script, ThresholdRule, number_text
from rater.rating.book import RuleBook
from rater.rating.ruledoc import (
    SECTIONS,
    DocumentField,
    DocumentMapping,
    DocumentScript,
    DocumentService,
    DocumentStep,
    DocumentThreshold,
    DocumentTiers,
    HashmapSection,
    ModuleState,
    PlacedRule,
    PyscriptsSection,
    RuleDocument,
    clashes,
)

__all__ = ["ExportError", "document_of", "document_values", "export"]


class ExportError(RaterError):
    """A book that no document can say, since rules of it are valid at the same time for the same thing."""


def export(book: RuleBook) -> str:
    """The YAML text of a document that, applied to an empty installation, gives the same prices.

    Raises ExportError for a book with rules that a document must not hold.
    """
    return dump(document_values(book))


def document_values(book: RuleBook) -> dict[str, object]:
    """The same document as plain values; numbers are decimal text. Raises ExportError."""
    document = document_of(book)
    values: dict[str, object] = {
        "modules": {
            name: {"enabled": state.enabled, "priority": state.priority} for name, state in document.modules.items()
        },
        "hashmap": {
            "groups": list(document.hashmap.groups),
            "services": [_service_text(service) for service in document.hashmap.services],
        },
    }
    if document.pyscripts.scripts:
        values["pyscripts"] = {"scripts": [_script_text(script) for script in document.pyscripts.scripts]}
    return values


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
            _tiers(book, service.service_id),
        )
        for service in book.services.values()
    )
    return RuleDocument(
        _modules(book),
        HashmapSection(tuple(group.name for group in book.groups.values()), services),
        PyscriptsSection(tuple(_script(entry.script) for entry in book.scripts_in_order())),
    )


def _modules(book: RuleBook) -> dict[str, ModuleState]:
    """Those that have a section, and the others that are not as they are before anybody sets them."""
    states = {name: ModuleState(book.module(name).enabled, book.module(name).priority) for name in book.modules}
    others = {name: states[name] for name in sorted(states) if name not in SECTIONS and states[name] != ModuleState()}
    return {name: states.get(name, ModuleState()) for name in SECTIONS} | others


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


def _tiers(book: RuleBook, service_id: str) -> DocumentTiers | None:
    tiers = book.tiers_of(service_id)
    if tiers is None:
        return None
    return DocumentTiers(tuple(DocumentStep(step.cost, step.up_to) for step in tiers.steps), tiers.by)


def _script(script: Script) -> DocumentScript:
    return DocumentScript(script.name, script.data, script.start, script.end, script.description)


def _service_text(service: DocumentService) -> dict[str, object]:
    text = _parent_text(service)
    if service.fields:
        text["fields"] = [_parent_text(field) for field in service.fields]
    if service.tiers is not None:
        text["tiers"] = _tiers_text(service.tiers)
    return text


def _tiers_text(tiers: DocumentTiers) -> dict[str, object]:
    steps: list[object] = [
        {"up_to": None if step.up_to is None else number_text(step.up_to), "cost": number_text(step.cost)}
        for step in tiers.steps
    ]
    return {"by": list(tiers.by), "steps": steps} if tiers.by else {"steps": steps}


def _script_text(script: DocumentScript) -> dict[str, object]:
    text = {"name": script.name, **_dates_text(script), "description": script.description, "data": script.data}
    return {key: member for key, member in text.items() if member is not None}


def _dates_text(rule: DocumentMapping | DocumentScript) -> dict[str, object]:
    dates = (("start", rule.start), ("end", rule.end))
    return {key: None if instant is None else instant_text(instant) for key, instant in dates}


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
        dates = {**_dates_text(rule), "name": rule.name, "description": rule.description}
    text |= {"cost": number_text(rule.cost), "type": rule.type.value, "group": rule.group, "tenant_id": rule.tenant_id}
    return {key: member for key, member in (text | dates).items() if member is not None}
