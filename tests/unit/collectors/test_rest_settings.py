"""Settings of source and fetcher `rest`: all faults at once, and requests made of templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collectors.rest.settings import (
    RestAuth,
    RestBearer,
    RestFetcherSettings,
    RestHeader,
    RestKeystone,
    RestOAuth2,
    RestPaging,
    RestProof,
    RestSettings,
)
from collectors.rest.template import Asked, fill_body, fill_url, names, url_faults
from rater.config import ConfigError, load_config
from tests.unit.collectors.rest_endpoint import HOUR

ASKED = Asked(*HOUR, "a/b ü&c=d%2F", "cpu hours")


def test_every_fault_of_the_section_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "rater.yaml").write_text("""collect:
  source: rest
  rest:
    url: "https://usage.example.org/v1/{scop}?from={begin:ms}"
    body: {a: ["{until}"]}
    headers: {Authorization: Bearer x, "X Y": a, Z: "a\\nb"}
    delimiter: '"'
    items: "data["
    labels: {id: "header:X"}
    until: end
    insecure: true
    ca_file: ca.pem
    auth: {basic: {username: u}, oauth2: {url: nowhere, client_id: c, secret_file: s}}
    paging: {kind: token}
    proof: {begin: "a b"}
""")
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "rater.yaml", {})
    told = [f"{fault.key}: {fault.message}" for fault in refused.value.faults]
    for part in (
        "url {scop} is no placeholder",
        "url {begin:ms} has no such format",
        "body: {until} is no placeholder",
        "body belongs to method POST",
        "headers: Authorization belongs to auth",
        "headers: 'X Y' is no header",
        "headers: 'Z' is no header",
        "items is 'data[', no JMESPath",
        "labels.id is 'header:X': a header cannot stand here",
        "until needs time",
        "quantity is missing",
        "ca_file and insecure exclude each other",
    ):
        assert any(part in text for text in told if text.startswith("collect.rest: ")), (part, told)
    assert any(text.startswith("collect.rest.auth.basic.password_file: is missing") for text in told)
    assert any(text.startswith("collect.rest.delimiter: is") for text in told)
    assert any(text.startswith("collect.rest.auth.oauth2.url: is 'nowhere'") for text in told)
    assert "collect.rest.paging: kind token needs next" in "\n".join(told)
    assert "begin and end go together: give both or none; begin is 'a b', no JMESPath" in "\n".join(told)


def test_files_are_relative_to_the_settings(tmp_path: Path) -> None:
    (tmp_path / "rater.yaml").write_text("collect: {rest: {auth: {bearer: {token_file: token}}, ca_file: ca.pem}}\n")

    settings = load_config(tmp_path / "rater.yaml", {}).settings.collect

    assert settings is not None
    assert settings.rest.auth.bearer == RestBearer(str(tmp_path / "token"))
    assert settings.rest.ca_file == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RestAuth(bearer=RestBearer("f"), header=RestHeader("X", "f")), "bearer and header exclude each other"),
        (lambda: RestKeystone("https://k/v3"), "give username, password_file and project, or application_credential"),
        (lambda: RestKeystone("https://k/v3", username="u", password_file="f"), "give username, password_file and"),
        (
            lambda: RestKeystone("https://k/v3", username="u", application_credential_id="i", secret_file="f"),
            "and not both",
        ),
        (
            lambda: RestKeystone("https://k/v3", username="u", password_file="f", project="p", system=True),
            "project and system exclude each other",
        ),
        (lambda: RestKeystone("https://k/{scope}"), "url {scope} is no placeholder: use none here"),
        (lambda: RestOAuth2("https://k:port/", "c", "f"), "url is no URL"),
        (lambda: RestPaging("link", next="a"), "next and parameter belong to kind token, not link"),
        (lambda: RestPaging("token", next="header:", parameter="p"), "a header cannot stand here"),
        (lambda: RestProof(end="a"), "begin and end go together"),
        (lambda: RestProof(count="a("), "count is 'a.', no JMESPath"),
        (lambda: RestSettings(url="https://a/{scope}"), "quantity is missing"),
        (lambda: RestFetcherSettings(url="https://a/{scope}"), "{scope} is no placeholder: use {begin}, {end}"),
        (lambda: RestFetcherSettings(scopes="a["), "scopes is 'a.', no JMESPath"),
    ],
)
def test_what_contradicts_itself_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_a_url_is_filled_and_encoded() -> None:
    template = (
        "https://h/{scope}/x?a=%20&s={scope}&m={metric}&b={begin}&u={begin:utc}&e={end:seconds}&f={end:milliseconds}"
    )

    assert url_faults(template) == []
    assert names(template, {"a": "{end}"}) == {"scope", "metric", "begin", "end"}
    assert fill_url(template, ASKED) == (
        "https://h/a%2Fb%20%C3%BC%26c%3Dd%252F/x?a=%20&s=a%2Fb%20%C3%BC%26c%3Dd%252F&m=cpu%20hours"
        "&b=2026-01-01T00%3A00%3A00Z&u=2026-01-01T00%3A00%3A00&e=1767229200&f=1767229200000"
    )


def test_a_body_is_filled_and_keeps_its_kinds() -> None:
    template = {"q": 'query { usage(p: "{scope}") { qty } }', "t": ["{begin:seconds}", "{end:milliseconds}", "{end}"]}

    assert fill_body({**template, "n": 5, "x": "at {begin:seconds}", "z": None}, Asked(*HOUR, 'p"1')) == {
        "q": 'query { usage(p: "p"1") { qty } }',
        "t": [1_767_225_600, 1_767_229_200_000, "2026-01-01T01:00:00Z"],
        "n": 5,
        "x": "at 1767225600",
        "z": None,
    }


@pytest.mark.parametrize("scope_id", ["", ".", ".."])
def test_a_scope_that_would_change_the_path_is_not_asked_for(scope_id: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in the path"):
        fill_url("https://h/{scope}/usage", Asked(*HOUR, scope_id))
    assert fill_url("https://h/usage?s={scope}", Asked(*HOUR, scope_id)) == f"https://h/usage?s={scope_id}"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("https://{scope}.example.org/", "needs a fixed host"),
        ("https://h/{scope:seconds}", "has no such format"),
        ("https://h/{ scope }", "a brace that belongs to no placeholder"),
        ("https://h/#a", "has a fragment"),
        ("https://h:{scope}/", "needs a fixed host"),
        ("https://h:port/", "is no URL"),
    ],
)
def test_a_url_that_cannot_be_asked_is_refused(template: str, fault: str) -> None:
    assert any(fault in text for text in url_faults(template))
