"""The head of a snapshot as bytes and back, or an error that says why nobody may go on from it.

Since version 3 the scopes lie in segments (`segments.py`), which the head names; before, all was in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from rater.engine.settings import EngineSettings
from rater.engine.state import OutboxItem, PartitionState
from rater.model.errors import RaterError
from rater.model.metric import Catalog, MetricSpec

__all__ = [
    "SNAPSHOT_VERSION",
    "Manifest",
    "Run",
    "Segment",
    "SnapshotError",
    "check_catalog",
    "decode_manifest",
    "decode_outbox",
    "decode_snapshot",
    "encode_manifest",
    "encode_outbox",
    "encode_root",
    "encode_snapshot",
]

SNAPSHOT_VERSION = 4
READABLE_VERSIONS = (1, 2, 3, 4)  # each added fields with defaults: what an older one has is read, not a newer one


class SnapshotError(RaterError):
    """A snapshot that this rater cannot go on from."""


class Run(NamedTuple):
    """One run of chunks in `checkpoints`."""

    run_id: str
    first_offset: int
    chunks: int
    crc32: int
    """Of all its chunks, joined."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """What one checkpoint wrote of the scopes, and where it lies."""

    number: int
    """They count up; of two pieces of the same thing the one in the higher segment holds."""
    written_at: int
    """Seconds."""
    size: int
    """Bytes of its pieces when they were written, not compressed."""
    runs: list[Run]


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int


class Manifest(_Head, frozen=True, array_like=True):
    """All that a state is made of: itself but for what lies elsewhere, and where that is."""

    state: PartitionState
    """With scopes if they lie in no segment; with the outbox if it lies in no run."""
    segments: list[Segment] = []
    """Ascending."""
    outbox: list[Run] = []
    next_number: int = 0
    """Of the next segment."""
    scopes: int = 0
    """How many there are in the segments."""


_encode = msgspec.msgpack.Encoder().encode
_head = msgspec.msgpack.Decoder(_Head).decode
_whole = msgspec.msgpack.Decoder(Manifest).decode
decode_outbox = msgspec.msgpack.Decoder(list[OutboxItem]).decode


def encode_root(state: PartitionState) -> bytes:
    """The state without its scopes and its outbox, as it is at this moment."""
    return _encode(msgspec.structs.replace(state, scopes={}, outbox=[]))


def encode_manifest(root: bytes, scopes: int, segments: list[Segment], outbox: list[Run], next_number: int) -> bytes:
    """A snapshot: what `encode_root` said when it was made, with so many scopes, and where all else lies."""
    return _encode((SNAPSHOT_VERSION, msgspec.Raw(root), segments, outbox, next_number, scopes))


def encode_outbox(items: Sequence[OutboxItem]) -> bytes:
    """What `decode_outbox` reads."""
    return _encode(items)


def encode_snapshot(state: PartitionState) -> bytes:
    """All of the state in one piece, outbox included."""
    return _encode(Manifest(SNAPSHOT_VERSION, state, scopes=len(state.scopes)))


def decode_manifest(raw: bytes, partition: int, partitions: int, settings: EngineSettings) -> Manifest:
    """The head of a snapshot of `partition`. Raises SnapshotError if it is broken or was made under other terms."""
    try:
        version = _head(raw).version
        if version not in READABLE_VERSIONS:
            raise SnapshotError(
                f"the snapshot of partition {partition} has version {version}, this rater reads versions "
                f"up to {SNAPSHOT_VERSION}: start the release that wrote it, or `rater recover`"
            )
        manifest = _whole(raw)
    except msgspec.DecodeError as fault:
        raise SnapshotError(f"the snapshot of partition {partition} is broken: {fault}. See `rater recover`") from None
    _check_terms(manifest.state, partition, partitions, settings)
    return manifest


def decode_snapshot(raw: bytes, partition: int, partitions: int, settings: EngineSettings) -> PartitionState:
    """A state that is in one piece. Raises SnapshotError as `decode_manifest` does."""
    manifest = decode_manifest(raw, partition, partitions, settings)
    assert not manifest.segments, "its scopes lie elsewhere"
    return manifest.state


def check_catalog(state: PartitionState, catalog: Catalog) -> None:
    """Raises SnapshotError if points in the state were made by another aggregation than the catalog now says.

    Metrics that have left the state are forgotten, so that they may come back otherwise.
    """
    in_use = {metric for scope in state.scopes.values() for frame in scope.frames.values() for metric in frame.slices}
    state.aggregations = {metric: state.aggregations[metric] for metric in sorted(in_use)}
    for metric, was in state.aggregations.items():
        spec = catalog.get(metric) or MetricSpec(metric)
        if spec.aggregation is not was:
            raise SnapshotError(
                f"usage of metric {metric!r} in the state was aggregated as {was.value!r}, the settings now say "
                f"{spec.aggregation.value!r}: put `aggregation: {was.value}` back until its frames have left the "
                "state, or give the metric another name"
            )


def _check_terms(state: PartitionState, partition: int, partitions: int, settings: EngineSettings) -> None:
    if state.partition != partition:
        raise SnapshotError(f"the snapshot for partition {partition} is one of partition {state.partition}")
    if state.partitions != partitions:
        raise SnapshotError(
            f"topic usage had {state.partitions} partitions and now has {partitions}: scopes would change partition "
            "and be billed twice. Start with a new kafka.prefix and replay"
        )
    if state.period != settings.period:
        raise SnapshotError(
            f"the state was built with engine.period {state.period}, rater.yaml says {settings.period}: put it back, "
            "or start with a new kafka.prefix"
        )
