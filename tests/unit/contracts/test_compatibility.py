"""What a change of a schema does to readers: each kind of change is planted, and named with its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rater.contracts.compatibility import ContractError, Parties, unread

SCHEMAS = Path(__file__).parents[3] / "schemas"
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json") if path.stem != "openapi")
NEW_READS_OLD = Parties("old records", "new programs")
OLD_READS_NEW = Parties("new records", "old programs", ("type", "Alert.kind"))
Edit = Callable[[dict[str, Any]], object]


def schema(name: str) -> dict[str, Any]:
    return dict(json.loads((SCHEMAS / f"{name}.json").read_text()))


def fields(document: dict[str, Any], struct: str) -> dict[str, Any]:
    return dict.__getitem__(document["$defs"][struct], "properties")


def compared(name: str, edit: Edit) -> tuple[list[str], list[str]]:
    """What new programs find in old records, and old programs in new ones."""
    old = schema(name)
    new = copy.deepcopy(old)
    edit(new)
    assert new != old, "nothing was planted"
    return unread(old, new, NEW_READS_OLD), unread(new, old, OLD_READS_NEW)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_reads_what_it_writes(name: str) -> None:
    assert unread(schema(name), schema(name), NEW_READS_OLD) == []


def test_a_field_with_a_default_may_be_added() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "RatedFrame")["currency"] = {"type": "string", "default": ""}

    assert compared("rated", edit) == ([], [])


def test_where_unknown_fields_are_refused_a_new_one_is_a_fault_for_old_programs() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "PostedLine")["currency"] = {"type": "string", "default": ""}

    place = "PostedLines.lines[].currency"
    assert compared("rated", edit) == ([], [f"{place}: new records may have this field, old programs refuse it"])


def test_a_new_field_that_is_required() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "Line")["currency"] = {"type": "string"}
        new["$defs"]["Line"]["required"].append("currency")

    place = "RatedFrame.lines[].currency"
    assert compared("rated", edit) == ([f"{place}: new programs require this field, old records do not have it"], [])


def test_a_field_that_becomes_required() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["$defs"]["Alert"]["required"].append("reason")

    assert compared("alerts", edit) == (
        ["Alert.reason: new programs require this field, old records may lack it"],
        [],
    )


def test_a_field_that_may_be_left_out_from_now_on() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["$defs"]["RatedFrame"]["required"].remove("totals")

    assert compared("rated", edit) == (
        [],
        ["RatedFrame.totals: old programs require this field, new records may lack it"],
    )


def test_a_field_that_is_renamed() -> None:
    def edit(new: dict[str, Any]) -> None:
        known = fields(new, "MetricTotal")
        known["cost"] = known.pop("price")
        new["$defs"]["MetricTotal"]["required"] = ["metric", "unit", "qty", "cost", "n"]

    place = "RatedFrame.totals[]"
    assert compared("rated", edit) == (
        [f"{place}.cost: new programs require this field, old records do not have it"],
        [f"{place}.price: old programs require this field, new records do not have it"],
    )


def test_a_default_that_changes() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "Collection")["proof"]["default"] = "weak"

    (backward,), _ = compared("usage", edit)
    assert backward == "Collection.proof: left out it means 'proven' in old records, 'weak' to new programs"


def test_a_type_that_gets_narrower_and_one_that_gets_wider() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "RatedFrame")["revision"] = {"type": "string"}
        fields(new, "RatedFrame")["weak"] = {"type": ["boolean", "null"]}

    assert compared("rated", edit) == (
        ["RatedFrame.revision: old records may hold integer, new programs take string"],
        [
            "RatedFrame.revision: new records may hold string, old programs take integer",
            "RatedFrame.weak: new records may hold null, old programs take boolean",
        ],
    )


def test_an_integer_is_a_number() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "RatedFrame")["revision"]["type"] = "number"

    assert compared("rated", edit)[0] == []


def test_bounds_and_patterns() -> None:
    def edit(new: dict[str, Any]) -> None:
        known = fields(new, "Collection")
        known["source"]["maxLength"] = 63
        known["parts"]["minimum"] = 2
        known["samples"]["maxItems"] = 1000
        known["metric"]["pattern"] = "^[a-z]+$"

    backward, _ = compared("usage", edit)
    assert sorted(backward) == [
        "Collection.metric: new programs take only text of the form ^[a-z]+$, old records may hold other",
        "Collection.parts: old records may hold less than 2, new programs do not",
        "Collection.samples: old records may hold more items than 1000, new programs do not",
        "Collection.source: old records may hold longer text than 63, new programs do not",
    ]


def test_a_value_of_a_list_that_is_gone_and_a_new_one() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["$defs"]["FrameStatus"]["enum"][0] = "free"

    assert compared("rated", edit) == (
        ["RatedFrame.status: old records may hold 'empty', which new programs refuse"],
        ["RatedFrame.status: new records may hold 'free', which old programs refuse"],
    )


def test_a_new_kind_of_alert_is_passed_over_by_old_programs_and_one_that_is_gone_missed_by_new_ones() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["$defs"]["AlertKind"]["enum"].remove("late_plan")
        new["$defs"]["AlertKind"]["enum"].append("budget_spent")

    assert compared("alerts", edit) == (["Alert.kind: old records may hold 'late_plan', which new programs refuse"], [])


def test_a_constant_that_changes() -> None:
    def edit(new: dict[str, Any]) -> None:
        for struct in ("RatedFrame", "PostedLines"):
            fields(new, struct)["version"].update(const=2, default=2)

    backward, forward = compared("rated", edit)
    assert "RatedFrame.version: old records may hold 1, which new programs refuse" in backward
    assert "RatedFrame.version: new records may hold 2, which old programs refuse" in forward


def test_a_member_of_a_union_that_is_gone_and_a_new_one() -> None:
    def gone(new: dict[str, Any]) -> None:
        new["anyOf"] = [choice for choice in new["anyOf"] if "ScopePlan" not in choice["$ref"]]

    assert compared("usage", gone)[0] == [
        "type: old records may be of type 'scope_plan', which new programs refuse",
    ]

    def added(new: dict[str, Any]) -> None:
        new["$defs"]["Quota"] = copy.deepcopy(new["$defs"]["PostedLines"])
        new["$defs"]["Quota"]["properties"]["type"] = {"enum": ["quota"]}
        new["anyOf"].append({"$ref": "#/$defs/Quota"})

    assert compared("rated", added) == ([], [])


def test_a_member_of_an_inner_union_that_is_new_is_refused_by_old_programs() -> None:
    def edit(new: dict[str, Any]) -> None:
        change = copy.deepcopy(new["$defs"]["Moved"])
        change["properties"]["type"] = {"enum": ["swapped"]}
        new["$defs"]["Swapped"] = change
        fields(new, "RuleEvent")["changes"]["items"]["anyOf"].append({"$ref": "#/$defs/Swapped"})

    place = "RuleEvent.changes[]"
    assert compared("rules", edit) == (
        [],
        [f"{place}: new records may be of type 'swapped', which old programs refuse"],
    )


def test_a_change_inside_a_choice_that_may_be_null() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "ReworkResult")["revision"]["type"] = "string"

    backward, _ = compared("alerts", edit)
    assert backward == ["Alert.rework.revision: old records may hold integer, new programs take string"]


def test_labels_and_pairs() -> None:
    def edit(new: dict[str, Any]) -> None:
        fields(new, "Line")["groupby"]["additionalProperties"]["type"] = ["string"]
        new["$defs"]["Interval"]["prefixItems"][1]["type"] = "string"

    backward, _ = compared("rated", edit)
    assert "RatedFrame.coverage[].expected[][1]: old records may hold integer, new programs take string" in backward
    assert "RatedFrame.lines[].groupby.*: old records may hold boolean, new programs take string" in backward


def test_items_with_another_meaning() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["$defs"]["Interval"] = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}

    backward, _ = compared("rated", edit)
    assert len(backward) == 1
    assert "other meanings" in backward[0]


def test_texts_do_not_count() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["description"] = "another"
        fields(new, "Line")["unit"]["description"] = "another"

    assert compared("rated", edit) == ([], [])


def test_a_word_that_cannot_be_compared_is_an_error_and_not_passed_over() -> None:
    with pytest.raises(ContractError, match=r"RatedFrame\.weak: multipleOf cannot be compared"):
        compared("rated", lambda new: fields(new, "RatedFrame")["weak"].update(multipleOf=2))


def test_a_reference_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(ContractError, match="leads nowhere"):
        compared("rated", lambda new: new["$defs"].pop("Line"))
