"""How source and fetcher `rest` say who they are: headers from files, or tokens that a server gives for a secret.

Nothing here shows a secret: files are named, never their content, and no word of a token server's answer is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

from yarl import URL

from collectors.errors import SourceAwayError
from collectors.http.keystone import KeystoneLogin, is_token, token_answer
from collectors.http.request import Http, shown
from collectors.http.tokens import (
    UNKNOWN_LIFE,
    Credentials,
    FromFiles,
    FromServer,
    Token,
    basic_header,
    read_secret,
    reader,
)
from collectors.rest.settings import RestAuth, RestOAuth2

__all__ = ["Credentials", "credentials"]

_MAX_TOKEN_BYTES = 1024 * 1024


def credentials(auth: RestAuth, http: Http, clock: Callable[[], float] = time.monotonic) -> Credentials:
    """What the settings ask for; `clock` in seconds. Raises SettingsError for a file that cannot be used."""
    key = f"{http.key}.auth"
    if (basic := auth.basic) is not None:
        file = basic.password_file
        return FromFiles(lambda: basic_header(basic.username, read_secret(f"{key}.basic.password_file", file)))
    if (bearer := auth.bearer) is not None:
        return FromFiles(lambda: _bearer(read_secret(f"{key}.bearer.token_file", bearer.token_file)))
    if (header := auth.header) is not None:
        return FromFiles(lambda: {header.name: read_secret(f"{key}.header.value_file", header.value_file)})
    if (oauth2 := auth.oauth2) is not None:
        secret = reader(f"{key}.oauth2.secret_file", oauth2.secret_file)
        return FromServer(lambda: _oauth2(http, oauth2, secret()), clock)
    if (keystone := auth.keystone) is not None:
        return KeystoneLogin(keystone, http, f"{key}.keystone", clock)
    return FromFiles(dict)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _oauth2(http: Http, settings: RestOAuth2, secret: str) -> Token:
    """A token by RFC 6749, 4.4. Raises SourceError."""
    form = {"grant_type": "client_credentials", **settings.parameters}
    if settings.scope:
        form["scope"] = settings.scope
    headers = {"Accept": "application/json"}
    if settings.in_body:
        form |= {"client_id": settings.client_id, "client_secret": secret}
    else:  # 2.3.1: both are form-encoded before they become basic authorization
        headers |= basic_header(quote_plus(settings.client_id), quote_plus(secret))
    url = URL(settings.url)
    reply = await http.ask("POST", url, headers, _MAX_TOKEN_BYTES, form=form)
    answer = token_answer(reply, url, (200,))
    token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
    if not is_token(token) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise SourceAwayError(f"POST {shown(url)}: no bearer token in the answer")
    life: Any = answer.get("expires_in")
    return Token(_bearer(token), life if type(life) in (int, float) and life > 0 else UNKNOWN_LIFE)
