"""One setting for the whole service: what goes with which choice, and what a file that changes does to a service."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from rater.api.access import open_access
from rater.api.auth.settings import KeystoneAuth, OidcAuth
from rater.api.credentials import Credentials
from rater.api.faults import RefusalError
from rater.api.policy_file import PolicyFileError
from rater.api.settings import ApiSettings
from rater.config import ConfigError, load_config

ANN, BOB = "the-token-of-ann-12345", "the-token-of-bob-12345"
KEYSTONE = KeystoneAuth("https://keystone/v3", "rater", "p", project="service")
OIDC = OidcAuth("https://login.example", ("rater",))


def sent(token: str) -> CIMultiDict[str]:
    return CIMultiDict({"X-Auth-Token": token} if token else {})


@pytest.mark.parametrize(
    ("values", "method"),
    [
        ({}, "noauth"),
        ({"token_file": "t"}, "token"),
        ({"auth": "noauth"}, "noauth"),
        ({"auth": "token", "token_file": "t"}, "token"),
        ({"auth": "keystone", "keystone": KEYSTONE}, "keystone"),
        ({"auth": "oidc", "oidc": OIDC}, "oidc"),
    ],
)
def test_one_way_is_chosen(values: dict[str, Any], method: str) -> None:
    settings = ApiSettings(**values)

    assert (settings.method, settings.asks_everybody) == (method, method != "noauth")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"auth": "token"}, "there is no token_file"),
        ({"auth": "keystone"}, "there is no keystone"),
        ({"auth": "oidc"}, "there is no oidc"),
        ({"auth": "noauth", "token_file": "t"}, "token_file belongs to auth: token"),
        ({"keystone": KEYSTONE}, "keystone belongs to auth: keystone, and auth is noauth"),
        ({"auth": "keystone", "keystone": KEYSTONE, "token_file": "t"}, "token_file belongs to auth: token"),
        ({"auth": "oidc", "oidc": OIDC, "keystone": KEYSTONE}, "keystone belongs to"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ApiSettings(**values)


def test_settings_that_had_other_names_say_so(tmp_path: Path) -> None:
    file = tmp_path / "rater.yaml"
    file.write_text("api:\n  insecure: true\n  cloudkitty: {auth: noauth}\n")

    with pytest.raises(ConfigError) as found:
        load_config(file, {})

    assert [(fault.where, fault.key, fault.message) for fault in found.value.faults] == [
        (f"{file}:2", "api.insecure", "has another name now: set api.i_know"),
        (f"{file}:3", "api.cloudkitty.auth", "has another name now: set api.auth"),
    ]


def test_sections_are_read_from_the_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "rater.yaml"
    file.write_text(
        """
api:
  auth: oidc
  policy_file: policy.yaml
  oidc: {issuer: https://login.example, audience: [rater], jwks_file: keys.json, roles_claim: [realm_access, roles],
         algorithms: [ES256, EdDSA], roles: {admin: [cloud-admin]}}
"""
    )
    found = load_config(file, {"RATER_API__OIDC__LEEWAY": "7"}).settings.api
    assert found is not None
    assert found.oidc is not None

    assert (found.oidc.roles_claim, found.oidc.algorithms) == (("realm_access", "roles"), ("ES256", "EdDSA"))
    assert (found.oidc.roles.admin, found.oidc.leeway) == (("cloud-admin",), 7)
    assert (found.oidc.jwks_file, found.policy_file) == (str(tmp_path / "keys.json"), str(tmp_path / "policy.yaml"))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "RS1", "ES256K"])
def test_algorithms_whose_key_both_sides_share_cannot_be_chosen(tmp_path: Path, algorithm: str) -> None:
    file = tmp_path / "rater.yaml"
    file.write_text(f"api: {{auth: oidc, oidc: {{issuer: 'https://x', audience: [a], algorithms: [{algorithm}]}}}}")

    with pytest.raises(ConfigError, match=r"api\.oidc\.algorithms"):
        load_config(file, {})


def test_a_policy_file_that_is_wrong_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("rating:get_modul: role:admin")

    with pytest.raises(PolicyFileError, match="there is no such action"):
        open_access(ApiSettings(policy_file=str(tmp_path / "policy.yaml")))


async def test_who_sees_everything_is_said_by_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("context_is_admin: role:push")
    (tmp_path / "tokens.yaml").write_text(
        f"tokens: [{{name: ann, token: {ANN}}}, {{name: bob, token: {BOB}, roles: [admin]}}]"
    )
    files = {"policy_file": str(tmp_path / "policy.yaml"), "token_file": str(tmp_path / "tokens.yaml")}
    access = open_access(ApiSettings(**files))

    assert [(await access.identify(sent(token))).is_admin for token in (ANN, BOB)] == [True, False]
    assert access.red() == ""
    await access.close()


async def test_tokens_come_and_go_without_a_restart(tmp_path: Path) -> None:
    file, clock = tmp_path / "tokens.yaml", [0.0]

    async def known() -> list[str]:
        found = []
        for token in (ANN, BOB):
            try:
                found.append((await who.identify(sent(token))).user)
            except RefusalError:
                found.append("")
        return found

    def written(text: str, name: str = "tokens.yaml") -> None:
        (tmp_path / name).write_text(text)
        clock[0] += 1

    file.write_text(f"tokens: [{{name: ann, token: {ANN}}}]")
    who = Credentials(str(file), lambda: clock[0])
    assert await known() == ["ann", ""]
    # when one comes, by its digest
    written(f"tokens: [{{name: ann, token: {ANN}}}, {{name: bob, sha256: {sha256(BOB.encode()).hexdigest()}}}]")
    assert await known() == ["ann", "bob"]
    # when the file breaks, what it said stays, and it is told
    for broken in ("tokens: [", "tokens: []", f"tokens: [{{name: eve, token: {BOB}, sha256: x}}]"):
        written(broken)
        assert await known() == ["ann", "bob"]
        assert "stays in force" in who.red()
        assert BOB not in who.red()
    file.unlink()
    clock[0] += 1
    assert await known() == ["ann", "bob"]
    assert "cannot be read: No such file" in who.red()
    # when another file is put in its place, it is the one
    written(f"tokens: [{{name: bob, token: {BOB}}}]", "new.yaml")
    (tmp_path / "new.yaml").rename(file)
    clock[0] += 1
    assert (await known(), who.red()) == (["", "bob"], "")
