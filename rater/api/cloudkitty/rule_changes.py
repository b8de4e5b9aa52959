"""What all requests share that change rules: how their attributes are read, who changes, what a refusal is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import msgspec

from rater.api.cloudkitty.arguments import Reader, Unquoted, flag, text
from rater.api.cloudkitty.calls import Answer, Backend, Call
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import seconds
from rater.model.rules import Change
from rater.rating import RuleBook, validation
from rater.rating.validation import Refusal, Refused

__all__ = [
    "AUDITED",
    "FORCE",
    "Done",
    "authorized",
    "change_rules",
    "created",
    "deleted",
    "input_of",
    "new_id",
    "number",
    "quoted",
    "shown",
    "updated",
]

S = TypeVar("S", bound=msgspec.Struct)
V = TypeVar("V")
MAX_AUTHOR = 255
UNKNOWN = "unknown"
"""Who changes a rule where nobody is asked for a name, as in CloudKitty."""
_CONFLICTS = frozenset(
    {
        Refused.NAME_TAKEN,
        Refused.VALIDITY_OVERLAPS,
        Refused.LEVEL_TAKEN,
        Refused.UNGROUPED_OVERLAPS,
        Refused.SERVICE_HAS_TIERS,
    }
)
_MISSING = frozenset({Refused.RULE_UNKNOWN, Refused.MODULE_UNKNOWN})


def quoted(raw: str) -> str:
    """A text, which in a body must stand in quotes. Raises ValueError."""
    if isinstance(raw, Unquoted):
        raise ValueError("expected text in quotes")  # noqa: TRY004  as all readers do
    return text(raw)


def input_of(kind: type[S], asked: Mapping[str, Any]) -> S:
    """A struct of those of the attributes that it has; what was not given has its default."""
    return kind(**{name: asked[name] for name in kind.__struct_fields__ if name in asked})


def number(*, exact: bool) -> Reader:
    """Reads a cost or level: a text exactly, a JSON number as the float that it is to CloudKitty unless `exact`."""

    def read(raw: str) -> str | int | float:
        text(raw)
        if exact or not isinstance(raw, Unquoted):
            return str(raw)
        try:
            return int(raw) if raw.lstrip("-").isdigit() else float(raw)
        except ValueError:
            raise ValueError("expected a number") from None

    return read


def ignored(raw: str) -> None:
    """What clients send back as they got it, and nobody sets."""


AUDITED = {
    **dict.fromkeys(("start", "end", "name", "description"), quoted),
    **dict.fromkeys(("created_at", "deleted", "created_by", "updated_by", "deleted_by"), ignored),
}
"""The attributes that mappings and scripts share."""
FORCE = {"force": flag}


def authorized(backend: Backend, call: Call) -> None:
    """Raises RefusalError 403 for whoever may not change rules."""
    backend.policy.authorize(call.identity, "rating:module_config")


def new_id() -> str:
    """The id of something that is created."""
    return str(uuid4())


class Done(NamedTuple):
    """What a change was about, as an answer shows it; None where it was not there."""

    before: Any
    after: Any


async def change_rules(
    backend: Backend,
    call: Call,
    reason: str,
    decide: Callable[[RuleBook], validation.Answer],
    show: Callable[[RuleBook], Any],
) -> Done:
    """Changes the rules as `decide` says. Raises ApiFaultError for what it refuses, and as `RuleWriter`."""
    before: list[Any] = []

    def decided(book: RuleBook) -> tuple[Change, ...]:
        answer = decide(book)
        if isinstance(answer, Refusal):
            raise _fault(answer)
        before[:] = [show(book)]
        return answer

    author = call.identity.facts.get("user_id") or call.identity.user or UNKNOWN
    book = await backend.write_rules(author[:MAX_AUTHOR], reason, seconds(call.now), decided)
    return Done(before[0], show(book))


def shown(
    table: Callable[[RuleBook], Mapping[str, V]], row_id: str, values: Callable[[V], Any]
) -> Callable[[RuleBook], Any]:
    """How a row of the rule book is shown."""

    def show(book: RuleBook) -> Any:
        row = table(book).get(row_id)
        return None if row is None else values(row)

    return show


def created(call: Call, row_id: str, done: Done) -> Answer:
    """201, with the place of what was created."""
    headers = {"Location": f"{call.url.rstrip('/')}/{row_id}"}
    return Answer(done.after, 201, headers=headers, before=done.before, after=done.after)


def updated(call: Call, done: Done) -> Answer:
    """302 to where the request went, which makes CloudKitty's client send it again, up to 31 times."""
    return Answer(status=302, headers={"Location": call.url}, empty=True, before=done.before, after=done.after)


def deleted(done: Done) -> Answer:
    """204."""
    return Answer(status=204, before=done.before, after=done.after)


def _fault(refusal: Refusal) -> ApiFaultError:
    if refusal.reason in _MISSING:
        return ApiFaultError(404, refusal.message)
    return ApiFaultError(409 if refusal.reason in _CONFLICTS else 400, refusal.message)
