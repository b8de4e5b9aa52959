"""OpenStack's Keystone, version 3: a token for a password or an application credential, and what comes with it.

Nothing here shows a secret, and no word of Keystone's answer is repeated but the names of services.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from yarl import URL

from collectors.errors import SourceAwayError
from collectors.http.request import Http, Reply, shown
from collectors.http.tokens import UNKNOWN_LIFE, FromServer, Token, reader
from collectors.rest.settings import RestKeystone

__all__ = ["KeystoneLogin", "is_token", "token_answer"]

_MAX_TOKEN_BYTES = 1024 * 1024  # Keystone sends the whole catalogue with it


class KeystoneLogin:
    """Who we are to OpenStack's services. These are `collectors.http.tokens.Credentials`."""

    def __init__(
        self, settings: RestKeystone, http: Http, key: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`key` is how rater.yaml calls the section, `clock` is in seconds. Raises SettingsError for its secret."""
        name = "secret_file" if settings.secret_file else "password_file"
        secret = reader(f"{key}.{name}", settings.secret_file or settings.password_file)
        self._key = key
        self._server = FromServer(lambda: _ask(http, settings, secret()), clock)

    async def headers(self) -> Mapping[str, str]:
        """`X-Auth-Token`. Raises SourceAwayError."""
        return await self._server.headers()

    def forget(self, refused: Mapping[str, str]) -> bool:
        """The token was refused: another one is asked for next time."""
        return self._server.forget(refused)

    async def said(self) -> Mapping[str, Any]:
        """Keystone's own object `token`: user, project, roles, catalog, expires_at. Raises SourceAwayError."""
        return (await self._server.token()).said

    async def endpoint(self, service_type: str, interface: str, region: str = "") -> str:
        """The URL of a service in the catalogue, without a slash at its end; `region` may be empty if there is one.

        Raises SourceAwayError if there is none, or several: the catalogue may be mended while we wait.
        """
        found = sorted(set(_endpoints(await self.said(), service_type, interface, region)))
        if len(found) == 1:
            return found[0].rstrip("/")
        what = f"{interface} endpoint of service type {service_type!r}" + (f" in region {region!r}" if region else "")
        if not found:
            raise SourceAwayError(f"{self._key}: Keystone's catalogue has no {what}: check interface and region")
        raise SourceAwayError(f"{self._key}: Keystone's catalogue has more than one {what}: say which region")


def _endpoints(said: Mapping[str, Any], service_type: str, interface: str, region: str) -> Iterator[str]:
    for service in _objects(said.get("catalog")):
        if service.get("type") == service_type:
            for endpoint in _objects(service.get("endpoints")):
                regions = (endpoint.get("region_id"), endpoint.get("region"))
                url = endpoint.get("url")
                if endpoint.get("interface") == interface and (not region or region in regions) and _is_url(url):
                    yield url


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_url(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value.startswith(("http://", "https://")) and value.isprintable()


async def _ask(http: Http, settings: RestKeystone, secret: str) -> Token:
    """A token. Raises SourceError."""
    url = URL(settings.url.rstrip("/") + "/auth/tokens")
    reply = await http.ask("POST", url, {}, _MAX_TOKEN_BYTES, json={"auth": _request(settings, secret)})
    said = token_answer(reply, url, (200, 201)).get("token")
    token = reply.headers.get("x-subject-token")
    if not is_token(token) or not isinstance(said, dict):
        raise SourceAwayError(f"POST {shown(url)}: no token in the answer")
    return Token({"X-Auth-Token": token}, _life(said.get("expires_at")), said)


def _request(settings: RestKeystone, secret: str) -> dict[str, Any]:
    """The request of a token, as the API of Keystone v3 describes it."""
    if settings.application_credential_id:
        credential = {"id": settings.application_credential_id, "secret": secret}
        return {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    user = {"name": settings.username, "domain": {"name": settings.user_domain}, "password": secret}
    project = {"name": settings.project, "domain": {"name": settings.project_domain}}
    scope: dict[str, Any] = {"system": {"all": True}} if settings.system else {"project": project}
    return {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}


def _life(expires_at: Any) -> float:
    """Seconds until then by our own clock: a Keystone whose clock differs is found by the 401 that follows."""
    try:
        seconds = (datetime.fromisoformat(expires_at) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return UNKNOWN_LIFE
    return seconds if seconds > 0 else UNKNOWN_LIFE


def is_token(value: Any) -> TypeGuard[str]:
    """Whether this can stand in a header."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def token_answer(reply: Reply, url: URL, wanted: tuple[int, ...]) -> dict[str, Any]:
    """The object in an answer of a token server. Raises SourceAwayError: without a token nothing can be asked."""
    if reply.status not in wanted:
        raise SourceAwayError(f"POST {shown(url)}: no token (status {reply.status}): check the credentials")
    try:
        answer = json.loads(reply.body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise SourceAwayError(f"POST {shown(url)}: no token, the answer is no JSON object")
    return answer
