"""The engine: a pure fold over a partition of `usage`, and the decisions that time and rules call for."""

from rater.engine.apply import LogGapError, apply
from rater.engine.assembly import Assembly
from rater.engine.decide import Step, decide, deciding, retry_unpriced
from rater.engine.pieces import encode_entries
from rater.engine.segments import Cut, Ledger, Limits
from rater.engine.settings import EngineContext, EngineSettings, Expect
from rater.engine.snapshot import (
    Manifest,
    Run,
    Segment,
    SnapshotError,
    check_catalog,
    decode_manifest,
    decode_outbox,
    decode_snapshot,
    encode_manifest,
    encode_outbox,
    encode_root,
    encode_snapshot,
)
from rater.engine.state import OutboxItem, PartitionState, Record
from rater.engine.tally import Tally, tally

__all__ = [
    "Assembly",
    "Cut",
    "EngineContext",
    "EngineSettings",
    "Expect",
    "Ledger",
    "Limits",
    "LogGapError",
    "Manifest",
    "OutboxItem",
    "PartitionState",
    "Record",
    "Run",
    "Segment",
    "SnapshotError",
    "Step",
    "Tally",
    "apply",
    "check_catalog",
    "decide",
    "deciding",
    "decode_manifest",
    "decode_outbox",
    "decode_snapshot",
    "encode_entries",
    "encode_manifest",
    "encode_outbox",
    "encode_root",
    "encode_snapshot",
    "retry_unpriced",
    "tally",
]
