"""The state of a partition as bytes and back: `decode(encode(state)) == state`, or an error that says why not."""

from __future__ import annotations

import msgspec

from rater.engine.settings import EngineSettings
from rater.engine.state import PartitionState
from rater.model.errors import RaterError
from rater.model.metric import Catalog, MetricSpec

__all__ = ["SNAPSHOT_VERSION", "SnapshotError", "check_catalog", "decode_snapshot", "encode_snapshot"]

SNAPSHOT_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 2 added fields with defaults: what 1 has is read, but not the other way round


class SnapshotError(RaterError):
    """A snapshot that this rater cannot go on from."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int


class _Snapshot(_Head, frozen=True, array_like=True):
    state: PartitionState


_encode = msgspec.msgpack.Encoder().encode
_head = msgspec.msgpack.Decoder(_Head).decode
_whole = msgspec.msgpack.Decoder(_Snapshot).decode


def encode_snapshot(state: PartitionState) -> bytes:
    """All of the state, outbox included."""
    return _encode(_Snapshot(SNAPSHOT_VERSION, state))


def decode_snapshot(raw: bytes, partition: int, partitions: int, settings: EngineSettings) -> PartitionState:
    """The state of `partition`. Raises SnapshotError if it is broken or was made under other terms."""
    try:
        version = _head(raw).version
        if version not in READABLE_VERSIONS:
            raise SnapshotError(
                f"the snapshot of partition {partition} has version {version}, this rater reads versions "
                f"up to {SNAPSHOT_VERSION}: start the release that wrote it, or `rater recover`"
            )
        state = _whole(raw).state
    except msgspec.DecodeError as fault:
        raise SnapshotError(f"the snapshot of partition {partition} is broken: {fault}. See `rater recover`") from None
    _check_terms(state, partition, partitions, settings)
    return state


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
