"""Tokens: who is let in, what a wrong file says, and where the service may listen without one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rater.api.credentials import Credentials, TokenFileError, check_exposure, tls_context
from rater.api.faults import RefusalError
from rater.api.settings import ApiSettings
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


def test_a_token_says_who_it_is_and_what_it_may_push(file: Path) -> None:
    credentials = Credentials(str(file))

    meters = credentials.caller("Bearer a-token-of-the-meters-1")
    billing = credentials.caller("bearer another-token-of-billing")

    assert (meters.name, billing.name) == ("meters", "billing")
    assert [meters.may_push(*pair) for pair in (("A", "meter"), ("C", "meter"), ("A", "x"))] == [True, False, False]
    assert billing.may_push("anything", "anyone")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic a-token-of-the-meters-1", "a-token-of-the-meters-1"]
)
def test_everybody_else_is_401(file: Path, header: str) -> None:
    with pytest.raises(RefusalError) as found:
        Credentials(str(file)).caller(header)

    assert found.value.problem.status == 401


def test_without_a_file_everybody_is_let_in() -> None:
    assert Credentials("").caller("").name == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tokens: []", "is empty"),
        ("tokens:\n- {name: a, token: sesame-1}", "at least 20 characters"),
        (GOOD + "- {name: meters, token: sesame-sesame-sesame-3}", "stands twice"),
        (GOOD + "- {name: x, token: a-token-of-the-meters-1}", "stands twice"),
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
    with pytest.raises(ListenError, match=r"asks for no token: set api\.token_file"):
        check_exposure(ApiSettings(listen=listen))
    assert "anybody" in check_exposure(ApiSettings(listen=listen, insecure=True))
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
    assert tls_context(ApiSettings()) is None


def test_a_file_of_tls_that_is_not_there_is_named(pair: tuple[str, str]) -> None:
    with pytest.raises(ListenError, match=r"api\.key_file /nowhere cannot be read: No such file"):
        tls_context(ApiSettings(certificate_file=pair[0], key_file="/nowhere"))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(pair: tuple[str, str]) -> None:
    with pytest.raises(ListenError, match="the key without a password"):
        tls_context(ApiSettings(certificate_file=pair[0], key_file=pair[1]))
