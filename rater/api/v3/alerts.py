"""Alerts as server-sent events: what happens from now on, or since a place where somebody was."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rater.api.v3.operations import EVENTS, Asked, Backend, Operation, Reply
from rater.api.v3.values import ScopeId
from rater.model.rated import Alert

__all__ = ["OPERATIONS"]


class Listen(msgspec.Struct, frozen=True):
    """To what."""

    scope_id: ScopeId | None = None
    last_event_id: Annotated[
        str, Meta(extra={"in": "header"}, max_length=20_000, description="id of the last event that was seen")
    ] = msgspec.field(default="", name="Last-Event-ID")


async def listen(backend: Backend, asked: Asked[Listen, None]) -> Reply:
    """GET /v3/alerts."""
    chosen = asked.parameters
    scopes = backend.seen(asked)
    if chosen.scope_id is not None:
        await backend.scope(asked, chosen.scope_id)
        scopes = (chosen.scope_id,)
    return Reply(events=await backend.alerts.listen(scopes, chosen.last_event_id))


OPERATIONS = (
    Operation(
        "GET",
        "alerts",
        "listenToAlerts",
        "Alerts of the scopes that you may see, as server-sent events",
        listen,
        "v3:get_alerts",
        Listen,
        result=Alert,
        forms=(EVENTS,),
        answers="A stream that does not end: each event has the alert's kind as its name and the alert as JSON.",
        description="From now on; with Last-Event-ID, which browsers send by themselves, from after that event on. "
        "Event `lost` says that some in between are gone, since topic alerts does not keep them for ever. A reader who "
        "takes nothing for 30 s is cut off. Times in alerts are seconds since the epoch.",
        refusals=(404,),
    ),
)
