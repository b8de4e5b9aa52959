"""One request in JSON, and its answer: how the clients of these tests speak to the servers they feed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

Json = Any  # what an API answers: the tests know its shape

_SECONDS = 60


class RefusedError(Exception):
    """An answer that is no success. `status` is HTTP's."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class Said(NamedTuple):
    """A successful answer; no body is None."""

    body: Json
    headers: Mapping[str, str]


def ask(method: str, url: str, headers: Mapping[str, str], body: object = None) -> Said:
    """Send `body`, if there is one. Raises RefusedError."""
    sent = None if body is None else json.dumps(body).encode()
    named = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=sent, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            text = answer.read()
            return Said(json.loads(text) if text else None, dict(answer.headers))
    except urllib.error.HTTPError as refusal:
        with refusal:
            raise RefusedError(refusal.code, refusal.read().decode(errors="replace")) from None
