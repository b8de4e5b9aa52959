"""Signed tokens: who is let in by one, and everything that somebody without the private key may try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import api_jwt
from multidict import CIMultiDict

from collectors.errors import SourceAwayError
from rater.api.auth.keys import KeyFileError, read_keys
from rater.api.auth.oidc import OidcAuthenticator
from rater.api.auth.settings import OidcAuth, RoleNames
from rater.api.faults import RefusalError
from rater.api.identity import Identity

ISSUER = "https://login.example/realms/cloud"
DAY = 86400  # longer than any run of the tests, which makes its tokens at the begin
RSA, OTHER_RSA, WEAK_RSA = (rsa.generate_private_key(65537, bits) for bits in (2048, 2048, 1024))
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half as a member of a key set."""
    kinds: list[tuple[type, Any]] = [
        (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, jwt.algorithms.ECAlgorithm),
        (ed25519.Ed25519PrivateKey, jwt.algorithms.OKPAlgorithm),
    ]
    made = next(algorithm for kind, algorithm in kinds if isinstance(key, kind))
    named = {} if kid is None else {"kid": kid}
    return {**made.to_jwk(key.public_key(), as_dict=True), **named, **more}


SET = {"keys": [jwk(RSA, "one", use="sig", alg="RS256"), jwk(EC, "two"), jwk(ED, "three")]}


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"iss": ISSUER, "aud": "rater", "sub": "ann", "exp": now + DAY, "iat": now, "nbf": now}
    found |= {"roles": ["Reader", "auditor"], "rater_scopes": ["A", "B"]}
    return {name: value for name, value in (found | changed).items() if value is not None}


def signed(key: Any = RSA, kid: str | None = "one", alg: str = "RS256", head: Any = None, **changed: Any) -> str:
    headers = ({"kid": kid} if kid is not None else {}) | (head or {})
    return jwt.encode(claims(**changed), key, alg, headers=headers)


def by_hand(head: Any, payload: Any, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A token that no library would make."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (head, payload)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(sign(text)).rstrip(b"=")).decode()


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda text: hmac.new(secret, text, hashlib.sha256).digest()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(SET))
    return str(path)


def of_file(file: str, clock: Callable[[], float] = time.monotonic, **changed: Any) -> OidcAuthenticator:
    values = {"algorithms": ("RS256", "ES256", "EdDSA"), "leeway": 5} | changed
    return OidcAuthenticator(OidcAuth(ISSUER, ("rater", "billing"), jwks_file=file, **values), clock)


async def asked(who: OidcAuthenticator, token: str) -> Identity:
    return await who.identify(CIMultiDict({"Authorization": f"Bearer {token}"}))


async def status(who: OidcAuthenticator, token: str) -> int:
    """0 for one that is let in."""
    try:
        await asked(who, token)
    except RefusalError as refused:
        return refused.problem.status
    return 0


async def test_claims_say_who_it_is(file: str) -> None:
    who = of_file(file)

    ann = await asked(who, signed())
    boss = await asked(who, signed(EC, "two", "ES256", sub="boss", roles="admin x", rater_scopes=None))
    meter = await asked(who, signed(ED, "three", "EdDSA", aud=["x", "billing"], roles=["push"], rater_scopes="C D"))

    assert (ann.user, ann.roles, ann.scopes, ann.method) == ("ann", {"reader", "auditor"}, ("A", "B"), "oidc")
    assert (ann.is_admin, ann.may_push("A", "x")) == (False, False)
    assert (boss.is_admin, boss.may_push("any", "x"), boss.scopes) == (True, True, ())
    assert [meter.may_push(scope, "x") for scope in "CDA"] == [True, True, False]


async def test_roles_and_scopes_stand_where_the_settings_say(file: str) -> None:
    names = RoleNames(admin=("Cloud-Boss",), reader=("viewer",))
    paths = {"roles_claim": ("https://x/y", "roles"), "scopes_claim": ("a", "b"), "user_claim": ("email",)}
    who = of_file(file, roles=names, **paths)
    told = {"email": "ann@example", "https://x/y": {"roles": ["VIEWER", "admin", 7]}, "a": {"b": ["A", 1, ""]}}

    ann = await asked(who, signed(**told))
    boss = await asked(who, signed(**told | {"https://x/y": {"roles": ["cloud-boss"]}, "a": ["b"]}))

    assert (ann.user, ann.roles, ann.scopes, ann.is_admin) == ("ann@example", {"viewer", "reader"}, ("A",), False)
    assert (boss.is_admin, boss.scopes) == (True, ())
    assert await status(who, signed()) == 401  # no user where the settings say


PUBLIC = RSA.public_key()
PEM = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = PUBLIC.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
HS = {"alg": "HS256", "kid": "one"}
NOW = int(time.time())
RIGHT = signed()
HEAD, PAYLOAD, SIGNATURE = RIGHT.split(".")

ATTACKS: dict[str, str] = {
    "expired": signed(exp=NOW - 10),
    "expired long ago": signed(exp=1),
    "no expiry": signed(exp=None),
    "expiry as text": by_hand({"alg": "RS256", "kid": "one"}, claims(exp="never")),
    "not yet": signed(nbf=NOW + DAY),
    "issued in the future": signed(iat=NOW + DAY),
    "another issuer": signed(iss="https://evil.example"),
    "an issuer that begins alike": signed(iss=ISSUER + "/x"),
    "no issuer": signed(iss=None),
    "issuers as a list": by_hand({"alg": "RS256", "kid": "one"}, claims(iss=[ISSUER])),
    "another audience": signed(aud="nova"),
    "no audience": signed(aud=None),
    "audience that contains ours": signed(aud="rater-admin"),
    "no user": signed(sub=None),
    "user that is no text": by_hand({"alg": "RS256", "kid": "one"}, claims(sub=7)),
    "user with a line break": signed(sub="ann\nboss"),
    "too many scopes": signed(rater_scopes=" ".join(f"{n:x}" for n in range(1001))),
    "unsigned": by_hand({"alg": "none"}, claims()),
    "unsigned, other letters": by_hand({"alg": "NoNe", "kid": "one"}, claims()),
    "unsigned, our algorithm": by_hand({"alg": "RS256", "kid": "one"}, claims()),
    "signature cut off": f"{HEAD}.{PAYLOAD}.",
    "signature of another key": signed(OTHER_RSA),
    "signature bent": f"{HEAD}.{PAYLOAD}.{'A' if SIGNATURE[0] != 'A' else 'B'}{SIGNATURE[1:]}",
    "payload of another": by_hand({"alg": "RS256", "kid": "one"}, claims(roles=["admin"])).rsplit(".", 1)[0]
    + f".{SIGNATURE}",
    "HS256 with the public key as PEM": by_hand(HS, claims(), hs256(PEM)),
    "HS256 with the public key as DER": by_hand(HS, claims(), hs256(DER)),
    "HS256 with the key of the set": by_hand(HS, claims(), hs256(json.dumps(SET["keys"][0]).encode())),
    "HS256 with nothing": by_hand(HS, claims(), hs256(b"")),
    "an algorithm that is not ours": signed(alg="RS384"),
    "PS256 with a key for RS256": signed(alg="PS256"),
    "the key of another algorithm": signed(EC, "one", "ES256"),
    "algorithm as a list": by_hand({"alg": ["RS256"], "kid": "one"}, claims()),
    "no algorithm": by_hand({"kid": "one"}, claims()),
    "kid of nobody": signed(kid="four"),
    "kid is a path": signed(kid="../../../../dev/null"),
    "kid is a path, signed with nothing": by_hand({"alg": "HS256", "kid": "/dev/null"}, claims(), hs256(b"")),
    "kid is a question": signed(kid="one' OR '1'='1"),
    "kid is a URL": signed(kid="http://169.254.169.254/latest"),
    "kid is a number": by_hand({"alg": "RS256", "kid": 1}, claims()),
    "kid is a list": by_hand({"alg": "RS256", "kid": ["one"]}, claims()),
    "kid is long": signed(kid="x" * 3000),
    "brings its key": signed(OTHER_RSA, head={"jwk": jwk(OTHER_RSA, "one")}),
    "names where its key is": signed(
        OTHER_RSA, head={"jku": "https://evil.example/jwks", "x5u": "https://evil.example"}
    ),
    "a critical member that is not known": signed(head={"crit": ["x"], "x": 1}),
    "a payload beside it": by_hand({"alg": "RS256", "kid": "one", "b64": False, "crit": ["b64"]}, b""),
    "too long": signed(x="x" * 9000),
    "nested deeply": by_hand(b"[" * 5000, claims()),
    "head nested deeply": by_hand(b'{"alg":' + b"[" * 4000, claims()),
    "no JSON": by_hand(b"\xff", claims()),
    "a list": by_hand([], []),
    "two parts": f"{HEAD}.{PAYLOAD}",
    "four parts": f"{RIGHT}.x",
    "five parts, encrypted": f"{HEAD}.x.x.x.x",
    "nothing": ".",
    "dots": "." * 4000,
    "no base64": "a.b.c",
    "padding": f"{HEAD}==.{PAYLOAD}.{SIGNATURE}!",
    "JSON form": json.dumps({"payload": PAYLOAD, "protected": HEAD, "signature": SIGNATURE}),
    "two in one": f"{RIGHT},{RIGHT}",
}


async def test_the_attacks_begin_with_what_is_let_in(file: str) -> None:
    assert await status(of_file(file), RIGHT) == 0


@pytest.mark.parametrize("attack", ATTACKS)
async def test_nobody_is_let_in_by(file: str, attack: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    assert await status(of_file(file), ATTACKS[attack]) == 401
    assert not any(part in caplog.text for part in ATTACKS[attack].split(".") if len(part) > 10)


async def test_an_algorithm_has_to_be_chosen_also_if_a_key_is_good_for_it(file: str) -> None:
    token = signed(EC, "two", "ES256")

    assert await status(of_file(file, algorithms=("ES256",)), token) == 0
    assert await status(of_file(file, algorithms=("RS256", "EdDSA")), token) == 401


async def test_an_expired_token_is_not_believed_because_it_was(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expiry = int(time.time()) + 300
    who, token = of_file(file, leeway=0), signed(exp=expiry)
    assert await status(who, token) == 0

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromtimestamp(expiry + 1, tz)

    monkeypatch.setattr(api_jwt, "datetime", Later)  # the clock of the library
    assert await status(who, token) == 401


async def test_without_an_id_the_only_key_that_fits_is_taken(file: str) -> None:
    assert await status(of_file(file), signed(kid=None)) == 0
    Path(file).write_text(json.dumps({"keys": [jwk(RSA, "one"), jwk(OTHER_RSA, "two")]}))
    assert await status(of_file(file), signed(kid=None)) == 401


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([], "no key in it"),
        ([jwk(WEAK_RSA, "one")], "no key in it"),
        ([jwk(RSA, "one", use="enc")], "no key in it"),
        ([jwk(RSA, "one", key_ops=["encrypt"])], "no key in it"),
        ([jwk(RSA, "one", alg="HS256")], "no key in it"),
        ([jwk(RSA, "one", d="AQAB")], "no key in it"),
        ([{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}], "no key in it"),
        ([{"kty": "RSA", "n": "!", "e": 7}, 7, None, {"kty": ["RSA"]}], "no key in it"),
        ([{}] * 101, "at most 100"),
        ({}, "no list `keys`"),
    ],
)
def test_keys_that_cannot_verify_are_left_out(members: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_keys(json.dumps({"keys": members}).encode())
    if isinstance(members, list) and len(members) < 100:
        assert [key.kid for key in read_keys(json.dumps({"keys": [*members, jwk(RSA, "good")]}).encode())] == ["good"]


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 10_000, b'{"keys": 7}'])
def test_what_is_no_key_set_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "jwks").write_bytes(content)

    with pytest.raises(KeyFileError, match="jwks_file"):
        of_file(str(tmp_path / "jwks"))


async def test_a_file_that_changes_is_read_again_and_a_broken_one_is_told(file: str) -> None:
    now = [0.0]
    who = of_file(file, lambda: now[0])

    Path(file).write_text("{")
    now[0] += 2
    assert await status(who, RIGHT) == 0
    assert "what was read before stays in force" in who.red()
    Path(file).write_text(json.dumps({"keys": [jwk(OTHER_RSA, "one")]}))
    now[0] += 2
    assert (await status(who, RIGHT), who.red()) == (401, "")


# --- a provider that is asked


class Provider(NamedTuple):
    """A provider at a loopback address; `said` is what it answers by path, `asked` the paths that it was asked for."""

    url: str
    said: dict[str, tuple[int, bytes]]
    asked: list[str]

    def says(self, path: str, value: Any, code: int = 200) -> None:
        self.said[path] = (code, value if isinstance(value, bytes) else json.dumps(value).encode())


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    found = Provider("", {}, [])

    async def answer(request: web.Request) -> web.Response:
        found.asked.append(request.path)
        code, body = found.said.get(request.path, (404, b""))
        return web.Response(status=code, body=body)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield found._replace(url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


DISCOVERY = "/realm/.well-known/openid-configuration"


@asynccontextmanager
async def asking(clock: list[float], issuer: str, **settings: Any) -> AsyncIterator[OidcAuthenticator]:
    who = OidcAuthenticator(OidcAuth(issuer, ("rater",), **settings), lambda: clock[0])
    try:
        yield who
    finally:
        await who.close()


async def test_keys_are_found_by_discovery_and_new_ones_asked_for_within_bounds() -> None:
    clock = [100.0]
    async with provider() as served:
        issuer = f"{served.url}/realm"
        async with asking(clock, issuer, refetch_seconds=30) as who:
            # given a provider that is away at first
            assert await status(who, signed(iss=issuer)) == 503
            assert "status 404" in who.red()
            with pytest.raises(SourceAwayError, match="status 404"):  # what `rater doctor` says
                await who.check()
            served.says(DISCOVERY, {"issuer": issuer, "jwks_uri": f"{served.url}/keys"})
            served.says("/keys", SET)
            assert await status(who, signed(iss=issuer)) == 503  # not asked again at once
            clock[0] += 3
            assert await status(who, signed(iss=issuer)) == 0
            assert who.red() == ""
            await who.check()
            # when somebody sends ids of keys that there are not, it is asked once in a while
            served.asked.clear()
            for number in range(50):
                assert await status(who, signed(kid=f"x{number}", iss=issuer)) == 401
            assert served.asked == []
            clock[0] += 31
            for number in range(50):
                assert await status(who, signed(kid=f"x{number}", iss=issuer)) == 401
            assert served.asked == [DISCOVERY, "/keys"]
            # and a key that is new is found
            served.says("/keys", {"keys": [jwk(OTHER_RSA, "new")]})
            clock[0] += 31
            assert await status(who, signed(OTHER_RSA, "new", iss=issuer)) == 0
            assert await status(who, signed(iss=issuer)) == 401


async def test_with_known_keys_it_goes_on_while_the_provider_is_away() -> None:
    clock = [100.0]
    async with provider() as served:
        served.says("/keys", SET)
        async with asking(clock, ISSUER, jwks_url=f"{served.url}/keys", keys_seconds=60) as who:
            assert await status(who, RIGHT) == 0
            served.says("/keys", b"", 500)
            clock[0] += 61
            assert await status(who, RIGHT) == 0
            await who._keys._renewal  # which nobody waits for
            assert "status 500" in who.red()
            assert await status(who, RIGHT) == 0
            assert await status(who, signed(OTHER_RSA, "new")) == 401


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://evil.example", "jwks_uri": "URL/keys"},
        {"jwks_uri": "URL/keys"},
        {"issuer": "URL/realm"},
        {"issuer": "URL/realm", "jwks_uri": "http://keys.example/jwks"},
        {"issuer": "URL/realm", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "URL/realm", "jwks_uri": 7},
        [],
    ],
)
async def test_a_description_of_another_provider_is_not_believed(said: Any) -> None:
    async with provider() as served:
        issuer = f"{served.url}/realm"
        served.says(DISCOVERY, json.dumps(said).replace("URL", served.url).encode())
        served.says("/keys", SET)
        async with asking([100.0], issuer) as who:
            assert await status(who, signed(iss=issuer)) == 503
        assert "/keys" not in served.asked


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"issuer": "http://login.example"}, "asked for by https"),
        ({"jwks_url": "http://login.example/keys"}, "asked for by https"),
        ({"jwks_url": "http://127.evil.example/keys"}, "asked for by https"),
        ({"jwks_url": "https://x", "jwks_file": "f"}, "exclude each other"),
        ({"audience": ()}, "audience is empty"),
        ({"algorithms": ()}, "algorithms is empty"),
    ],
)
def test_settings_that_would_not_be_safe(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OidcAuth(**{"issuer": ISSUER, "audience": ("rater",), **values})
