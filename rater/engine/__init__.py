"""The engine: a pure fold over a partition of `usage`, and the decisions that time and rules call for."""

from rater.engine.apply import LogGapError, apply
from rater.engine.decide import decide, retry_unpriced
from rater.engine.settings import EngineContext, EngineSettings, Expect
from rater.engine.snapshot import SnapshotError, check_catalog, decode_snapshot, encode_snapshot
from rater.engine.state import OutboxItem, PartitionState, Record

__all__ = [
    "EngineContext",
    "EngineSettings",
    "Expect",
    "LogGapError",
    "OutboxItem",
    "PartitionState",
    "Record",
    "SnapshotError",
    "apply",
    "check_catalog",
    "decide",
    "decode_snapshot",
    "encode_snapshot",
    "retry_unpriced",
]
