"""Tokens: who is let in, what a wrong file says, and where the service may listen without one."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from multidict import CIMultiDict

from rater.api.credentials import Credentials, TokenFileError, check_exposure
from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.settings import ApiSettings
from rater.api.tls import open_certificates
from rater.observe import ListenError

GOOD = """\
tokens:
- {name: meters, token: a-token-of-the-meters-1, scopes: [A, B], sources: [meter]}
- {name: billing, token: another-token-of-billing}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_text(GOOD)
    return path


async def known(file: Path, *headers: tuple[str, str]) -> Identity:
    return await Credentials(str(file)).identify(CIMultiDict(headers))


async def test_a_token_says_who_it_is_and_what_it_may_push(file: Path) -> None:
    meters = await known(file, ("Authorization", "Bearer a-token-of-the-meters-1"))
    billing = await known(file, ("X-Auth-Token", "another-token-of-billing"))

    assert (meters.user, billing.user) == ("meters", "billing")
    assert [meters.may_push(*pair) for pair in (("A", "meter"), ("C", "meter"), ("A", "x"))] == [True, False, False]
    assert billing.may_push("anything", "anyone")


RIGHT = "a-token-of-the-meters-1"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer wrong")],
        [("Authorization", f"Basic {RIGHT}")],
        [("Authorization", RIGHT)],
        [("Authorization", f"Bearer {RIGHT}"), ("Authorization", "Bearer another-token-of-billing")],
        [("X-Auth-Token", RIGHT), ("X-Auth-Token", RIGHT)],
        [("X-Auth-Token", "wrong"), ("Authorization", f"Bearer {RIGHT}")],
        [("X-Auth-Token", f"{RIGHT} x")],
        [("X-Auth-Token", f"{RIGHT}\r\nX-Roles: admin")],
        [("X-Auth-Token", f"{RIGHT}\x00")],
        [("X-Auth-Token", RIGHT + "\u00e9")],
        [("X-Auth-Token", RIGHT * 1000)],
        [("X-Auth-Token", "4b2b3a3a24b43ad0d5d2ef3c3d2a3e7a1cf41b4e8f8a3a2ae1b5d1fdbbc2f5a0")],
        [("X-Roles", "admin"), ("X-User-Id", "meters"), ("X-Identity-Status", "Confirmed")],
    ],
)
async def test_everybody_else_is_401(file: Path, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(RefusalError) as found:
        await known(file, *headers)

    assert found.value.problem.status == 401
    assert str(found.value) == "The request you have made requires authentication."


async def test_the_digest_of_a_token_is_no_token(file: Path) -> None:
    digest = sha256(RIGHT.encode()).hexdigest()
    file.write_text(f"tokens: [{{name: meters, sha256: {digest.upper()}, scopes: [A]}}]")

    assert (await known(file, ("X-Auth-Token", RIGHT))).user == "meters"
    with pytest.raises(RefusalError):
        await known(file, ("X-Auth-Token", digest))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tokens: []", "is empty"),
        ("tokens:\n- {name: a, token: sesame-1}", "at least 20 characters"),
        (GOOD + "- {name: meters, token: sesame-sesame-sesame-3}", "stands twice"),
        (GOOD + "- {name: x, token: a-token-of-the-meters-1}", "stands twice"),
        ("tokens:\n- {name: a}", "give token or sha256"),
        ("tokens:\n- {name: a, token: sesame-sesame-sesame-3, sha256: x}", "give token or sha256"),
        ("tokens:\n- {name: a, sha256: sesame-sesame-sesame-3}", "64 hexadecimal digits"),
        ("tokens:\n- {name: a, sha256: [sesame]}", "must be text"),
        ("tokens:\n- {name: a, token: 'sesame sesame sesame sesame'}", "(hidden)"),
        ("tokens:\n- {name: a, tokens: sesame-sesame-sesame-3}", "is no setting"),
        ("{", "is no YAML"),
        ("sesame-sesame-sesame-3", "give a list `tokens:`"),
        ("sesame-sesame-sesame-3: [projA]", "give a list `tokens:`"),
        ("- {name: a, token: sesame-sesame-sesame-3}", "give a list `tokens:`"),
        ("", "give a list `tokens:`"),
    ],
)
def test_a_wrong_file_is_told_without_a_secret(file: Path, text: str, said: str) -> None:
    file.write_text(text)

    with pytest.raises(TokenFileError) as found:
        Credentials(str(file))

    assert said in str(found.value)
    assert "sesame" not in str(found.value)
    assert "a-token" not in str(found.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="cannot be read"):
        Credentials(str(tmp_path / "nothing"))


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_no_token(listen: str) -> None:
    assert "this machine only" in check_exposure(ApiSettings(listen=listen))


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "rater.example:1"])
def test_beyond_loopback_needs_one_or_a_word(listen: str) -> None:
    with pytest.raises(ListenError, match=r"asks for no token: set api\.token_file .*api\.i_know: true"):
        check_exposure(ApiSettings(listen=listen))
    assert "anybody" in check_exposure(ApiSettings(listen=listen, i_know=True))
    assert "without TLS" in check_exposure(ApiSettings(listen=listen, token_file="t"))
    assert "without" not in check_exposure(
        ApiSettings(listen=listen, token_file="t", certificate_file="c", key_file="k")
    )


def test_certificate_and_key_belong_together() -> None:
    with pytest.raises(ValueError, match="belong together"):
        ApiSettings(key_file="k")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key, which has a password."""
    made = tmp_path_factory.mktemp("tls")
    certificate, key = str(made / "cert.pem"), str(made / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=localhost", "-days", "2"]
    files = ["-keyout", key, "-out", certificate, "-passout", "pass:sesame"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return certificate, key


def test_without_a_certificate_there_is_no_tls() -> None:
    assert open_certificates(ApiSettings()) is None


def test_a_file_of_tls_that_is_not_there_is_named(pair: tuple[str, str]) -> None:
    with pytest.raises(ListenError, match=r"api\.key_file /nowhere cannot be read: No such file"):
        open_certificates(ApiSettings(certificate_file=pair[0], key_file="/nowhere"))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(pair: tuple[str, str]) -> None:
    with pytest.raises(ListenError, match="the key without a password"):
        open_certificates(ApiSettings(certificate_file=pair[0], key_file=pair[1]))
