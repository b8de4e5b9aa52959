-- From when on each table is whole, by what `store.retention` has removed: the greatest `kept_from` of a table counts.
-- A row is there before anything is removed, so that readers never take what is gone for what was never there.
CREATE TABLE IF NOT EXISTS retention (
    table_name LowCardinality(String),
    kept_from DateTime('UTC'),
    said_at DateTime('UTC') DEFAULT now()
)
ENGINE = ReplacingMergeTree(kept_from)
ORDER BY table_name
SETTINGS non_replicated_deduplication_window = 1000;
