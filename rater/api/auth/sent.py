"""The token that a request brings, as long as it can be one."""

from __future__ import annotations

from multidict import MultiMapping

from rater.api.faults import RefusalError

__all__ = ["MAX_TOKEN_BYTES", "not_known", "sent_token"]

MAX_TOKEN_BYTES = 8192
"""Of a token. Keystone's have some hundred, signed ones with many roles a few thousand."""


def not_known() -> RefusalError:
    """The refusal of whoever is not recognised. It never says why: that would help to guess."""
    return RefusalError(401, "The request you have made requires authentication.")


def sent_token(headers: MultiMapping[str]) -> str:
    """From `X-Auth-Token`, which OpenStack's clients send, or `Authorization: Bearer …`. Raises RefusalError 401.

    A header that stands there twice is refused: somebody on the way may have read the other one.
    """
    for name in ("X-Auth-Token", "Authorization"):
        values = headers.getall(name, [])
        if len(values) > 1:
            raise not_known()
        if not values or not values[0].strip():
            continue
        token = values[0].strip()
        if name == "Authorization":
            scheme, _, token = token.partition(" ")
            token = token.strip() if scheme.lower() == "bearer" else ""
        if not token or len(token) > MAX_TOKEN_BYTES or not token.isascii() or not token.isprintable() or " " in token:
            raise not_known()
        return token
    raise not_known()
