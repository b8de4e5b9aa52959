"""Who may do what: the default policies by their actions, and files in the language of oslo.policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.policy import ACTIONS, DefaultPolicy, FilePolicy, Policy, Who, open_policy
from rater.api.policy_file import PolicyFileError

BOSS = Identity("boss", frozenset({"admin", "push"}))
ANN = Identity(
    "ann", frozenset({"reader", "auditor"}), ("A", "B"), "keystone", facts={"user_id": "ann", "domain_id": None}
)
MEMBER = Identity("mem", frozenset({"member"}), ("A",))
NOBODY = Identity("nobody", frozenset({"reader"}))
CASES: list[tuple[str, ...] | None] = [None, (), ("A",), ("A", "B"), ("A", "C"), ("C",)]


def may(policy: Policy, who: Identity, action: str, scopes: tuple[str, ...] | None = None) -> bool:
    try:
        policy.authorize(policy.judged(who), action, scopes)
    except RefusalError as refused:
        return (refused.problem.status, str(refused)) != (403, f"Policy doesn't allow {action} to be performed.")
    return True


@pytest.mark.parametrize("action", ACTIONS)
def test_the_default_policies(action: str) -> None:
    policy = DefaultPolicy()
    of = {who.user: [may(policy, who, action, scopes) for scopes in CASES] for who in (BOSS, ANN, MEMBER, NOBODY)}
    own = {
        Who.ADMIN: [False] * 6,
        Who.READER: [False, True, True, True, False, False],
        Who.ANY: [True] * 6,
    }[ACTIONS[action]]

    assert of["boss"] == [True] * 6
    assert of["ann"] == own
    assert of["mem"] == [ACTIONS[action] is Who.ANY] * 6
    assert of["nobody"] == [False, True, *[False] * 4] if ACTIONS[action] is Who.READER else own


def test_an_action_that_nobody_has_thought_of_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        DefaultPolicy().authorize(BOSS, "rating:everything")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


def of_file(file: Path, text: str) -> FilePolicy:
    file.write_text(text)
    return FilePolicy(str(file))


@pytest.mark.parametrize(
    ("rule", "who", "scopes", "allowed"),
    [
        ("''", MEMBER, None, True),
        ("'@'", MEMBER, None, True),
        ("'!'", BOSS, None, False),
        ("[]", MEMBER, None, True),
        ("[['role:member', 'project_id:%(project_id)s'], 'role:admin']", MEMBER, ("A",), True),
        ("[['role:member', 'project_id:%(project_id)s'], 'role:admin']", MEMBER, ("C",), False),
        ("[[], []]", BOSS, None, False),
        ("role:AUDITOR", ANN, None, True),
        ("role:auditor and not role:reader", ANN, None, False),
        ("not role:auditor or role:reader", ANN, None, True),
        ("role:x or role:auditor and role:y", ANN, None, False),
        ("(role:x OR role:auditor) AND (not (role:y))", ANN, None, True),
        ("not not role:auditor", ANN, None, True),
        ("project_id:%(project_id)s", ANN, ("A", "B"), True),
        ("project_id:%(project_id)s", ANN, ("A", "C"), False),
        ("project_id:%(project_id)s", ANN, None, False),
        ("project_id:%(nothing)s", ANN, ("A",), False),
        ("project_id:A", ANN, None, True),
        ("is_admin:True", BOSS, None, True),
        ("is_admin:True", ANN, None, False),
        ("is_admin:False", ANN, None, True),
        ("user_id:ann", ANN, None, True),
        ("domain_id:None", ANN, None, True),
        ("roles:auditor", ANN, None, True),
        ("roles.x:auditor", ANN, None, False),
        ("nothing:None", ANN, None, False),
        ("True:%(project_id)s", ANN, ("True",), True),
        ("'''A'':%(project_id)s'", ANN, ("A",), True),
        ("'''B'':%(project_id)s'", ANN, ("A",), False),
        ("rule:project_member_or_admin", MEMBER, ("A",), True),
        ("rule:context_is_admin", BOSS, None, True),
    ],
)
def test_a_rule_of_a_file(file: Path, rule: str, who: Identity, scopes: tuple[str, ...] | None, allowed: bool) -> None:
    assert may(of_file(file, f"rating:get_module: {rule}"), who, "rating:get_module", scopes) is allowed


def test_a_file_changes_what_it_names_and_nothing_else(file: Path) -> None:
    text = '{"scope:get_state": "rule:auditors", "auditors": "role:auditor", "context_is_admin": "role:auditor"}'
    policy = of_file(file, text)

    assert may(policy, ANN, "scope:get_state")
    assert not may(policy, BOSS, "scope:get_state")
    assert (may(policy, BOSS, "rating:module_config"), may(policy, ANN, "rating:module_config")) == (True, False)
    # who sees all scopes is said by context_is_admin, as in CloudKitty; its reports refer to it
    assert (policy.judged(ANN).is_admin, policy.judged(BOSS).is_admin) == (True, False)
    assert (may(policy, ANN, "report:get_total"), may(policy, BOSS, "report:get_total")) == (True, False)


def test_a_file_of_comments_changes_nothing(file: Path) -> None:
    policy = of_file(file, '# as the generator of samples writes it\n#"scope:get_state": "role:admin"\n')

    assert (may(policy, BOSS, "scope:get_state"), may(policy, ANN, "scope:get_state")) == (True, False)
    assert isinstance(open_policy(""), DefaultPolicy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nscope:get_stat: role:admin", ":2: scope:get_stat: there is no such action"),
        ("admins: role:admin", ":1: admins: is no action, and no rule refers to it"),
        ("scope:get_state: rule:admins", "refers to rule 'admins', which is not there"),
        ("a: rule:b\nb: rule:a\nscope:get_state: rule:a", ":1: a: refers to itself"),
        ("context_is_admin: not rule:project_reader_or_admin", "context_is_admin: refers to itself"),
        ("scope:get_state:", "give a rule as text"),
        ("scope:get_state: true", "give a rule as text"),
        ("scope:get_state: {a: b}", "give a rule as text"),
        ("scope:get_state: [7]", "lists of texts"),
        ("scope:get_state: [[[x]]]", "lists of texts"),
        ("scope:get_state: ' '", "a check, such as role:admin, belongs at the end"),
        ("scope:get_state: role:a role:b", "belongs in place of 'role:b'"),
        ("scope:get_state: role:a and", "a check, such as role:admin, belongs at the end"),
        ("scope:get_state: and role:a", "belongs in place of 'and'"),
        ("scope:get_state: (role:a", "a closing parenthesis belongs at the end"),
        ("scope:get_state: role:a)", "belongs in place of ')'"),
        ("scope:get_state: ()", "belongs in place of ')'"),
        ("scope:get_state: admin", "'admin' is no check"),
        ("scope:get_state: \"'admin'\"", "is no check"),
        ("scope:get_state: :admin", "is no check"),
        ("scope:get_state: http://x/%(project_id)s", "no other server is asked"),
        ("scope:get_state: role:%(a)d", "% stands for %(name)s"),
        ("scope:get_state: role:100%", "% stands for %(name)s"),
        ('scope:get_state: "\'a:b"', "neither a name nor a value"),
        (f"scope:get_state: {'(' * 60}role:a{')' * 60}", "nested deeper than 50 times"),
        (f"scope:get_state: {'not ' * 60}role:a", "nested deeper than 50 times"),
        (f"scope:get_state: {'role:a or ' * 600}role:a", "more than 1000 words"),
        ("- a", "a mapping of names to rules"),
        ("scope:get_state: role:a\nscope:get_state: role:b", ":2"),
        ("{", "policy.yaml"),
        ("a: &x [*x]", "policy.yaml"),
        ("#" + "x" * 2_000_000, "more than"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(file: Path, text: str, said: str) -> None:
    with pytest.raises(PolicyFileError) as found:
        of_file(file, text)

    assert said in str(found.value)


def test_all_faults_are_told_at_once(file: Path) -> None:
    with pytest.raises(PolicyFileError) as found:
        of_file(file, "x:y: role:a\nscope:get_state: admin\nunused: '@'\n")

    lines = str(found.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "1", "3"]


def test_a_file_that_is_not_there_or_no_text(file: Path) -> None:
    with pytest.raises(PolicyFileError, match="cannot be read: No such file"):
        FilePolicy(str(file))
    file.write_bytes(b"\xff")
    with pytest.raises(PolicyFileError, match="not text in UTF-8"):
        FilePolicy(str(file))


def test_a_file_that_changes_is_in_force_and_a_broken_one_is_not(file: Path) -> None:
    clock: list[Any] = [0.0]
    file.write_text("scope:get_state: role:auditor")
    policy = FilePolicy(str(file), lambda: clock[0])
    assert may(policy, ANN, "scope:get_state")

    file.write_text("scope:get_state: ((")
    clock[0] += 2
    assert may(policy, ANN, "scope:get_state")
    assert "stays in force" in policy.red()
    file.write_text("scope:get_state: role:admin")
    clock[0] += 2
    assert (may(policy, ANN, "scope:get_state"), policy.red()) == (False, "")
