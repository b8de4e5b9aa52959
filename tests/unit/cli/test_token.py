"""`rater token new`: what it writes for the file lets in who has what it shows, and the file does not have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from multidict import CIMultiDict

from rater.api.credentials import Credentials
from rater.cli.token import token


async def test_the_entry_lets_in_who_has_the_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    asked = [
        ["new", "ann", "--role", "reader", "--role", "push", "--scope", "A", "--scope", "é: {x"],
        ["new", "gateway", "--source", "meter"],
    ]

    made = [CliRunner().invoke(token, arguments) for arguments in asked]
    shown = [done.stderr.split()[-1] for done in made]
    file.write_text("tokens:\n" + "".join(done.stdout for done in made))
    known = [await Credentials(str(file)).identify(CIMultiDict({"X-Auth-Token": one})) for one in shown]

    assert [done.exit_code for done in made] == [0, 0]
    assert [(one.user, one.scopes) for one in known] == [("ann", ("A", "é: {x")), ("gateway", ())]
    assert known[0].roles == {"reader", "push"}
    assert [known[1].may_push("any", source) for source in ("meter", "x")] == [True, False]
    assert len(set(shown)) == 2
    assert min(len(one) for one in shown) > 40
    assert not any(one in file.read_text() for one in shown)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "without blanks"),
        ([""], "without blanks"),
        (["x" * 101], "at most 100"),
        (["ann", "--role", "reader"], "name them with --scope"),
        (["ann", "--role", "boss"], "is not one of"),
    ],
)
def test_what_would_be_no_entry_is_refused(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(token, ["new", *arguments])

    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
