"""For any rules and any frame, the explained price is the one that the chain comes to."""

from __future__ import annotations

from decimal import Decimal, localcontext

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.model.labels import LabelValue
from rater.model.rules import Service, ServiceCreated, Tiers, TiersSet, TierStep
from rater.rating import Chain, NoScripts, Rated, RatingFrame, RatingPoint, RuleBook
from rater.rating.explain import Explained, explain_frame
from rater.rating.explanation import Explanation, explanation_text
from rater.rating.tiers import tier_key
from tests.property.test_rating_hashmap import books, costs, labels, quantities
from tests.unit.rating.builders import METRIC, applied, uid

TIERED = "traffic"
bounds = st.lists(st.decimals(min_value=1, max_value=10**6, places=3), unique=True, max_size=3).map(sorted)


@st.composite
def tiers(draw: st.DrawFn) -> Tiers:
    """Graduated prices over nothing, one or two labels."""
    ends = [*draw(bounds), None]
    steps = tuple(TierStep(draw(costs), end) for end in ends)
    return Tiers(uid(900), steps, tuple(draw(st.sets(st.sampled_from(["flavor", "other"]), max_size=2))))


points = st.lists(
    st.tuples(st.sampled_from([METRIC, METRIC, TIERED, "unheard-of"]), quantities, labels, labels, costs),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(
    book=books(),
    graduated=tiers(),
    found=points,
    scope=st.sampled_from([None, "A", "B", "C"]),
    period_begin=st.sampled_from([0, 999, 1000, 1500, 2000, 3000]),
    used=st.decimals(min_value=0, max_value=10**6, places=3),
)
def test_the_explained_price_is_that_of_the_chain(
    book: RuleBook,
    graduated: Tiers,
    found: list[tuple[str, Decimal, dict[str, LabelValue], dict[str, LabelValue], Decimal]],
    scope: str | None,
    period_begin: int,
    used: Decimal,
) -> None:
    # given a frame of several metrics, one of them with graduated prices
    book = applied(book, ServiceCreated(Service(graduated.service_id, TIERED)), TiersSet(graduated))
    frame = RatingFrame(
        scope,
        period_begin,
        period_begin + 3600,
        tuple(
            RatingPoint(metric, "GiB", qty, before, groupby, metadata, number)
            for number, (metric, qty, groupby, metadata, before) in enumerate(found)
        ),
        {tier_key(TIERED, graduated.by, {}, {}): used},
    )
    # when
    with localcontext(prec=3):  # the ambient context must not matter
        rated = Chain(book).rate(frame, NoScripts())
        explained = explain_frame(book, frame, NoScripts())
    # then
    assert isinstance(rated, Rated)
    assert isinstance(explained, list)
    assert [(one.origin, one.point) for one in explained if one.point] == [(p.origin, p) for p in rated.points]
    assert [(one.origin, one.explanation.error) for one in explained if not one.point] == [
        (unrated.point.origin, unrated.reason) for unrated in rated.unrated
    ]
    for one in explained:
        check(one)


def check(one: Explained) -> None:
    """The steps of an explanation lead from one number to the next, and it can be told and sent."""
    explanation = one.explanation
    price = Decimal(0)
    for step in explanation.steps:
        price = Decimal(step.before)
        for group in step.groups:
            assert Decimal(group.operations[-1].result) == Decimal(group.amount)
            price = Decimal(group.price)
        for part in step.tiers.parts if step.tiers else ():
            price = Decimal(part.price)
        assert step.after is None or Decimal(step.after) == price
        ids = {rule.rule_id for rule in step.rules}
        assert {rule.beaten_by for rule in step.rules if rule.beaten_by} <= ids
        assert all(rule.because for rule in step.rules if rule.outcome != "counts")
    if one.point is not None:
        assert Decimal(explanation.price or "") == one.point.price == price
    assert explanation_text(explanation).splitlines()[-1].startswith(("price", "no price"))
    assert msgspec.json.decode(msgspec.json.encode(explanation), type=Explanation) == explanation
