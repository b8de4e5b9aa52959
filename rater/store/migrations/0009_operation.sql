-- Gaps that somebody has decided to live with: who, when and why, one row per gap. Read it with FINAL.
--
-- Made of the alerts gap_accepted. Apart from `gaps`, since an acceptance says nothing of what opened or resolved a gap:
-- one that is resolved later is resolved, and one that opens again is another gap, with an id of its own.
CREATE TABLE IF NOT EXISTS accepted_gaps (
    scope_id LowCardinality(String),
    period_begin DateTime('UTC'),
    gap_id FixedString(16),
    accepted_at DateTime('UTC'),
    author String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(accepted_at)
ORDER BY (scope_id, period_begin, gap_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- What collectors said of their sources: silent, or back again. The newest row of an `alert_id` counts; read it with FINAL.
CREATE TABLE IF NOT EXISTS source_alerts (
    source LowCardinality(String),
    alert_id FixedString(16),
    kind LowCardinality(String),
    silent_from DateTime('UTC'),
    raised_at DateTime('UTC'),
    reason String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(raised_at)
ORDER BY (source, alert_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- What the audits in the sink's process found: one row for each that came to its end. `violations` is a JSON array, of the
-- first thousand; `violation_count` counts all of them.
CREATE TABLE IF NOT EXISTS audits (
    began_at DateTime('UTC'),
    seconds Float64,
    closed_from DateTime('UTC'),
    frames UInt64,
    waiting_samples UInt64,
    unchecked Map(String, UInt64),
    violation_count UInt64,
    violations String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY began_at
TTL began_at + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;
