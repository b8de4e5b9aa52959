"""Rule sets and points from a seed, made to meet: values that rules name, levels hit exactly, dates at their borders.

A rule set is what the driver's `rules` takes; `book_of` makes the same rules a rule book of ours.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

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
    RuleEvent,
    RuleType,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.rating import Applied, RuleBook

Json = dict[str, Any]

SERVICES = ("compute", "größe", "存储")
FIELDS = ("flavor", "ram", "aa_zone", "größe", "📦")
GROUPS = ("g", "h", "_DEFAULT_", "Gruppe ä")
TENANTS = ("A", "B", "ténant")
TEXTS = (
    "m1",
    "1",
    "1.0",
    "64",
    "True",
    "None",
    "naïve",
    " m1",
    "M1",
    "1e3",
    "n/a",
    "0.3",
    "-2",
    "١٢",
    "Infinity",
    "NaN",
)
LABELS = (
    *TEXTS,
    "",
    " 12 ",
    "1_000",
    "sNaN",
    1,
    0,
    -2,
    64,
    2**63,
    1.0,
    0.3,
    64.0,
    -0.0,
    1e300,
    5e-324,
    True,
    False,
    None,
)
COSTS = (
    "0",
    "1",
    "-1",
    "0.1",
    "2",
    "1.5",
    "0.98",
    "0.95",
    "0.9799999999999999822364316060",
    "0.1000000000000000055511151231",
)
LEVELS = ("-5", "-1", "-0.5", "0", "0.3", "1", "1.00", "50", "64", "200", "0.00000001", "999999999999.99999999")
QTYS = (
    "0",
    "-0.5",
    "1",
    "2",
    "3",
    "50",
    "49.99999999",
    "64",
    "1e3",
    "0.3",
    "-7",
    "1234567.891",
    "1E-400000",
    "9E+999999",
)
DATES = (None, None, 1_000, 2_000, 3_000)
PERIODS = (999, 1_000, 1_500, 1_999, 2_000, 2_500, 3_000, 4_000)


@dataclass(frozen=True)
class Case:
    """A rule set, and for each (tenant, period begin) points to price by it."""

    rules: Json
    asked: tuple[tuple[str | None, int, list[Json]], ...]


def case(seed: int, number: int, points: int) -> Case:
    """Case `number` of a seed: three questions of `points` points each."""
    random = Random(f"{seed}:{number}")
    rules = _rules(random)
    asked = tuple(
        (random.choice((None, *TENANTS)), random.choice(PERIODS), [_point(random, rules) for _ in range(points)])
        for _ in range(3)
    )
    return Case(rules, asked)


def _rules(random: Random) -> Json:
    services = random.sample(SERVICES, random.randint(1, 2))
    fields = [
        [service, name] for service in range(len(services)) for name in random.sample(FIELDS, random.randint(0, 4))
    ]
    random.shuffle(fields)
    groups = random.sample(GROUPS, random.randint(1, len(GROUPS)))
    rules = [_rule(random, len(services), len(fields), len(groups)) for _ in range(random.randint(1, 24))]
    return {"services": services, "fields": fields, "groups": groups, "rules": rules}


def _rule(random: Random, services: int, fields: int, groups: int) -> Json:
    of_field = fields and random.random() < 0.6
    rule: Json = {
        "kind": "threshold" if random.random() < 0.35 else "mapping",
        "type": random.choice(("flat", "flat", "rate")),
        "cost": _decimal(random, COSTS, 28),
        "service": None if of_field else random.randrange(services),
        "field": random.randrange(fields) if of_field else None,
        "group": random.choice((None, None, *range(groups))),
        "tenant": random.choice((None, None, None, *TENANTS)),
    }
    if rule["kind"] == "threshold":
        return rule | {"level": _decimal(random, LEVELS, 8)}
    start, end = random.choice(DATES), random.choice(DATES)
    if end is not None and end < (start or 0):
        start, end = end, start
    value = random.choice(TEXTS) if of_field else random.choice((None, ""))
    return rule | {"value": value, "start": start, "end": end, "deleted": random.random() < 0.1}


def _decimal(random: Random, usual: Collection[str], decimals: int) -> str:
    """One of the usual numbers, or one with random digits: small, or of full length before and after the point."""
    kind = random.random()
    if kind < 0.5:
        return random.choice(tuple(usual))
    whole = random.randint(-2, 2) if kind < 0.8 else random.randint(-(10**12) + 1, 10**12 - 1)
    return f"{whole}.{random.randrange(10**decimals):0{decimals}}"


def _point(random: Random, rules: Json) -> Json:
    names = {name for _, name in rules["fields"]} | {"other"}
    values = [rule["value"] for rule in rules["rules"] if rule.get("value")] or [""]
    levels = [rule["level"] for rule in rules["rules"] if "level" in rule] or ["1"]

    def label() -> object:
        kind = random.random()
        if kind < 0.5:
            return random.choice(values)
        if kind < 0.6:
            return random.choice(levels)
        if kind < 0.7:
            return random.choice((random.uniform(-100, 300), random.randint(-100, 10**18)))
        return random.choice(LABELS)

    def labels() -> Json:
        return {name: label() for name in sorted(names) if random.random() < 0.5}

    kind = random.random()
    if kind < 0.5:
        qty = random.choice(QTYS)
    elif kind < 0.75:
        qty = random.choice(levels)
    else:
        qty = str(Decimal(random.randint(-(10**28), 10**28)).scaleb(-random.randint(0, 28)))
    return {
        "metric": random.choice((*rules["services"] * 4, "unknown")),
        "qty": qty,
        "price": "0" if random.random() < 0.7 else _decimal(random, COSTS, 28),
        "groupby": labels(),
        "metadata": labels(),
    }


def book_of(rules: Json, refused: Collection[int]) -> RuleBook:
    """The rules as one event of ours, without those that CloudKitty refused."""
    changes: list[Change] = [ModuleSet("hashmap", True)]
    services = [_uid(1, number) for number, _ in enumerate(rules["services"])]
    fields = [_uid(2, number) for number, _ in enumerate(rules["fields"])]
    groups = [_uid(3, number) for number, _ in enumerate(rules["groups"])]
    changes += [ServiceCreated(Service(services[number], name)) for number, name in enumerate(rules["services"])]
    changes += [
        FieldCreated(Field(fields[number], services[service], name))
        for number, (service, name) in enumerate(rules["fields"])
    ]
    changes += [GroupCreated(Group(groups[number], name)) for number, name in enumerate(rules["groups"])]
    for number, rule in enumerate(rules["rules"]):
        if number in refused:
            continue
        rule_id = _uid(4, number)
        common: Json = {
            "cost": Decimal(rule["cost"]),
            "type": RuleType(rule["type"]),
            "service_id": services[rule["service"]] if rule["field"] is None else None,
            "field_id": None if rule["field"] is None else fields[rule["field"]],
            "group_id": None if rule["group"] is None else groups[rule["group"]],
            "tenant_id": rule["tenant"],
        }
        if rule["kind"] == "threshold":
            changes.append(ThresholdCreated(ThresholdRule(rule_id, Decimal(rule["level"]), **common)))
            continue
        dates = {"start": rule["start"], "end": rule["end"]}
        changes.append(MappingCreated(MappingRule(rule_id, value=rule["value"] or "", **dates, **common)))
        if rule["deleted"]:
            changes.append(MappingDeleted(rule_id))
    book, outcome = RuleBook.empty().apply(RuleEvent(0, "test", "a generated case", 0, tuple(changes)))
    assert outcome == Applied(1), outcome
    return book


def _uid(kind: int, number: int) -> str:
    return str(UUID(int=kind * 10**6 + number))
