"""The JSON body of a v2 request, read like a query: the same readers, all faults at once."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from rater.api.cloudkitty.arguments import Query
from rater.api.cloudkitty.calls import Call
from rater.api.cloudkitty.faults import ApiFaultError

__all__ = ["Body"]

Simple: TypeAlias = str | bool | int | float | None


class Body(Query):
    """A JSON object of simple values and lists of them; null is as if it were not there. Raises ApiFaultError 400."""

    def __init__(self, call: Call) -> None:
        try:
            members = msgspec.json.decode(call.body, type=dict[str, Simple | list[Simple]])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise ApiFaultError(400, f"The body is no JSON object of simple values: {fault}") from None
        self._given = {name for name, value in members.items() if value is not None}
        lists = ((name, value if isinstance(value, list) else [value]) for name, value in members.items())
        pairs = [(name, _as_text(value)) for name, values in lists for value in values if value is not None]
        super().__init__(msgspec.structs.replace(call, query=pairs))

    def require(self, *names: str) -> None:
        """Notes what must not be missing."""
        for name in names:
            if name not in self._given:
                self.fault("required key not provided", name)


def _as_text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
