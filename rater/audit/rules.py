"""What the audit needs to know of the rules: read from the store's history of them, without Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from rater.model.rated import Line
from rater.model.rules import RuleEvent
from rater.rating import BUILT_IN, Chain, NoScripts, Rated, RatingFrame, RatingPoint, RuleBook
from rater.store.audit import RuleText

__all__ = ["RuleHistory"]

ZERO = Decimal(0)
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal(1).scaleb(-38)
_MODEST = {"hashmap", "noop"}
_event = msgspec.json.Decoder(RuleEvent).decode


class RuleHistory:
    """The rule books by version. Read once, when first asked; again when a newer version is asked for."""

    def __init__(self, read: Callable[[], Iterable[RuleText]]) -> None:
        self._read = read
        self._books: dict[int, RuleBook] = {0: RuleBook.empty()}
        self._chains: dict[int, Chain | None] = {}
        self.trouble = ""

    def keeps(self, version: int) -> bool:
        """Whether its modules change nothing of a point but its price, and drop and add none; False if unknown."""
        book = self.book(version)
        if book is None:
            return False
        enabled = {module.module for module in book.modules.values() if module.enabled}
        return enabled <= _MODEST | (set() if book.scripts_in_order() else {"pyscripts"})

    def is_known(self, version: int) -> bool:
        """Whether the store has the rules of that version."""
        return self.book(version) is not None

    def book(self, version: int) -> RuleBook | None:
        """The rule book at that version; None if the store's history does not reach there."""
        if version > max(self._books):
            self._fold()
        return self._books.get(version)

    def _fold(self) -> None:
        book = self._books[0]
        for text in self._read():
            if text.version in self._books:
                book = self._books[text.version]
                continue
            try:
                book, _ = book.apply(_event(text.event))
            except msgspec.DecodeError as fault:
                self.trouble = f"version {text.version} of the rules in table rule_events cannot be read: {fault}"
                return
            if book.version != text.version:
                self.trouble = f"version {text.version} of the rules in table rule_events does not follow"
                return
            self._books[text.version] = book

    def prices(
        self, version: int, scope_id: str, period: tuple[int, int], lines: Sequence[Line]
    ) -> Mapping[str, Decimal] | None:
        """The price of each line by its id; None where more than the line decides it: tiers, scripts, other modules."""
        chain = self._chain(version)
        if chain is None or chain.has_tiers:
            return None
        points = tuple(
            RatingPoint(line.metric, line.unit, line.qty, ZERO, line.groupby, line.metadata, number)
            for number, line in enumerate(lines)
        )
        outcome = chain.rate(RatingFrame(scope_id, *period, points, {}), NoScripts())
        if not isinstance(outcome, Rated):
            return None
        return {lines[point.origin].line_id: _published(point.price) for point in outcome.points if point.origin >= 0}

    def _chain(self, version: int) -> Chain | None:
        if version not in self._chains:
            book = self.book(version)
            enabled = {module.module for module in book.modules.values() if module.enabled} if book else set()
            known = book is not None and self.keeps(version) and enabled <= set(BUILT_IN)
            self._chains[version] = Chain(book) if known and book is not None else None
        return self._chains[version]


def _published(price: Decimal) -> Decimal:
    """With at most 38 decimals, as it leaves the engine."""
    exponent = price.as_tuple().exponent
    assert isinstance(exponent, int), "prices are finite"
    return price.quantize(_QUANTUM, context=_EXACT) if exponent < -38 else price
