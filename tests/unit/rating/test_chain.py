"""The modules of a book in their order: what each is given, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest

from rater.model.rules import (
    Field,
    FieldCreated,
    MappingCreated,
    MappingRule,
    ModuleSet,
    Script,
    ScriptCreated,
    ScriptDeleted,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
    Tiers,
    TiersSet,
    TierStep,
)
from rater.rating import (
    Chain,
    Failed,
    NoScripts,
    Rated,
    RatingFrame,
    RatingPoint,
    RuleBook,
    ScriptDone,
    ScriptJob,
    tier_key,
)
from tests.unit.rating.builders import applied, uid

ZERO, ONE = Decimal(0), Decimal(1)
CPU = (ServiceCreated(Service(uid(1), "cpu")), MappingCreated(MappingRule(uid(2), Decimal(2), service_id=uid(1))))
EGRESS = (
    ServiceCreated(Service(uid(3), "egress")),
    TiersSet(Tiers(uid(3), (TierStep(Decimal(1), Decimal(10)), TierStep(Decimal("0.5"))), ("region",))),
)
REBATE = ScriptCreated(Script(uid(8), "rebate", "data"))
ON = ModuleSet("hashmap", True)


def point(metric: str = "cpu", qty: str = "1", **labels: Any) -> RatingPoint:
    return RatingPoint(metric, "u", Decimal(qty), ZERO, labels, {}, 0)


def frame(*points: RatingPoint, **changes: Any) -> RatingFrame:
    numbered = tuple(msgspec.structs.replace(found, origin=number) for number, found in enumerate(points))
    return msgspec.structs.replace(RatingFrame("A", 0, 3600, numbered), **changes)


def prices(outcome: Rated | Failed | None) -> list[Decimal]:
    assert isinstance(outcome, Rated), outcome
    return [found.price for found in outcome.points]


class Runner:
    """Runs no script: answers what the test says, and keeps the jobs."""

    def __init__(self, answer: Callable[[ScriptJob], ScriptDone | Failed | None]) -> None:
        self.jobs: list[ScriptJob] = []
        self._answer = answer

    def run(self, job: ScriptJob) -> ScriptDone | Failed | None:
        self.jobs.append(job)
        return self._answer(job)


def doubled(job: ScriptJob) -> ScriptDone:
    return ScriptDone([msgspec.structs.replace(p, price=p.price * 2) for p in job.frame.points])


def add_one(given: RatingFrame, _: RuleBook) -> Iterable[RatingPoint]:
    return [msgspec.structs.replace(p, price=p.price + 1) for p in given.points]


def test_without_modules_points_pass_unchanged() -> None:
    # given a book with rules, and every module off
    chain = Chain(applied(RuleBook.empty(), *CPU, *EGRESS, REBATE, ModuleSet("noop", True)))

    # then
    assert chain.rate(frame(point()), NoScripts()) == Rated(list(frame(point()).points))
    assert (chain.order, chain.has_tiers, chain.tiers_of("egress"), chain.scripts_at(0)) == ((), False, None, ())


def test_the_highest_priority_comes_first_and_equal_ones_by_name() -> None:
    book = applied(
        RuleBook.empty(), ModuleSet("pyscripts", True, 2), ModuleSet("b", True, 2), ON, ModuleSet("off", False, 9)
    )
    assert Chain(book).order == ("b", "pyscripts", "hashmap")


@pytest.mark.parametrize(("priority", "before", "price"), [(2, 0, 2), (1, 2, 4)])
def test_each_module_goes_on_from_the_price_before_it(priority: int, before: int, price: int) -> None:
    # given hashmap, which adds 2, and a script that doubles, before or after it (equal priorities: by name)
    runner = Runner(doubled)
    chain = Chain(applied(RuleBook.empty(), ON, *CPU, REBATE, ModuleSet("pyscripts", True, priority)))

    # then
    assert prices(chain.rate(frame(point()), runner)) == [price]
    assert runner.jobs[0].frame.points[0].price == before
    assert [script.name for script in runner.jobs[0].scripts] == ["rebate"]


def test_a_frame_waits_for_its_scripts() -> None:
    chain = Chain(applied(RuleBook.empty(), REBATE, ModuleSet("pyscripts", True)))
    assert chain.rate(frame(point()), Runner(lambda _: None)) is None


def test_without_a_runner_a_script_fails_its_frame() -> None:
    chain = Chain(applied(RuleBook.empty(), REBATE, ModuleSet("pyscripts", True)))
    outcome = chain.rate(frame(point()), NoScripts())
    assert outcome == Failed("pyscripts", "rebate", 0, "scripts cannot run here")
    assert outcome.text() == "script 'rebate': scripts cannot run here"
    assert msgspec.structs.replace(outcome, line=3).text() == "script 'rebate', line 3: scripts cannot run here"


def test_only_scripts_that_are_valid_at_the_begin_run_in_order() -> None:
    # given
    book = applied(
        RuleBook.empty(),
        ModuleSet("pyscripts", True),
        ScriptCreated(Script(uid(1), "always", "1")),
        ScriptCreated(Script(uid(2), "later", "2", start=3600)),
        ScriptCreated(Script(uid(3), "before", "3", end=3600)),
        ScriptCreated(Script(uid(4), "deleted", "4")),
        ScriptDeleted(uid(4)),
    )
    chain = Chain(book)

    # then
    assert [script.name for script in chain.scripts_at(0)] == ["always", "before"]
    assert [script.name for script in chain.scripts_at(3599)] == ["always", "before"]
    assert [script.name for script in chain.scripts_at(3600)] == ["always", "later"]


def test_a_module_without_scripts_at_that_time_runs_nothing() -> None:
    runner = Runner(doubled)
    book = applied(
        RuleBook.empty(), ModuleSet("pyscripts", True), ScriptCreated(Script(uid(2), "later", "2", start=3600))
    )
    assert prices(Chain(book).rate(frame(point()), runner)) == [0]
    assert runner.jobs == []


def test_a_frame_without_points_is_shown_to_no_module() -> None:
    runner = Runner(lambda _: Failed("pyscripts", "rebate", 1, "boom"))
    chain = Chain(applied(RuleBook.empty(), REBATE, ModuleSet("pyscripts", True)))
    assert chain.rate(frame(), runner) == Rated([])


def test_a_point_that_no_rule_can_read_is_put_aside() -> None:
    # given a threshold on a label that holds text, and a script after it
    book = applied(
        RuleBook.empty(),
        ON,
        *CPU,
        FieldCreated(Field(uid(4), uid(1), "ram")),
        ThresholdCreated(ThresholdRule(uid(5), Decimal(1), ONE, field_id=uid(4))),
        REBATE,
        ModuleSet("pyscripts", True),
    )
    runner = Runner(doubled)

    # when
    outcome = Chain(book).rate(frame(point(ram="n/a"), point(ram="0")), runner)

    # then
    assert prices(outcome) == [4]
    assert isinstance(outcome, Rated)
    (unrated,) = outcome.unrated
    assert unrated.point.groupby == {"ram": "n/a"}
    assert "is no number" in unrated.reason
    assert [p.groupby for p in runner.jobs[0].frame.points] == [{"ram": "0"}]


def test_tiers_count_on_from_what_was_used_before() -> None:
    # given
    chain = Chain(applied(RuleBook.empty(), ON, *EGRESS))
    eu, us = (
        tier_key("egress", ("region",), {"region": "eu"}, {}),
        tier_key("egress", ("region",), {"region": "us"}, {}),
    )

    # when 8 units of eu were used, and 3 + 4 come
    points = frame(*(point("egress", qty, region=region) for qty, region in (("3", "eu"), ("4", "us"), ("4", "eu"))))
    outcome = chain.rate(msgspec.structs.replace(points, used={eu: Decimal(8)}), NoScripts())

    # then 2 cost 1 and 1 costs 0.5; the next 4 cost 0.5
    assert prices(outcome) == [Decimal("2.5"), 4, 2]
    assert isinstance(outcome, Rated)
    assert outcome.used == {eu: 7, us: 4}
    assert chain.has_tiers
    assert chain.tiers_of("egress") == EGRESS[1].tiers


@pytest.mark.parametrize("qty", ["9e999999", "NaN"])
def test_a_tier_price_beyond_all_bounds_puts_the_point_aside(qty: str) -> None:
    tiers = TiersSet(Tiers(uid(3), (TierStep(Decimal(20)),)))
    chain = Chain(applied(RuleBook.empty(), ON, EGRESS[0], tiers))
    outcome = chain.rate(frame(point("egress", qty), point("egress", "1")), NoScripts())
    assert prices(outcome) == [20]
    assert isinstance(outcome, Rated)
    assert outcome.unrated[0].reason.startswith("metric 'egress': ")
    assert "bounds" in outcome.unrated[0].reason or "NaN" in outcome.unrated[0].reason


def test_a_module_of_a_third_party_takes_part() -> None:
    # given
    seen: list[tuple[RatingFrame, RuleBook]] = []

    def plus(given: RatingFrame, rules: RuleBook) -> Iterable[RatingPoint]:
        seen.append((given, rules))
        return add_one(given, rules)

    book = applied(RuleBook.empty(), ON, *CPU, ModuleSet("plus", True))
    chain = Chain(book, {"plus": plus})

    # then it is shown the frame as hashmap left it, and the rules
    assert prices(chain.rate(frame(point()), NoScripts())) == [3]
    ((given, rules),) = seen
    assert rules is book
    assert given == frame(msgspec.structs.replace(point(), price=Decimal(2)))
    assert chain.version == book.version == 1


def test_rules_are_those_of_the_scope_and_of_the_begin_of_the_period() -> None:
    # given 2 for everybody, 3 for B, and 5 from the second hour on for C
    book = applied(
        RuleBook.empty(),
        ON,
        *CPU,
        MappingCreated(MappingRule(uid(5), Decimal(3), service_id=uid(1), tenant_id="B")),
        MappingCreated(MappingRule(uid(6), Decimal(5), service_id=uid(1), tenant_id="C", start=3600)),
    )
    chain = Chain(book)

    # then
    for scope, begin, price in (("A", 0, 2), ("B", 0, 3), ("C", 0, 2), ("C", 3600, 5), (None, 3600, 2)):
        given = frame(point(), scope_id=scope, period_begin=begin, period_end=begin + 3600)
        assert prices(chain.rate(given, NoScripts())) == [price]


def test_labels_count_whether_they_can_be_grouped_by_or_not() -> None:
    flavor = (
        FieldCreated(Field(uid(4), uid(1), "flavor")),
        MappingCreated(MappingRule(uid(5), Decimal(7), value="big", field_id=uid(4))),
    )
    chain = Chain(applied(RuleBook.empty(), ON, CPU[0], *flavor))
    grouped = point(flavor="big")
    shown = msgspec.structs.replace(grouped, groupby={}, metadata=grouped.groupby)
    assert prices(chain.rate(frame(grouped, shown, point()), NoScripts())) == [7, 7, 0]


def test_the_precision_around_a_chain_means_nothing() -> None:
    chain = Chain(applied(RuleBook.empty(), ON, *CPU))
    with localcontext(prec=3):
        assert prices(chain.rate(frame(point(qty="1.23456789")), NoScripts())) == [Decimal("2.46913578")]


def test_tiers_add_to_the_price_of_modules_before_them() -> None:
    book = applied(RuleBook.empty(), ON, *EGRESS, ModuleSet("plus", True, 2))
    assert prices(Chain(book, {"plus": add_one}).rate(frame(point("egress")), NoScripts())) == [2]


def test_a_module_that_is_not_installed_fails_the_frame() -> None:
    outcome = Chain(applied(RuleBook.empty(), ModuleSet("plus", True))).rate(frame(point()), NoScripts())
    assert isinstance(outcome, Failed)
    assert outcome.text() == (
        "module 'plus': it is not installed here: install the package that has it, or switch it off"
    )


def test_a_module_that_raises_fails_the_frame() -> None:
    def broken(given: RatingFrame, book: RuleBook) -> Iterable[RatingPoint]:
        raise ZeroDivisionError("x" * 600)

    outcome = Chain(applied(RuleBook.empty(), ModuleSet("plus", True)), {"plus": broken}).rate(
        frame(point()), NoScripts()
    )
    assert outcome == Failed("plus", "", 0, ("ZeroDivisionError: " + "x" * 600)[:500])


GOOD = point()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("text", "point 1 is a str, not a RatingPoint"),
        (msgspec.structs.replace(GOOD, qty=1.5), "point 1 of metric 'cpu': its qty is 1.5, not a finite Decimal"),
        (
            msgspec.structs.replace(GOOD, price=Decimal("NaN")),
            "point 1 of metric 'cpu': its price is Decimal('NaN'), not a finite Decimal",
        ),
        (
            msgspec.structs.replace(GOOD, metric=""),
            "point 1 of metric '': its metric is '': a text of 1 to 255 characters is needed",
        ),
        (
            msgspec.structs.replace(GOOD, unit=None),
            "point 1 of metric 'cpu': its unit is None: a text of 1 to 255 characters is needed",
        ),
        (
            msgspec.structs.replace(GOOD, origin=7),
            "point 1 of metric 'cpu': its origin is 7: that of a point of the frame is needed, or -1 for a new one",
        ),
        (
            msgspec.structs.replace(GOOD, origin=None),
            "point 1 of metric 'cpu': its origin is None: that of a point of the frame is needed, or -1 for a new one",
        ),
        (
            msgspec.structs.replace(GOOD, groupby={1: "a"}),
            "point 1 of metric 'cpu': its label 1 is 'a': names are text, values text, numbers or null",
        ),
        (
            msgspec.structs.replace(GOOD, metadata={"a": []}),
            "point 1 of metric 'cpu': its label 'a' is []: names are text, values text, numbers or null",
        ),
        (
            msgspec.structs.replace(GOOD, metadata={"a": float("inf")}),
            "point 1 of metric 'cpu': label 'a' is inf: a label must be a text, a finite number of 64 bits, a boolean "
            "or null",
        ),
    ],
)
def test_what_a_module_gives_back_is_checked(bad: object, reason: str) -> None:
    chain = Chain(applied(RuleBook.empty(), ModuleSet("plus", True)), {"plus": lambda _f, _b: [GOOD, bad]})  # type: ignore[list-item]  # what is tested
    assert chain.rate(frame(point()), NoScripts()) == Failed("plus", "", 0, reason)


def test_names_of_255_characters_are_taken() -> None:
    long = msgspec.structs.replace(GOOD, metric="m" * 255, unit="u" * 255)
    chain = Chain(applied(RuleBook.empty(), ModuleSet("plus", True)), {"plus": lambda _f, _b: [long]})
    assert chain.rate(frame(point()), NoScripts()) == Rated([long])
