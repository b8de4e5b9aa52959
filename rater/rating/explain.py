"""Every step from a frame's points to their prices, module by module: what `rater explain` and `--explain` show.

It goes the way that `Chain` goes, but plainly and without anything compiled, so that the price at its end is a second
opinion on the chain's. Pure, but for the scripts, which `scripts` runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, Overflow

import msgspec

from rater.model.labels import LabelValue
from rater.model.rules import Script, Tiers
from rater.rating.book import RuleBook
from rater.rating.chain import NOOP, PYSCRIPTS, run_module
from rater.rating.explain_hashmap import trace_hashmap
from rater.rating.explanation import Explanation, ModuleStep, TierCount, TierPart, number_of
from rater.rating.frame import Failed, Module, Rated, RatingFrame, RatingPoint, ScriptDone, ScriptJob, ScriptRunner
from rater.rating.hashmap import MODULE as HASHMAP
from rater.rating.hashmap import UnratableError
from rater.rating.tiers import add_used, tier_key, tier_parts

__all__ = ["Explained", "explain", "explain_frame"]

NOT_INSTALLED = "it is not installed here: install the package that has it, or switch it off"
_ZERO = Decimal(0)
_context = Context(prec=28, rounding=ROUND_HALF_EVEN)


class Explained(msgspec.Struct, frozen=True):
    """A point, where it came to, and why."""

    origin: int
    """Its index in the frame; -1 if a module made it."""
    point: RatingPoint | None
    """As it is after all modules; None if it has no price."""
    explanation: Explanation


class _Way:
    """One point on its way through the modules."""

    def __init__(self, point: RatingPoint, *, added: bool = False) -> None:
        self.first = self.point = point
        self.added = added
        self.steps: list[ModuleStep] = []
        self.error = ""
        self.dropped = False

    def explained(self) -> Explained:
        has_price = not self.error and not self.dropped
        first = self.first
        found = Explanation(
            metric=first.metric,
            unit=first.unit,
            qty=number_of(first.qty),
            groupby=first.groupby,
            metadata=first.metadata,
            steps=self.steps,
            price=number_of(self.point.price) if has_price else None,
            error=self.error,
            dropped=self.dropped,
            added=self.added,
        )
        return Explained(-1 if self.added else first.origin, self.point if has_price else None, found)


def explain_frame(
    book: RuleBook, frame: RatingFrame, scripts: ScriptRunner, modules: Mapping[str, Module] | None = None
) -> list[Explained] | Failed | None:
    """All points of a frame with their steps: first those it had, in their order, then those that modules made.

    Failed and None as `Chain.rate` gives them.
    """
    ways = [_Way(msgspec.structs.replace(point, origin=number)) for number, point in enumerate(frame.points)]
    inside = list(ways)
    for name in _order(book) if ways else ():
        if name == HASHMAP:
            inside = _hashmap(book, frame, inside)
            continue
        chosen = _scripts_at(book, frame.period_begin) if name == PYSCRIPTS else ()
        if name == PYSCRIPTS and not chosen:
            continue
        seen = msgspec.structs.replace(frame, points=tuple(way.point for way in inside))
        done: Rated | ScriptDone | Failed | None
        if chosen:
            done = scripts.run(ScriptJob(chosen, seen))
        else:
            module = (modules or {}).get(name)
            done = Failed(name, "", 0, NOT_INSTALLED) if module is None else run_module(name, module, seen, book)
        if done is None or isinstance(done, Failed):
            return done
        inside, made = _follow(name, [script.name for script in chosen], inside, done.points)
        ways += made
    return [way.explained() for way in ways]


def explain(
    book: RuleBook,
    frame: RatingFrame,
    number: int,
    scripts: ScriptRunner,
    modules: Mapping[str, Module] | None = None,
) -> Explanation | Failed | None:
    """Why point `number` of the frame costs what it costs. Scripts see the whole frame, and so does this."""
    found = explain_frame(book, frame, scripts, modules)
    return found[number].explanation if isinstance(found, list) else found


def _order(book: RuleBook) -> list[str]:
    enabled = [module for module in book.modules.values() if module.enabled and module.module != NOOP]
    return [module.module for module in sorted(enabled, key=lambda module: (-module.priority, module.module))]


def _scripts_at(book: RuleBook, period_begin: int) -> tuple[Script, ...]:
    scripts = [entry.script for entry in book.scripts_in_order()]
    started = [script for script in scripts if script.start is None or script.start <= period_begin]
    return tuple(script for script in started if script.end is None or script.end > period_begin)


def _hashmap(book: RuleBook, frame: RatingFrame, inside: Sequence[_Way]) -> list[_Way]:
    """Mappings, thresholds and tiers over all points; gives those that have a price."""
    used: dict[str, Decimal] = {}
    for way in inside:
        _price(book, frame, way, used)
    return [way for way in inside if not way.error]


def _price(book: RuleBook, frame: RatingFrame, way: _Way, used: dict[str, Decimal]) -> None:
    """One point; `used` counts, by `tier_key`, what the points of the frame have used up to it."""
    point = way.point
    metric, qty, groupby, metadata = point.metric, point.qty, point.groupby, point.metadata
    traced = trace_hashmap(book, frame.scope_id, frame.period_begin, metric, qty, groupby, metadata, point.price)
    way.error = traced.error
    price, counted = traced.price, None
    service = book.service_named(metric)
    tiers = book.tiers_of(service.service_id) if service is not None else None
    if tiers is not None and not way.error:
        key = tier_key(metric, tiers.by, groupby, metadata)
        here = used.get(key, _ZERO)
        try:
            price, counted = _tiered(tiers, point, price, add_used(frame.used.get(key, _ZERO), here))
            used[key] = add_used(here, qty)
        except Overflow:
            way.error = str(UnratableError(metric, f"quantity {qty} makes a price beyond all bounds: correct it"))
    note = ""
    if service is None:
        note = f"there are no rules for metric {metric}"
    elif counted is None and not traced.rules and not way.error:
        note = "no rule speaks of this point"
    after = None if way.error else number_of(price)
    before = number_of(point.price)
    way.steps.append(ModuleStep(HASHMAP, before, after, traced.rules, traced.groups, counted, note=note))
    way.point = msgspec.structs.replace(point, price=price)


def _tiered(tiers: Tiers, point: RatingPoint, price: Decimal, used: Decimal) -> tuple[Decimal, TierCount]:
    """The price with what the point costs by its tiers. Raises decimal.Overflow."""
    parts: list[TierPart] = []
    for step, qty in tier_parts(tiers, used, point.qty):
        number = tiers.steps.index(step)
        floor = tiers.steps[number - 1].up_to if number else None
        amount = _context.multiply(qty, step.cost)
        price = _context.add(price, amount)
        parts.append(
            TierPart(
                above=None if floor is None else number_of(floor),
                up_to=None if step.up_to is None else number_of(step.up_to),
                qty=number_of(qty),
                cost=number_of(step.cost),
                amount=number_of(amount),
                price=number_of(price),
            )
        )
    labels: dict[str, LabelValue] = {**point.metadata, **point.groupby}
    by = {name: labels[name] for name in tiers.by if name in labels}
    return price, TierCount(by, number_of(used), parts)


def _follow(
    name: str, scripts: list[str], before: Sequence[_Way], points: Sequence[RatingPoint]
) -> tuple[list[_Way], list[_Way]]:
    """Brings the points that a module gave back together with those it was shown: all of them, and those it made."""
    known: dict[object, list[_Way]] = {}
    for way in before:
        known.setdefault(_identity(way.point), []).append(way)
    inside: list[_Way] = []
    made: list[_Way] = []
    for point in points:
        same = known.get(_identity(point))
        if same:
            way = same.pop(0)
            way.steps.append(_changed(name, scripts, way.point, point))
        else:
            way = _Way(point, added=True)
            note = "made by this module"
            way.steps.append(ModuleStep(name, "0", number_of(point.price), scripts=scripts, note=note))
            made.append(way)
        way.point = point
        inside.append(way)
    for way in (way for ways in known.values() for way in ways):
        way.steps.append(ModuleStep(name, number_of(way.point.price), None, scripts=scripts))
        way.dropped = True
    return inside, made


def _identity(point: RatingPoint) -> object:
    """By what a point is known again: its place in the frame, or, of one that a module made, its labels."""
    return point.origin if point.origin >= 0 else repr((point.metric, point.groupby, point.metadata))


def _changed(name: str, scripts: list[str], before: RatingPoint, after: RatingPoint) -> ModuleStep:
    changes = [
        f"{what} {old} -> {new}"
        for what, old, new in (
            ("metric", before.metric, after.metric),
            ("unit", before.unit, after.unit),
            ("qty", number_of(before.qty), number_of(after.qty)),
            ("groupby", before.groupby, after.groupby),
            ("metadata", before.metadata, after.metadata),
        )
        if old != new
    ]
    return ModuleStep(name, number_of(before.price), number_of(after.price), scripts=scripts, changes=changes)
