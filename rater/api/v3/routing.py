"""Which operation a path and a method stand for, and which of its forms a client wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from rater.api.faults import RefusalError
from rater.api.incoming import PathTable
from rater.api.v3.operations import Operation

__all__ = ["Found", "Routes", "chosen_form", "segments_of"]

MAX_PATH = 4_000  # characters


class Found(NamedTuple):
    """An operation and what stands in its path."""

    operation: Operation
    path: dict[str, str]


class Routes:
    """The operations by their paths."""

    def __init__(self, operations: Iterable[Operation], elsewhere: Iterable[tuple[str, str]] = ()) -> None:
        """`elsewhere`: methods and paths below /v3 that somebody else answers, and that only `Allow` names."""
        self._table = PathTable(operations, lambda operation: operation.path)
        self._elsewhere: dict[tuple[str, ...], list[str]] = {}
        for method, path in elsewhere:
            self._elsewhere.setdefault(tuple(path.split("/")), []).append(method)

    def find(self, method: str, segments: Sequence[str]) -> Found:
        """Raises RefusalError 404, or 405 with what is allowed."""
        methods: dict[str, Found] = {}
        for operation, path in self._table.matching(segments):
            methods.setdefault(operation.method, Found(operation, path))
        found = methods.get("GET" if method == "HEAD" else method)
        if found is not None:
            return found
        allowed = sorted({*methods, *self._elsewhere.get(tuple(segments), [])})
        if not allowed:
            raise RefusalError(404, "there is no such path: GET /v3/openapi.json and /v3/docs list all of them")
        if "GET" in allowed:
            allowed.append("HEAD")
        refused = RefusalError(405, f"this path takes {', '.join(allowed)}")
        refused.more_headers["Allow"] = ", ".join(allowed)
        raise refused


def segments_of(raw_path: str) -> list[str]:
    """What stands between the slashes below /v3, each decoded by itself: an encoded slash is no border.

    Raises RefusalError 404.
    """
    if len(raw_path) > MAX_PATH:
        raise RefusalError(404, f"no path here has more than {MAX_PATH} characters")
    return [unquote(segment) for segment in raw_path.removeprefix("/v3").removeprefix("/").split("/")]


def chosen_form(accept: str, forms: Sequence[str]) -> str:
    """The form that a header `Accept` likes best; the first one if there is none. Raises RefusalError 406."""
    if not accept.strip():
        return forms[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    liked = [(_quality(ranges, form), form) for form in forms]
    best = max(quality for quality, _ in liked)
    if best <= 0:
        raise RefusalError(406, f"there is only {', '.join(forms)}: ask for one of them, or send no Accept")
    return next(form for quality, form in liked if quality == best)


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = [piece.strip() for piece in part.split(";")]
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return kind.lower(), quality


def _quality(ranges: Sequence[tuple[str, float]], form: str) -> float:
    """Of the most specific range that fits."""
    for wanted in (form, f"{form.partition('/')[0]}/*", "*/*"):
        fitting = [quality for kind, quality in ranges if kind == wanted]
        if fitting:
            return max(fitting)
    return 0.0
