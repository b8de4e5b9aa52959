"""The rating modules of a rule book in their order, over the points of one frame.

Modules are `hashmap` (mappings and thresholds, or graduated tiers), `pyscripts`, `noop`, which does nothing, and those
of third parties. The highest priority comes first, equal ones by name, as with CloudKitty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal, Overflow, localcontext
from typing import TypeAlias

import msgspec

from rater.model.errors import RejectedError
from rater.model.labels import check_labels
from rater.model.rules import Script, Tiers
from rater.rating.book import RuleBook
from rater.rating.frame import Failed, Module, Rated, RatingFrame, RatingPoint, ScriptJob, ScriptRunner, UnratedPoint
from rater.rating.hashmap import MODULE, PRICE_CONTEXT, Compiler, UnratableError
from rater.rating.tiers import add_used, tier_key, tier_price

__all__ = ["BUILT_IN", "HASHMAP", "NOOP", "PYSCRIPTS", "Chain", "NoScripts", "run_module"]

HASHMAP = MODULE
PYSCRIPTS = "pyscripts"
NOOP = "noop"
BUILT_IN = (HASHMAP, NOOP, PYSCRIPTS)

_ZERO = Decimal(0)
MAX_NAME = 255  # characters of a metric or a unit
MAX_REASON = 500

_Step: TypeAlias = Callable[[RatingFrame, ScriptRunner], Rated | Failed | None]


class NoScripts:
    """A `ScriptRunner` for where none is: a frame that needs one fails."""

    def run(self, job: ScriptJob) -> Failed:
        """Always the same failure."""
        return Failed(PYSCRIPTS, job.scripts[0].name, 0, "scripts cannot run here")


class Chain:
    """Rates frames by one rule book. Never changes; keeps compiled rules, so it is kept as long as the book counts."""

    def __init__(self, book: RuleBook, modules: Mapping[str, Module] | None = None) -> None:
        self.version = book.version
        self._book = book
        self._modules = modules or {}
        self._compiler = Compiler(book)
        self._scripts = [entry.script for entry in book.scripts_in_order()]
        self._tiers = {
            service.name: tiers
            for service in book.services.values()
            if (tiers := book.tiers_of(service.service_id)) is not None
        }
        enabled = [module for module in book.modules.values() if module.enabled and module.module != NOOP]
        enabled.sort(key=lambda module: (-module.priority, module.module))
        self.order = tuple(module.module for module in enabled)
        """Names of the modules that are on, the first one first."""
        self._steps = [self._step(name) for name in self.order]

    @property
    def has_tiers(self) -> bool:
        """Whether prices of a frame depend on what was used before it in its month."""
        return bool(self._tiers) and HASHMAP in self.order

    def tiers_of(self, metric: str) -> Tiers | None:
        """The graduated prices of a metric, if it has some and they are on."""
        return self._tiers.get(metric) if HASHMAP in self.order else None

    def scripts_at(self, period_begin: int) -> tuple[Script, ...]:
        """The scripts that run for a period that begins then, in order; none if the module is off."""
        if PYSCRIPTS not in self.order:
            return ()
        return tuple(script for script in self._scripts if _is_valid(script, period_begin))

    def rate(self, frame: RatingFrame, scripts: ScriptRunner) -> Rated | Failed | None:
        """The frame after all modules. None if scripts have to run first: ask again with an equal frame.

        Points that no rule can read are among `unrated` and in no later module. A frame without points is not shown
        to any module.
        """
        rated = Rated(list(frame.points))
        for step in self._steps if frame.points else ():
            outcome = step(msgspec.structs.replace(frame, points=tuple(rated.points)), scripts)
            if not isinstance(outcome, Rated):
                return outcome
            rated = Rated(outcome.points, rated.unrated + outcome.unrated, outcome.used or rated.used)
        return rated

    def _step(self, name: str) -> _Step:
        if name == HASHMAP:
            return self._hashmap
        if name == PYSCRIPTS:
            return self._pyscripts
        module = self._modules.get(name)
        if module is None:
            missing = Failed(name, "", 0, "it is not installed here: install the package that has it, or switch it off")
            return lambda _frame, _scripts: missing
        return lambda frame, _scripts: run_module(name, module, frame, self._book)

    def _hashmap(self, frame: RatingFrame, _scripts: ScriptRunner) -> Rated:
        price_of = self._compiler.plan(frame.scope_id, frame.period_begin).price_in_context
        points: list[RatingPoint] = []
        unrated: list[UnratedPoint] = []
        used: dict[str, Decimal] = {}
        with localcontext(PRICE_CONTEXT):
            for point in frame.points:
                metric, unit, qty, before, groupby, metadata = (
                    point.metric, point.unit, point.qty, point.price, point.groupby, point.metadata
                )  # fmt: skip
                try:
                    price = price_of(metric, qty, groupby, metadata, before)
                    tiers = self._tiers.get(metric)
                    if tiers is not None:
                        price = _tiered(tiers, point, price, frame.used, used)
                except UnratableError as fault:
                    unrated.append(UnratedPoint(point, str(fault)))
                    continue
                points.append(RatingPoint(metric, unit, qty, price, groupby, metadata, point.origin))
        return Rated(points, unrated, used)

    def _pyscripts(self, frame: RatingFrame, scripts: ScriptRunner) -> Rated | Failed | None:
        chosen = self.scripts_at(frame.period_begin)
        if not chosen:
            return Rated(list(frame.points))
        done = scripts.run(ScriptJob(chosen, frame))
        return done if done is None or isinstance(done, Failed) else Rated(done.points)


def _tiered(
    tiers: Tiers, point: RatingPoint, price: Decimal, before: Mapping[str, Decimal], used: dict[str, Decimal]
) -> Decimal:
    """Adds what the point costs by its tiers, and counts it."""
    key = tier_key(point.metric, tiers.by, point.groupby, point.metadata)
    here = used.get(key, _ZERO)
    try:
        price = tier_price(tiers, add_used(before.get(key, _ZERO), here), point.qty, price)
    except Overflow:
        raise UnratableError(
            point.metric, f"quantity {point.qty} makes a price beyond all bounds: correct it"
        ) from None
    used[key] = add_used(here, point.qty)
    return price


def _is_valid(script: Script, period_begin: int) -> bool:
    return (script.start is None or script.start <= period_begin) and (script.end is None or script.end > period_begin)


def run_module(name: str, module: Module, frame: RatingFrame, book: RuleBook) -> Rated | Failed:
    """What a module of a third party makes of a frame; whatever it does wrong fails the frame."""
    try:
        points = list(module(frame, book))
        fault = _fault(points, {point.origin for point in frame.points})
    except Exception as error:  # noqa: BLE001  code that is not ours: whatever it raises fails this frame alone
        fault = f"{type(error).__name__}: {error}"[:MAX_REASON]
    return Failed(name, "", 0, fault) if fault else Rated(points)


def _fault(points: Sequence[object], origins: Collection[int]) -> str:
    """Why these cannot be the points of a frame that had points of these origins; empty if they can."""
    for number, point in enumerate(points):
        if not isinstance(point, RatingPoint):
            return f"point {number} is a {type(point).__name__}, not a RatingPoint"
        fault = _point_fault(point)
        if not fault and (type(point.origin) is not int or (point.origin != -1 and point.origin not in origins)):
            fault = f"its origin is {point.origin!r:.100}: that of a point of the frame is needed, or -1 for a new one"
        if fault:
            return f"point {number} of metric {point.metric!r:.100}: {fault}"
    return ""


def _point_fault(point: RatingPoint) -> str:
    for name, amount in (("qty", point.qty), ("price", point.price)):
        if not isinstance(amount, Decimal) or not amount.is_finite():
            return f"its {name} is {amount!r:.100}, not a finite Decimal"
    for name, text in (("metric", point.metric), ("unit", point.unit)):
        if not isinstance(text, str) or not 0 < len(text) <= MAX_NAME:
            return f"its {name} is {text!r:.100}: a text of 1 to {MAX_NAME} characters is needed"
    for labels in (point.groupby, point.metadata):
        for label, value in labels.items():
            if not isinstance(label, str) or not isinstance(value, str | int | float | None):
                return f"its label {label!r:.100} is {value!r:.100}: names are text, values text, numbers or null"
        try:
            check_labels(labels)
        except RejectedError as fault:
            return str(fault)
    return ""
