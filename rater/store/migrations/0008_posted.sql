-- Lines that brought their price (POST /v2/dataframes): part of what is billed, and of no frame.
--
-- Written from topic `usage`, without the engine. A line is what its post and its number in it say, so that a record
-- that comes twice changes nothing. Times are the line's own, whatever the period is. Rows of one key are equal.
CREATE TABLE IF NOT EXISTS posted (
    scope_id LowCardinality(String),
    period_begin DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    period_end DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    post_id FixedString(16) CODEC(ZSTD(1)),
    n UInt32 CODEC(Delta(4), ZSTD(1)),
    metric LowCardinality(String),
    qty Decimal(76, 38) CODEC(ZSTD(1)),
    price Decimal(76, 38) CODEC(ZSTD(1)),
    unit LowCardinality(String),
    groupby Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    metadata Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    author LowCardinality(String),
    line_id FixedString(16) ALIAS MD5(concat(post_id, '/', toString(n)))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(period_begin)
ORDER BY (scope_id, period_begin, post_id, n)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 1000,
    vertical_merge_algorithm_min_rows_to_activate = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1;

-- All that is billed: one row per frame and metric, and one per posted line, with the status `posted`.
CREATE OR REPLACE VIEW totals AS
SELECT
    scope_id, period_begin, period_end, revision, status, rule_version,
    totals.metric AS metric, totals.unit AS unit, totals.qty AS qty, totals.price AS price, totals.n AS n
FROM frames FINAL
ARRAY JOIN totals.metric, totals.unit, totals.qty, totals.price, totals.n
UNION ALL
SELECT
    scope_id, period_begin, period_end, toUInt32(0) AS revision, CAST('posted' AS LowCardinality(String)) AS status,
    toUInt32(0) AS rule_version, metric, unit, qty, price, toUInt32(1) AS n
FROM posted FINAL;

-- Lines as before, and those that were posted, of revision 0 and rule version 0, under ids of their own.
CREATE OR REPLACE VIEW current_lines AS
SELECT scope_id, period_begin, revision, metric, line_id, qty, price, unit, groupby, metadata, rule_version
FROM lines FINAL
WHERE (scope_id, period_begin, revision) IN (SELECT scope_id, period_begin, revision FROM frames FINAL)
UNION ALL
SELECT scope_id, period_begin, toUInt32(0), metric, line_id, qty, price, unit, groupby, metadata, toUInt32(0)
FROM posted FINAL;
