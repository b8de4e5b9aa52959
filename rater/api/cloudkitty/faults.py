"""What a request is refused with, and how each version of the API says it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from typing import Any

from rater.model.codec import encode_json
from rater.model.errors import RaterError

__all__ = ["HTML", "JSON", "ApiFaultError", "Faults", "fault_body"]

JSON, HTML = "application/json", "text/html"
MAX_FAULTS = 50  # told in one answer


class ApiFaultError(RaterError):
    """A request that is refused. `of_route`: no handler was reached, which both versions say in HTML."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        of_route: bool = False,
        headers: Mapping[str, str] | None = None,
        for_logs: str = "",
    ) -> None:
        """`for_logs`: what logs say in place of a message that may quote what was sent."""
        super().__init__(message)
        self.for_logs = for_logs or message
        self.status = status
        self.of_route = of_route
        self.headers = dict(headers or {})


class Faults:
    """The faults of one request's arguments: all of them are told at once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, message: str) -> None:
        """Notes a fault."""
        self._found.append(message)

    def __len__(self) -> int:
        return len(self._found)

    def refuse(self, head: str = "") -> None:
        """Raises ApiFaultError 400 if there is a fault."""
        if self._found:
            more = len(self._found) - MAX_FAULTS
            told = [*self._found[:MAX_FAULTS], *([f"and {more} more"] if more > 0 else [])]
            # a fault may quote a quantity or a label
            for_logs = f"{head}{len(self._found)} faults, told to who sent it" if head else ""
            raise ApiFaultError(400, head + "; ".join(told), for_logs=for_logs)


def fault_body(fault: ApiFaultError, version: int, accept: str) -> tuple[bytes, str]:
    """Body and content type. `version` is 1 or 2; `accept` the header of the request."""
    message = str(fault)
    if fault.of_route:
        return _route_body(fault, accept)
    body: dict[str, Any]
    if fault.status == HTTPStatus.UNAUTHORIZED:
        body = {"error": {"code": 401, "title": "Unauthorized", "message": message}}
    elif version == 1:
        at_fault = "Client" if fault.status < HTTPStatus.INTERNAL_SERVER_ERROR else "Server"
        body = {"faultcode": at_fault, "faultstring": message, "debuginfo": None}
    else:
        body = {"message": message}
    return encode_json(body), JSON


def _route_body(fault: ApiFaultError, accept: str) -> tuple[bytes, str]:
    title = HTTPStatus(fault.status).phrase
    if JSON in accept:
        return encode_json({"code": fault.status, "title": title, "description": str(fault)}), JSON
    head = f"{fault.status} {title}"
    page = f"<html>\n <head>\n  <title>{head}</title>\n </head>\n <body>\n  <h1>{head}</h1>\n"
    return f"{page}  {escape(str(fault))}\n </body>\n</html>\n".encode(), HTML
