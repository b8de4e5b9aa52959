"""Rating: the rule book, and the price of a point by it. Pure: no I/O, no clock, no ambient decimal context."""

from rater.rating.book import RuleBook, fold
from rater.rating.diff import Diff, DiffEntry, plan
from rater.rating.export import ExportError, document_of, export
from rater.rating.hashmap import Compiler, Plan, UnratableError, compile_rules
from rater.rating.ruledoc import (
    DocumentField,
    DocumentMapping,
    DocumentService,
    DocumentThreshold,
    HashmapSection,
    ModuleState,
    RuleDocument,
    parse,
)
from rater.rating.tables import Applied, Ignored, IgnoredReason, MappingEntry, Outcome, ThresholdEntry

__all__ = [
    "Applied",
    "Compiler",
    "Diff",
    "DiffEntry",
    "DocumentField",
    "DocumentMapping",
    "DocumentService",
    "DocumentThreshold",
    "ExportError",
    "HashmapSection",
    "Ignored",
    "IgnoredReason",
    "MappingEntry",
    "ModuleState",
    "Outcome",
    "Plan",
    "RuleBook",
    "RuleDocument",
    "ThresholdEntry",
    "UnratableError",
    "compile_rules",
    "document_of",
    "export",
    "fold",
    "parse",
    "plan",
]
