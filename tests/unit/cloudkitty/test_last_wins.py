"""The rules that are left count exactly when CloudKitty's would: same winners, same order of groups."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest

from rater.cloudkitty.last_wins import last_mappings, last_thresholds
from rater.model.rules import MappingRule, ThresholdRule

Loaded = dict[str, dict[str, object]]


def mapping(number: int, group: str, value: str, start: int | None, end: int | None) -> MappingRule:
    return MappingRule(
        str(UUID(int=number)),
        number,  # type: ignore[arg-type] # any value that tells them apart
        value=value,
        field_id="f",
        group_id=group,
        start=start,
        end=end,
        name=f"n{number}",
    )


def group_of(rule: MappingRule | ThresholdRule) -> str:
    return rule.group_id or ""


def loaded(rules: list[MappingRule], instant: int) -> list[tuple[str, dict[str, object]]]:
    """As CloudKitty loads them: dicts that later rules write into."""
    groups: Loaded = {}
    for rule in rules:
        if (rule.start is None or rule.start <= instant) and (rule.end is None or rule.end > instant):
            groups.setdefault(group_of(rule), {})[rule.value] = rule.cost
    return list(groups.items())


@pytest.mark.parametrize("seed", range(300))
def test_what_is_left_loads_the_same_at_every_instant(seed: int) -> None:
    random = Random(seed)
    dates = [None, 1, 2, 3, 4]
    rules = []
    for number in range(random.randint(1, 8)):
        start, end = random.choice(dates), random.choice(dates)
        if end is not None and end < (start or 0):
            start, end = end, start
        rules.append(mapping(number, random.choice(("g", "h")), random.choice(("x", "y")), start, end))

    left = last_mappings(rules, group_of)

    for instant in range(6):
        assert loaded(left, instant) == loaded(rules, instant)
        alive = [
            (group_of(rule), rule.value)
            for rule in left
            if (rule.start or 0) <= instant and (rule.end is None or rule.end > instant)
        ]
        assert len(alive) == len(set(alive)), "nothing is there twice"
    assert len({rule.mapping_id for rule in left}) == len(left)
    assert len([rule for rule in left if rule.name]) == len({rule.name for rule in left if rule.name})


def test_a_rule_that_is_interrupted_goes_on_afterwards() -> None:
    left = last_mappings([mapping(1, "g", "x", None, None), mapping(2, "g", "x", 10, 20)], group_of)

    assert [(rule.start, rule.end, rule.cost, rule.name) for rule in left] == [
        (None, 10, 1, "n1"),
        (20, None, 1, None),
        (10, 20, 2, "n2"),
    ]


def test_of_equal_levels_the_last_counts_in_the_place_of_the_first() -> None:
    def threshold(level: int, cost: int, group: str) -> ThresholdRule:
        number: dict[str, object] = {"level": level, "cost": cost}
        return ThresholdRule("t", **number, service_id="s", group_id=group)  # type: ignore[arg-type] # numbers will do

    rules = [threshold(1, 1, "g"), threshold(1, 2, "h"), threshold(1, 3, "g"), threshold(2, 4, "g")]

    assert [(rule.cost, rule.group_id) for rule in last_thresholds(rules, group_of)] == [(3, "g"), (2, "h"), (4, "g")]
