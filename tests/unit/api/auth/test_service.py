"""The whole service with signed tokens: each version asks, none shows what is another's, or says more than it must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rater.api.auth.settings import OidcAuth
from rater.rating import RuleBook
from rater.reports import StoreView
from tests.unit.api.auth.test_oidc import ATTACKS, ISSUER, SET, signed
from tests.unit.api.cloudkitty.world import RANGE, filled_store, opened, serving

PATHS = ("/v1/report/total", "/v1/info/config", "/v2/summary", "/v2/scope", "/v3/usage")
USAGE = {"json": {}, "method": "POST"}


@pytest.fixture(scope="module")
def view() -> Iterator[StoreView]:
    yield from opened(filled_store)


def settings(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    (tmp_path / "jwks.json").write_text(json.dumps(SET))
    values = {"jwks_file": str(tmp_path / "jwks.json"), "leeway": 5} | changed
    return {"auth": "oidc", "oidc": OidcAuth(ISSUER, ("rater",), **values)}


def of(path: str) -> dict[str, Any]:
    return USAGE if path == "/v3/usage" else {}


async def test_who_is_recognised_is_answered_by_role(view: StoreView, tmp_path: Path) -> None:
    ann = signed(rater_scopes=["A"])
    boss, meter, nobody = (signed(roles=roles, rater_scopes=[]) for roles in (["admin"], ["push"], []))
    async with serving(view, RuleBook.empty(), api=settings(tmp_path)) as world:
        found = [
            [(await world.ask(path, None, token, **of(path))).status for path in PATHS]
            for token in (ann, boss, meter, nobody)
        ]
        scopes = {**RANGE, "groupby": "project_id", "filters": "project_id:B"}
        own = await world.get("/v2/summary", scopes, ann)

    # without Kafka, which usage would go to, it is 503 for whoever may push or not: that is looked at afterwards
    assert found == [
        [200, 200, 200, 403, 503],
        [200, 200, 200, 200, 503],
        [403, 200, 403, 403, 503],
        [403, 200, 403, 403, 503],
    ]
    assert [row[-1] for row in own["results"]] == ["A"]


async def test_no_version_lets_anybody_in_by_an_attack(view: StoreView, tmp_path: Path) -> None:
    async with serving(view, RuleBook.empty(), api=settings(tmp_path)) as world:
        for name, token in ATTACKS.items():
            if "\n" in token or len(token) > 8000:  # what HTTP itself refuses
                continue
            for path in PATHS[::2]:
                refused = await world.ask(path, headers={"Authorization": f"Bearer {token}"}, **of(path))
                assert refused.status == 401, (name, path)
                assert refused.headers["WWW-Authenticate"] == 'Bearer realm="rater"'
        for sent in ({"X-Auth-Token": ATTACKS["unsigned"]}, {"X-Project-Id": "A"}):
            headers = {**sent, "X-Roles": "admin", "X-Identity-Status": "Confirmed"}
            assert [(await world.ask(path, headers=headers, **of(path))).status for path in PATHS] == [401] * 5
        longest = await world.ask("/v2/summary", headers={"Authorization": f"Bearer {'x' * 8150}"})
        too_long = await world.ask("/v2/summary", headers={"Authorization": f"Bearer {'x' * 20_000}"})

    assert (longest.status, too_long.status in (400, 401, 431)) == (401, True)


async def test_while_nobody_can_be_recognised_it_is_503_in_each_versions_words(view: StoreView, tmp_path: Path) -> None:
    away = settings(tmp_path, jwks_file="", jwks_url="http://127.0.0.1:1/keys")
    async with serving(view, RuleBook.empty(), api=away) as world:
        answers = {path: await world.ask(path, None, signed(), **of(path)) for path in PATHS}

    assert {(found.status, found.headers["Retry-After"]) for found in answers.values()} == {(503, "2")}
    assert "cannot be told now who you are" in answers["/v2/summary"].body["message"]
    assert "cannot be told now who you are" in answers["/v1/report/total"].body["faultstring"]
    assert "cannot be told now who you are" in json.loads(answers["/v3/usage"].body)["detail"]
    assert not any("127.0.0.1" in str(found.body) for found in answers.values())
