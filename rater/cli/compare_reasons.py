"""What is known of why CloudKitty and rater differ: holes in our frames, and how far each of them is."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from rater.cli.output import instant, remark
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.model.interval import Interval
    from rater.reports import Hole, View
    from rater.store import StoreSettings

__all__ = ["Holes", "reached_text"]

MAX_LOOKED_UP = 500  # scopes and times; a difference everywhere has another reason
MAX_SHOWN = 3  # holes of one scope and metric


class Holes:
    """Holes in our frames, as far as the store of rater.yaml can be read from here. It is opened when first needed."""

    def __init__(self, store: StoreSettings) -> None:
        self._store = store
        self._open = ExitStack()
        self._view: View | None = None
        self._known: dict[str, Interval] = {}
        self._found: dict[tuple[str, Interval], list[Hole]] = {}
        self._unreadable = False

    def __enter__(self) -> Holes:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def text(self, scope_id: str, metric: str, span: Interval) -> str:
        """Which time of the scope is missing, partial or failed within `span`; empty if none is known of."""
        found = [hole for hole in self._of(scope_id, span) if hole.metric in ("", metric)]
        told = [hole.text(scope_id) for hole in found[:MAX_SHOWN]]
        return "; ".join([*told, *([f"and {len(found) - MAX_SHOWN} more holes"] if len(found) > MAX_SHOWN else [])])

    def _of(self, scope_id: str, span: Interval) -> list[Hole]:
        key = (scope_id, span)
        if not self._unreadable and key not in self._found and len(self._found) < MAX_LOOKED_UP:
            try:
                self._found[key] = self._read(scope_id, span)
            except RaterError as fault:
                remark(f"holes in our frames are not looked for: {fault}")
                self._unreadable = True
        return self._found.get(key, [])

    def _read(self, scope_id: str, span: Interval) -> list[Hole]:
        from rater.model.interval import Interval
        from rater.reports import Selection, holes_of, open_view

        if self._view is None:
            self._view = self._open.enter_context(open_view(self._store))
            self._known = {scope.scope_id: Interval(scope.begin, scope.end) for scope in self._view.scopes()}
        frames = list(self._view.frames(Selection(scope_id, *span)))
        return holes_of(span, self._known.get(scope_id), frames, span.end)


def reached_text(theirs: int | None, ours: int | None, end: int) -> str:
    """That one of the two has not rated the scope as far as the other; empty if neither stops before `end`."""
    if theirs is None or ours is None or theirs == ours or min(theirs, ours) >= end:
        return ""
    return f"the last period that CloudKitty has rated begins {instant(theirs)}, ours {instant(ours)} UTC"
