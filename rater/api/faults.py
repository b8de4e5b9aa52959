"""Refusals of the HTTP service: each becomes an answer with a problem document that names every fault and its place."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from rater.client.wire import FaultItem, Problem
from rater.model.errors import RaterError

__all__ = ["MAX_FAULTS", "Faults", "RefusalError"]

MAX_FAULTS = 100  # listed in an answer; the rest is counted
TITLES = {
    400: "Cannot be read",
    401: "No valid token",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "No such form",
    408: "Too slow",
    409: "In conflict with what is there",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Unknown form",
    422: "Wrong content",
    428: "No condition",
    429: "Too much at once",
    503: "Not possible now",
}


class RefusalError(RaterError):
    """A request that is not taken: HTTP status, what was wrong, and each fault."""

    def __init__(self, status: int, detail: str, faults: Faults | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """Seconds after which a repetition may go well."""
        self.caller = ""
        """Name of the token that it came with, for the logs."""
        self.more_headers: dict[str, str] = {}
        """What goes with the answer beside what follows from the status."""
        listed, more = ([], 0) if faults is None else (faults.listed, faults.more)
        self.problem = Problem(TITLES.get(status, "Refused"), status, detail, faults=listed, more_faults=more)

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the answer beside its content type."""
        headers = dict(self.more_headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.problem.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="rater"'
        return headers


class Faults:
    """The faults of one request, the first hundred of them with their texts."""

    def __init__(self) -> None:
        self.listed: list[FaultItem] = []
        self.more = 0

    def add(self, place: str, message: str) -> None:
        """Notes a fault."""
        if len(self.listed) < MAX_FAULTS:
            self.listed.append(FaultItem(place, message))
        else:
            self.more += 1

    def __len__(self) -> int:
        return len(self.listed) + self.more

    def __iter__(self) -> Iterator[FaultItem]:
        return iter(self.listed)

    def refuse(self, status: int, outcome: str = "nothing was written") -> None:
        """Raises RefusalError if there is a fault."""
        if len(self):
            count = "one fault" if len(self) == 1 else f"{len(self)} faults"
            raise RefusalError(status, f"{outcome}: {count}", self)
