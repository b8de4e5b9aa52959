"""Policies: the real oslo.policy, with CloudKitty's defaults and files made by chance, allows what we allow."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.policy import ACTIONS, FilePolicy
from tests.conformance.side import PYTHON

SIDE = Path(__file__).with_name("policy_side.py")
THEIRS = [action for action in ACTIONS if not action.startswith("v3:")]
ROLES = ["admin", "reader", "member", "Auditor"]
CHECKS = [
    "@",
    "!",
    *(f"role:{role}" for role in (*ROLES, "AUDITOR", "%(project_id)s")),
    "project_id:%(project_id)s",
    "project_id:A",
    "user_id:%(project_id)s",
    "user_id:ann",
    "domain_id:None",
    "system_scope:None",
    "nothing:None",
    "True:%(project_id)s",
    "'A':%(project_id)s",
    "None:%(project_id)s",
    "roles:reader",
    "rule:context_is_admin",
    "rule:project_reader_api",
    "rule:project_member_or_admin",
    "rule:of_ours",
]


def rule(chance: random.Random, depth: int = 0) -> str:
    """A rule of the language, with parentheses where they are needed and where they are not."""
    kind = chance.random()
    if depth > 3 or kind < 0.35:
        return chance.choice(CHECKS)
    if kind < 0.5:
        return f"not {chance.choice(CHECKS)}" if chance.random() < 0.5 else f"not ({rule(chance, depth + 1)})"
    if kind < 0.6:
        return f"({rule(chance, depth + 1)})"
    word = chance.choice(["and", "or", "AND", "Or"])
    return f" {word} ".join(rule(chance, depth + 1) for _ in range(chance.randint(2, 3)))


def file_of(chance: random.Random) -> dict[str, Any]:
    """Some actions by chance, and a rule that others may refer to."""
    rules: dict[str, Any] = {"of_ours": chance.choice(["role:Auditor", "not role:member", ""])}
    for action in chance.sample(THEIRS, 12):
        rules[action] = rule(chance)
    rules["rating:get_module"] = [["role:admin", "project_id:%(project_id)s"], "role:auditor", []]
    rules["rating:quote"] = "rule:of_ours"
    if chance.random() < 0.5:
        rules["context_is_admin"] = chance.choice(["role:admin or role:auditor", "role:member", "!"])
    return rules


def people(chance: random.Random) -> Identity:
    roles = frozenset(role.lower() for role in chance.sample(ROLES, chance.randint(0, 3)))
    facts = {"user_id": chance.choice(["ann", "A"]), "system_scope": None, "domain_id": None}
    return Identity("ann", roles, chance.choice([(), ("A",), ("True",)]), "keystone", facts=facts)


def about_of(scopes: tuple[str, ...] | None) -> dict[str, str | None]:
    """What CloudKitty says a request is about, at most one scope."""
    return {} if scopes is None else {"project_id": scopes[0] if scopes else None}


def as_theirs(who: Identity) -> dict[str, Any]:
    project = who.scopes[0] if who.scopes else None
    return {"roles": sorted(who.roles), "project_id": project, **who.facts}


def test_oslo_policy_allows_the_same(tmp_path: Path) -> None:
    # given files made by chance, and one that changes nothing
    chance = random.Random(7)
    files = [json.dumps({}), *(json.dumps(file_of(chance)) for _ in range(40))]
    scopes: list[tuple[str, ...] | None] = [None, (), ("A",), ("B",), ("True",)]
    asked = [[(action, people(chance), chance.choice(scopes)) for action in THEIRS * 2] for _ in files]
    # a request about no scope is one of somebody without a project
    asked = [[case for case in cases if case[2] != () or not case[1].scopes] for cases in asked]
    theirs = [[(action, as_theirs(who), about_of(about)) for action, who, about in cases] for cases in asked]

    # when both are asked
    sent = json.dumps(list(zip(files, theirs, strict=True)))
    done = subprocess.run([PYTHON, "-W", "ignore", SIDE], input=sent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for content, cases, wanted in zip(files, asked, said, strict=True):
        (tmp_path / "policy.json").write_text(content)
        policy = FilePolicy(str(tmp_path / "policy.json"))
        for (action, who, about), (may, administers) in zip(cases, wanted, strict=True):
            judged = policy.judged(who)
            found = True
            try:
                policy.authorize(judged, action, about)
            except RefusalError:
                found = False

            # then they agree
            assert (found, judged.is_admin) == (may, administers), (content, action, who, about)
    allowed = [may for wanted in said for may, _ in wanted]
    assert 0.1 < sum(allowed) / len(allowed) < 0.9  # the question was one
