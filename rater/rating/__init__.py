"""Rating: the rule book, and the price of a point by it. Pure: no I/O, no clock, no ambient decimal context."""

from rater.rating import compat, validation
from rater.rating.book import RuleBook, fold
from rater.rating.chain import BUILT_IN, Chain, NoScripts
from rater.rating.diff import ChangeTooLargeError, Diff, DiffEntry
from rater.rating.export import ExportError, document_of, document_values, export
from rater.rating.frame import (
    Failed,
    Module,
    Rated,
    RatingFrame,
    RatingPoint,
    ScriptDone,
    ScriptJob,
    ScriptRunner,
    UnratedPoint,
)
from rater.rating.hashmap import Compiler, Plan, UnratableError, compile_rules
from rater.rating.planner import plan
from rater.rating.reading import ScriptFileError, parse
from rater.rating.ruledoc import (
    DocumentField,
    DocumentMapping,
    DocumentScript,
    DocumentService,
    DocumentStep,
    DocumentThreshold,
    DocumentTiers,
    HashmapSection,
    ModuleState,
    PyscriptsSection,
    RuleDocument,
)
from rater.rating.snapshot import BOOK_FORMAT, BookSnapshotError, decode_book, encode_book
from rater.rating.tables import Applied, Ignored, IgnoredReason, MappingEntry, Outcome, ScriptEntry, ThresholdEntry
from rater.rating.tiers import add_used, month_begin, tier_key, tier_metric, tier_parts, tier_price

__all__ = [
    "BOOK_FORMAT",
    "BUILT_IN",
    "Applied",
    "BookSnapshotError",
    "Chain",
    "ChangeTooLargeError",
    "Compiler",
    "Diff",
    "DiffEntry",
    "DocumentField",
    "DocumentMapping",
    "DocumentScript",
    "DocumentService",
    "DocumentStep",
    "DocumentThreshold",
    "DocumentTiers",
    "ExportError",
    "Failed",
    "HashmapSection",
    "Ignored",
    "IgnoredReason",
    "MappingEntry",
    "Module",
    "ModuleState",
    "NoScripts",
    "Outcome",
    "Plan",
    "PyscriptsSection",
    "Rated",
    "RatingFrame",
    "RatingPoint",
    "RuleBook",
    "RuleDocument",
    "ScriptDone",
    "ScriptEntry",
    "ScriptFileError",
    "ScriptJob",
    "ScriptRunner",
    "ThresholdEntry",
    "UnratableError",
    "UnratedPoint",
    "add_used",
    "compat",
    "compile_rules",
    "decode_book",
    "document_of",
    "document_values",
    "encode_book",
    "export",
    "fold",
    "month_begin",
    "parse",
    "plan",
    "tier_key",
    "tier_metric",
    "tier_parts",
    "tier_price",
    "validation",
]
