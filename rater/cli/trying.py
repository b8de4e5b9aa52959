"""What the commands that try rules share: a book made of a document, a runner for its scripts, its modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rater.cli import exits
from rater.model.errors import RaterError
from rater.trying import script_runner, third_party_modules

if TYPE_CHECKING:
    from rater.config import Config
    from rater.rating import RuleBook

__all__ = ["BadRulesError", "NoRulesError", "book_of_file", "book_reader", "script_runner", "third_party_modules"]


class BadRulesError(RaterError):
    """A rule document with faults, or one that cannot be read."""

    exit_status = exits.USAGE


def book_of_file(file: Path, other: str = "") -> RuleBook:
    """The rules of a document, `-` for standard input, as the book of a new installation.

    `other` is a file that is read beside it, so that not both are standard input. Raises BadRulesError.
    """
    from rater.cli.documents import RulesFileError, read_document
    from rater.model.document import DocumentError
    from rater.rating import RuleBook, plan

    if str(file) == "-" and other == "-":
        raise BadRulesError("rules and usage cannot both be standard input: give one of them as a file")
    try:
        changes = plan(RuleBook.empty(), read_document(file))
    except (DocumentError, RulesFileError) as fault:
        raise BadRulesError(str(fault)) from fault
    if not changes:
        return RuleBook.empty()
    book, outcome = RuleBook.empty().apply(changes.event("trial", "", 0))
    assert book.version == 1, outcome
    return book


class NoRulesError(RaterError):
    """The rules at a version cannot be read."""


def book_reader(config: Config, file: Path | None = None) -> Callable[[int], RuleBook]:
    """Gives the rule book at a version, from topic rules, each read once; with `file` always that document's.

    What it returns raises NoRulesError.
    """
    if file is not None:
        book = book_of_file(file)
        return lambda _version: book

    @cache
    def book_at(version: int) -> RuleBook:
        from rater.cli.work import run
        from rater.stream.rules_log import read_rules

        try:
            return run(read_rules(config.settings.kafka, version))
        except RaterError as fault:
            raise NoRulesError(
                f"version {version} of the rules cannot be read: {fault}. Without Kafka, give the rules of that time "
                "as a document: --rules FILE"
            ) from fault

    return book_at
