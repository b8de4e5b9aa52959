"""Documents by hand: what is read, and what each fault is called."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import yaml

from rater.model import _document_node, _document_source
from rater.model.document import DocumentError, Node, Problem, Problems, dump, instant_text, load, plain

YAML_TEXT = """\
# rules
name: tiny
count: 12
cost: 0.10
big: 123456789012345678901234567890.12345678901234567890123456789
on: off
none: ~
empty:
when: 2026-01-01T00:00:00Z
quoted: "012"
list:
  - 1
  - [a, {b: c}]
"""


def message_of(text: str, name: str = "f.yaml") -> str:
    with pytest.raises(DocumentError) as caught:
        load(text, name)
    return str(caught.value)


def member(text: str, key: str = "a") -> tuple[Node, Problems]:
    node = load(text, "f.yaml").get(key)
    assert node is not None
    return node, Problems("f.yaml")


def test_yaml_gives_plain_values_and_keeps_source_text() -> None:
    root = load(YAML_TEXT, "f.yaml")

    assert plain(root) == {
        "name": "tiny",
        "count": 12,
        "cost": 0.1,
        "big": 1.2345678901234568e29,
        True: False,
        "none": None,
        "empty": None,
        "when": "2026-01-01T00:00:00Z",
        "quoted": "012",
        "list": [1, ["a", {"b": "c"}]],
    }
    big = root.get("big")
    assert big is not None
    assert big.text == "123456789012345678901234567890.12345678901234567890123456789"
    assert big.line == 5


def test_every_node_knows_its_path_and_line() -> None:
    root = load('a:\n  - x\n  - b c: {d: 1}\n    "e": [2]\n', "f.yaml")

    def walk(node: Node) -> list[tuple[str, int]]:
        children = [*node.items, *(value for _, value in node.entries)]
        return [(node.path, node.line), *(place for child in children for place in walk(child))]

    assert walk(root) == [
        ("", 1),
        ("a", 2),
        ("a[0]", 2),
        ("a[1]", 3),
        ('a[1]["b c"]', 3),
        ('a[1]["b c"].d', 3),
        ("a[1].e", 4),
        ("a[1].e[0]", 4),
    ]
    assert root.get("z") is None


@pytest.mark.parametrize("name", ["f.json", "f.JSON", "-"])
def test_json_is_read_as_json_with_lines(name: str) -> None:
    text = '\ufeff{\n "a": [1, 2.50, 1e3, -0],\t"b": {"c\\/\\ud83d\\ude00": null},\n\n "t": true, "f": false}'

    root = load(text, name)

    assert plain(root) == {"a": [1, 2.5, 1000.0, 0], "b": {"c/😀": None}, "t": True, "f": False}
    assert [item.text for item in root.entries[0][1].items] == ["1", "2.50", "1e3", "-0"]
    assert root.entries[2][1].line == 4


def test_yaml_in_flow_style_is_read_where_it_is_no_json() -> None:
    assert plain(load("{a: 1, b: [x]}", "-")) == {"a": 1, "b": ["x"]}
    assert plain(load("[NaN]", "-")) == ["NaN"]


def test_an_empty_text_is_null() -> None:
    assert load("# nothing\n", "f.yaml") == Node("null", "", 1)


def test_aliases_and_merge_keys_are_copied_to_where_they_are_used() -> None:
    text = """\
base: &base {cost: 1, list: [x]}
other: &other {cost: 2, type: flat}
word: &word text
used: {<<: *base, cost: 3}
both:
  <<: [*other, *base]
? *word
: *word
"""
    root = load(text, "f.yaml")

    assert plain(root) == {
        "base": {"cost": 1, "list": ["x"]},
        "other": {"cost": 2, "type": "flat"},
        "word": "text",
        "used": {"cost": 3, "list": ["x"]},
        "both": {"cost": 2, "type": "flat", "list": ["x"]},
        "text": "text",
    }
    used = root.get("used")
    assert used is not None
    copied = used.entries[1][1].items[0]
    assert (copied.path, copied.line) == ("used.list[0]", 1)


def test_an_alias_of_a_key_stands_for_its_text() -> None:
    assert plain(load("&k a: 1\nb: *k\nc: *k\n", "f.yaml")) == {"a": 1, "b": "a", "c": "a"}


def test_an_alias_of_a_mapping_keeps_its_members() -> None:
    assert plain(load("a: &a {x: {y: 1}}\nb: *a\n", "f.yaml")) == {"a": {"x": {"y": 1}}, "b": {"x": {"y": 1}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "f.yaml:2: a: key 'a' is repeated: first on line 1"),
        ("1: x\n1.0: y", "f.yaml:2: [\"1.0\"]: key '1.0' is repeated: first on line 1"),
        ("a: !!python/object:os.system x", "f.yaml:1: a: tag tag:yaml.org,2002:python/object:os.system is not allowed"),
        ("a: !mine {}", "f.yaml:1: a: tag !mine is not allowed"),
        ("a: !!set {x}", "f.yaml:1: a: tag tag:yaml.org,2002:set is not allowed"),
        ("a: !!python/tuple [x]", "tag:yaml.org,2002:python/tuple is not allowed"),
        ("a: !!binary aGk=", "f.yaml:1: a: tag tag:yaml.org,2002:binary is not allowed"),
        ("a: !!int x", "f.yaml:1: a: 'x' cannot be read as a number"),
        ("a: !!bool maybe", "f.yaml:1: a: 'maybe' cannot be read as true or false"),
        ("a: " + "9" * 5000, "f.yaml:1: a: '9999"),
        ("? [x]\n: y", "f.yaml:1: a key must be a single value, not a list or a mapping"),
        ("x: &x {y: 1}\n? *x\n: z", "f.yaml:2: a key must be a single value"),
        ("a: *b", "f.yaml:1: a: alias *b refers to nothing that is complete here"),
        ("a: &a [*a]", "f.yaml:1: a[0]: alias *a refers to nothing that is complete here"),
        ("a: {<<: 5}", 'f.yaml:1: a["<<"]: only mappings can be merged by <<'),
        ("a: [1\nb: 2", "this is no YAML while parsing a flow sequence: did not find expected ',' or ']'"),
        ("a: b: c", "f.yaml:1: this is no YAML: mapping values are not allowed in this context"),
        ("a: 1\n---\nb: 2", "f.yaml:2: a second document begins: give one per file"),
        ("a: 1\n\nb: \x01", "f.yaml:3: the character U+0001 is not allowed in YAML"),
        ("a: 1\nb: \udcff", "f.yaml:2: is not valid UTF-8 text"),
        ("[" * 60, "nested deeper than 50 levels"),
        ("[" * 60 + "]" * 60, "nested deeper than 50 levels"),
    ],
)
def test_a_fault_of_the_text_is_named_with_its_line(text: str, message: str) -> None:
    assert message in message_of(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "a": 2}', "f.json:2: a: key 'a' is repeated: first on line 1"),
        ('{"a": 1\n "b": 2}', "f.json:2: this is no JSON: Expecting ',' delimiter"),
        ('{"a": NaN}', "f.json:1: this is no JSON: NaN is no JSON number"),
        ("", "f.json:1: this is no JSON: Expecting value"),
        ("[" * 100_000, "f.json:1: nested deeper than 50 levels"),
        ("[" * 60 + "]" * 60, "nested deeper than 50 levels"),
        ('["\\ud800"]', "f.json:1: [0]: is not valid Unicode text (half a surrogate pair)"),
        ("[" + "9" * 5000 + "]", "f.json:1: [0]: the number 99999999999999999999… has too many digits"),
    ],
)
def test_a_fault_of_json_is_named_with_its_line(text: str, message: str) -> None:
    assert message in message_of(text, "f.json")


def test_all_faults_stand_in_one_message_in_order_of_lines() -> None:
    assert message_of("a: !!int x\nb: 1\nb: 2\n").splitlines() == [
        "f.yaml:1: a: 'x' cannot be read as a number",
        "f.yaml:3: b: key 'b' is repeated: first on line 2",
    ]


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert "more than 1000000 values, each use of an alias counted" in message_of("\n".join(lines))


def test_aliases_do_not_nest_deeper_than_the_text_may() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60))]

    assert "nested deeper than 50 levels" in message_of("\n".join(lines))


def test_a_text_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_document_node, "MAX_CHARACTERS", 10)

    assert "f.yaml:1: 13 characters: at most 10 are read, split the document" in message_of("a: 1\nb: 12345")


def test_the_pure_python_reader_of_yaml_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load(YAML_TEXT, "f.yaml")
    monkeypatch.setattr(_document_source, "_Loader", yaml.SafeLoader)

    assert load(YAML_TEXT, "f.yaml") == fast


def test_problems_are_raised_together() -> None:
    root, problems = load("a: [1]\nb: {c: d}\n", "f.yaml"), Problems("rules.yaml")
    problems.refuse()

    keys = problems.members(root, ("a", "x"), ("x",))
    problems.text(keys["a"])

    with pytest.raises(DocumentError) as caught:
        problems.refuse()
    assert caught.value.problems == (
        Problem("", 1, "'x' is missing"),
        Problem("a", 1, "expected text, got a list"),
        Problem("b", 2, "unknown key 'b': use a, x"),
    )
    assert str(caught.value) == (
        "rules.yaml:1: 'x' is missing\n"
        "rules.yaml:1: a: expected text, got a list\n"
        "rules.yaml:2: b: unknown key 'b': use a, x"
    )


def test_a_key_that_is_no_text_is_unknown() -> None:
    problems = Problems("f.yaml")

    assert problems.members(load("1: x\n", "f.yaml"), ("1",)) == {}
    assert problems.found == [Problem("1", 1, "unknown key '1': use 1")]


def test_lists_may_be_absent_or_null() -> None:
    node, problems = member("a: ~")

    assert problems.items(None) == ()
    assert problems.items(node) == ()
    assert problems.items(load("[1]", "f.yaml")) != ()
    assert problems.items(load("x", "f.yaml")) == ()
    assert problems.found == [Problem("", 1, "expected a list, got text 'x'")]


@pytest.mark.parametrize(
    ("text", "value"), [("a: b", "b"), ("a: 012", "012"), ("a: 1.50", "1.50"), ("a: 'yes'", "yes")]
)
def test_text_is_its_source(text: str, value: str) -> None:
    node, problems = member(text)

    assert problems.text(node) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: no", "expected text, in quotes: 'no', got true or false 'no'"),
        ("a: ~", "expected text, got null"),
        ("a: {}", "expected text, got a mapping"),
        ("a: ''", "is empty: give at least one character"),
        ("a: abcdef", "has 6 characters: at most 5 are taken"),
    ],
)
def test_what_is_no_text(text: str, message: str) -> None:
    node, problems = member(text)

    assert problems.text(node, 5) is None
    assert [problem.message for problem in problems.found] == [message]


def test_text_may_be_empty_where_allowed() -> None:
    node, problems = member("a: ''")

    assert problems.text(node, empty=True) == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", "0.1"),
        ("'0.1'", "0.1"),
        ("-1", "-1"),
        ("+.5", "0.5"),
        ("1.", "1"),
        ("1e3", "1000"),
        ("1.5E-2", "0.015"),
        ("'007'", "7"),
        ("0", "0"),
        ("0.1234567890123456789012345678901234567890", "0.1234567890123456789012345678901234567890"),
    ],
)
def test_numbers_are_read_exactly(text: str, value: str) -> None:
    node, problems = member(f"a: {text}")

    assert problems.decimal(node) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ten", "expected a decimal number, got text 'ten'"),
        ("NaN", "expected a decimal number, got text 'NaN'"),
        (".inf", "expected a decimal number, got a number '.inf'"),
        ("0x10", "expected a decimal number, got a number '0x10'"),
        ("1_000", "expected a decimal number, got a number '1_000'"),
        ("1:30", "expected a decimal number, got a number '1:30'"),
        ("010", "'010' may be read as octal: write it without leading zeros"),
        ("1e9999999999", "expected a decimal number, got text '1e9999999999'"),
        ("true", "expected a decimal number, got true or false 'true'"),
        ("~", "expected a decimal number, got null"),
    ],
)
def test_what_is_no_number(text: str, message: str) -> None:
    node, problems = member(f"a: {text}")

    assert problems.decimal(node) is None
    assert [problem.message for problem in problems.found] == [message]


def test_whole_numbers_have_bounds() -> None:
    problems = Problems("f.yaml")
    nodes = load("[1, 9, 0, 10, 1.0, true, '1']", "f.yaml").items

    assert [problems.integer(node, 1, 9) for node in nodes] == [1, 9, None, None, None, None, None]
    assert [problem.message for problem in problems.found] == [
        "is 0: must be from 1 to 9",
        "is 10: must be from 1 to 9",
        "expected a whole number, got a number '1.0'",
        "expected a whole number, got true or false 'true'",
        "expected a whole number, got text '1'",
    ]


def test_booleans_and_choices() -> None:
    problems = Problems("f.yaml")
    nodes = load("[true, off, flat, 1]", "f.yaml").items

    assert [problems.boolean(node) for node in nodes] == [True, False, None, None]
    assert [problems.choice(node, ("flat", "rate")) for node in nodes] == [None, None, "flat", None]
    assert [problem.message for problem in problems.found] == [
        "expected true or false, got text 'flat'",
        "expected true or false, got a number '1'",
        "expected one of flat, rate, got true or false 'true'",
        "expected one of flat, rate, got true or false 'off'",
        "expected one of flat, rate, got a number '1'",
    ]


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T00:00:00Z", "'2026-01-01T01:00:00+01:00'", "2026-01-01 00:00:00+00:00", "2025-12-31T19:00-05:00"],
)
def test_times_are_seconds_utc(text: str) -> None:
    node, problems = member(f"a: {text}")

    instant = problems.instant(node)

    assert instant == 1_767_225_600
    assert instant_text(instant) == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-01-01", "'2026-01-01' has no offset from UTC: write it as 2026-01-01T00:00:00Z if it is UTC"),
        (
            "2026-01-01T10:00:00.5",
            "'2026-01-01T10:00:00.5' has no offset from UTC: write it as 2026-01-01T10:00:00Z if it is UTC",
        ),
        ("2026-01-01T00:00:00.5Z", "'2026-01-01T00:00:00.5Z' has a fraction of a second: whole seconds are taken"),
        ("1900-01-01T00:00:00Z", "'1900-01-01T00:00:00Z' is out of range: times from 1970 to 9999 are taken"),
        ("9999-12-31T23:59:59-01:00", "'9999-12-31T23:59:59-01:00' is out of range: times from 1970 to 9999 are taken"),
        ("tomorrow", "expected a time such as 2026-01-01T00:00:00Z, got text 'tomorrow'"),
        ("1767225600", "expected a time such as 2026-01-01T00:00:00Z, got a number '1767225600'"),
        ("[]", "expected a time such as 2026-01-01T00:00:00Z, got a list"),
    ],
)
def test_what_is_no_time(text: str, message: str) -> None:
    node, problems = member(f"a: {text}")

    assert problems.instant(node) is None
    assert [problem.message for problem in problems.found] == [message]


def test_dump_writes_what_load_reads() -> None:
    shared = {"x": "1"}
    value = {"a": [shared, shared], "b": "no", "c": 1, "d": {"e": None, "f": "größe\u2028\x07"}}

    text = dump(value)

    assert plain(load(text, "f.yaml")) == value
    assert text.splitlines()[:3] == ["a:", "- {x: '1'}", "- {x: '1'}"]
    assert plain(load(json.dumps(value), "f.json")) == value
