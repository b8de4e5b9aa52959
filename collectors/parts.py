"""From the whole answer of a source to the records that carry it: parts of about 500 samples, below a size limit.

Pure functions; the publisher adds what Kafka needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from collectors.errors import OversizedError
from rater.model.codec import encode_msgpack
from rater.model.interval import Interval
from rater.model.usage import Collection, QuarantinedItem, Sample, Series

__all__ = ["MAX_PART_BYTES", "PART_SAMPLES", "CollectionDraft", "encode_parts"]

PART_SAMPLES = 500  # amortises the 85 µs that a message costs in the worker to 0.17 µs per sample
MAX_PART_BYTES = 900_000  # under the 1 MB that brokers and producers take by default

T = TypeVar("T")


class CollectionDraft(msgspec.Struct, frozen=True):
    """The whole answer of one source for one scope, one metric and `[begin, end)`, before it is cut into parts.

    Fields as in `rater.model.usage.Collection`; samples that lie together by series make smaller parts.
    """

    source: str
    scope_id: str
    metric: str
    begin: int
    end: int
    attempt: int
    """When the collection began, milliseconds since the epoch: later ones replace earlier ones."""
    unit: str = "undefined"
    covers: Sequence[Interval] = ()
    proof: Literal["proven", "weak"] = "proven"
    series: Sequence[Series] = ()
    samples: Sequence[Sample] = ()
    quarantined: Sequence[QuarantinedItem] = ()
    note: str = ""


def encode_parts(draft: CollectionDraft, collection_id: str, producer_id: str, first_sequence: int) -> list[bytes]:
    """The msgpack records of a collection, at least one. They take the sequence numbers from `first_sequence` on.

    Parts hold about `PART_SAMPLES` samples, fewer where labels are long. Raises OversizedError if one item alone is
    larger than `MAX_PART_BYTES`.
    """
    items = len(draft.samples) + len(draft.quarantined)
    parts = max(1, round(items / PART_SAMPLES))
    while True:
        records = _encode(draft, parts, collection_id, producer_id, first_sequence)
        if max(map(len, records)) <= MAX_PART_BYTES:
            return records
        if parts >= items:
            raise OversizedError(
                f"an item of scope {draft.scope_id!r}, metric {draft.metric!r} in [{draft.begin}, {draft.end}) is "
                f"larger than {MAX_PART_BYTES} bytes: its labels are too long"
            )
        parts = min(parts * 2, items)


def _encode(draft: CollectionDraft, parts: int, collection_id: str, producer_id: str, first: int) -> list[bytes]:
    records = []
    for part in range(parts):
        series, samples = _share(draft.series, _slice(draft.samples, part, parts))
        record = Collection(
            source=draft.source,
            scope_id=draft.scope_id,
            metric=draft.metric,
            begin=draft.begin,
            end=draft.end,
            attempt=draft.attempt,
            collection_id=collection_id,
            producer_id=producer_id,
            sequence=first + part,
            unit=draft.unit,
            part=part,
            parts=parts,
            covers=list(draft.covers),
            proof=draft.proof,
            series=series if parts > 1 else list(draft.series),
            samples=samples if parts > 1 else list(draft.samples),
            quarantined=list(_slice(draft.quarantined, part, parts)),
            note=draft.note[:2000],
        )
        records.append(encode_msgpack(record))
    return records


def _slice(items: Sequence[T], part: int, parts: int) -> Sequence[T]:
    """The share of one part: contiguous, all shares of equal length give or take one."""
    return items[len(items) * part // parts : len(items) * (part + 1) // parts]


def _share(series: Sequence[Series], samples: Sequence[Sample]) -> tuple[list[Series], list[Sample]]:
    """The samples of one part and the series they name, numbered anew."""
    numbers: dict[int, int] = {}
    renumbered = [
        Sample(numbers.setdefault(sample.series, len(numbers)), sample.begin, sample.end, sample.qty)
        for sample in samples
    ]
    return [series[number] for number in numbers], renumbered
