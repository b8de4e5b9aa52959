"""What `schemas/asyncapi.yaml` says in words: of each topic, of the headers, and of what may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from rater.kafka import Topic
from rater.tracing.header import TRACEPARENT

__all__ = ["DESCRIPTION", "HEADER_TEXTS", "POLICY", "TOPICS", "About", "Role"]


class Role(NamedTuple):
    """What a program outside rater does with a topic."""

    verb: Literal["send", "receive"]
    summary: str
    only: tuple[str, ...] = ()
    """Of the messages; empty: all."""


class About(NamedTuple):
    """One topic."""

    description: str
    key: str
    roles: tuple[Role, ...] = ()
    events: bool = False
    """Whether its records are CloudEvents."""


POLICY = """\
Within a major version of rater:

- New releases read what older ones wrote (*backward*): records outlive upgrades. This holds for all topics and files.
- Programs made for an older release read what newer ones send in `rated`, `alerts` and `rejected` (*forward*), as long
  as they ignore what they do not know: fields, headers, and records and alerts of a new `type` or `kind`.
- So fields are added, with a default, and neither removed nor renamed; types get no narrower and defaults stay; what
  may be left out does not become required.
- Whatever else has to change gets a new `version` in the record and a new `ce_type`, and the old one is still read.
- Times are whole seconds since the epoch, UTC. Quantities and prices are decimal text: read them as decimals.

`make schemas-check` compares the schemas with those of the last release, in these directions."""

DESCRIPTION = f"""\
What programs may read from rater's topics and write to them. An operation is what *your* program does: it receives
what rater sends.

Topics that no operation names are rater's own: read them if you like, but only rater writes to them.

Records are JSON, in UTF-8. In `usage` they may also be MessagePack with the same structure, if the header
`content-type` says so. The payloads are JSON Schema 2020-12; a tool that knows only draft-07 does not check what is in
a pair `[begin, end)`.

## What may change

{POLICY}
"""

_SCOPE_KEY = "the `scope_id` in UTF-8. The partition is that of Kafka's default partitioner (murmur2)"

TOPICS: Mapping[Topic, About] = {
    Topic.USAGE: About(
        "What sources found, what is expected of them, and their failures; what operators decide about frames and "
        "scopes. Records have the broker's time (`LogAppendTime`), so no wrong clock closes a frame or holds it open. "
        "An answer of many samples comes in parts, `part` of `parts`; it counts when all are there.",
        f"{_SCOPE_KEY}; a record in another partition is refused.",
        (
            Role(
                "send",
                "Push usage. Most programs use POST /v3/usage or the library rater.client instead, which number and "
                "repeat for them.",
                ("Collection", "ScopePlan", "CollectionFailed"),
            ),
        ),
    ),
    Topic.RULES: About("The rule book: one event after the other, read from the beginning.", "none."),
    Topic.RULEBOOK: About(
        "Snapshots of the rule book, so that rater need not read all of `rules`. May be missing.", "of rater's own."
    ),
    Topic.REQUESTS: About("What was asked for through the API, and what became of it.", "none."),
    Topic.RATED: About(
        "Frames with their price. A frame is everything of one scope in one period; each of its revisions is whole and "
        "replaces the one before. One revision comes in `parts` records of up to 1 MB: lines are spread over them, all "
        "else is the same in each. After a crash records may come again, byte for byte, also after newer ones. "
        "Beside frames, lines that were posted with their price.",
        f"{_SCOPE_KEY}, and has the number that the scope's usage has.",
        (Role("receive", "Follow what is rated."),),
        events=True,
    ),
    Topic.ALERTS: About(
        "What a person or a program should act on: gaps, late usage, failures, what became of reworks.",
        "the `scope_id` in UTF-8; of `source_silent` and `source_back`, which are of no scope, the source.",
        (Role("receive", "Act on gaps and failures."),),
        events=True,
    ),
    Topic.REJECTED: About(
        "What could not be taken, whole: key and value are the refused record's own. Its headers say why, and where it "
        "came from.",
        "the refused record's own, if it had one.",
        (Role("receive", "See what was refused, to repair it and send it again."),),
    ),
    Topic.CHECKPOINTS: About("Snapshots of the engine's state, in pieces.", "of rater's own."),
}

HEADER_TEXTS: Mapping[str, str] = {
    "plain": "Ignore headers that you do not know.",
    "form": "JSON where there is no such header.",
    "event": "CloudEvents 1.0, Kafka binding, binary mode. Ignore headers that you do not know.",
    "ce_specversion": "Of CloudEvents.",
    "ce_id": "A hash of the record's value: what is published again has the same, anything else another one.",
    "ce_source": "`/` and the topic's whole name. With `ce_id` it names the event.",
    "ce_type": "What happened. A new release may have types that are not listed here.",
    "ce_subject": "The record's key as text; absent if that has characters that CloudEvents does not allow.",
    TRACEPARENT: "W3C Trace Context; only of records that are traced.",
    "ce_time": "When the frame was closed or the alert raised, RFC 3339. Posted lines have none.",
}
