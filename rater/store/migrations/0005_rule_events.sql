-- The history of the rule book: one row per version, with the event that made it. Filled by the rules issue.
CREATE TABLE IF NOT EXISTS rule_events (
    version UInt32,
    recorded_at DateTime('UTC'),
    author LowCardinality(String),
    event String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY version
SETTINGS non_replicated_deduplication_window = 1000;
