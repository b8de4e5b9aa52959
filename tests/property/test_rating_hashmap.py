"""For any rules and any point, the compiled price equals that of the slow, plain interpreter."""

from __future__ import annotations

from decimal import Decimal, localcontext

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.model.labels import LabelValue
from rater.model.rules import (
    Change,
    Field,
    FieldCreated,
    Group,
    GroupCreated,
    MappingCreated,
    MappingDeleted,
    MappingRule,
    ModuleSet,
    RuleType,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.rating import Compiler, RuleBook, UnratableError
from tests.unit.rating.builders import METRIC, applied, uid
from tests.unit.rating.reference import slow_price

FIELDS = ("flavor", "ram", "größe")
GROUPS = (None, "_DEFAULT_", "g", "h")
TENANTS = (None, None, "A", "B")
TEXTS = ("m1", "1", "1.0", "64", "True", "None", "naïve", " m1", "1e3", "n/a", "0.3")

costs = st.one_of(
    st.sampled_from([Decimal(text) for text in ("0", "1", "-1", "0.1", "2", "1.5")]),
    st.decimals(min_value=-(10**11), max_value=10**12 - 1, places=28),
    st.decimals(min_value=-2, max_value=2, places=28),
)
levels = st.one_of(
    st.sampled_from([Decimal(text) for text in ("-5", "-1", "-0.5", "0", "0.3", "1", "1.00", "64")]),
    st.decimals(min_value=-100, max_value=100, places=8),
)
quantities = st.one_of(
    st.sampled_from([Decimal(text) for text in ("0", "-0.5", "1", "64", "1e3", "0.3")]),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30),
)
values: st.SearchStrategy[LabelValue] = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from([0.3, 1.0, 64.0, 1, 64, True, False, None]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-100, 10**18),
)
dates = st.sampled_from([None, 1000, 2000])
kinds = st.sampled_from(RuleType)


@st.composite
def books(draw: st.DrawFn) -> RuleBook:
    """Rules of one metric in any order, with ties, several tenants, dates and deleted ones."""
    service_id = uid(1)
    field_ids = {name: uid(10 + number) for number, name in enumerate(FIELDS)}
    group_ids = {name: uid(20 + number) for number, name in enumerate(GROUPS) if name}
    changes: list[Change] = [ModuleSet("hashmap", True), ServiceCreated(Service(service_id, METRIC))]
    changes += [GroupCreated(Group(group_id, name)) for name, group_id in group_ids.items()]
    for name in draw(st.permutations(FIELDS)):
        changes.append(FieldCreated(Field(field_ids[name], service_id, name)))
    for number in range(draw(st.integers(0, 14))):
        rule_id = uid(100 + number)
        field = draw(st.sampled_from([None, *FIELDS]))
        group_id = group_ids.get(draw(st.sampled_from(GROUPS)) or "")
        tenant = draw(st.sampled_from(TENANTS))
        parent = {"service_id": service_id} if field is None else {"field_id": field_ids[field]}
        if draw(st.booleans()):
            rule = ThresholdRule(
                rule_id, draw(levels), draw(costs), draw(kinds), group_id=group_id, tenant_id=tenant, **parent
            )
            changes.append(ThresholdCreated(rule))
            continue
        start, end = sorted((draw(dates), draw(dates)), key=lambda bound: bound or 0)
        mapping = MappingRule(
            rule_id,
            draw(costs),
            draw(kinds),
            value="" if field is None else draw(st.sampled_from(TEXTS)),
            group_id=group_id,
            tenant_id=tenant,
            start=start,
            end=end,
            **parent,
        )
        changes.append(MappingCreated(mapping))
        if draw(st.integers(0, 9)) == 0:
            changes.append(MappingDeleted(rule_id))
    return applied(RuleBook.empty(), *changes)


labels = st.dictionaries(st.sampled_from([*FIELDS, "other"]), values, max_size=4)


@settings(max_examples=400, deadline=None)
@given(
    book=books(),
    points=st.lists(st.tuples(quantities, labels, labels, costs), min_size=1, max_size=4),
    scopes=st.lists(st.sampled_from([None, "A", "B", "C"]), min_size=1, max_size=3),
    period_begin=st.sampled_from([0, 999, 1000, 1500, 2000, 3000]),
)
def test_compiled_and_slow_price_agree(
    book: RuleBook,
    points: list[tuple[Decimal, dict[str, LabelValue], dict[str, LabelValue], Decimal]],
    scopes: list[str | None],
    period_begin: int,
) -> None:
    compiler = Compiler(book)
    for scope in scopes:
        plan = compiler.plan(scope, period_begin)
        for qty, groupby, metadata, before in points:
            slow = slow_price(book, scope, period_begin, METRIC, qty, groupby, metadata, before)
            try:
                with localcontext(prec=3):  # the ambient context must not matter
                    fast = plan.price(METRIC, qty, groupby, metadata, before)
            except UnratableError:
                assert slow is None
            else:
                assert fast == slow
