"""The rule book: all rating rules at one version, as the fold over topic `rules`.

Every reader folds the same events in the same order and comes to the same book, so any replica may write: an event
applies only to the version it expects, and the loser of a race is ignored by all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from rater.model.rules import Field, Group, ModuleSet, RuleEvent, Service, Tiers
from rater.rating.draft import Draft
from rater.rating.tables import (
    Applied,
    Ignored,
    IgnoredReason,
    InvalidChangeError,
    MappingEntry,
    Outcome,
    ScriptEntry,
    Tables,
    ThresholdEntry,
)

__all__ = ["RuleBook", "fold"]


class RuleBook:
    """All rules at one version. Never changes: `apply` gives another book.

    The mappings are read-only views in order of creation; the methods `…_of` follow the order that rating goes by.
    """

    __slots__ = ("_tables", "version")

    def __init__(self, version: int, tables: Tables) -> None:
        self.version = version
        self._tables = tables

    @classmethod
    def empty(cls) -> RuleBook:
        """Version 0: no rules, every module off."""
        return cls(0, Tables())

    def apply(self, event: RuleEvent) -> tuple[RuleBook, Outcome]:
        """The book after one event, and what became of it. Copies the book's tables: use `fold` for many events."""
        book, outcomes = fold(self, [event])
        return book, outcomes[0]

    def module(self, name: str) -> ModuleSet:
        """The switch and priority of a rating module; off and 1 if nobody ever set them."""
        return self._tables.modules.get(name) or ModuleSet(module=name, enabled=False, priority=1)

    @property
    def modules(self) -> Mapping[str, ModuleSet]:
        """The modules that were ever set, by name."""
        return MappingProxyType(self._tables.modules)

    @property
    def services(self) -> Mapping[str, Service]:
        """All services by id."""
        return MappingProxyType(self._tables.services)

    @property
    def fields(self) -> Mapping[str, Field]:
        """All fields by id."""
        return MappingProxyType(self._tables.fields)

    @property
    def groups(self) -> Mapping[str, Group]:
        """All groups by id."""
        return MappingProxyType(self._tables.groups)

    @property
    def mappings(self) -> Mapping[str, MappingEntry]:
        """All mappings by id, the deleted ones (`deleted_at` is set) among them."""
        return MappingProxyType(self._tables.mappings)

    @property
    def thresholds(self) -> Mapping[str, ThresholdEntry]:
        """All thresholds by id."""
        return MappingProxyType(self._tables.thresholds)

    @property
    def scripts(self) -> Mapping[str, ScriptEntry]:
        """All scripts by id, the deleted ones (`deleted_at` is set) among them."""
        return MappingProxyType(self._tables.scripts)

    @property
    def collector_of(self) -> Mapping[str, str]:
        """CloudKitty's notes which collector a service has, which nobody looks at."""
        return MappingProxyType(self._tables.collector_of)

    @property
    def collectors(self) -> Mapping[str, bool]:
        """CloudKitty's switches of collectors, which nobody looks at."""
        return MappingProxyType(self._tables.collectors)

    def service_named(self, name: str) -> Service | None:
        """The service of a metric, None if it has no rules."""
        service_id = self._tables.names.get(("service", "", name))
        return None if service_id is None else self._tables.services[service_id]

    def field_named(self, service_id: str, name: str) -> Field | None:
        """The field of that name in a service."""
        field_id = self._tables.names.get(("field", service_id, name))
        return None if field_id is None else self._tables.fields[field_id]

    def group_named(self, name: str) -> Group | None:
        """The group of that name."""
        group_id = self._tables.names.get(("group", "", name))
        return None if group_id is None else self._tables.groups[group_id]

    def script_named(self, name: str) -> ScriptEntry | None:
        """The script of that name that is not deleted."""
        script_id = self._tables.names.get(("script", "", name))
        return None if script_id is None else self._tables.scripts[script_id]

    def fields_of(self, service_id: str) -> list[Field]:
        """The fields of a service, in order."""
        return [self._tables.fields[child] for child in self._tables.fields_of.get(service_id, ())]

    def mappings_of(self, parent_id: str) -> list[MappingEntry]:
        """The mappings of a service or field that are not deleted, in order."""
        return [self._tables.mappings[child] for child in self._tables.mappings_of.get(parent_id, ())]

    def thresholds_of(self, parent_id: str) -> list[ThresholdEntry]:
        """The thresholds of a service or field, in order."""
        return [self._tables.thresholds[child] for child in self._tables.thresholds_of.get(parent_id, ())]

    def scripts_in_order(self) -> list[ScriptEntry]:
        """The scripts that are not deleted, in order."""
        return [self._tables.scripts[child] for child in self._tables.scripts_of.get("", ())]

    def tiers_of(self, service_id: str) -> Tiers | None:
        """The graduated prices of a service, which then has no other rules."""
        return self._tables.tiers.get(service_id)


def fold(book: RuleBook, events: Iterable[RuleEvent]) -> tuple[RuleBook, list[Outcome]]:
    """The book after all events in their order, and what became of each.

    An event that expects another version, or that breaks an invariant in any of its changes, is ignored as a whole.
    """
    tables = book._tables.copy()
    version = book.version
    outcomes: list[Outcome] = []
    for event in events:
        outcome = _apply(tables, version, event)
        version += isinstance(outcome, Applied)
        outcomes.append(outcome)
    return RuleBook(version, tables), outcomes


def _apply(tables: Tables, version: int, event: RuleEvent) -> Outcome:
    if event.expected_version != version:
        return Ignored(
            IgnoredReason.VERSION_CONFLICT,
            f"expects version {event.expected_version} of the rule book, which is at {version}: "
            f"read the rules again and repeat the change",
        )
    draft = Draft(tables, event)
    for number, change in enumerate(event.changes):
        try:
            draft.change(change)
        except InvalidChangeError as fault:
            draft.roll_back()
            return Ignored(fault.reason, f"changes[{number}] {change.__struct_config__.tag}: {fault}")
    draft.commit()
    return Applied(version + 1)
