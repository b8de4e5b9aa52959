"""Explanations: every rule that had a say, what beat the others, and every module on the way to the price."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec
import pytest

from rater.model.rules import (
    MappingRule,
    MappingUpdated,
    ModuleSet,
    Script,
    ScriptCreated,
    Service,
    ServiceCreated,
    Tiers,
    TiersSet,
    TierStep,
)
from rater.rating import (
    Chain,
    Failed,
    Module,
    NoScripts,
    Rated,
    RatingFrame,
    RatingPoint,
    RuleBook,
    ScriptDone,
    ScriptJob,
)
from rater.rating.explain import Explained, explain, explain_frame
from rater.rating.explanation import Explanation, ModuleStep, RuleStep, explanation_text, number_of
from tests.unit.rating.builders import METRIC, applied, book_of, uid

T = 1_500
Change = Callable[[tuple[RatingPoint, ...]], Iterable[RatingPoint]]


def a_point(qty: str = "1", metric: str = METRIC, **labels: str | float | None) -> RatingPoint:
    return RatingPoint(metric, "GiB", Decimal(qty), Decimal(0), {}, dict(labels))


def a_frame(*points: RatingPoint, **used: Decimal) -> RatingFrame:
    numbered = tuple(msgspec.structs.replace(point, origin=number) for number, point in enumerate(points))
    return RatingFrame("A", T, T + 3600, numbered, used)


def explained(book: RuleBook, point: RatingPoint) -> Explanation:
    found = explain(book, a_frame(point), 0, NoScripts())
    assert isinstance(found, Explanation)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
    return found


def rules_of(found: Explanation) -> list[tuple[str, str, str]]:
    """Outcome, cost and reason of each rule, in order."""
    return [(rule.outcome, rule.cost, rule.because) for rule in found.steps[0].rules]


def costing(found: Explanation, cost: str) -> RuleStep:
    return next(rule for rule in found.steps[0].rules if rule.cost == cost)


def test_every_number_on_the_way_is_told() -> None:
    # given
    book = book_of(
        "svc flat 2 @g", "az=x rate 1.5 @g", "os=win flat 3 @h", "thr ram>=64 flat 0.5 @g", "thr svc>=2 rate 0.9 @h"
    )
    # when
    found = explained(book, a_point("2", az="x", os="win", ram="64"))
    # then
    assert explanation_text(found).splitlines() == [
        "compute: 2 GiB  az=x, os=win, ram=64",
        "  hashmap: price 0 -> 12.9",
        "    every point: flat 2 (group g) -> flat 2, rate 1",
        "    quantity 2 >= 2: rate 0.9 (group h) -> flat 0, rate 1, level 2",
        "    az = x: rate 1.5 (group g) -> flat 2, rate 1.5",
        "    os = win: flat 3 (group h) -> flat 3, rate 1, level 2",
        "    ram 64 >= 64: flat 0.5 (group g) -> flat 2, rate 1.5, level 64",
        "    group g: flat 2 + threshold 0.5 = 2.5; rate 1.5 x flat 2.5 = 3.75; 3.75 x quantity 2 = 7.5",
        "    group h: rate 1 x flat 3 = 3; 3 x quantity 2 = 6; 6 x threshold 0.9 = 5.4; price so far 12.9",
        "price 12.9",
    ]
    assert found.price == "12.9"


def test_what_beat_a_mapping_is_named() -> None:
    # given
    book = book_of(
        "svc flat 0.2 @g",
        "flavor=m1 flat 0.5 @g",
        "flavor=m1 flat 0.6 @g",
        "flavor=m1 flat 0.4 @g [A]",
        "flavor=m1 flat 0.7 @g [B]",
        "flavor=m1 flat 0.9 @g from 1501",
        "flavor=m1 flat 0.8 @g from 100 until 1500",
        "flavor=m2 flat 5 @g until 1000",
        "os=win flat 0.3 @g",
        "os=win flat -1 @h",
    )
    # when
    found = explained(book, a_point("2", flavor="m1", os="win"))
    # then
    assert rules_of(found) == [
        ("beaten", "0.2", "a dearer flat price of its group counts"),
        ("beaten", "0.5", "tenant A has its own rule for this value"),
        ("beaten", "0.6", "tenant A has its own rule for this value"),
        ("counts", "0.4", ""),
        ("not valid then", "0.9", "it is valid from 1970-01-01T00:25:01Z"),
        ("not valid then", "0.8", "it is valid from 1970-01-01T00:01:40Z until 1970-01-01T00:25:00Z"),
        ("beaten", "0.3", "its group has a flat price as high or higher"),
        ("beaten", "-1", "a flat price of zero or less never counts"),
    ]
    ids = {str(rule.cost): rule.mapping_id for rule in (entry.rule for entry in book.mappings.values())}
    flavor = {"kind": "mapping", "type": "flat", "group": "g", "field": "flavor", "value": "m1"}
    assert found.steps[0].rules[1] == RuleStep(
        outcome="beaten", cost="0.5", rule_id=ids["0.5"], because="tenant A has its own rule for this value",
        beaten_by=ids["0.4"], **flavor,
    )  # fmt: skip
    assert found.steps[0].rules[3] == RuleStep(
        outcome="counts", cost="0.4", rule_id=ids["0.4"], tenant_id="A", flat="0.4", rate="1", **flavor
    )
    assert found.steps[0].rules[4] == RuleStep(
        outcome="not valid then",
        cost="0.9",
        rule_id=ids["0.9"],
        because="it is valid from 1970-01-01T00:25:01Z",
        **flavor,
    )
    system = {"outcome": "beaten", "kind": "mapping", "type": "flat", "field": "os", "value": "win", "rate": "1"}
    assert found.steps[0].rules[6:] == [
        RuleStep(
            cost="0.3", group="g", rule_id=ids["0.3"], because="its group has a flat price as high or higher",
            beaten_by=ids["0.4"], flat="0.4", **system,
        ),
        RuleStep(
            cost="-1", group="h", rule_id=ids["-1"], because="a flat price of zero or less never counts", flat="0",
            **system,
        ),
    ]  # fmt: skip
    winner = costing(found, "0.4")
    assert {costing(found, cost).beaten_by for cost in ("0.2", "0.5", "0.6", "0.3")} == {winner.rule_id}
    assert winner.tenant_id == "A"
    assert "    [beaten] os = win: flat 0.3 (group g): its group has a" in explanation_text(found)
    assert "flavor = m1: flat 0.4 (group g, tenant A) -> flat 0.4, rate 1" in explanation_text(found)
    # when two are as dear, the first one counts, from its first period on
    found = explained(book_of(f"svc flat 2 @g from {T}", "flavor=m1 flat 2 @g"), a_point(flavor="m1"))
    # then
    assert [outcome for outcome, _, _ in rules_of(found)] == ["counts", "beaten"]
    # when nobody has an own rule, the later one of two stands
    found = explained(book_of("flavor=m1 flat 5 @g", "flavor=m1 flat 2 @g"), a_point(flavor="m1"))
    # then
    assert rules_of(found) == [("beaten", "5", "a later rule stands for the same value"), ("counts", "2", "")]


def test_what_beat_a_threshold_is_named() -> None:
    # given
    book = book_of(
        "svc flat 1 @g",
        "thr svc>=-1.5 flat 9 @g",
        "thr svc>=5 flat 1 @g",
        "thr svc>=10 flat 2 @g",
        "thr svc>=10 flat 3 @g",
        "thr svc>=10 rate 4 @g [A]",
        "thr svc>=11 flat 5 @g",
        "thr ram>=10 flat 6 @g",
    )
    # when
    found = explained(book, a_point("10", ram="20"))
    # then
    assert rules_of(found)[1:] == [
        ("beaten", "9", "levels up to -1 never count"),
        ("beaten", "1", "a higher level of its group is reached"),
        ("beaten", "2", "tenant A has its own rule for this level"),
        ("beaten", "3", "tenant A has its own rule for this level"),
        ("counts", "4", ""),
        ("beaten", "6", "its group has reached this level or a higher one"),
    ]
    assert found.price == "40"
    ids = {str(entry.rule.cost): entry.rule.threshold_id for entry in book.thresholds.values()}
    quantity = {"kind": "threshold", "group": "g", "value": "10"}
    rules = found.steps[0].rules
    assert rules[1] == RuleStep(
        outcome="beaten", type="flat", cost="9", rule_id=ids["9"], level="-1.5", because="levels up to -1 never count",
        flat="1", rate="1", **quantity,
    )  # fmt: skip
    assert rules[2] == RuleStep(
        outcome="beaten", type="flat", cost="1", rule_id=ids["1"], level="5", reached="5", beaten_by=ids["4"],
        because="a higher level of its group is reached", flat="1", rate="1", **quantity,
    )  # fmt: skip
    assert rules[3] == RuleStep(
        outcome="beaten", type="flat", cost="2", rule_id=ids["2"], level="10", beaten_by=ids["4"],
        because="tenant A has its own rule for this level", **quantity,
    )  # fmt: skip
    assert rules[5] == RuleStep(
        outcome="counts", type="rate", cost="4", rule_id=ids["4"], level="10", reached="10", tenant_id="A", flat="1",
        rate="1", **quantity,
    )  # fmt: skip
    assert rules[6] == RuleStep(
        outcome="beaten", type="flat", cost="6", rule_id=ids["6"], level="10", reached="10", beaten_by=ids["4"],
        because="its group has reached this level or a higher one", flat="1", rate="1", field="ram",
        **{**quantity, "value": "20"},
    )  # fmt: skip


def test_everybody_has_no_rules_of_a_tenant() -> None:
    found = explain(
        book_of("svc flat 2", "svc flat 1 [A]"), RatingFrame(None, T, T + 3600, (a_point(),)), 0, NoScripts()
    )
    assert isinstance(found, Explanation)
    assert rules_of(found) == [("counts", "2", "")]


def test_a_label_that_is_not_there_is_passed_over() -> None:
    found = explained(book_of("a=1 flat 2", "thr b>=5 flat 1", "c=3 flat 3"), a_point(c="3"))
    assert [(rule.field, rule.cost) for rule in found.steps[0].rules] == [("c", "3")]


def test_long_costs_are_rounded_before_they_are_multiplied() -> None:
    found = explained(book_of("svc flat 12345678901.2345678901234567890123456789"), a_point("3"))
    assert found.steps[0].groups[0].operations[0].what == "rate 1 x flat 12345678901.23456789012345679"


def test_thresholds_act_in_four_ways() -> None:
    for rule, price, done in (
        ("thr svc>=1 flat 7 @g", "11", ["rate 1 x flat 2", "2 x quantity 2", "4 + threshold 7"]),
        ("thr svc>=1 rate 7 @g", "28", ["rate 1 x flat 2", "2 x quantity 2", "4 x threshold 7"]),
        ("thr ram>=1 flat 7 @g", "18", ["flat 2 + threshold 7", "rate 1 x flat 9", "9 x quantity 2"]),
        ("thr ram>=1 rate 7 @g", "28", ["rate 1 x threshold 7", "rate 7 x flat 2", "14 x quantity 2"]),
    ):
        found = explained(book_of("svc flat 2 @g", rule), a_point("2", ram=1.0))
        assert found.price == price
        assert [operation.what for operation in found.steps[0].groups[0].operations] == done


def test_a_rule_is_called_by_its_name() -> None:
    # given
    book = book_of("svc flat 2")
    [entry] = book.mappings.values()
    named: MappingRule = msgspec.structs.replace(entry.rule, name="basic")
    # when
    found = explained(applied(book, MappingUpdated(named)), a_point())
    # then
    assert "every point: flat 2 (group _DEFAULT_, rule basic) -> flat 2, rate 1" in explanation_text(found)


@pytest.mark.parametrize("value", ["n/a", "", "NaN", None])
def test_a_point_that_no_rule_can_read_keeps_the_steps_up_to_there(value: str | None) -> None:
    # when
    found = explained(book_of("svc flat 2", "thr ram>=1 flat 1"), a_point(ram=value))
    # then
    assert found.price is None
    assert found.error == (
        f"metric 'compute': field 'ram' has thresholds, but its value {value!r} is no number: "
        "correct the source or the rules"
    )
    assert rules_of(found) == [("counts", "2", "")]
    assert explanation_text(found).splitlines()[1] == "  hashmap: price 0 -> none"
    assert explanation_text(found).splitlines()[-1] == f"no price: {found.error}"


def test_numbers_beyond_all_bounds_are_told() -> None:
    huge = a_point("1e999999")
    beyond = "quantity 1E+999999 makes a price beyond all bounds: correct it"
    found = explained(book_of("svc flat 10"), huge)
    assert (found.error, found.steps[0].groups) == (f"metric 'compute': {beyond}", [])
    assert [rule.cost for rule in found.steps[0].rules] == ["10"]
    found = explained(tiered("100"), msgspec.structs.replace(huge, metric="traffic"))
    assert (found.error, found.steps[0].tiers) == (f"metric 'traffic': {beyond}", None)
    found = explained(book_of("svc flat 2"), a_point("NaN"))
    assert found.error == "metric 'compute': its quantity is NaN, which is no finite number: correct the source"
    assert (found.steps[0].rules, found.steps[0].groups, found.steps[0].note) == ([], [], "")


def test_points_without_rules_say_so() -> None:
    assert explained(book_of("svc flat 2"), a_point(metric="other")).steps[0].note == (
        "there are no rules for metric other"
    )
    found = explained(book_of("flavor=m1 flat 2"), a_point(flavor="m2"))
    assert (found.steps[0].note, found.price) == ("no rule speaks of this point", "0")
    assert "    no rule speaks of this point" in explanation_text(found)
    assert explanation_text(explained(RuleBook.empty(), a_point())).splitlines() == [
        "compute: 1 GiB",
        "  no rating module is on",
        "price 0",
    ]


def tiered(cost: str = "0.07", *by: str) -> RuleBook:
    """A book with graduated prices of metric `traffic`."""
    steps = (TierStep(Decimal("0.09"), Decimal(10)), TierStep(Decimal("0.08"), Decimal(20)), TierStep(Decimal(cost)))
    return applied(book_of(), ServiceCreated(Service(uid(900), "traffic")), TiersSet(Tiers(uid(900), steps, tuple(by))))


def test_a_quantity_over_several_tiers() -> None:
    # given
    point = a_point("15", "traffic", region="r1")
    # when
    found = explain_frame(tiered("0.07", "region", "none"), a_frame(point, point), NoScripts())
    # then
    assert isinstance(found, list)
    assert [one.explanation.price for one in found] == ["1.3", "1.1"]
    assert explanation_text(found[1].explanation).splitlines() == [
        "traffic: 15 GiB  region=r1",
        "  hashmap: price 0 -> 1.1",
        "    used of region=r1 this month before: 15",
        "    above 10 up to 20: 5 x 0.08 = 0.4; price so far 0.4",
        "    above 20: 10 x 0.07 = 0.7; price so far 1.1",
        "price 1.1",
    ]
    # and what was used before the frame counts
    used = {'["traffic",["r1",null]]': Decimal(20)}
    [one] = frame_by(list, point, book=tiered("0.07", "region", "none"), used=used)
    assert one.explanation.price == "1.05"
    # and without labels there is one count, and without an end one step
    book = applied(tiered(), TiersSet(Tiers(uid(900), (TierStep(Decimal(2)),))))
    text = explanation_text(explained(book, point))
    assert "    used this month before: 0\n    any quantity: 15 x 2 = 30; price so far 30" in text
    text = explanation_text(
        explained(tiered("1", "zone", "region"), msgspec.structs.replace(point, groupby={"zone": "z"}))
    )
    assert "    used of zone=z, region=r1 this month before: 0\n    up to 10: 10 x 0.09" in text


class Scripts:
    """A runner that runs one function in the place of all scripts."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def run(self, job: ScriptJob) -> ScriptDone:
        assert job.scripts, "it is not asked for nothing"
        return ScriptDone(list(self._change(job.frame.points)))


def scripted(book: RuleBook, *scripts: Script) -> RuleBook:
    return applied(book, ModuleSet("pyscripts", True), *map(ScriptCreated, scripts))


REBATE = Script(uid(70), "rebate", "")


def frame_by(
    change: Change,
    *points: RatingPoint,
    book: RuleBook | None = None,
    modules: dict[str, Module] | None = None,
    used: dict[str, Decimal] | None = None,
) -> list[Explained]:
    """All explanations, told and sent; the chain comes to the same points."""
    book = book or scripted(book_of("svc flat 2"), REBATE)
    frame = a_frame(*points, **(used or {}))
    found = explain_frame(book, frame, Scripts(change), modules)
    rated = Chain(book, modules).rate(frame, Scripts(change))
    for one in found if isinstance(found, list) else ():
        told = one.explanation
        assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told
    assert isinstance(found, list)
    assert isinstance(rated, Rated)
    assert sorted(map(repr, rated.points)) == sorted(repr(one.point) for one in found if one.point)
    return found


def test_scripts_are_one_step() -> None:
    # when
    [found] = frame_by(
        lambda points: [
            msgspec.structs.replace(point, price=Decimal("1.5"), qty=Decimal(3), unit="GB") for point in points
        ],
        a_point(),
        book=scripted(
            book_of("svc flat 2"),
            REBATE,
            Script(uid(71), "later", "", start=T + 1),
            Script(uid(72), "over", "", end=T),
            Script(uid(73), "now", "", start=T, end=T + 1),
        ),
    )
    # then
    assert explanation_text(found.explanation).splitlines()[-4:] == [
        "  pyscripts (rebate, now): price 2 -> 1.5",
        "    unit GiB -> GB",
        "    qty 1 -> 3",
        "price 1.5",
    ]
    # and no script that counts is no step
    [found] = frame_by(list, a_point(), book=scripted(book_of(), Script(uid(71), "later", "", start=T + 1)))
    assert [step.module for step in found.explanation.steps] == ["hashmap"]


def test_points_dropped_added_and_doubled_by_a_module() -> None:
    # given three points: one stays, one is dropped, one comes back twice
    def change(points: tuple[RatingPoint, ...]) -> list[RatingPoint]:
        return [points[0], points[2], points[2], a_point("4", "extra")]

    # when
    found = frame_by(change, a_point(), a_point("2"), a_point("3"))
    # then
    assert [(one.origin, one.explanation.price, one.explanation.dropped, one.explanation.added) for one in found] == [
        (0, "2", False, False),
        (1, None, True, False),
        (2, "6", False, False),
        (-1, "6", False, True),
        (-1, "0", False, True),
    ]
    assert explanation_text(found[1].explanation).splitlines()[-2:] == [
        "  pyscripts (rebate): price 4 -> none",
        "no price: dropped by module pyscripts",
    ]
    assert found[4].explanation.steps == [
        ModuleStep("pyscripts", "0", "0", scripts=["rebate"], note="made by this module")
    ]


def test_a_module_of_a_third_party_sees_what_earlier_ones_made() -> None:
    # given scripts first, then hashmap, then a module that knows the added point by its labels
    book = scripted(book_of("svc flat 2"), REBATE)
    book = applied(book, ModuleSet("pyscripts", True, 3), ModuleSet("hashmap", True, 2), ModuleSet("twice", True))
    book = applied(book, ModuleSet("noop", True, 9))

    def twice(frame: RatingFrame, rules: RuleBook) -> list[RatingPoint]:
        return [msgspec.structs.replace(point, price=point.price * 2) for point in frame.points]

    frame = a_frame(a_point())
    added = Scripts(lambda points: [*points, a_point("5")])
    # when
    found = explain_frame(book, frame, added, {"twice": twice})
    # then
    assert isinstance(found, list)
    assert [one.explanation.price for one in found] == ["4", "20"]
    assert [step.module for step in found[1].explanation.steps] == ["pyscripts", "hashmap", "twice"]
    # and one that is not installed fails the frame, as one that raises does
    missing = explain_frame(book, frame, added)
    assert missing == Chain(book).rate(frame, added)
    assert isinstance(missing, Failed)
    assert explain(book, frame, 0, added) == missing


def test_modules_after_one_that_does_nothing_are_told_too() -> None:
    # given a module after scripts of which none is valid then, one that changes all there is and drops a point
    book = scripted(book_of("svc flat 2"), Script(uid(71), "later", "", start=T + 1))
    book = applied(book, ModuleSet("hashmap", True, 3), ModuleSet("pyscripts", True, 2), ModuleSet("other", True))

    def other(frame: RatingFrame, rules: RuleBook) -> list[RatingPoint]:
        assert rules is book
        changes = {"metric": "m", "groupby": {"a": 1}, "metadata": {}}
        return [msgspec.structs.replace(point, **changes) for point in frame.points[:1]]

    # when
    first, second = frame_by(list, a_point(b="2"), a_point(), book=book, modules={"other": other})
    # then
    assert [step.module for step in first.explanation.steps] == ["hashmap", "other"]
    assert first.explanation.steps[1].changes == [
        "metric compute -> m",
        "groupby {} -> {'a': 1}",
        "metadata {'b': '2'} -> {}",
    ]
    assert explanation_text(second.explanation).splitlines()[-1] == "no price: dropped by module other"
    # and the frame's numbers of the points do not matter
    loose = RatingFrame("A", T, T + 3600, (a_point(b="2"), a_point()))
    found = explain_frame(book, loose, NoScripts(), {"other": other})
    assert isinstance(found, list)
    assert [one.origin for one in found] == [0, 1]
    assert explain(book, loose, 0, NoScripts(), {"other": other}) == first.explanation


def test_points_that_modules_make_are_known_again_by_their_labels() -> None:
    # given a module that makes two points, and one after it that turns their order and drops the first one of the frame
    book = scripted(book_of("svc flat 2"), REBATE)
    book = applied(book, ModuleSet("pyscripts", True, 2), ModuleSet("turn", True))

    def turn(frame: RatingFrame, rules: RuleBook) -> list[RatingPoint]:
        return [msgspec.structs.replace(point, price=point.price + 1) for point in reversed(frame.points[1:])]

    # when
    found = frame_by(
        lambda points: [*points, a_point("5", "made", n="1"), a_point("6", "made", n="2")],
        a_point(),
        a_point("2"),
        book=book,
        modules={"turn": turn},
    )
    # then
    told = [(one.explanation.qty, one.explanation.price, one.explanation.dropped) for one in found]
    assert told == [("1", None, True), ("2", "5", False), ("5", "1", False), ("6", "1", False)]
    assert [len(one.explanation.steps) for one in found] == [3, 3, 3, 3]
    assert [step.changes for one in found for step in one.explanation.steps] == [[]] * 12
    assert explanation_text(found[0].explanation).endswith("no price: dropped by module turn")


def test_a_module_that_fails_is_named() -> None:
    book = applied(book_of(), ModuleSet("broken", True))

    def broken(frame: RatingFrame, rules: RuleBook) -> list[RatingPoint]:
        raise ValueError("no")

    found = explain_frame(book, a_frame(a_point()), NoScripts(), {"broken": broken})
    assert found == Failed("broken", "", 0, "ValueError: no")


def test_a_script_that_is_not_done_yet() -> None:
    class Later:
        def run(self, job: ScriptJob) -> None:
            return None

    assert explain_frame(scripted(book_of(), REBATE), a_frame(a_point()), Later()) is None


def test_a_frame_without_points_is_shown_to_nobody() -> None:
    assert explain_frame(scripted(book_of(), REBATE), a_frame(), NoScripts()) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1E+3", "1000"),
        ("-0", "0"),
        ("0E+999", "0"),
        ("1.50", "1.5"),
        ("20.00", "20"),
        ("1E-28", f"0.{'0' * 27}1"),
        ("NaN", "NaN"),
    ],
)
def test_numbers_have_one_text(number: str, text: str) -> None:
    assert number_of(Decimal(number)) == text
    assert number_of(Decimal("1e199")) == f"1{'0' * 199}"
    assert number_of(Decimal("1e200")) == "1E+200"
    assert number_of(Decimal("1e-199")) == f"0.{'0' * 198}1"
    assert number_of(Decimal("1e-200")) == "1E-200"
