"""What stands in a request to `POST /v3/usage` and in its answers; the OpenAPI document is made of these structs.

Pure: the service and the client library share it, and with it the rule by which a batch becomes numbered records.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.labels import Labels
from rater.model.usage import QuarantinedItem

__all__ = [
    "CHUNK_SAMPLES",
    "IDEMPOTENCY_KEY",
    "MAX_SCOPE_RECORDS",
    "PATH",
    "Accepted",
    "AcceptedScope",
    "FaultItem",
    "Problem",
    "PushedCollection",
    "PushedPlan",
    "PushedSample",
    "PushedValue",
    "UsagePush",
    "chunks_of",
    "decode_accepted",
    "decode_problem",
]

PATH = "/v3/usage"
IDEMPOTENCY_KEY = "Idempotency-Key"
CHUNK_SAMPLES = 1000
"""Samples of one record at most: a record of a thousand costs the worker no more per sample than one of more."""
MAX_SCOPE_RECORDS = 16
"""Records of one scope in one numbered request: of so many the engine remembers the content to know a repetition."""

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Seconds: TypeAlias = Annotated[int, Meta(ge=0, le=253_402_300_800, description="seconds since the epoch, UTC")]
Time: TypeAlias = (
    Seconds
    | Annotated[
        str,
        Meta(max_length=40, description="ISO 8601 with offset, whole seconds", examples=["2026-01-01T00:00:00Z"]),
    ]
)
Quantity: TypeAlias = Annotated[Decimal, Meta(description="decimal text or a number, read exactly")]


class PushedSample(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One measured quantity of one resource, of a metric with `proof: samples`. Without `end` an instant."""

    scope_id: Name
    metric: Name
    begin: Time
    qty: Quantity
    end: Time | None = None
    source: Name | None = None
    """Who measured it; default: the request's `source`."""
    unit: Name | None = None
    """Default: the unit that the metric is declared in; another one is refused."""
    groupby: Labels = {}
    metadata: Labels = {}


class PushedValue(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One measured quantity within a collection."""

    begin: Time
    qty: Quantity
    end: Time | None = None
    groupby: Labels = {}
    metadata: Labels = {}


class PushedCollection(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The whole answer for one scope, one metric and `[begin, end)`, possibly empty.

    It replaces the one of the same source, scope, metric and range that has a lower `attempt`.
    """

    scope_id: Name
    metric: Name
    begin: Time
    end: Time
    covers: Annotated[list[tuple[Time, Time]], Meta(max_length=10_000)]
    """The parts of the range that are known whole, as [begin, end); what they leave out becomes a gap."""
    attempt: Count
    """Counts up when the same range is measured again: the higher one holds. The time of asking will do."""
    source: Name | None = None
    proof: Literal["proven", "weak"] = "proven"
    unit: Name | None = None
    samples: list[PushedValue] = []
    quarantined: Annotated[list[QuarantinedItem], Meta(max_length=1000)] = []
    note: Annotated[str, Meta(max_length=2000)] = ""


class PushedPlan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Within `[begin, until)` exactly `metrics` of this scope are expected from the source.

    A scope that is gone at T: a plan from T on, without `until` and without metrics.
    """

    scope_id: Name
    begin: Time
    until: Time | None = None
    metrics: Annotated[list[Name], Meta(max_length=10_000)] = []
    source: Name | None = None


class UsagePush(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of `POST /v3/usage`.

    It has either `producer_id` and `sequences` or the header `Idempotency-Key`. Repeated as it is, it counts once.
    """

    source: Name | None = None
    """Of every item that names none itself."""
    producer_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """A name for one run of numbers, such as a UUID."""
    sequences: dict[Name, Count] = {}
    """By scope the number of the first record; each scope counts from 0, without holes."""
    samples: list[PushedSample] = []
    collections: list[PushedCollection] = []
    plans: list[PushedPlan] = []


class AcceptedScope(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the records of one scope went."""

    scope_id: str
    partition: int
    records: int
    next_sequence: int | None = None
    """The scope's number in the producer's next request; absent where the request was not numbered."""


class Accepted(msgspec.Struct, frozen=True):
    """The broker has it. The same request always gets the same answer."""

    topic: str
    records: int
    samples: int
    collections: int
    plans: int
    scopes: list[AcceptedScope]


class FaultItem(msgspec.Struct, frozen=True):
    """One fault of a request."""

    place: str
    """Such as `samples[3].qty`; empty for the request as a whole."""
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused (RFC 9457). Nothing of it was written, unless it says so."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    faults: list[FaultItem] = []
    more_faults: int = 0
    """How many there are beside those listed."""


decode_accepted = msgspec.json.Decoder(Accepted).decode
decode_problem = msgspec.json.Decoder(Problem).decode


def chunks_of(items: int) -> int:
    """How many records carry that many samples of one scope, source and metric, or of one collection: at least one."""
    return max(1, -(-items // CHUNK_SAMPLES))
