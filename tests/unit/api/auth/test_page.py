"""docs/authentication.md: its settings are settings, its files are read, its command writes such an entry."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from multidict import CIMultiDict

from rater.api.auth.settings import KeystoneAuth, OidcAuth
from rater.api.credentials import Credentials
from rater.api.policy import FilePolicy
from rater.api.settings import ApiSettings
from rater.cli.app import cli
from rater.config import load_config

DOCS = Path(__file__).resolve().parents[4] / "docs"
PAGE = (DOCS / "authentication.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(first: str) -> list[str]:
    return [text for _, text in BLOCKS if text.startswith(first)]


@pytest.mark.parametrize("number", [0, 1])
def test_settings_are_taken(number: int, tmp_path: Path) -> None:
    (tmp_path / "rater.yaml").write_text(blocks("# rater.yaml")[number])

    settings = load_config(tmp_path / "rater.yaml", {}).settings.api

    assert settings is not None
    assert settings.method == ("keystone", "oidc")[number]


async def test_tokens_and_the_command_that_makes_one(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    command = next(text for kind, text in BLOCKS if kind == "sh").partition(">>")[0].split()
    done = CliRunner().invoke(cli, command[1:])
    file.write_text(blocks("# api.token_file")[0] + done.stdout.replace('"gateway", "sha', '"another", "sha'))
    sent = ["0d9c5f2e7b1a4c66b0a3", "5f0c7a0e9d1b4c66b0a3", "e1d3a6f24b5c48c7a9f0", done.stderr.split()[-1]]

    who = [await Credentials(str(file)).identify(CIMultiDict({"X-Auth-Token": one})) for one in sent]

    assert [(one.user, sorted(one.roles)) for one in who] == [
        ("boss", ["admin"]),
        ("ann", ["reader"]),
        ("gateway", ["push"]),
        ("another", ["push"]),
    ]
    assert [who[0].may_push("projA", "gateway"), who[3].may_push("projA", "gateway")] == [False, True]


def test_the_policy_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(blocks("# api.policy_file")[0])

    assert FilePolicy(str(tmp_path / "policy.yaml")).red() == ""


def test_every_setting_is_told_and_no_other() -> None:
    for section, own in (("api.keystone", KeystoneAuth), ("api.oidc", OidcAuth)):
        rows = PAGE.split(f"| `{section}` |")[1].split("\n\n")[0].splitlines()[2:]
        assert set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows))) == {*own.__struct_fields__}
    ours = {field.name for field in msgspec.structs.fields(ApiSettings)}
    assert set(re.findall(r"`api\.(\w+)", PAGE)) <= ours


def test_every_link_leads_somewhere() -> None:
    for page in ("authentication.md", "push.md", "cloudkitty-api.md"):
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", (DOCS / page).read_text())
        assert [link for link in links if "://" not in link and not (DOCS / link).exists()] == []
